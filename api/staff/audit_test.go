package staff

import (
	"net/url"
	"testing"

	"ehi-server/shared/ehi"
)

// Whatever is asked of the audit trail is read, or refused in words.
func FuzzAuditQuery(f *testing.F) {
	for _, seed := range []string{
		"patient=p1&action=disclose", "from=2026-11-25&to=2026-11-25T12:00:00Z",
		"after=18446744073709551616", "limit=-1", "who=me", "action=x", "patient=a*b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		asked, err := parseAudit(q)
		if err != nil && ehi.CodeOf(err) != ehi.Invalid {
			t.Fatalf("%q: %v", query, err)
		}
		if err == nil && asked.limit < 0 {
			t.Fatalf("%q: limit %d", query, asked.limit)
		}
	})
}
