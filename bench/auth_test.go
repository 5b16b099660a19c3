package bench

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"ehi-server/api/client"
	"ehi-server/auth"
	"ehi-server/shared/bus"
)

// BenchmarkTokenChecks checks access tokens within the process: a known one, and new ones, whose
// signatures must be verified.
func BenchmarkTokenChecks(b *testing.B) {
	nats, err := bus.Open(b.Context(), bus.Config{StoreDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer nats.Close()
	for _, alg := range auth.TokenAlgorithms() {
		open := func() *auth.Server {
			s, err := auth.New(b.Context(), auth.Config{
				KV:      nats.Auth,
				Issuer:  "http://server.test",
				Sandbox: true,
				Flags: auth.Flags{
					SandboxSecret: "secret",
					KeyFlags:      auth.KeyFlags{Algorithm: alg},
				},
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(s.Close)
			return s
		}
		issuer := open()
		issue := func(b *testing.B) string {
			b.Helper()
			t, err := issuer.Token(b.Context(), auth.TokenRequest{
				Form: url.Values{
					"grant_type":    {"client_credentials"},
					"client_id":     {auth.SandboxClientID},
					"client_secret": {"secret"},
					"scope":         {"system/*.rs"},
				},
			})
			if err != nil {
				b.Fatal(err)
			}
			return t.AccessToken
		}
		check := func(b *testing.B, s *auth.Server, token func() string) {
			b.Helper()
			for b.Loop() {
				if _, err := s.Verify(b.Context(), token()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
		}
		b.Run(alg+"/issue", func(b *testing.B) {
			for b.Loop() {
				issue(b)
			}
		})
		b.Run(alg+"/again", func(b *testing.B) {
			one := issue(b)
			check(b, open(), func() string { return one })
		})
		b.Run(alg+"/first", func(b *testing.B) {
			check(b, open(), func() string {
				b.StopTimer()
				defer b.StartTimer()
				return issue(b)
			})
		})
	}
}

// BenchmarkAuthorizedPolls compares status polls with a token to polls of a server that requires
// none (--open), alternately.
func BenchmarkAuthorizedPolls(b *testing.B) {
	const rounds = 5
	closed, open := startServer(b, "EHI_POLL_BURST=0"),
		startOn(b, b.TempDir(), "EHI_POLL_BURST=0", "EHI_OPEN=true",
			"EHI_SOURCE=synthetic:patients=1,resources=10")
	mine, err := closed.client.KickOff(b.Context(), "", closed.patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	a, err := open.open.Do(b.Context(), http.MethodGet, "/fhir/Group", nil)
	if err != nil || a.Status != http.StatusOK {
		b.Fatalf("%+v, %v", a, err)
	}
	theirs, err := open.open.KickOff(b.Context(), "", somebody(b, open.open), nil)
	if err != nil {
		b.Fatal(err)
	}
	var with, without time.Duration
	for range rounds {
		for _, way := range []struct {
			job   client.Job
			token string
			sum   *time.Duration
		}{{mine, closed.client.Token, &with}, {theirs, "", &without}} {
			begun := time.Now()
			hammer(b, 32, way.token, fasthttp.StatusAccepted, func(_ int, req *fasthttp.Request) {
				if way.token == "" {
					req.Header.Del(fasthttp.HeaderAuthorization)
				}
				req.SetRequestURI(way.job.StatusURL)
			})
			*way.sum += time.Since(begun)
		}
	}
	n := float64(rounds * b.N)
	b.ReportMetric(n/with.Seconds(), "with-polls/s")
	b.ReportMetric(n/without.Seconds(), "without-polls/s")
	b.ReportMetric(without.Seconds()/with.Seconds(), "ratio")
}

// somebody returns a patient of a server that requires no token.
func somebody(b *testing.B, c *client.Client) string {
	b.Helper()
	j, err := c.Start(b.Context(), http.MethodGet, "/fhir/Patient/$export?_type=Patient", nil)
	if err != nil {
		b.Fatal(err)
	}
	m, err := c.Wait(b.Context(), j.StatusURL, time.Millisecond)
	if err != nil {
		b.Fatal(err)
	}
	data, err := c.Download(b.Context(), m.Output[0].URL)
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// BenchmarkRevocation revokes tokens at one API process. It measures the time from the answer
// until a second process, which has accepted the token before and is polled continuously,
// rejects it.
func BenchmarkRevocation(b *testing.B) {
	addr, err := freeAddress()
	if err != nil {
		b.Fatal(err)
	}
	const source = "EHI_SOURCE=synthetic:patients=1,resources=10"
	data, beside := b.TempDir(), b.TempDir()
	first := startOn(b, data, source, "EHI_NATS_LISTEN="+addr)
	err = os.Symlink(filepath.Join(data, "exports"), filepath.Join(beside, "exports"))
	if err != nil {
		b.Fatal(err)
	}
	second := startOn(b, beside, source, "EHI_NATS=nats://"+addr, "EHI_WORKERS=0")
	service := first.service(b)
	patient := somebody(b, service)
	var took []time.Duration
	for b.Loop() {
		c, tokens, err := first.open.Authorize(b.Context(), patient)
		if err != nil {
			b.Fatal(err)
		}
		there := second.open.WithToken(c.Token)
		refused := make(chan time.Time, 1)
		asked := make(chan struct{})
		go untilRefused(b, there, asked, refused)
		<-asked
		form := url.Values{"token": {tokens.RefreshToken}, "client_id": {client.ClientID}}
		a, err := first.open.Do(b.Context(), http.MethodPost, "/auth/revoke",
			strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
		answered := time.Now()
		if err != nil || a.Status != http.StatusOK {
			b.Fatalf("%+v, %v", a, err)
		}
		took = append(took, max(0, (<-refused).Sub(answered)))
	}
	slices.Sort(took)
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(took[len(took)-1]), "max-ms")
}

// untilRefused polls a job that does not exist until the answer is 401; it is 404 while the
// token is valid. asked is closed when the token has been accepted.
func untilRefused(b *testing.B, c *client.Client, asked chan struct{}, refused chan time.Time) {
	defer close(refused)
	for in := false; ; {
		a, err := c.Do(b.Context(), http.MethodGet, "/jobs/none/status", nil)
		switch {
		case err != nil:
			b.Error(err)
			return
		case a.Status == http.StatusUnauthorized:
			refused <- time.Now()
			return
		case !in:
			in = true
			close(asked)
		}
	}
}
