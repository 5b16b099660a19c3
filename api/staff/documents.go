package staff

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

// UploadPath is the route that attaches documents. It takes bodies of any length.
const UploadPath = "/admin/jobs/:id/add-files"

// Uploads take documents in (jobs.Service).
type Uploads interface {
	// Upload begins an upload to a job. Errors: ehi.Forbidden, ehi.Conflict.
	Upload(by ehi.Actor, j *ehi.Job) (*jobs.Upload, error)
}

// Documents lets administrators attach documents to exports (EHI-11), by the JSON API and by the
// form of an export's page.
type Documents struct {
	Pages    *Pages
	Exports  *Exports
	Jobs     Uploads
	Receiver content.Receiver
}

// Routes registers the API. Register it before what reads whole bodies.
func (h *Documents) Routes(r Router) {
	r.On("POST", UploadPath, h.handleAddFiles, content.Drain)
}

func (h *Documents) handleAddFiles(c *fiber.Ctx) error {
	j, err := h.attach(c)
	switch page := jobPath(c.Params("id")); {
	case !content.WantsPage(c):
		return h.Exports.sendJob(c, j, err)
	case err != nil:
		return h.Pages.again(c, page, err)
	default:
		return c.Redirect(page, http.StatusSeeOther)
	}
}

// attach streams an upload to the disk part by part, and lists it in the request's job.
func (h *Documents) attach(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := h.Exports.requested(c)
	if err != nil {
		return nil, err
	}
	u, err := h.Jobs.Upload(h.Exports.Origins.Actor(c), j)
	if err != nil {
		return nil, err
	}
	_, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil || params["boundary"] == "" {
		return nil, jobs.ErrNoAttachments
	}
	err = addParts(c, u, multipart.NewReader(h.Receiver.Receive(c), params["boundary"]))
	request.RestartTime(c)
	h.Exports.Origins.Acting(c)
	return u.Commit(c.UserContext(), err)
}

// addParts adds each file of the field "attachments" to an upload.
func addParts(c *fiber.Ctx, u *jobs.Upload, r *multipart.Reader) error {
	for {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return content.BrokenBody(c, err)
		}
		if part.FormName() != "attachments" || part.FileName() == "" {
			continue
		}
		err = u.Add(part.FileName(), part.Header.Get(fiber.HeaderContentType), part)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = content.BrokenBody(c, err)
		}
		if err != nil {
			return err
		}
	}
}
