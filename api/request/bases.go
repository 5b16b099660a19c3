package request

import (
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/ehi"
	"ehi-server/shared/weburl"
)

// Bases returns the path variants of the FHIR base (EHI-1): what precedes /fhir. The first one
// is empty.
func Bases() []string {
	return []string{
		"", "/no-form", "/auto-approve", "/no-form/auto-approve", "/auto-approve/no-form",
	}
}

// Audiences returns the FHIR bases of this server that aud may name: every variant at each of
// its origins. With faults, it includes aud itself if that is a base with ordered faults
// (package faulty). All are in the form of weburl.Canonical.
func (o Origins) Audiences(c *fiber.Ctx, aud string, faults bool) []string {
	var out []string
	aud = weburl.Canonical(aud)
	for _, origin := range o.All(c) {
		origin = weburl.Canonical(origin)
		for _, base := range Bases() {
			out = append(out, origin+base+"/fhir")
		}
		if faults && isFaultyBase(origin, aud) {
			out = append(out, aud)
		}
	}
	return out
}

// isFaultyBase reports whether base is the URL of a FHIR base with ordered faults at an origin.
// Both URLs must be in the form of weburl.Canonical.
func isFaultyBase(origin, base string) bool {
	rest, ok := strings.CutPrefix(base, origin+"/faulty/")
	faults, variant, found := strings.Cut(rest, "/")
	_, err := ehi.ParseFaults(faults)
	return ok && found && err == nil &&
		slices.ContainsFunc(Bases(), func(v string) bool { return "/"+variant == v+"/fhir" })
}
