package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// kick kicks off an export of a patient.
func (w *world) kick(c *client.Client, base, patient string) *client.Answer {
	w.t.Helper()
	return w.do(c, "POST", base+"/fhir/Patient/"+patient+"/$ehi-export", "Accept",
		"application/fhir+json")
}

// usedUp requires that a response is the refusal by a quota.
func (w *world) usedUp(a *client.Answer, quota string) {
	w.t.Helper()
	w.want(a, http.StatusTooManyRequests, "The quota "+quota+" is used up")
	if !strings.Contains(string(a.Body), `"resourceType":"OperationOutcome"`) ||
		a.Header.Get("Retry-After") == "" {
		w.t.Errorf("%v %s", a.Header, a.Body)
	}
}

// Each quota refuses what exceeds it, names itself, and affects nobody else. Counts of a window
// survive a restart.
func TestQuotasOfKickOffsAndExports(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		quota, base string
		set         func(*node.Config)
	}{
		{"client-kick-offs", "", func(c *node.Config) { c.Quotas.ClientKickOffs = 2 }},
		{"patient-kick-offs", "", func(c *node.Config) { c.Quotas.PatientKickOffs = 2 }},
		{"client-exports", "/no-form", func(c *node.Config) { c.Quotas.ClientExports = 2 }},
		{"patient-exports", "/no-form", func(c *node.Config) { c.Quotas.PatientExports = 2 }},
	} {
		t.Run(c.quota, func(t *testing.T) {
			data, cfg := t.TempDir(), config()
			cfg.Quotas.Window = time.Hour
			c.set(&cfg)
			var patient string
			t.Run("hit", func(t *testing.T) {
				w := start(t, data, cfg, node.Options{})
				patient = w.demoPatient()
				pat := w.patient(patient)
				for range 2 {
					w.want(w.kick(pat, c.base, patient), 202, "")
				}
				w.usedUp(w.kick(pat, c.base, patient), c.quota)
				others, err := w.node.Patients(t.Context(), 2)
				if err != nil {
					t.Fatal(err)
				}
				status := 202
				if strings.HasPrefix(c.quota, "client") {
					status = 429
				}
				w.want(w.kick(w.patient(others[1].ID), c.base, others[1].ID), status, "")
				metrics := string(w.do(w.open, "GET", "/metrics").Body)
				if !strings.Contains(metrics, `ehi_quota_refused_total{quota="`+c.quota+`"}`) ||
					!strings.Contains(metrics, `ehi_quota_use_ratio{quota="`+c.quota+`"}`) {
					t.Errorf("no metrics of %s", c.quota)
				}
			})
			t.Run("after a restart", func(t *testing.T) {
				w := start(t, data, cfg, node.Options{})
				w.usedUp(w.kick(w.patient(patient), c.base, patient), c.quota)
			})
		})
	}
}

// An export that begins with its form counts when the form is sent. A refused form stays open,
// with its choices.
func TestTheQuotaOfExportsCountsFormsThatAreSent(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Quotas.Window, cfg.Quotas.PatientExports = time.Hour, 1
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	w.submit(pat, w.kickOff(pat, "", p, nil).ID, newForm("labs"))
	j := w.kickOff(pat, "", p, nil)
	b := newBrowser(t)
	b.visit(w.node.URL + "/jobs/" + j.ID + "/customize?_patient=" + p)
	b.submit("p.labs", "on")
	if b.code != http.StatusTooManyRequests {
		t.Errorf("%d %s", b.code, b.page)
	}
	b.visit(w.node.URL + "/jobs/" + j.ID + "/customize?_patient=" + p)
	b.sees(200, "Choose what to share")
	if !strings.Contains(b.page, " checked") {
		t.Error("the choices are lost")
	}
}

// The stored bytes of a client's and of a patient's exports are limited. Deletions make room.
func TestQuotasOfStoredBytes(t *testing.T) {
	t.Parallel()
	for quota, set := range map[string]func(*node.Config){
		"client-bytes":  func(c *node.Config) { c.Quotas.ClientBytes = 1 },
		"patient-bytes": func(c *node.Config) { c.Quotas.PatientBytes = 1 },
	} {
		t.Run(quota, func(t *testing.T) {
			cfg := config()
			set(&cfg)
			w := start(t, t.TempDir(), cfg, node.Options{})
			p := w.demoPatient()
			pat := w.patient(p)
			j := w.kickOff(pat, "/no-form/auto-approve", p, nil)
			w.manifest(pat, j)
			w.usedUp(w.kick(pat, "", p), quota)
			if err := pat.Delete(t.Context(), j.StatusURL); err != nil {
				t.Fatal(err)
			}
			w.want(w.kick(pat, "", p), 202, "")
		})
	}
}

// However many kick-offs arrive at once, in however many processes, an export begins only if
// those in progress leave room for it. What they do not need, or what ends, makes room again.
func TestSimultaneousKickOffsKeepWithinStoredBytes(t *testing.T) {
	t.Parallel()
	cfg, data := config(), t.TempDir()
	cfg.Worker.Workers, cfg.Jobs.ClientJobs = 0, 100
	var (
		records source.Source
		list    []ehi.Patient
		largest int64
	)
	opts := node.Options{WrapSource: func(s source.Source) source.Source { records = s; return s }}
	size := func(patient string) int64 {
		n, err := records.Size(t.Context(), []string{patient})
		if err != nil {
			t.Error(err)
		}
		return n
	}
	t.Run("sizes", func(t *testing.T) {
		w := start(t, data, cfg, opts)
		var err error
		if list, err = w.node.Patients(t.Context(), 12); err != nil || len(list) < 5 {
			t.Fatalf("%d patients, %v", len(list), err)
		}
		for _, p := range list {
			largest = max(largest, size(p.ID))
		}
	})
	cfg.Quotas.ClientBytes = 3 * largest
	w := start(t, data, cfg, opts)
	asking := map[string]*client.Client{}
	for _, p := range list {
		asking[p.ID] = w.patient(p.ID)
	}
	kickOffs := func() (accepted int64, jobs map[string]string) {
		var (
			all sync.WaitGroup
			mu  sync.Mutex
		)
		jobs = map[string]string{} // by patient
		for _, p := range list {
			all.Go(func() {
				a, err := asking[p.ID].Do(t.Context(), "POST",
					"/no-form/fhir/Patient/"+p.ID+"/$ehi-export", nil)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case a.Status == http.StatusAccepted:
					accepted += size(p.ID)
					jobs[p.ID] = a.Header.Get("Content-Location")
				case a.Status != http.StatusTooManyRequests ||
					!strings.Contains(string(a.Body), "client-bytes"):
					t.Errorf("%d %s", a.Status, a.Body)
				}
			})
		}
		all.Wait()
		return accepted, jobs
	}
	for round := range 3 {
		n, jobs := kickOffs()
		if n > cfg.Quotas.ClientBytes || len(jobs) < 2 {
			t.Errorf("round %d: %d exports of %d bytes begin, where %d may be stored", round,
				len(jobs), n, cfg.Quotas.ClientBytes)
		}
		for patient, job := range jobs {
			if err := asking[patient].Delete(t.Context(), job); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Forms that were opened before anything was stored count when they are sent. Of two, the second
// waits until the first one's export is deleted, and keeps its choices.
func TestTheQuotaOfStoredBytesCountsFormsThatAreSent(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Quotas.PatientBytes, cfg.Worker.Workers = 1, 0
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	first, second := w.kickOff(pat, "", p, nil), w.kickOff(pat, "", p, nil)
	w.submit(pat, first.ID, newForm("labs"))
	b := newBrowser(t)
	form := w.node.URL + "/jobs/" + second.ID + "/customize?_patient=" + p
	b.visit(form)
	b.submit("p.labs", "on")
	if b.code != http.StatusTooManyRequests {
		t.Errorf("%d %s", b.code, b.page)
	}
	if err := pat.Delete(t.Context(), first.StatusURL); err != nil {
		t.Fatal(err)
	}
	b.visit(form)
	b.sees(200, "Choose what to share", " checked")
	b.submit("p.labs", "on")
	if j := w.wait(second.ID, ehi.Requested); j.Status != ehi.Requested {
		t.Errorf("%+v", j)
	}
}

// Two thousand connections that send a head byte by byte, or nothing, or an incomplete body,
// delay nobody: a held poll continues, and new clients are served.
func TestSlowConnectionsHoldUpNobody(t *testing.T) {
	cfg := config()
	cfg.Connections.Most, cfg.FHIR.MaxHold, cfg.FHIR.MaxHeld, cfg.Worker.Workers =
		400, time.Minute, 100, 0
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form", p, nil)
	polled := w.poll(t.Context(), pat, j, "Prefer", "wait=60")
	held(t, 1)

	starts := []string{
		"",
		"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: " +
			"application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant",
	}
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			_ = c.Close()
		}
	}()
	served := 0
	for i := range 2000 {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.node.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		_, _ = io.WriteString(c, starts[i%len(starts)]) // the server may have closed it
		if i%100 != 99 {
			continue
		}
		if err := w.askAnew(); err != nil {
			t.Errorf("beside %d slow connections: %v", len(slow), err)
		} else {
			served++
		}
	}
	if served != 20 {
		t.Errorf("%d of 20 clients were served", served)
	}
	_, err := w.node.Bus.Jobs.Update(t.Context(), j.ID, func(j *ehi.Job) error {
		return j.Fail("on purpose", time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	a := answerOf(t, polled)
	if a.Status != 500 || !strings.Contains(string(a.Body), "on purpose") {
		t.Errorf("the held poll: %d %s", a.Status, a.Body)
	}
}

// askAnew sends one request on a new connection.
func (w *world) askAnew() error {
	c, err := net.Dial("tcp", strings.TrimPrefix(w.node.URL, "http://"))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
