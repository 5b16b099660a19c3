package server

import (
	"mime"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/shared/ehi"
)

// handleBinary reads what an attachment's url leads to: a patient's application reads the Binaries of that patient's record, a backend
// service any; to others there is none. Who asks for FHIR's JSON gets the resource, anybody else its content
// (https://hl7.org/fhir/R4/binary.html#rest), always as an attachment: it may be HTML. In production a patient's application gets a Binary
// with an export alone: here nobody has asked the patient whether the document that it belongs to may go.
func (s *Server) handleBinary(c *fiber.Ctx) error {
	a, id := request.Access(c), c.Params("id")
	if a.Patient != "" && !s.readsBinaries() {
		return errBinaryExported
	}
	line, err := s.Source.Resource(c.UserContext(), a.Patient, "Binary", id)
	if ehi.CodeOf(err) == ehi.NotFound {
		return errBinaryNotFound
	}
	if err != nil {
		return err
	}
	s.trail.Record(c, nil, ehi.Event{Action: ehi.ActionRead, Patient: a.Patient, Detail: "Binary/" + id})
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

// readsBinaries reports whether patients' applications read Binaries one by one, as the consent page then
// promises.
func (s *Server) readsBinaries() bool { return s.Sandbox }

var errBinaryExported = ehi.Errorf(ehi.Forbidden, "A patient's application gets Binaries with an export alone")

var errBinaryNotFound = ehi.Errorf(ehi.NotFound, "Binary not found")

// typeOf is the media type of a Binary's content; "" where it has none.
func typeOf(binary []byte) string {
	var b struct {
		ContentType string `json:"contentType"`
	}
	_ = json.Unmarshal(binary, &b) // what is not JSON has no type
	return b.ContentType
}

// contentType is a media type that stood in a record, made fit for a header.
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
