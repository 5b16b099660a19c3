package console

import (
	"bytes"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/openapi"
	"ehi-server/shared/telemetry"
)

// gap stands for the origin while the OpenAPI document is made. Nobody has this name (RFC 2606 2).
const gap = "https://origin.invalid"

// apiDocument is the OpenAPI document, made once. Only the origin differs between answers.
var apiDocument = sync.OnceValues(func() (*content.Prepared, error) {
	text, err := json.Marshal(openapi.Document(gap, telemetry.Version()))
	if err != nil {
		return nil, err
	}
	return content.Prepare(fiber.MIMEApplicationJSON, bytes.Split(text, []byte(gap))...), nil
})

// handleOpenAPI sends the OpenAPI document.
func (h *Pages) handleOpenAPI(c *fiber.Ctx) error {
	document, err := apiDocument()
	if err != nil {
		return err
	}
	return h.sendJSON(c, document)
}

// sendJSON sends a document of JSON that has gaps for the origin.
func (h *Pages) sendJSON(c *fiber.Ctx, document *content.Prepared) error {
	origin, err := json.Marshal(h.Origins.Base(c))
	if err != nil {
		return err
	}
	return document.Send(c, origin[1:len(origin)-1]) // without its quotes
}
