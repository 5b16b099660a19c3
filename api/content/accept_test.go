package content

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

// statusOf returns the status of an error of Negotiate.
func statusOf(err error) int {
	if e, ok := errors.AsType[*fiber.Error](err); ok {
		return e.Code
	}
	if ehi.CodeOf(err) == ehi.Invalid {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// BULK-2, BULK-9: the most specific range of Accept and its weight decide.
func TestBULK9AcceptIsNegotiated(t *testing.T) {
	for accept, want := range map[string]int{
		"":                                200,
		"*/*":                             200,
		"application/fhir+json":           200,
		"application/json":                200,
		"application/*":                   200,
		"text/json":                       200,
		"application/fhir+json;q=0.001":   200,
		"application/fhir+xml, */*;q=0.1": 200,
		"application/json;q=0, */*":       200,
		"*/*;q=0, application/json":       200,
		"text/*;q=0, application/json":    200,
		"application/xml, text/*;q=0.2, */*;q=0.1":                        200,
		"Application/FHIR+JSON; fhirVersion=4.0":                          200,
		"text/html, application/fhir+json;q=0.5":                          200,
		"application/json;q=0, application/fhir+json":                     200,
		"application/fhir+xml;q=1.0, application/fhir+json;q=0.1":         200,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": 200,

		"application/fhir+xml":                        406,
		"application/xml":                             406,
		"text/html":                                   406,
		"text/*":                                      406,
		"image/*":                                     406,
		"image/png":                                   406,
		"*/*;q=0":                                     406,
		"text/json;q=0":                               406,
		"application/json;q=0":                        406,
		"application/fhir+json;q=0":                   406,
		"application/*;q=0, */*":                      406,
		"text/html;q=1, */*;q=0":                      406,
		"application/fhir+xml, text/html":             406,
		"application/fhir+json;q=0, */*":              406,
		"text/*, application/fhir+xml;q=0.5":          406,
		"application/fhir+json;fhirVersion=3.0":       406,
		"application/fhir+json;q=0, application/json": 406,

		"xyz": 400,
		"*":   400,
	} {
		headers := []string{"Accept", accept}
		if accept == "" {
			headers = nil
		}
		c := asked(t, headers...)
		if got := statusOf(Negotiate(c)); got != want {
			t.Errorf("Accept %q: %d", accept, got)
		}
		if WantsPage(c) != strings.Contains(accept, "text/html") {
			t.Errorf("Accept %q: a page is wanted: %v", accept, WantsPage(c))
		}
	}
	for format, want := range map[string]int{
		"json": 200, "application/fhir+json": 200, "application/fhir%2Bjson": 200,
		"xml": 400, "application/fhir+xml": 400, "xyz": 400,
	} {
		c := asked(t, "Accept", "application/fhir+xml")
		c.Request().SetRequestURI("/fhir/metadata?_format=" + format)
		if got := statusOf(Negotiate(c)); got != want {
			t.Errorf("_format=%s: %d", format, got)
		}
	}
	c := asked(t, "Accept", "application/fhir+xml", "Accept", "application/fhir+json")
	if err := Negotiate(c); err != nil {
		t.Errorf("two lines: %v", err)
	}
}

// FHIR's format takes precedence over another media type if it is named with at least the same
// weight.
func TestPrefersFHIR(t *testing.T) {
	const pdf = "application/pdf; version=1.7"
	for _, c := range []struct {
		accept, other string
		want          bool
	}{
		{"", pdf, false},
		{"*/*", pdf, false},
		{"application/*", pdf, false},
		{"application/pdf", pdf, false},
		{"application/fhir+json", pdf, true},
		{"application/fhir+xml", pdf, true},
		{"application/fhir+json, application/pdf", pdf, true},
		{"application/fhir+json;q=0.5, application/pdf", pdf, false},
		{"application/fhir+json;q=0.5, */*;q=0.8", pdf, false},
		{"application/fhir+json;q=0", pdf, false},
		{"application/fhir+json", "", true},
		{"application/fhir+json", "no type", true},
	} {
		if got := PrefersFHIR(asked(t, "Accept", c.accept), c.other); got != c.want {
			t.Errorf("Accept %q beside %q: %v", c.accept, c.other, got)
		}
	}
	c := asked(t, "Accept", "application/pdf")
	c.Request().SetRequestURI("/fhir/Binary/1?_format=json")
	if !PrefersFHIR(c, pdf) {
		t.Error("_format does not count")
	}
}
