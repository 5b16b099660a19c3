package fhirapi

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// linked returns a resource of the source as clients get it: the data that is stored beside it is
// at the URL of a Binary.
func (h *Handlers) linked(c *fiber.Ctx, line []byte) ([]byte, error) {
	if !source.HasMoved(line) {
		return line, nil
	}
	base := h.Origins.Base(c) + "/fhir/Binary/"
	return source.Link(nil, line, func(m *source.Moved) string { return base + m.Name })
}

// sendMoved sends data that is stored beside a resource, by its name, as a Binary. Its content
// comes whole or in ranges, with an ETag: a name never means other bytes.
func (h *Handlers) sendMoved(c *fiber.Ctx, patient, name string) error {
	m, err := h.Source.Moved(c.UserContext(), patient, name)
	if ehi.CodeOf(err) == ehi.NotFound {
		return errBinaryNotFound
	}
	if err != nil {
		return err
	}
	asFHIR := content.PrefersFHIR(c, m.ContentType)
	if asFHIR {
		if err := content.Negotiate(c); err != nil {
			return errors.Join(err, m.Close())
		}
	}
	h.Trail.Record(c, nil, ehi.Event{
		Action:  ehi.ActionRead,
		Patient: request.Access(c).Patient,
		Detail:  "Binary/" + name,
	})
	if asFHIR {
		c.Set(fiber.HeaderContentType, content.FHIR)
		h.Sender.SendChunked(c, func(w *bufio.Writer) error { return writeBinary(w, m) })
		return nil
	}
	digest, err := hex.DecodeString(m.Name)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	c.Attachment()
	c.Vary(fiber.HeaderAccept)
	return h.Sender.Send(c, content.Body{
		ReadSeeker: m, Closer: m, Size: m.Size, Digest: digest,
		MIME: contentType(m.ContentType), Tag: m.Name,
	})
}

// writeBinary writes moved data as a Binary, and closes it.
func writeBinary(w *bufio.Writer, m *source.MovedContent) (err error) {
	defer func() { err = errors.Join(err, m.Close()) }()
	kind := m.ContentType
	if kind == "" { // Binary must have one
		kind = fiber.MIMEOctetStream
	}
	quoted, err := json.Marshal(kind)
	if err != nil {
		return err
	}
	_, err = w.WriteString(`{"resourceType":"Binary","id":"` + m.Name + `","contentType":` +
		string(quoted) + `,"data":"`)
	if err != nil {
		return err
	}
	to := base64.NewEncoder(base64.StdEncoding, w)
	if err := content.CopyWhole(to, io.Reader(m), m.Size); err != nil {
		return err
	}
	if err := to.Close(); err != nil {
		return err
	}
	_, err = w.WriteString(`"}`)
	return err
}
