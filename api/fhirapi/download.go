package fhirapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/url"
	"slices"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/faulty"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Files that are rendered from the job's record instead of stored.
const (
	attachmentsFile = "attachments.DocumentReference.ndjson"
	releasedFile    = "released.DocumentReference.ndjson"
	errorsFile      = "errors.OperationOutcome.ndjson"
)

// approved finds the request's job if its files may be downloaded (EHI-12).
func (h *Handlers) approved(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := h.Jobs.Released(c.UserContext(), h.Origins.Actor(c), c.Params("id"))
	return request.Noted(c, j, err)
}

// handleDownload sends one file of an export. It looks the name up in the job's own table; the name
// never becomes a path.
func (h *Handlers) handleDownload(c *fiber.Ctx) error {
	j, err := h.approved(c)
	if err != nil {
		return err
	}
	name, r := c.Params("file"), reachOf(request.Access(c), j)
	if !r.file(name) {
		return beyondReach(c)
	}
	cut, done, err := h.Faults.File(c, j, name)
	if done {
		return err
	}
	h.Trail.Disclose(c, j)
	c.Set(fiber.HeaderContentDisposition, "attachment")
	switch name {
	case attachmentsFile:
		return h.sendBytes(c, j, "attachments", h.attachmentLines(c, j))
	case releasedFile:
		lines, err := h.Jobs.ReleasedLines(c.UserContext(), j)
		if err != nil {
			return err
		}
		return h.sendBytes(c, j, "released", lines)
	case errorsFile:
		return h.sendBytes(c, j, "errors", errorLines(j, r))
	default:
		f, err := h.Jobs.FindFile(c.UserContext(), j, name)
		if err != nil {
			return err
		}
		return h.Sender.SendOutput(c, j, f, cut)
	}
}

// sendBytes sends a file that is rendered from the job's record. An empty file does not exist
// (REAL-3). Tokens with different scopes see different content under one name, so the tag
// depends on the content.
func (h *Handlers) sendBytes(c *fiber.Ctx, j *ehi.Job, name string, data []byte) error {
	if len(data) == 0 {
		return jobs.ErrFileNotFound
	}
	digest := sha256.Sum256(data)
	name += "-" + strconv.FormatUint(binary.BigEndian.Uint64(digest[:]), 36)
	return h.Sender.Send(c, content.Body{
		ReadSeeker: bytes.NewReader(data),
		Closer:     io.NopCloser(nil),
		Size:       int64(len(data)),
		Digest:     digest[:],
		MIME:       content.NDJSON,
		Tag:        j.ID + "-" + name,
		Modified:   j.ApprovedAt,
		Compress:   true,
	})
}

// attachmentLines are the EHIDocumentReferences of the job's attachments (EHI-11).
func (h *Handlers) attachmentLines(c *fiber.Ctx, j *ehi.Job) (out []byte) {
	for _, a := range j.Attachments {
		out = append(out, jobs.AttachmentLine(j, a, h.attachmentURL(c, j, a))...)
	}
	return out
}

func (h *Handlers) attachmentURL(c *fiber.Ctx, j *ehi.Job, a ehi.Attachment) string {
	return jobURL(h.Origins.Base(c), j.ID, "/download/attachments/"+url.PathEscape(a.Name))
}

func (h *Handlers) attachment(c *fiber.Ctx, j *ehi.Job, a ehi.Attachment) fhir.Attachment {
	return fhir.NewAttachment(
		a.Name, a.ContentType, h.attachmentURL(c, j, a), a.Size, a.SHA1, a.CreatedAt)
}

// errorLines report what was left out of the request (EHI-6, BULK-1), what the token does not
// open, and errors that the client ordered.
func errorLines(j *ehi.Job, r reach) []byte {
	out := r.lines()
	for _, n := range slices.Concat(j.KickOff.Notices(), r.absent(j)) {
		out = append(out, n.Outcome().Line()...)
	}
	for _, text := range faulty.Lines(j) {
		out = append(out, fhir.Outcome("error", string(ehi.Internal), text).Line()...)
	}
	return out
}

// handleAttachment sends a document that an administrator added.
func (h *Handlers) handleAttachment(c *fiber.Ctx) error {
	j, err := h.approved(c)
	if err != nil {
		return err
	}
	if !reachOf(request.Access(c), j).opens(documentType) {
		return beyondReach(c)
	}
	h.Trail.Disclose(c, j)
	return h.Sender.SendDocument(c, j, c.Params("file"))
}

// handleData sends the data of an attachment, by its URL in a resource of the export. It opens with
// what opens the file that has the resource.
func (h *Handlers) handleData(c *fiber.Ctx) error {
	j, err := h.approved(c)
	if err != nil {
		return err
	}
	name := c.Params("file")
	if !reachOf(request.Access(c), j).file(name) {
		return beyondReach(c)
	}
	cut, done, err := h.Faults.File(c, j, name)
	if done {
		return err
	}
	h.Trail.Disclose(c, j)
	return h.Sender.SendNative(c, j, "data", name, cut)
}

// handleNative sends a document or a table of the source system (NAT-1), by its name in the list
// documents.DocumentReference.ndjson.
func (h *Handlers) handleNative(folder string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		j, err := h.approved(c)
		if err != nil {
			return err
		}
		if !reachOf(request.Access(c), j).whole {
			return beyondReach(c)
		}
		cut, done, err := h.Faults.File(c, j, c.Params("file"))
		if done {
			return err
		}
		h.Trail.Disclose(c, j)
		return h.Sender.SendNative(c, j, folder, c.Params("file"), cut)
	}
}
