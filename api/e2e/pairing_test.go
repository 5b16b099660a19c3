package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/shared/built"
	"ehi-server/shared/ehi"
)

// copyRecords copies the record store of a data folder that nobody has open.
func copyRecords(t *testing.T, from, to string) {
	t.Helper()
	err := os.CopyFS(filepath.Join(to, dataset.Folder),
		os.DirFS(filepath.Join(from, dataset.Folder)))
	if err != nil {
		t.Fatal(err)
	}
}

// exporterProcess is a stand-alone exporter process.
type exporterProcess struct {
	t   *testing.T
	cmd *exec.Cmd
	out buffer
}

// exporter starts one for a server.
func exporter(t *testing.T, w *world, args ...string) *exporterProcess {
	t.Helper()
	args = append([]string{"--nats", w.node.Bus.ClientURL()}, args...)
	x := &exporterProcess{t: t, cmd: exec.Command(built.Command(t, "ehi-server/exporter"), args...)}
	x.cmd.Stderr = &x.out
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.stop)
	return x
}

func (x *exporterProcess) stop() {
	if x.cmd.ProcessState == nil {
		_ = x.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		_ = x.cmd.Wait()
	}
	if x.t.Failed() {
		x.t.Logf("exporter: %.3000s", x.out.String())
	}
}

// says waits for a line in the exporter's log.
func (x *exporterProcess) says(parts ...string) {
	x.t.Helper()
	await(x.t, fmt.Sprintf("the exporter to say %q", parts), func() bool {
		for line := range strings.Lines(x.out.String()) {
			all := true
			for _, part := range parts {
				all = all && strings.Contains(line, part)
			}
			if all {
				return true
			}
		}
		return false
	})
}

const (
	stranger = "this exporter does not belong to the server, and takes no commands"
	belongs  = "this exporter belongs to the server, and takes commands"
)

// apiOnly returns the configuration of a server without workers, which stand-alone exporters can
// join.
func apiOnly() node.Config {
	cfg := config()
	cfg.Worker.Workers, cfg.Bus.Listen = 0, "127.0.0.1:0"
	return cfg
}

// queued kicks off an export for which there is no worker.
func queued(w *world, c *client.Client, patient string) client.Job {
	w.t.Helper()
	a := w.do(c, "POST", "/no-form/auto-approve/fhir/Patient/"+patient+"/$ehi-export")
	w.want(a, 202, "")
	return client.Job{StatusURL: a.Header.Get("Content-Location")}
}

// inLane returns how many commands of patients' exports are in progress, and how many workers
// wait for one.
func inLane(w *world) (inHand, waiting int) {
	w.t.Helper()
	inHand, waiting, err := w.node.Bus.InHand(w.t.Context(), ehi.Interactive)
	if err != nil {
		w.t.Fatal(err)
	}
	return inHand, waiting
}

// untouched requires that a mismatched exporter takes no command, does not ask for one, and that
// the system page says why.
func untouched(w *world, c *client.Client, j client.Job, trait string) {
	w.t.Helper()
	w.want(w.do(c, "GET", j.StatusURL), 202, "")
	if inHand, waiting := inLane(w); inHand+waiting > 0 {
		w.t.Errorf("%d commands in hand, %d workers wait for one", inHand, waiting)
	}
	var joined []ehi.Exporter
	await(w.t, "the roster to say why", func() (ok bool) {
		joined, _ = w.node.Bus.Fleet.Exporters(w.t.Context())
		return len(joined) == 1 && len(joined[0].Mismatches) == 1 &&
			joined[0].Mismatches[0].What == trait
	})
	page := w.do(w.admin, "GET", "/admin/ui/system")
	w.want(page, 200, "rejected since")
	x := joined[0]
	if x.Mismatches[0].Server == x.Mismatches[0].Exporter ||
		!strings.Contains(string(page.Body), x.Name) {
		w.t.Errorf("%+v is not on the page with both values", x)
	}
}

// right requires that an export is correct, wherever it was made.
func right(w *world, c *client.Client, j client.Job, patient string, least int) {
	w.t.Helper()
	got, _ := w.download(c, w.manifest(c, j))
	if len(got) < least || got["Patient/"+patient] == nil {
		w.t.Errorf("%d resources", len(got))
	}
}

// An exporter with another record store makes no exports, even if it has a patient with the same
// id.
func TestAnExporterWithOtherRecordsTakesNoCommands(t *testing.T) {
	t.Parallel()
	good, bad, data := t.TempDir(), t.TempDir(), t.TempDir()
	demoRecords(t, good)
	copyRecords(t, good, data)
	demoRecords(t, bad) // another store with the same patients
	w := start(t, data, apiOnly(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := queued(w, pat, p)
	exports := filepath.Join(w.data, "exports")
	wrong := exporter(t, w, "--data", bad, "--exports", exports)
	wrong.says(stranger, "differs=records")
	untouched(w, pat, j, ehi.OtherRecords)
	exporter(t, w, "--data", good, "--exports", exports).says(belongs)
	right(w, pat, j, p, 300)
}

// An exporter with an outdated copy of the server's records makes no exports.
func TestAnExporterWithAnOlderCopyOfTheRecordsTakesNoCommands(t *testing.T) {
	t.Parallel()
	old, data := t.TempDir(), t.TempDir()
	demoRecords(t, old)
	copyRecords(t, old, data)
	w := start(t, data, apiOnly(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	x := exporter(t, w, "--data", old, "--exports", filepath.Join(w.data, "exports"))
	x.says(belongs)
	w.load(`{"resourceType":"Observation","id":"later","status":"final","code":{"text":"x"},` +
		`"subject":{"reference":"Patient/` + p + `"}}` + "\n")
	x.says(stranger, "differs=version")
	untouched(w, pat, queued(w, pat, p), ehi.OtherVersion)
}

// madeUpSource is a source that any process can have.
const madeUpSource = "synthetic:patients=3,seed=1"

// madeUp returns a server without workers that uses that source, and one of its patients.
func madeUp(t *testing.T) (w *world, pat *client.Client, patient string) {
	t.Helper()
	cfg := apiOnly()
	cfg.Source.Spec = madeUpSource
	w = start(t, t.TempDir(), cfg, node.Options{})
	patient = w.demoPatient()
	return w, w.patient(patient), patient
}

// An exporter with another exports folder than the server's, whatever its name, writes no file.
// Once the right folder is in place, the exporter works without a restart.
func TestAnExporterWithoutTheServersFolderTakesNoCommandsUntilItHasIt(t *testing.T) {
	t.Parallel()
	w, pat, p := madeUp(t)
	j := queued(w, pat, p)
	folder := filepath.Join(t.TempDir(), "exports")
	x := exporter(t, w, "--data", t.TempDir(), "--exports", folder, "--source", madeUpSource)
	x.says(stranger, "differs=files")
	untouched(w, pat, j, ehi.OtherFiles)
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(w.data, "exports"), folder); err != nil {
		t.Fatal(err)
	}
	x.says(belongs)
	right(w, pat, j, p, 300)
	// And vice versa: the exporter notices that the folder is no longer the right one.
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder+".away", folder); err != nil {
		t.Fatal(err)
	}
	await(t, "the exporter to notice", func() bool {
		return strings.Count(x.out.String(), stranger) == 2
	})
}

// A copy of the folder differs as soon as the exporter has joined.
func TestACopyOfTheServersFolderIsNotTheServersFolder(t *testing.T) {
	t.Parallel()
	w, pat, p := madeUp(t)
	j := queued(w, pat, p)
	folder := filepath.Join(t.TempDir(), "exports")
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(w.data, "exports"))); err != nil {
		t.Fatal(err)
	}
	exporter(t, w, "--data", t.TempDir(), "--exports", folder, "--source",
		madeUpSource).says(stranger, "differs=files")
	untouched(w, pat, j, ehi.OtherFiles)
}

// An exporter with other rules for sensitive data releases nothing.
func TestAnExporterWithOtherRulesTakesNoCommands(t *testing.T) {
	t.Parallel()
	cfg := apiOnly()
	cfg.Source.Spec = madeUpSource
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := queued(w, pat, p)
	table := filepath.Join(t.TempDir(), "sensitive.csv")
	if err := os.WriteFile(table, []byte("# nothing is sensitive\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	exports := filepath.Join(w.data, "exports")
	exporter(t, w, "--data", t.TempDir(), "--exports", exports, "--source", cfg.Source.Spec,
		"--sensitive-table", table).says(stranger, "differs=rules")
	untouched(w, pat, j, ehi.OtherRules)
	exporter(t, w, "--data", t.TempDir(), "--exports", exports, "--source",
		cfg.Source.Spec).says(belongs)
	right(w, pat, j, p, 300)
}

// Exports are made within the server's limits, for which an exporter has no flags.
func TestAnExporterWorksWithinTheServersLimits(t *testing.T) {
	t.Parallel()
	cfg := apiOnly()
	cfg.Source.Spec, cfg.Limits.FileResources, cfg.Limits.FileTTL = madeUpSource, 50, 3*time.Hour
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := queued(w, pat, p)
	exports := filepath.Join(w.data, "exports")
	binary := built.Command(t, "ehi-server/exporter")
	args := []string{"--nats", "nats://127.0.0.1:1", "--file-ttl", "1s"}
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "unknown flag --file-ttl") {
		t.Errorf("%v: %s", err, out)
	}
	exporter(t, w, "--data", t.TempDir(), "--exports", exports, "--source", cfg.Source.Spec)
	m := w.manifest(pat, j)
	for _, f := range m.Output {
		if f.Count > 50 {
			t.Errorf("a file of %d resources", f.Count)
		}
	}
	a := w.do(pat, "GET", j.StatusURL)
	expires, err := http.ParseTime(a.Header.Get("Expires"))
	if left := time.Until(expires); err != nil || left < 2*time.Hour || left > 3*time.Hour {
		t.Errorf("expires in %v, %v", left, err)
	}
}

// idOf returns the id of a job from its URL.
func idOf(url string) string {
	_, id, _ := strings.Cut(url, "/jobs/")
	id, _, _ = strings.Cut(id, "/")
	return id
}

// Under load, with right and wrong exporters, all exports are correct, and no wrong exporter
// ever has one.
func TestRightAndWrongExportersSideBySide(t *testing.T) {
	t.Parallel()
	cfg := apiOnly()
	cfg.Source.Spec = "synthetic:patients=20,seed=1"
	w := start(t, t.TempDir(), cfg, node.Options{})
	exports := filepath.Join(w.data, "exports")
	var wrong []*exporterProcess
	for _, args := range [][]string{
		{"--exports", exports, "--source", "synthetic:patients=20,seed=2"},
		{"--exports", t.TempDir(), "--source", cfg.Source.Spec},
	} {
		x := exporter(t, w, append(args, "--data", t.TempDir(), "--workers", "8")...)
		x.says(stranger)
		wrong = append(wrong, x)
	}
	good := exporter(t, w, "--exports", exports, "--source", cfg.Source.Spec, "--data", t.TempDir(),
		"--workers", "2")
	good.says(belongs)
	patients, err := w.node.Patients(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, p := range patients {
		c := w.patient(p.ID)
		for range 3 {
			all.Go(func() {
				a, err := c.Do(t.Context(), "POST",
					"/no-form/auto-approve/fhir/Patient/"+p.ID+"/$ehi-export", nil)
				if err != nil || a.Status != 202 {
					t.Errorf("%d, %v", a.Status, err)
					return
				}
				j := client.Job{StatusURL: a.Header.Get("Content-Location")}
				got, _ := w.download(c, w.manifest(c, j))
				task, _, err := w.node.Bus.Tasks.Get(t.Context(), idOf(j.StatusURL), 0)
				if err != nil || got["Patient/"+p.ID] == nil ||
					!strings.Contains(task.Worker, fmt.Sprintf("-%d", good.cmd.Process.Pid)) {
					t.Errorf("%d resources, made by %s, %v", len(got), task.Worker, err)
				}
			})
		}
	}
	all.Wait()
	for _, x := range wrong {
		if n := strings.Count(x.out.String(), stranger); n != 1 {
			t.Errorf("it said so %d times", n)
		}
	}
}
