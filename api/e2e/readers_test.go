package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"ehi-server/api/node"
	"ehi-server/api/openapi"
)

// A request's readers of NATS end with the request. NATS allows a thousand readers of a stream
// and refuses others until some are gone.
func TestRequestsLeaveNoReadersBehind(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.FHIR.PollBurst, cfg.FHIR.Hold, cfg.FHIR.MaxHold = 0, 0, 0
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form", p, nil)
	session := staffIn(w, "admin", "admin-password").cookies()
	readers := func() (n int) {
		all, err := w.node.Bus.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range all {
			n += u.Readers
		}
		return n
	}
	raw := &rawConn{t: t, addr: strings.TrimPrefix(w.node.URL, "http://")}
	t.Cleanup(raw.close)
	before := readers()
	if before == 0 {
		t.Fatal("not even the lanes have readers")
	}
	asked := 0
	for range 3 {
		for _, o := range openapi.Operations() {
			if o.Method != "GET" && o.Method != "HEAD" || strings.Contains(o.Path, "pprof") ||
				strings.HasSuffix(o.Path, "/logout") {
				continue
			}
			credentials := []string{
				"Accept: */*\r\n",
				"Authorization: Bearer " + pat.Token + "\r\n",
			}
			if slices.Contains(o.Security, "session") {
				credentials = []string{"Accept: */*\r\n", "Cookie: " + session + "\r\n"}
			}
			status := raw.send(o.Method, sample(o.Path, p, j.ID), credentials, "")
			if status == http.StatusOK {
				asked++
			}
		}
	}
	if asked < 60 {
		t.Fatalf("only %d requests are answered as they were meant", asked)
	}
	await(t, "an end of all readers", func() bool { return readers() <= before })
}
