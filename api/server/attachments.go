package server

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// handleAddFiles stores documents beside an export (EHI-11), sent by a client or by the form of the
// export's page.
func (s *Server) handleAddFiles(c *fiber.Ctx) error {
	j, err := s.addFiles(c)
	switch page := staffJobPath(c.Params("id")); {
	case !wantsPage(c):
		return s.sendJob(c, j, err)
	case err != nil:
		return s.staffAgain(c, page, err)
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
	if err := j.CanAttach(); err != nil {
		return nil, err
	}
	_, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil || params["boundary"] == "" {
		return nil, errNoAttachments
	}
	added, err := s.storeParts(c, j, multipart.NewReader(s.upload(c), params["boundary"]))
	anew(c)
	if err == nil && len(added) == 0 {
		err = errNoAttachments
	}
	id, patient := j.ID, j.Patient.ID
	if err == nil {
		j, err = s.listAttachments(c, id, added)
	}
	if err != nil && !bus.IsAway(err) { // where NATS did not answer, the job may list them: then the janitor sees to it
		for _, a := range added {
			err = errors.Join(err, s.Files.RemoveAttachment(id, a.Object))
		}
	}
	s.audit(c, err, ehi.Event{Action: ehi.ActionAttach, Job: id, Patient: patient})
	return j, err
}

var errNoAttachments = ehi.Errorf(ehi.Invalid, `Called "addFiles" without uploaded "attachments"`)

// storeParts streams each file of the field "attachments" to the store. What it stored is returned also with an error.
func (s *Server) storeParts(c *fiber.Ctx, j *ehi.Job, r *multipart.Reader) (added []ehi.Attachment, err error) {
	taken := map[string]bool{}
	for _, a := range j.Attachments {
		taken[ehi.NameKey(a.Name)] = true
	}
	for {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return added, nil
		}
		if err != nil {
			return added, brokenBody(c, err)
		}
		if part.FormName() != "attachments" || part.FileName() == "" {
			continue
		}
		if len(added) == s.AttachmentsPerCall || len(taken) == ehi.MaxAttachments {
			return added, ehi.Errorf(ehi.Invalid, "At most %d attachments a call and %d an export can be added", s.AttachmentsPerCall, ehi.MaxAttachments)
		}
		a, err := s.storePart(c, j.ID, uniqueName(part.FileName(), taken), part)
		if err != nil {
			return added, err
		}
		taken[ehi.NameKey(a.Name)] = true
		added = append(added, a)
	}
}

func (s *Server) storePart(c *fiber.Ctx, job, name string, part *multipart.Part) (ehi.Attachment, error) {
	head := make([]byte, 512)
	n, err := io.ReadFull(part, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return ehi.Attachment{}, brokenBody(c, err)
	}
	a := ehi.Attachment{Name: name, ContentType: sniff(head[:n], name), CreatedAt: now().Truncate(time.Millisecond)}
	content := utf8Reader{Reader: io.MultiReader(strings.NewReader(string(head[:n])), part)}
	a.Object, a.Size, a.SHA1, err = s.Files.PutAttachment(job, &content, s.AttachmentBytes)
	a.ContentType = charsetOf(a.ContentType, content.valid(), part.Header.Get(fiber.HeaderContentType))
	switch {
	case errors.Is(err, files.ErrTooLarge):
		return a, ehi.Errorf(ehi.TooLarge, "The file %q is larger than %d bytes", name, s.AttachmentBytes)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		return a, brokenBody(c, err)
	case disk.IsFull(err):
		return a, errors.Join(errNoSpace, err)
	}
	return a, err
}

// listAttachments adds stored documents to the job's record, if it still takes them.
func (s *Server) listAttachments(c *fiber.Ctx, id string, added []ehi.Attachment) (*ehi.Job, error) {
	return s.Bus.Jobs.Update(c.UserContext(), id, func(j *ehi.Job) error {
		return j.Attach(added...)
	})
}

// handleRemoveFiles removes documents by name (EHI-11).
func (s *Server) handleRemoveFiles(c *fiber.Ctx) error {
	var in struct {
		Params []string `json:"params"`
	}
	if err := oneMeaning(c); err != nil {
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
	if _, err := s.jobRecord(c); err != nil {
		return nil, err
	}
	var removed []string
	j, err := s.Bus.Jobs.Update(c.UserContext(), c.Params("id"), func(j *ehi.Job) (err error) {
		removed, err = j.Detach(names...)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, object := range removed {
		err = errors.Join(err, s.Files.RemoveAttachment(j.ID, object))
	}
	s.audit(c, err, aboutJob(ehi.ActionDetach, j))
	return j, err
}

func escapeName(name string) string { return url.PathEscape(name) }

func unescapeName(name string) string {
	if n, err := url.PathUnescape(name); err == nil {
		return n
	}
	return name
}
