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
		return s.exports.SendJob(c, j, err)
	case err != nil:
		return s.adminPages.again(c, page, err)
	default:
		return c.Redirect(page, http.StatusSeeOther)
	}
}

// addFiles streams an upload to the disk part by part, and lists it in the job.
func (s *Server) addFiles(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := s.exports.Requested(c)
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
	err = addParts(c, u, multipart.NewReader(s.receiver.Receive(c), params["boundary"]))
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
