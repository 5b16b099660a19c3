package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// Each ordered fault appears on the wire as described, and disappears when it should. Then the
// export is complete.
func TestOrderedFaults(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	kick := func(faults string) client.Job {
		return w.kickOff(pat, "/faulty/"+faults+"/no-form/auto-approve", p, nil)
	}
	get := func(target string) (*client.Answer, error) {
		return pat.Do(t.Context(), "GET", target, nil)
	}
	settled := func(j client.Job) *ehi.Manifest {
		w.wait(j.ID, ehi.Approved)
		return w.manifest(pat, j)
	}
	plain := w.kickOff(pat, "/no-form/auto-approve", p, nil)
	whole, _ := w.download(pat, w.manifest(pat, plain))

	shown := map[ehi.Fault]func(j client.Job){
		ehi.FaultThrottled: func(j client.Job) {
			for n, status := range []int{429, 0, 429, 0} {
				a, err := get(j.StatusURL)
				if err != nil ||
					status != 0 && (a.Status != status || a.Header.Get("Retry-After") != "2") ||
					status == 0 && a.Status == 429 {
					t.Errorf("%d: %+v, %v", n, a, err)
				}
			}
		},
		ehi.FaultUnavailable: func(j client.Job) {
			a, err := get(j.StatusURL)
			if err != nil {
				t.Fatal(err)
			}
			w.wantOutcome(a, 503, `"transient"`)
			if a.Header.Get("Retry-After") != "2" {
				t.Errorf("%v", a.Header)
			}
			if a, err := get(j.StatusURL); err != nil || a.Status == 503 {
				t.Errorf("%+v, %v", a, err)
			}
			w.want(w.do(pat, "GET", j.StatusURL), 503, "")
		},
		ehi.FaultDropped: func(j client.Job) {
			for n, dropped := range []bool{true, false, true, false} {
				if _, err := askOnce(t, pat, j.StatusURL); (err != nil) != dropped {
					t.Errorf("%d: %v", n, err)
				}
			}
			m := settled(j)
			for n, dropped := range []bool{true, false} {
				if _, err := askOnce(t, pat, m.Output[0].URL); (err != nil) != dropped {
					t.Errorf("download %d: %v", n, err)
				}
			}
		},
		ehi.FaultSlow: func(j client.Job) {
			w.wait(j.ID, ehi.Approved)
			a := w.do(pat, "GET", j.StatusURL)
			w.want(a, 202, "")
			if a.Header.Get("Retry-After") != "2" ||
				!strings.Contains(a.Header.Get("X-Progress"), "the export is slow") {
				t.Errorf("%v", a.Header)
			}
			begun := time.Now()
			w.manifest(pat, j)
			if took := time.Since(begun); took < 5*time.Second {
				t.Errorf("it took %v", took)
			}
		},
		ehi.FaultFailed: func(j client.Job) {
			w.wait(j.ID, ehi.Approved)
			for range 2 {
				w.wantOutcome(w.do(pat, "GET", j.StatusURL), 500, "The export failed")
			}
		},
		ehi.FaultErrors: func(j client.Job) {
			m := settled(j)
			if len(m.Error) != 1 || m.Error[0].Count != 2 || m.Error[0].Type != "OperationOutcome" {
				t.Fatalf("%+v", m.Error)
			}
			lines := w.do(pat, "GET", m.Error[0].URL)
			if strings.Count(string(lines.Body), "\n") != 2 ||
				!strings.Contains(string(lines.Body), `"severity":"error"`) {
				t.Errorf("%s", lines.Body)
			}
		},
		ehi.FaultTruncated: func(j client.Job) {
			m := settled(j)
			for _, e := range m.Output {
				size, got := truncated(t, pat, e.URL)
				if got >= size || got < size/2-1 {
					t.Errorf("%s: %d of %d bytes came", e.URL, got, size)
				}
			}
			if again, _ := w.download(pat, m); len(again) != len(whole) {
				t.Errorf("the second time %d of %d resources came", len(again), len(whole))
			}
		},
		ehi.FaultExpired: func(j client.Job) {
			m := settled(j)
			expires, err := http.ParseTime(w.do(pat, "GET", j.StatusURL).Header.Get("Expires"))
			if err != nil || expires.After(time.Now()) {
				t.Errorf("%v, %v", expires, err)
			}
			w.wantOutcome(w.do(pat, "GET", m.Output[0].URL), 404, "expired")
		},
	}
	for _, info := range ehi.Faults() {
		if info.Fault == ehi.FaultBusy {
			target := "/faulty/busy/no-form/auto-approve/fhir/Patient/" + p + "/$ehi-export"
			for n, status := range []int{429, 202, 429, 202} {
				a := w.do(pat, "POST", target)
				if a.Status != status || status == 429 && a.Header.Get("Retry-After") != "2" {
					t.Errorf("busy, %d: %d %v", n, a.Status, a.Header)
				}
			}
			continue
		}
		if shown[info.Fault] == nil {
			t.Errorf("nothing tests %s", info.Fault)
			continue
		}
		shown[info.Fault](kick(string(info.Fault)))
	}
	// Several at once, and discovery, the audience and the form below such a base.
	j := kick("throttled+errors")
	w.want(w.do(pat, "GET", j.StatusURL), 429, "")
	if m := settled(j); len(m.Error) != 1 {
		t.Errorf("%+v", m.Error)
	}
	w.want(w.do(w.open, "GET", "/faulty/dropped/fhir/metadata"), 200, `/faulty/dropped/fhir"`)
	w.want(w.do(w.open, "GET", "/faulty/dropped/fhir/.well-known/smart-configuration"), 200,
		"token_endpoint")
	w.wantOutcome(w.do(pat, "POST", "/faulty/nonsense/fhir/Patient/"+p+"/$ehi-export"), 400,
		"There is no fault")
	formed := w.kickOff(pat, "/faulty/errors/auto-approve", p, nil)
	w.submit(pat, formed.ID, everything())
	if m := settled(formed); len(m.Error) != 1 {
		t.Errorf("behind the form: %+v", m.Error)
	}
}

// askOnce sends one request on a new connection, because the client's transport repeats a
// request if a reused connection breaks.
func askOnce(t *testing.T, c *client.Client, target string) (int, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.Token)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if e := resp.Body.Close(); err == nil {
		err = e
	}
	return resp.StatusCode, err
}

// truncated returns how many bytes of a file are announced, and how many arrive.
func truncated(t *testing.T, c *client.Client, target string) (size, got int64) {
	t.Helper()
	err := c.Stream(t.Context(), target, func(r io.Reader) error {
		n, err := io.Copy(io.Discard, r)
		got = n
		return err
	})
	if err == nil {
		t.Errorf("%s did not break off", target)
	}
	head, err := c.Do(t.Context(), "HEAD", target, nil)
	if err != nil || head.Status != 200 {
		t.Fatalf("%+v, %v", head, err)
	}
	for _, digit := range head.Header.Get("Content-Length") {
		size = size*10 + int64(digit-'0')
	}
	return size, got
}

// Production mode has no simulated faults.
func TestProductionModeTakesNoOrders(t *testing.T) {
	t.Parallel()
	p := &target{production: startProduction(t, nil)}
	a, _ := p.letIn("app", "ann")
	p.want(p.do(a, "POST", "/faulty/failed/fhir/Patient/"+p.production.ann+"/$ehi-export"), 404, "")
	p.sentBack(p.request("app", "aud", p.open.Base+"/faulty/failed/fhir"), "invalid_request")
}
