package request

import (
	"slices"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// The bases of ordered faults are audiences only at this server's own origins, and only if
// faults may be ordered.
func TestABaseOfFaultsIsAnAudience(t *testing.T) {
	const origin = "https://ehi.example"
	app := fiber.New()
	c := app.AcquireCtx(&fasthttp.RequestCtx{})
	defer app.ReleaseCtx(c)
	o := Origins{BaseURL: origin, Fixed: true}
	for base, want := range map[string]bool{
		origin + "/faulty/slow/fhir":            true,
		origin + "/faulty/slow,busy/fhir":       true,
		origin + "/faulty/slow/no-form/fhir":    true,
		origin + "/faulty/slow/auto/fhir":       false,
		origin + "/faulty/nonsense/fhir":        false,
		origin + "/faulty/slow":                 false,
		origin + "/faulty//fhir":                false,
		"https://evil.example/faulty/slow/fhir": false,
	} {
		if got := slices.Contains(o.Audiences(c, base, true), base); got != want {
			t.Errorf("%s: %v", base, got)
		}
		if slices.Contains(o.Audiences(c, base, false), base) {
			t.Errorf("%s is an audience where no faults may be ordered", base)
		}
	}
	if want := origin + "/no-form/fhir"; !slices.Contains(o.Audiences(c, "", false), want) {
		t.Errorf("%s is no audience", want)
	}
}
