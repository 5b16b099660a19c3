package server

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
var jsonFormats = []string{"json", "text/json", "application/json", fhirJSON, "application/json+fhir"}

// negotiate holds _format, or else Accept, to what the server can answer (BULK-2, BULK-9): 400 where
// that is no media type at all, 406 where it is another one. Absence is forgiven.
func negotiate(c *fiber.Ctx) error {
	// An unescaped + in a query arrives as a space.
	if f := strings.ReplaceAll(c.Query("_format"), " ", "+"); f != "" {
		if f, _, _ := strings.Cut(f, ";"); !slices.Contains(jsonFormats, strings.ToLower(strings.TrimSpace(f))) {
			return ehi.Errorf(ehi.Invalid, "Unsupported _format parameter %q", c.Query("_format"))
		}
		return nil
	}
	accept := acceptOf(c)
	if strings.TrimSpace(accept) == "" || takesJSON(accept) {
		return nil
	}
	status := http.StatusNotAcceptable
	if !strings.Contains(accept, "/") {
		status = http.StatusBadRequest
	}
	return fiber.NewError(status, `Unsupported value `+strconv.Quote(accept)+` in accept header`)
}

// takesJSON reports whether an Accept header takes FHIR's JSON. A range has to hold the media type that
// is sent: text/* does not. Other names of it count where they are spelled out, unless that type is
// refused by name.
func takesJSON(accept string) bool {
	weight, specific := weigh(accept, fhirJSON)
	if weight > 0 || specific == byName {
		return weight > 0
	}
	weight, specific = weigh(accept, jsonFormats...)
	return weight > 0 && specific == byName
}

// acceptOf is all Accept lines of a request as one.
func acceptOf(c *fiber.Ctx) string {
	var lines []string
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderAccept) {
		lines = append(lines, string(line))
	}
	return strings.Join(lines, ", ")
}

// weigh is how much an Accept header wants one of some media types, 0 to 1, by the most specific range
// that names it (RFC 9110 12.5.1); specific is byName, byKind, byAny, or 0 where none does. A range of
// another version of FHIR than R4 names none.
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
		at := rangeNames(name, types)
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

// How specifically a media range names a type: itself, type/*, */*.
const (
	byAny = 1 + iota
	byKind
	byName
)

// rangeNames is how specifically a media range names one of some types; 0: it does not.
func rangeNames(name string, types []string) int {
	kind, all := strings.CutSuffix(name, "/*")
	switch {
	case slices.Contains(types, name):
		return byName
	case name == "*/*":
		return byAny
	case all && slices.ContainsFunc(types, func(t string) bool { return strings.HasPrefix(t, kind+"/") }):
		return byKind
	}
	return 0
}
