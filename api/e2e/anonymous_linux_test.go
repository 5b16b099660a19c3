package e2e

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/node"
	"ehi-server/api/openapi"
)

// processorTime returns the processor time of this process.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// costOf returns the processor time and the status of a request without credentials: the minimum
// of several rounds. It includes the time of the client.
func (p *production) costOf(
	via http.RoundTripper, method, path string,
) (least time.Duration, status int) {
	p.t.Helper()
	const rounds, requests = 5, 10
	for range rounds {
		before := processorTime(p.t)
		for range requests {
			req, err := http.NewRequestWithContext(p.t.Context(), method, p.open.Base+path,
				strings.NewReader(""))
			if err != nil {
				p.t.Fatal(err)
			}
			req.Header.Set("Accept", "text/html, */*;q=0.9")
			resp, err := via.RoundTrip(req)
			if err != nil {
				p.t.Fatal(err)
			}
			status = resp.StatusCode
			_, err = io.Copy(io.Discard, resp.Body)
			if _ = resp.Body.Close(); err != nil {
				p.t.Fatal(err)
			}
		}
		if took := (processorTime(p.t) - before) / requests; least == 0 || took < least {
			least = took
		}
	}
	return least, status
}

// costly is the maximum cost of a route as a multiple of /healthz. Some hundred microseconds are
// a tenth of it.
const costly = 60

// No route uses much processor time for a visitor who is not signed in: expensive responses are
// made once, or require credentials first.
func TestAnonymousRequestsCostLittle(t *testing.T) {
	p := startProduction(t, func(c *node.Config) { c.Abuse.PerAddress, c.Abuse.PerClient = 0, 0 })
	transport := &http.Transport{TLSClientConfig: roots(t, p.cert())}
	defer transport.CloseIdleConnections()
	p.costOf(transport, "GET", "/healthz") // opens the connection
	base, _ := p.costOf(transport, "GET", "/healthz")
	paths := []string{
		"GET /assets/style.css", "GET /nowhere", "HEAD /docs/ehi", "HEAD /openapi.json",
	}
	for _, o := range openapi.Operations() {
		if o.Path != "/metrics" { // only for the networks of --metrics-from
			paths = append(paths, o.Method+" "+sample(o.Path, p.ann, "none"))
		}
	}
	for _, route := range paths {
		method, path, _ := strings.Cut(route, " ")
		took, status := p.costOf(transport, method, path)
		t.Logf("%6d µs %d %s", took.Microseconds(), status, route)
		if took > costly*base {
			t.Errorf("%s takes %v of a processor, and /healthz %v", route, took, base)
		}
	}
}
