package server

import (
	"mime"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
)

// handleBinary reads what an attachment's url leads to: a patient's application reads the Binaries of that patient's record, a backend
// service any; to others there is none. Who asks for FHIR's JSON gets the resource, anybody else its content
// (https://hl7.org/fhir/R4/binary.html#rest), always as an attachment: it may be HTML.
func (s *Server) handleBinary(c *fiber.Ctx) error {
	a, id := access(c), c.Params("id")
	line, err := s.Source.Resource(c.UserContext(), a.Patient, "Binary", id)
	if ehi.CodeOf(err) == ehi.NotFound {
		return errBinaryNotFound
	}
	if err != nil {
		return err
	}
	s.audit(c, nil, ehi.Event{Action: ehi.ActionRead, Patient: a.Patient, Detail: "Binary/" + id})
	var b struct {
		ContentType string  `json:"contentType"`
		Data        *[]byte `json:"data"`
	}
	asResource := asksForFHIR(c)
	if !asResource {
		asResource = json.Unmarshal(line, &b) != nil || b.Data == nil
	}
	if asResource {
		if err := negotiate(c); err != nil {
			return err
		}
		c.Set(fiber.HeaderContentType, mimeFHIR)
		return c.Send(line)
	}
	c.Set(fiber.HeaderContentType, contentType(b.ContentType))
	c.Attachment()
	return c.Send(*b.Data)
}

var errBinaryNotFound = ehi.Errorf(ehi.NotFound, "Binary not found")

// asksForFHIR reports whether a request names FHIR's formats, in Accept or _format.
func asksForFHIR(c *fiber.Ctx) bool {
	accept := strings.ToLower(c.Get(fiber.HeaderAccept))
	return c.Query("_format") != "" || strings.Contains(accept, "json") || strings.Contains(accept, "fhir+xml")
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
