package e2e

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// appCode returns the code of an authenticator app for a secret, some steps of 30 s ahead.
func appCode(t *testing.T, secret string, ahead int) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(ahead)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

var (
	shownSecret = regexp.MustCompile(`Secret: <code>([A-Z2-7 ]+)</code>`)
	shownCode   = regexp.MustCompile(`<li><code>([a-z2-7-]+)</code></li>`)
)

// secret returns the secret on the page of the second factor.
func (b *browser) secret() string {
	b.t.Helper()
	m := shownSecret.FindStringSubmatch(b.page)
	if m == nil {
		b.t.Fatalf("no secret on %s: %s", b.at, b.page)
	}
	return strings.ReplaceAll(m[1], " ", "")
}

// setUp sets up the second factor of a signed-in administrator, with the code of the previous
// step, so that two more are still valid.
func (b *browser) setUp() (secret string, recovery []string) {
	b.t.Helper()
	secret = b.secret()
	b.submitTo("/admin/ui/second-factor", "code", appCode(b.t, secret, -1))
	if b.code == http.StatusBadRequest { // the step, and the code with it, has ended meanwhile
		b.submitTo("/admin/ui/second-factor", "code", appCode(b.t, secret, -1))
	}
	b.sees(200, "Recovery codes (shown only once)")
	for _, m := range shownCode.FindAllStringSubmatch(b.page, -1) {
		recovery = append(recovery, html.UnescapeString(m[1]))
	}
	if len(recovery) != 10 {
		b.t.Fatalf("%d recovery codes: %s", len(recovery), b.page)
	}
	return secret, recovery
}
