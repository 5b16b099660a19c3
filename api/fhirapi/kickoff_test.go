package fhirapi

import (
	"strings"
	"testing"
	"unicode"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// The reasons for which a kick-off's body is refused are sentences of an OperationOutcome.
func TestReasonsToRefuseABodyBeginWithACapitalLetter(t *testing.T) {
	app := fiber.New()
	for _, body := range []string{
		"<Parameters/>",
		`{"resourceType":"Patient"}`,
		`{"resourceType":"Parameters","parameter":[{"valueString":"x"}]}`,
		`{"resourceType":"Parameters","resourceType":"Parameters"}`,
	} {
		for _, mediaType := range []string{"application/fhir+json", "text/plain"} {
			r := &fasthttp.RequestCtx{}
			r.Request.Header.SetMethod(fiber.MethodPost)
			r.Request.Header.SetContentType(mediaType)
			r.Request.SetBodyString(body)
			c := app.AcquireCtx(r)
			_, err := kickOffParameters(c)
			if ehi.CodeOf(err) != ehi.Invalid ||
				strings.IndexFunc(err.Error(), unicode.IsUpper) != 0 {
				t.Errorf("%s as %s: %v", body, mediaType, err)
			}
			app.ReleaseCtx(c)
		}
	}
}

// Any parameters of a kick-off are either accepted or refused as an error of the client. Unknown
// ones are refused unless the client requests lenient handling.
func FuzzKickOffParameters(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[
		{"name":"_since","valueInstant":"2020-01-01T00:00:00Z"},
		{"name":"x","part":[]}]}`), true)
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[
		{"name":"_typeFilter","valueString":"Observation?date=ge2020,Condition?category=a|b,c"},
		{"name":"patient","valueReference":{"reference":"Patient/1"}},
		{"name":"_elements","valueString":"id,Patient.name"}]}`), true)
	f.Fuzz(func(t *testing.T, body []byte, lenient bool) {
		params, err := fhir.ParseParameters(body)
		if err != nil {
			return
		}
		for _, level := range []ehi.Level{ehi.OnePatient, ehi.AllPatients, ehi.System} {
			for _, op := range []ehi.Operation{ehi.EHIExport, ehi.BulkExport} {
				k, err := ehi.ParseKickOff(ehi.Asked{
					Level: level, Operation: op, Parameters: params, Lenient: lenient,
				})
				code := ehi.CodeOf(err)
				if err != nil && code != ehi.Invalid && code != ehi.Unsupported {
					t.Fatal(err)
				}
				if err == nil && !lenient && len(k.Notices()) > 0 {
					t.Fatalf("unknown parameters were taken: %v", k.Notices())
				}
			}
		}
	})
}
