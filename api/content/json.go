package content

import (
	"bytes"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Unambiguous refuses a JSON body that names a member twice, because one reader may take the first
// value and another the last (see fhir.CheckNames). It leaves other bodies to whoever reads them.
// Errors: ehi.Invalid.
func Unambiguous(c *fiber.Ctx) error {
	if !strings.HasSuffix(MediaType(c), "json") {
		return nil
	}
	return checkNames(c.Body())
}

// DecodeStrictly reads a JSON body into a value. A member that the value lacks is an error, so that
// a misspelt limit is not taken for no limit. Errors: ehi.Invalid.
func DecodeStrictly(c *fiber.Ctx, into any) error {
	if err := checkNames(c.Body()); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(c.Body()))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return ehi.Errorf(ehi.Invalid, "The body must be JSON: %v", err)
	}
	return nil
}

func checkNames(body []byte) error {
	if err := fhir.CheckNames(body); err != nil {
		return ehi.Errorf(ehi.Invalid, "The body is ambiguous: %v", err)
	}
	return nil
}
