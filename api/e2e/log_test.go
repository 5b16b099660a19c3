package e2e

import (
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// At the finest level, the logs of a whole flow with errors name no patient and contain no
// secret.
func TestLogsNameNoPatientAndHoldNoSecret(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	log, level := debugLog(t, file)
	var secrets []string
	t.Run("a whole flow", func(t *testing.T) {
		w := startLogging(t, t.TempDir(), config(), node.Options{Level: level}, log)
		secrets = w.flowWithErrors()
	})
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if n := strings.Count(text, `"msg":"request"`); n < 20 {
		t.Fatalf("only %d lines of requests: %s", n, text)
	}
	for _, event := range []string{
		"job kicked off", "form submitted", "job done", "job decided", "job deleted",
	} {
		if !strings.Contains(text, `"msg":"`+event+`","job":"`) {
			t.Errorf("no line says %s", event)
		}
	}
	for _, secret := range secrets {
		if secret == "" {
			t.Fatal("a secret is empty")
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, secret) {
				t.Errorf("%q is in the log: %s", secret, line)
			}
		}
	}
}

// flowWithErrors uses every feature once, and returns what must not be logged.
func (w *world) flowWithErrors() (secrets []string) {
	t := w.t
	t.Helper()
	p := w.demoPatient()
	pat, tokens, err := w.open.Authorize(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, p, tokens.AccessToken, tokens.RefreshToken, "admin-password",
		"test_client_secret", "a private letter", "letter-of-anna.txt")
	a := w.do(pat, "GET", "/fhir/Patient/"+p)
	var patient struct {
		BirthDate string
		Name      []struct {
			Family string
			Given  []string
		}
	}
	if err := json.Unmarshal(a.Body, &patient); err != nil || len(patient.Name) == 0 {
		t.Fatalf("%s, %v", a.Body, err)
	}
	secrets = append(secrets, patient.BirthDate, patient.Name[0].Family, patient.Name[0].Given[0])
	j := w.kickOff(pat, "", p, nil)
	w.do(w.open, "GET", j.StatusURL)
	w.do(pat.WithToken("forged"), "GET", j.StatusURL)
	w.do(pat, "GET", "/fhir/Patient/nobody")
	w.submit(pat, j.ID, everything("a:mental_health"))
	w.wait(j.ID, ehi.Retrieved)
	if a, err := w.admin.AddFiles(t.Context(), j.ID,
		client.File{Name: "letter-of-anna.txt", Data: []byte("a private letter")}); err != nil ||
		a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	w.download(pat, w.manifest(pat, j))
	w.do(pat, "GET", "/jobs/"+j.ID+"/download/attachments/letter-of-anna.txt")
	if err := pat.Delete(t.Context(), j.StatusURL); err != nil {
		t.Fatal(err)
	}
	if _, err := w.open.AdminLogin(t.Context(), "admin", "wrong-password"); err == nil {
		t.Error("a wrong password opens")
	}
	all, err := w.open.Service(t.Context(), "test_client_secret", "system/*.rs")
	if err != nil {
		t.Fatal(err)
	}
	job, err := all.Start(t.Context(), "GET", "/fhir/Patient/$export", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.manifest(all, job)
	if a, err := w.admin.Do(t.Context(), "POST", "/admin/import?name=patients",
		strings.NewReader(`{"resourceType":"Patient","id":"x","name":[{"family":"Secretname"}]}`+
			"\nbroken Secretname\n"), "Content-Type", "application/fhir+ndjson"); err != nil ||
		a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	return append(secrets, all.Token, "wrong-password", "Secretname")
}

// If the tables of a record store become unreadable, the process survives: the server reports
// that it is not ready, and fails exports that it cannot make. Its log names no patient.
func TestADamagedRecordStoreIsSaidAndNamesNobody(t *testing.T) {
	t.Parallel()
	data, folder := t.TempDir(), ""
	var patients []ehi.Patient
	t.Run("whole", func(t *testing.T) {
		w := start(t, data, config(), node.Options{})
		var err error
		if patients, err = w.node.Patients(t.Context(), 10); err != nil || len(patients) == 0 {
			t.Fatalf("%v, %v", patients, err)
		}
	})
	folder = filepath.Join(data, dataset.Folder)
	tables, err := filepath.Glob(filepath.Join(folder, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	var largest []byte // with resources: a start with unreadable others is refused
	var path string
	for _, table := range tables {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > len(largest) {
			largest, path = text, table
		}
	}
	for i := len(largest) / 8; i < len(largest)*7/8; i += 512 {
		largest[i] ^= 1
	}
	if err := os.WriteFile(path, largest, 0o600); err != nil {
		t.Fatal(err)
	}
	logged := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(logged)
	if err != nil {
		t.Fatal(err)
	}
	log, err := telemetry.NewLogger(file, "json", slog.LevelDebug)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("damaged", func(t *testing.T) {
		w := startLogging(t, data, config(), node.Options{}, log)
		for _, p := range patients {
			w.do(w.admin, "GET", "/fhir/Patient/"+p.ID)
			w.do(w.admin, "GET", "/fhir/Patient?name="+p.ID)
		}
		all := w.service("system/*.rs")
		j, err := all.Start(t.Context(), "GET", "/fhir/Patient/$export", nil)
		if err == nil {
			w.wait(j.ID, ehi.Failed)
		}
		if a := w.do(w.open, "GET", "/readyz"); a.Status != 503 {
			t.Errorf("/readyz: %d", a.Status)
		}
		if a := w.do(w.open, "GET", "/healthz"); a.Status != 200 {
			t.Errorf("/healthz: %d", a.Status)
		}
	})
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(logged)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "a file of the record store is damaged") ||
		!strings.Contains(string(text), folder) {
		t.Errorf("the log does not tell of the damage: %.3000s", text)
	}
	for _, p := range patients {
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, p.ID) {
				t.Errorf("%s is in the log: %s", p.ID, line)
			}
		}
	}
}

// Only administrators can change the log level of a running server and get profiles.
func TestAdministratorsLookInside(t *testing.T) {
	t.Parallel()
	level := new(slog.LevelVar)
	w := start(t, t.TempDir(), config(), node.Options{Level: level})
	for _, path := range []string{
		"/admin/log-level", "/admin/debug/pprof/", "/admin/debug/pprof/heap",
	} {
		w.want(w.do(w.open, "GET", path), 401, "")
	}
	w.want(w.do(w.admin, "GET", "/admin/log-level"), 200, "INFO")
	a, err := w.admin.Do(t.Context(), "PUT", "/admin/log-level",
		strings.NewReader(`{"level":"debug"}`), "Content-Type", "application/json")
	if err != nil || a.Status != 200 || level.Level() != slog.LevelDebug {
		t.Errorf("%+v, %v, level %v", a, err, level)
	}
	a, err = w.admin.Do(t.Context(), "PUT", "/admin/log-level",
		strings.NewReader(`{"level":"loud"}`), "Content-Type", "application/json")
	if err != nil || a.Status != 400 {
		t.Errorf("%+v, %v", a, err)
	}
	w.want(w.do(w.admin, "GET", "/admin/debug/pprof/goroutine?debug=1"), 200, "goroutine profile")
	w.want(w.do(w.admin, "GET", "/admin/debug/pprof/"), 200, "heap")
	// arguments may contain passwords
	w.want(w.do(w.admin, "GET", "/admin/debug/pprof/cmdline"), 404, "")
}

// debugLog returns a logger of everything, and its level.
func debugLog(t *testing.T, to io.Writer) (*slog.Logger, *slog.LevelVar) {
	t.Helper()
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug)
	log, err := telemetry.NewLogger(to, "json", level)
	if err != nil {
		t.Fatal(err)
	}
	return log, level
}
