package staff

import (
	"testing"
	"time"

	"ehi-server/shared/ehi"
)

func TestAgesAreInTheirLargestUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                "<1 s",
		59 * time.Second: "59 s",
		90 * time.Second: "1 min",
		47 * time.Hour:   "47 h",
		72 * time.Hour:   "3 days",
	} {
		if got := age(d); got != want {
			t.Errorf("%v is %q, not %q", d, got, want)
		}
	}
}

// The addresses of a list keep its filters, and begin at its first page but for the page itself.
func TestAddressesOfAListKeepItsFilters(t *testing.T) {
	f := jobFilter{Status: ehi.Retrieved, Search: "a & b", Sort: "name", Page: 3}
	for _, c := range []struct{ got, want string }{
		{f.With("status", ""), "/admin/ui/jobs?q=a+%26+b&sort=name"},
		{f.Next(), "/admin/ui/jobs?page=4&q=a+%26+b&sort=name&status=retrieved"},
		{jobFilter{Sort: "newest", Page: 2}.Previous(), "/admin/ui/jobs"},
		{f.With("client", "c"), "/admin/ui/jobs?client=c&q=a+%26+b&sort=name&status=retrieved"},
	} {
		if c.got != c.want {
			t.Errorf("%s, not %s", c.got, c.want)
		}
	}
}
