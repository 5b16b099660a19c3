package staff

import (
	"errors"
	"reflect"
	"testing"

	"ehi-server/api/openid"
	"ehi-server/api/page"
)

// An errand comes back as it was sent. One that was changed on its way, or that another state's
// key has sealed, is refused.
func TestAChangedErrandIsRefused(t *testing.T) {
	provider := func(key string) *Provider {
		return &Provider{Pages: &Pages{Guard: page.Guard{Key: page.Key(key)}}}
	}
	ours := provider("ours")
	sent := errand{
		Try: openid.Try{State: "s"}, Next: "/admin/ui/system", As: "ada", Session: "sid",
	}
	sealed, err := ours.seal(sent)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ours.open(sealed); err != nil || !reflect.DeepEqual(back, sent) {
		t.Errorf("%+v comes back as %+v: %v", sent, back, err)
	}
	if _, err := provider("theirs").open(sealed); !errors.Is(err, errElsewhere) {
		t.Errorf("another key: %v", err)
	}
	for i := range sealed {
		changed := []byte(sealed)
		changed[i] ^= 1
		if _, err := ours.open(string(changed)); !errors.Is(err, errElsewhere) {
			t.Fatalf("changed at %d: %v", i, err)
		}
	}
	for _, cookie := range []string{"", "x", sealed[1:], sealed + "AA", " " + sealed} {
		if _, err := ours.open(cookie); !errors.Is(err, errElsewhere) {
			t.Errorf("%.20q: %v", cookie, err)
		}
	}
}
