package fhirapi

import (
	"mime"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/shared/ehi"
)

// handleBinary reads a Binary, the target of the url of an attachment. A patient's application
// reads those of the patient's record, a backend service all of them. A client that asks for
// FHIR's JSON gets the resource. Others get the content
// (https://hl7.org/fhir/R4/binary.html#rest), always as an attachment, because it may be HTML.
// In production, a patient's application gets Binaries only with an export, because a request
// here does not ask the patient whether to share the document. Data of attachments that is stored
// beside its resource is a Binary too.
func (h *Handlers) handleBinary(c *fiber.Ctx) error {
	a, id := request.Access(c), c.Params("id")
	if a.Patient != "" && !h.ReadsBinaries() {
		return errBinaryExported
	}
	line, err := h.Source.Resource(c.UserContext(), a.Patient, "Binary", id)
	if ehi.CodeOf(err) == ehi.NotFound {
		return h.sendMoved(c, a.Patient, id)
	}
	if err == nil {
		line, err = h.linked(c, line)
	}
	if err != nil {
		return err
	}
	h.Trail.Record(c, nil, ehi.Event{
		Action:  ehi.ActionRead,
		Patient: a.Patient,
		Detail:  "Binary/" + id,
	})
	var b struct {
		ContentType string  `json:"contentType"`
		Data        *[]byte `json:"data"`
	}
	if content.PrefersFHIR(c, typeOf(line)) || json.Unmarshal(line, &b) != nil || b.Data == nil {
		if err := content.Negotiate(c); err != nil {
			return err
		}
		c.Set(fiber.HeaderContentType, content.FHIR)
		return c.Send(line)
	}
	c.Set(fiber.HeaderContentType, contentType(b.ContentType))
	c.Attachment()
	return c.Send(*b.Data)
}

// ReadsBinaries reports whether patients' applications may read single Binaries. The consent
// page says so.
func (h *Handlers) ReadsBinaries() bool { return h.Sandbox }

var errBinaryExported = ehi.Errorf(ehi.Forbidden,
	"A patient's application can get Binaries only with an export")

var errBinaryNotFound = ehi.Errorf(ehi.NotFound, "Binary not found")

// typeOf returns the media type of a Binary's content; "" for none.
func typeOf(binary []byte) string {
	var b struct {
		ContentType string `json:"contentType"`
	}
	_ = json.Unmarshal(binary, &b) // what is not JSON has no type
	return b.ContentType
}

// contentType returns a media type from a record in a form that is valid in a header.
func contentType(text string) string {
	typ, parameters, err := mime.ParseMediaType(text)
	if err != nil {
		return fiber.MIMEOctetStream
	}
	if whole := mime.FormatMediaType(typ, parameters); whole != "" {
		return whole
	}
	return typ
}
