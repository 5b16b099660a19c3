package deploy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ehi-server/shared/built"
	"ehi-server/shared/certtest"
	"ehi-server/shared/files/filestest"
)

// hurried returns a copy of the rules in which only the times are shortened, so that a test need
// not wait for minutes.
func hurried(t *testing.T, dir string) (path string) {
	t.Helper()
	rules := read(t, "prometheus/rules.yml")
	for slow, fast := range map[string]string{
		`for: \dm`:        "for: 2s",
		`\[(5m|10m|1m)\]`: "[10s]",
		`\[1h\]`:          "[20s]",
		`> (300|120)\n`:   "> 3\n",
	} {
		hurry := regexp.MustCompile(slow)
		if !hurry.MatchString(rules) {
			t.Fatalf("no rule has %s", slow)
		}
		rules = hurry.ReplaceAllString(rules, fast)
	}
	path = filepath.Join(dir, "rules.yml")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// incident is a server with its own Prometheus, and a client.
type incident struct {
	t       *testing.T
	server  string // URL
	process *exec.Cmd
	prom    string // URL
	http    *http.Client
}

// raises repeats a fault until Prometheus fires the alert, which must not have fired before.
func (i *incident) raises(alert string, fault func()) {
	i.t.Helper()
	if i.fires(alert) {
		i.t.Fatalf("%s fires before its fault", alert)
	}
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for fault(); !i.fires(alert); <-tick.C {
		if time.Since(began) > time.Minute {
			i.t.Fatalf("%s does not fire", alert)
		}
		fault()
	}
	i.t.Logf("%s after %.1f s", alert, time.Since(began).Seconds())
}

// raised waits for an alert that an earlier fault triggers too.
func (i *incident) raised(alert, with string) {
	i.t.Helper()
	if i.fires(alert) {
		i.t.Logf("%s by the time of what came after %s", alert, with)
		return
	}
	i.raises(alert, func() {})
}

func (i *incident) fires(alert string) bool {
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
	}
	get(i.t, i.prom+"/api/v1/alerts", &answer)
	for _, a := range answer.Data.Alerts {
		if a.Labels["alertname"] == alert && a.State == "firing" {
			return true
		}
	}
	return false
}

// send sends a request and returns the status and Content-Location of the answer; 0 if the
// server does not answer.
func (i *incident) send(method, target, contentType, body string) (status int, location string) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Prefer", "respond-async")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := i.http.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close() // read to its end
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Content-Location")
}

// kickOff starts an export of all patients and returns its status URL, or "" if it was refused.
func (i *incident) kickOff() string {
	i.t.Helper()
	_, location := i.send("GET", i.server+"/fhir/Patient/$export", "", "")
	return location
}

// patient returns the id of a patient in the server.
func (i *incident) patient() string {
	i.t.Helper()
	resp, err := i.http.Get(i.server + "/patient-login")
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close() // read to its end
	page, err := io.ReadAll(resp.Body)
	found := regexp.MustCompile(`option value="([^"]+)"`).FindSubmatch(page)
	if err != nil || found == nil {
		i.t.Fatalf("%v, %s", err, page)
	}
	return string(found[1])
}

// begin starts a server and a Prometheus with the hurried rules.
func begin(t *testing.T, prometheus, api string, args ...string) *incident {
	t.Helper()
	dir := t.TempDir()
	// the test's own certificate, on loopback
	i := &incident{
		t: t,
		http: &http.Client{
			Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		},
	}
	t.Cleanup(i.http.CloseIdleConnections)
	i.server, i.process = launchProcess(t, "msg=serving url=", api,
		append([]string{"serve", "--addr", "127.0.0.1:0", "--open", "--keeper-every", "200ms"},
			args...)...)
	i.prom = watchWith(t, prometheus, filepath.Join(dir, "prometheus"), hurried(t, dir),
		map[string]string{"ehi-server": i.server})
	return i
}

// Each alert is raised by its fault, on a real server, by a real Prometheus. The log reports how
// long that took with the rules' times shortened to seconds.
func TestFaultsRaiseTheirAlerts(t *testing.T) {
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is absent (Debian: prometheus)")
	}
	api, nats :=
		built.Command(t, "ehi-server/api"), built.Command(t, "github.com/nats-io/nats-server/v2")

	t.Run("nobody works, and somebody guesses", func(t *testing.T) {
		t.Parallel()
		cert, key := certtest.SelfSigned(t, t.TempDir(), time.Now().Add(7*24*time.Hour))
		i := begin(t, prometheus, api, "--data", t.TempDir(), "--workers", "0", "--max-queue", "2",
			"--tls-cert", cert, "--tls-key", key)
		nothing := func() {}
		i.raises("EHICertificateExpires", nothing) // its lifetime was short from the start
		i.raises("EHINoWorker", once(func() { i.kickOff() }))
		p := i.patient()
		i.raises("EHIRequestsRefused", func() {
			i.send("POST", i.server+"/no-form/fhir/Patient/"+p+"/$ehi-export", "", "")
		})
		i.raises("EHITokenAbuse", func() {
			i.send("POST", i.server+"/auth/token", "application/x-www-form-urlencoded",
				"grant_type=refresh_token&refresh_token=guessed")
		})
		i.raised("EHIOldestCommandWaits", "EHINoWorker")
		i.raises("EHIServerDown", once(func() { end(t, i.process, syscall.SIGKILL) }))
	})
	t.Run("a source that hangs", func(t *testing.T) {
		t.Parallel()
		i := begin(t, prometheus, api, "--data", t.TempDir(), "--source",
			"synthetic:patients=20,delay=1h", "--stall", "500ms", "--max-deliver", "4",
			"--bulk-workers", "4")
		var jobs []string
		i.raises("EHIRedeliveryStorm", func() {
			if len(jobs) < 8 {
				jobs = append(jobs, i.kickOff())
			}
		})
		i.raised("EHIJobsFail", "EHIRedeliveryStorm")
		i.raises("EHIErrorBudgetBurns", func() {
			for _, status := range jobs {
				i.send("GET", status, "", "")
			}
		})
	})
	t.Run("a small disk", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		filestest.Small(t, data, "5m")
		i := begin(t, prometheus, api, "--data", data, "--min-free-bytes", "0")
		i.raises("EHIDiskNearlyFull", func() {}) // the disk was small from the start
		i.raises("EHIExportsWaitForSpace", func() { i.kickOff() })
		end(t, i.process, syscall.SIGTERM) // it keeps the file system mounted
	})
	t.Run("NATS that falters, and is gone", func(t *testing.T) {
		t.Parallel()
		addr := freeAddr(t)
		host, port, _ := strings.Cut(addr, ":")
		_, bus := launchProcess(t, "Server is ready", nats, "--jetstream", "--store_dir",
			t.TempDir(), "--addr", host, "--port", port)
		i := begin(t, prometheus, api, "--data", t.TempDir(), "--nats", "nats://"+addr)
		i.raises("EHIStatusSlow", func() { // the server looks for unknown jobs in NATS
			var asking sync.WaitGroup
			signal(t, bus, syscall.SIGSTOP)
			for n := range 20 {
				asking.Go(func() {
					i.send("GET", fmt.Sprintf("%s/jobs/none%d/status", i.server, n), "", "")
				})
			}
			pause := time.NewTimer(400 * time.Millisecond)
			<-pause.C
			signal(t, bus, syscall.SIGCONT)
			asking.Wait()
		})
		i.raises("EHIKeeperFails", once(func() { end(t, bus, syscall.SIGKILL) }))
		i.raises("EHIAuditLost", func() {
			i.send("POST", i.server+"/auth/token", "application/x-www-form-urlencoded",
				"grant_type=refresh_token&refresh_token=guessed&client_id=test_client_id")
		})
	})
}

// once returns a function that calls f only the first time.
func once(f func()) func() { return sync.OnceFunc(f) }

func signal(t *testing.T, cmd *exec.Cmd, s syscall.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// end ends a process and waits for it.
func end(t *testing.T, cmd *exec.Cmd, s syscall.Signal) {
	t.Helper()
	signal(t, cmd, s)
	_ = cmd.Wait() // its error only names the signal
}
