package content

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
)

// fhirJSON is the media type of every resource that is sent.
const fhirJSON = "application/fhir+json"

// jsonFormats are the values of _format and Accept that ask for JSON (BULK-9).
var jsonFormats = []string{
	"json", "text/json", "application/json", fhirJSON, "application/json+fhir",
}

// Negotiate checks that the server can answer in the format that _format, or else Accept, asks for
// (BULK-2, BULK-9). A request without either accepts every format. Errors: ehi.Invalid for another
// _format; fiber.Error with 406 for another media type in Accept, and with 400 for what is no media
// type.
func Negotiate(c *fiber.Ctx) error {
	// An unescaped + in a query arrives as a space.
	if f := strings.ReplaceAll(c.Query("_format"), " ", "+"); f != "" {
		f, _, _ := strings.Cut(f, ";")
		if !slices.Contains(jsonFormats, strings.ToLower(strings.TrimSpace(f))) {
			return ehi.Errorf(ehi.Invalid, "Unsupported _format parameter %q", c.Query("_format"))
		}
		return nil
	}
	accept := acceptLines(c)
	if strings.TrimSpace(accept) == "" || acceptsJSON(accept) {
		return nil
	}
	status := http.StatusNotAcceptable
	if !strings.Contains(accept, "/") {
		status = http.StatusBadRequest
	}
	return fiber.NewError(status, `Unsupported value `+strconv.Quote(accept)+` in accept header`)
}

// WantsPage reports whether a person's browser sent the request: only browsers name text/html in
// Accept.
func WantsPage(c *fiber.Ctx) bool {
	weight, specific := weigh(acceptLines(c), fiber.MIMETextHTML)
	return weight > 0 && specific == byName
}

// PrefersFHIR reports whether a request names a format of FHIR, in _format, or in Accept with at
// least the weight that another media type has there.
func PrefersFHIR(c *fiber.Ctx, other string) bool {
	if c.Query("_format") != "" {
		return true
	}
	accept := acceptLines(c)
	fhir, specific := weigh(accept, append([]string{"application/fhir+xml"}, jsonFormats...)...)
	if specific != byName || fhir == 0 {
		return false
	}
	other, _, _ = mime.ParseMediaType(other) // "" is accepted by */* alone
	weight, _ := weigh(accept, other)
	return fhir >= weight
}

// acceptsJSON reports whether an Accept header accepts FHIR's JSON. A range must contain the media
// type that is sent, so text/* does not. Other names of JSON count where they are spelled out,
// unless the header names fhirJSON and refuses it.
func acceptsJSON(accept string) bool {
	weight, specific := weigh(accept, fhirJSON)
	if weight > 0 || specific == byName {
		return weight > 0
	}
	weight, specific = weigh(accept, jsonFormats...)
	return weight > 0 && specific == byName
}

// acceptLines joins all Accept lines of a request.
func acceptLines(c *fiber.Ctx) string {
	var lines []string
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderAccept) {
		lines = append(lines, string(line))
	}
	return strings.Join(lines, ", ")
}

// weigh returns the weight, 0 to 1, that the most specific range of an Accept header gives to one
// of some media types (RFC 9110 12.5.1). specific is byName, byKind, byAny, or 0 where no range
// matches. A range of another version of FHIR than R4 matches none.
func weigh(accept string, types ...string) (weight float64, specific int) {
	for _, offer := range strings.Split(accept, ",") {
		name, params, err := mime.ParseMediaType(strings.TrimSpace(offer))
		if err != nil {
			name, _, _ = strings.Cut(offer, ";")
			name = strings.ToLower(strings.TrimSpace(name))
		}
		if v := params["fhirversion"]; v != "" && v != "4.0" && !strings.HasPrefix(v, "4.0.") {
			continue
		}
		at := specificity(name, types)
		if at == 0 || at < specific {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil || q < 0 || q > 1 {
				q = 1
			}
		}
		if at > specific {
			weight = 0
		}
		weight, specific = max(weight, q), at
	}
	return weight, specific
}

// How specifically a media range names a type: */*, type/*, or the type itself.
const (
	byAny = 1 + iota
	byKind
	byName
)

// specificity is how specifically a media range names one of some types; 0 where it names none.
func specificity(name string, types []string) int {
	kind, all := strings.CutSuffix(name, "/*")
	switch {
	case slices.Contains(types, name):
		return byName
	case name == "*/*":
		return byAny
	case all && slices.ContainsFunc(types, isOf(kind)):
		return byKind
	}
	return 0
}

// isOf returns a function that reports whether a media type belongs to a kind, such as text.
func isOf(kind string) func(mime string) bool {
	return func(mime string) bool { return strings.HasPrefix(mime, kind+"/") }
}
