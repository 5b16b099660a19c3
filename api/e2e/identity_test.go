package e2e

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/pairing"
	"ehi-server/shared/built"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// A server whose state is gone, or belongs to another server, does not serve and removes no
// export. It says what is missing. Once the state is restored, the export is as before.
func TestALostStateRemovesNoExport(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	var patient string
	var j client.Job
	var before *ehi.Manifest
	var address string // of the first server
	t.Run("with its state", func(t *testing.T) {
		w := start(t, data, config(), node.Options{})
		patients, err := w.node.Patients(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		patient = patients[0].ID
		pat := w.patient(patient)
		j = w.kickOff(pat, "/no-form/auto-approve", patient, nil)
		before, address = w.manifest(pat, j), w.node.URL
	})
	state, aside := filepath.Join(data, backup.NATSFolder), filepath.Join(t.TempDir(), "state")
	if err := os.Rename(state, aside); err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(t.Context(), config(), data, slog.New(slog.DiscardHandler), node.Options{})
	if err == nil {
		err = errors.Join(errors.New("it serves"), n.Close())
	}
	if !errors.Is(err, bus.ErrLost) || !strings.Contains(err.Error(), "--accept-loss") {
		t.Fatalf("without its state: %v", err)
	}
	if err := errors.Join(os.RemoveAll(state), os.Rename(aside, state)); err != nil {
		t.Fatal(err)
	}
	w := start(t, data, config(), node.Options{})
	j.StatusURL = strings.Replace(j.StatusURL, address, w.node.URL, 1)
	if m := w.manifest(w.patient(patient), j); len(m.Output) != len(before.Output) {
		t.Errorf("%d outputs after the state was given back, %d before", len(m.Output),
			len(before.Output))
	}
}

// If the folder of a stream is removed while the server runs, the embedded NATS notices only
// when it writes there. The server then ends and says what is missing. Its next start recreates
// commands and sessions, and is refused if records are lost.
func TestAStreamThatLosesItsFolderEndsTheServer(t *testing.T) {
	t.Parallel()
	binary := built.Command(t, "ehi-server/api")
	for stream, records := range map[string]bool{
		"KV_ehi_jobs": true, "KV_ehi_tasks": true, "KV_ehi_auth": true, "EHI_AUDIT": true,
		"EHI_INTERACTIVE": false, "KV_ehi_sessions": false,
	} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			p := serveProgram(t, binary, "--data", data)
			folder := filepath.Join(data, backup.NATSFolder, "jetstream", "$G", "streams", stream)
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
			how := p.ended(30 * time.Second)
			if how != "exit status 1" || !strings.Contains(p.log.String(), folder) {
				t.Errorf("it ends by %s, and says %s", how, &p.log)
			}
			if !records {
				w := overHTTP(t, serveProgram(t, binary, "--data", data).url)
				patient, pat := w.anyPatient()
				w.manifest(pat, w.kickOff(pat, "/no-form/auto-approve", patient, nil))
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			again := exec.CommandContext(ctx, binary, "serve", "--addr", "127.0.0.1:0", "--data",
				data)
			out, err := again.CombinedOutput()
			if err == nil || again.ProcessState.String() != "exit status 1" ||
				!strings.Contains(string(out), stream) {
				t.Errorf("its next start: %v: %s", err, out)
			}
		})
	}
}

// A start that is refused because another server uses its NATS changes nothing, whatever the
// operator accepts: its own state still matches its exports, and the other state still does not.
func TestARefusedStartLeavesNoTrace(t *testing.T) {
	t.Parallel()
	nats, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Close)
	mistaken := config()
	mistaken.Bus.URL = nats.ClientURL()
	accepting := mistaken
	accepting.Bus.AcceptLoss = true
	export := func(w *world) {
		patients, err := w.node.Patients(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		pat := w.patient(patients[0].ID)
		w.manifest(pat, w.kickOff(pat, "/no-form/auto-approve", patients[0].ID, nil))
	}
	refused := func(data string, cfg node.Config, want error) {
		t.Helper()
		n, err := node.Open(t.Context(), cfg, data, slog.New(slog.DiscardHandler), node.Options{})
		if err == nil {
			err = errors.Join(errors.New("it serves"), n.Close())
		}
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	own, fresh := t.TempDir(), t.TempDir()
	t.Run("its own state", func(t *testing.T) { export(start(t, own, config(), node.Options{})) })
	stamp := func() string {
		store, err := local.Open(local.Config{Root: filepath.Join(own, files.Folder)})
		if err != nil {
			t.Fatal(err)
		}
		identity, err := store.Identity()
		if err != nil || identity == "" {
			t.Fatalf("identity %q, %v", identity, err)
		}
		return identity
	}
	before := stamp()
	t.Run("beside another server", func(t *testing.T) {
		other := start(t, t.TempDir(), mistaken, node.Options{})
		export(other)
		refused(own, accepting, pairing.ErrOtherServer)
		refused(fresh, accepting, pairing.ErrOtherServer)
		export(other)
	})
	if after := stamp(); after != before {
		t.Errorf("the exports were those of state %s, and are those of %s", before, after)
	}
	later := accepting // refused after the state was opened
	later.Release.Table = filepath.Join(t.TempDir(), "none.csv")
	refused(own, later, fs.ErrNotExist)
	refused(fresh, later, fs.ErrNotExist)
	refused(own, mistaken, bus.ErrStranger)
	refused(fresh, mistaken, bus.ErrLost)
	export(start(t, own, config(), node.Options{}))
}

// If an operator continues without the state, earlier exports stay in quarantine. If there are
// many, they are removed only after an administrator allows it.
func TestAnAdministratorDecidesAboutExportsWithoutRecords(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	store, err := local.Open(local.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		b, err := store.NewBatch("lost-"+string(rune('a'+i)), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Create().Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (n int) {
		if err := store.Walk(func(string, []files.Stored) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	w := start(t, data, config(), node.Options{}) // with no grace
	sweep := func() {
		if err := w.node.Keeper.Sweep(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if n := left(); n != 20 {
		t.Fatalf("%d of 20 exports are left", n)
	}
	w.want(w.do(w.admin, "GET", "/admin/sweep"), 200, `"files":20`)
	w.want(w.do(w.admin, "GET", "/admin/ui/system"), 200, "20 exports have files")
	w.want(w.do(w.open, "POST", "/admin/sweep"), 401, "")
	w.want(w.do(w.admin, "POST", "/admin/sweep"), 200, `"files":20`)
	sweep()
	if n := left(); n != 0 {
		t.Errorf("after the word %d exports are left", n)
	}
	w.want(w.do(w.admin, "GET", "/admin/sweep"), 200, `"files":0`)
	w.want(w.do(w.admin, "GET", "/admin/audit"), 200, "the files of 20 jobs")
}
