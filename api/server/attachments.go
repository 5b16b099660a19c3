package server

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

// handleAddFiles stores documents beside an export (EHI-11), sent by a client or by the form of the
// export's page.
func (s *Server) handleAddFiles(c *fiber.Ctx) error {
	j, err := s.addFiles(c)
	switch page := staffJobPath(c.Params("id")); {
	case !content.WantsPage(c):
		return s.sendJob(c, j, err)
	case err != nil:
		return s.adminPages.again(c, page, err)
	default:
		return c.Redirect(page, http.StatusSeeOther)
	}
}

// addFiles streams an upload to the disk part by part, and lists it in the job.
func (s *Server) addFiles(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := s.jobRecord(c)
	if err != nil {
		return nil, err
	}
	u, err := s.jobs.Upload(s.Origins.Actor(c), j)
	if err != nil {
		return nil, err
	}
	_, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil || params["boundary"] == "" {
		return nil, jobs.ErrNoAttachments
	}
	err = addParts(c, u, multipart.NewReader(s.receiver().Receive(c), params["boundary"]))
	request.RestartTime(c)
	s.Origins.Acting(c)
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

// handleRemoveFiles removes documents by name (EHI-11).
func (s *Server) handleRemoveFiles(c *fiber.Ctx) error {
	var in struct {
		Params []string `json:"params"`
	}
	if err := content.Unambiguous(c); err != nil {
		return err
	}
	if err := c.BodyParser(&in); err != nil || len(in.Params) == 0 {
		return ehi.Errorf(ehi.Invalid, `The body must be JSON with the names of attachments in "params"`)
	}
	j, err := s.removeFiles(c, in.Params)
	return s.sendJob(c, j, err)
}

// removeFiles takes documents of the request's job away.
func (s *Server) removeFiles(c *fiber.Ctx, names []string) (*ehi.Job, error) {
	j, err := s.jobRecord(c)
	if err != nil {
		return nil, err
	}
	return s.jobs.Detach(c.UserContext(), s.Origins.Acting(c), j, names...)
}
