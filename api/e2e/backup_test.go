package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/shared/built"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// A backup of a running server, restored into an empty folder, results in the same server:
// finished exports download, documents exist, open forms can be filled in, unfinished exports
// run, and tokens are valid. What was deleted does not exist.
func TestABackupIsTheSameServer(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	var finished, reviewed, open, running, population, deleted client.Job
	var token, service, patient string
	var want, wantAll []string
	t.Run("taken", func(t *testing.T) {
		var door sync.RWMutex
		w := start(t, t.TempDir(), config(), node.Options{
			WrapSource: func(s source.Source) source.Source { return closable{s, &door} },
		})
		patient = w.demoPatient()
		pat := w.patient(patient)
		token = pat.Token
		finished = w.kickOff(pat, "/no-form/auto-approve", patient, nil)
		want = w.contents(pat, w.manifest(pat, finished))
		reviewed = w.kickOff(pat, "/no-form", patient, nil)
		w.wait(reviewed.ID, ehi.Retrieved)
		if a, err := w.admin.AddFiles(t.Context(), reviewed.ID,
			client.File{Name: "letter.txt", Data: []byte("a letter")}); err != nil ||
			a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
		open = w.kickOff(pat, "/auto-approve", patient, nil)
		deleted = w.kickOff(pat, "/no-form/auto-approve", patient, nil)
		w.manifest(pat, deleted)
		if err := pat.Delete(t.Context(), deleted.StatusURL); err != nil {
			t.Fatal(err)
		}
		all, err := w.open.Service(t.Context(), "test_client_secret",
			"system/*.rs system/$ehi-export")
		if err != nil {
			t.Fatal(err)
		}
		service = all.Token
		if population, err = all.Start(t.Context(), "POST",
			"/no-form/auto-approve/fhir/$ehi-export", nil); err != nil {
			t.Fatal(err)
		}
		wantAll = w.contents(all, w.manifest(all, population))
		door.Lock()
		defer door.Unlock()
		running = w.kickOff(pat, "/no-form/auto-approve", patient, nil)
		w.until("the export runs", func() bool {
			_, taken, err := w.node.Bus.Tasks.Get(t.Context(), running.ID, 0)
			return taken && err == nil
		})
		a, err := w.admin.Do(t.Context(), "GET", "/admin/backup", nil)
		if err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
		archive.Write(a.Body)
		w.want(w.do(pat, "GET", "/admin/backup"), 401, "")
	})
	data := filepath.Join(t.TempDir(), "restored")
	if err := restored(t, bytes.NewReader(archive.Bytes()), backup.To{Data: data}); err != nil {
		t.Fatal(err)
	}
	w := start(t, data, config(), node.Options{})
	pat, all := w.open.WithToken(token), w.open.WithToken(service)
	here := func(j client.Job) client.Job {
		_, path, _ := strings.Cut(j.StatusURL, "/jobs/")
		j.StatusURL = w.node.URL + "/jobs/" + path
		return j
	}
	if got := w.contents(pat, w.manifest(pat, here(finished))); !slices.Equal(got, want) {
		t.Error("the finished export is not what it was")
	}
	if got := w.contents(all, w.manifest(all, here(population))); !slices.Equal(got, wantAll) {
		t.Error("the population's export is not what it was")
	}
	if _, err := w.admin.Act(t.Context(), reviewed.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	w.want(w.do(pat, "GET", "/jobs/"+reviewed.ID+"/download/attachments/letter.txt"), 200,
		"a letter")
	w.submit(pat, open.ID, everything())
	if got := w.contents(pat, w.manifest(pat, here(open))); len(got) != len(want) {
		t.Errorf("the form that was open led to %d files of %d", len(got), len(want))
	}
	// The keeper's round that publishes its command comes only after an hour here.
	err := w.node.Keeper.Reconcile(t.Context(), w.record(running.ID).RequestedAt.Add(1))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.contents(pat, w.manifest(pat, here(running))); !slices.Equal(got, want) {
		t.Error("the export that ran is not what it had to be")
	}
	w.want(w.do(pat, "GET", here(deleted).StatusURL), 404, "")
	w.want(w.do(w.admin, "GET", "/admin/audit?action=kick-off&limit=0"), 200, deleted.ID)
	if n := len(w.node.Bus.Jobs.List(func(bus.Summary) bool { return true })); n != 5 {
		t.Errorf("%d jobs", n)
	}
}

// restored restores an archive.
func restored(t *testing.T, archive io.Reader, to backup.To) error {
	t.Helper()
	text, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	_, err = backup.Restore(t.Context(), func(f func(r io.Reader) error) error {
		return f(bytes.NewReader(text))
	}, to)
	return err
}

// record reads a job's record.
func (w *world) record(id string) *ehi.Job {
	w.t.Helper()
	j, err := w.node.Bus.Jobs.Get(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// An incomplete backup is not restored, and a restore overwrites nothing.
func TestARestoreRefusesWhatIsNoBackup(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	var archive bytes.Buffer
	if err := w.node.Backup(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	whole := archive.Bytes()
	for _, n := range []int{
		0, 10, len(whole) / 4, len(whole) / 2, len(whole) - 1000, len(whole) - 20,
	} {
		err := restored(t, bytes.NewReader(whole[:n]), backup.To{
			Data: filepath.Join(t.TempDir(), "x"),
		})
		if !errors.Is(err, backup.ErrCutOff) {
			t.Errorf("the first %d bytes of %d: %v", n, len(whole), err)
		}
	}
	if err := restored(t, strings.NewReader("this is no archive, and never was one"),
		backup.To{Data: filepath.Join(t.TempDir(), "x")}); !errors.Is(err, backup.ErrForeign) {
		t.Errorf("a text: %v", err)
	}
	if err := restored(t, bytes.NewReader(whole), backup.To{Data: w.data}); !errors.Is(err,
		backup.ErrNotEmpty) {
		t.Errorf("over a server's folder: %v", err)
	}
	nats, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Close)
	err = restored(t, bytes.NewReader(whole), backup.To{
		Data: filepath.Join(t.TempDir(), "x"),
		NATS: nats.ClientURL(),
	})
	if err != nil {
		t.Errorf("into an external NATS: %v", err)
	}
	err = nats.Jobs.Create(t.Context(), &ehi.Job{
		Version: ehi.RecordVersion,
		ID:      "a",
		Status:  ehi.AwaitingInput,
	})
	if err != nil {
		t.Fatal(err)
	}
	err = restored(t, bytes.NewReader(whole), backup.To{
		Data: filepath.Join(t.TempDir(), "x"),
		NATS: nats.ClientURL(),
	})
	if !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("over the state of an external NATS: %v", err)
	}
}

// The commands, as in the documentation.
func TestBackupAndRestoreCommands(t *testing.T) {
	t.Parallel()
	binary, dir := built.Command(t, "ehi-server/api"), t.TempDir()
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
		return string(out), err
	}
	data, archive, back := filepath.Join(dir, "data"), filepath.Join(dir, "backup.tar.zst"),
		filepath.Join(dir, "restored")
	p := serveProgram(t, binary, "--data", data)
	if out, err := run("backup", "--data", data, archive); err == nil ||
		!strings.Contains(out, "held by another process") || !strings.Contains(out, "--url") {
		t.Errorf("a backup behind a server's back: %v %s", err, out)
	}
	if _, err := os.Stat(archive); err == nil {
		t.Error("a failed backup left a file")
	}
	if out, err := run("backup", "--url", p.url, archive); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := run("backup", "--url", p.url, archive); err == nil {
		t.Errorf("a backup was overwritten: %s", out)
	}
	sealed := filepath.Join(dir, "sealed.age")
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(dir, "identity.txt")
	if err := os.WriteFile(identity, []byte(mine.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run("backup", "--url", p.url, "--recipient", mine.Recipient().String(), sealed)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := run("restore", "--data", back, sealed); err == nil ||
		!strings.Contains(out, "is encrypted") {
		t.Errorf("an encrypted archive without its key: %v %s", err, out)
	}
	if out, err := run("restore", "--data", back, "--identity", identity, sealed); err != nil {
		t.Errorf("an encrypted archive: %v %s", err, out)
	}
	p.terminate()
	p.ended(stopWithin)
	for i, from := range []string{archive, filepath.Join(dir, "again.tar.zst")} {
		if i == 1 { // of the stopped server's folder
			if out, err := run("backup", "--data", data, from); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		to := back + from[len(from)-10:len(from)-8]
		if out, err := run("restore", "--data", to, from); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		out, err := run("restore", "--data", to, from)
		if err == nil || !strings.Contains(out, "not empty") {
			t.Errorf("a second restore: %v %s", err, out)
		}
		p := serveProgram(t, binary, "--data", to, "--no-demo")
		open := client.New(p.url)
		_, _, err = open.Authorize(t.Context(), "00000000-0000-4000-8000-161d100b05e5")
		if err != nil {
			t.Error(err)
		}
		open.Close()
		p.terminate()
		p.ended(stopWithin)
	}
}

// No command opens or uses what an unfinished restore has left.
func TestWhatARestoreHasLeftIsOpenedByNobody(t *testing.T) {
	t.Parallel()
	binary := built.Command(t, "ehi-server/api")
	for _, left := range []string{"data.restoring", "data/.restoring"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, left), 0o700); err != nil {
			t.Fatal(err)
		}
		data := filepath.Join(dir, "data")
		for _, args := range [][]string{
			{"serve", "--addr", "127.0.0.1:0"},
			{"import", dir},
			{"generate"},
			{"doctor"},
			{"client", "list"},
			{"account", "list"},
			{"keys", "list"},
		} {
			out, err := exec.CommandContext(t.Context(), binary,
				append(args, "--data", data)...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "restore did not finish") {
				t.Errorf("%s, %q: %v, %s", left, args, err, out)
			}
		}
		if got, err := filepath.Glob(filepath.Join(data, "[a-z]*")); err != nil || len(got) > 0 {
			t.Errorf("%s: %q was made, %v", left, got, err)
		}
	}
}

// A second server on the same data folder reports the problem.
func TestASecondServerOnAFolderIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	for name, cfg := range map[string]node.Config{
		"its records": config(),
		"its state": func() node.Config {
			c := config()
			c.Source.Spec = "synthetic:patients=1"
			return c
		}(),
	} {
		_, err := node.Open(t.Context(), cfg, w.data, slog.New(slog.DiscardHandler), node.Options{})
		if err == nil || !strings.Contains(err.Error(), "held by another process") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A backup over HTTP is encrypted for the recipients in its URL. If they are invalid, there is
// no backup: who requests an encrypted archive never gets an unencrypted one.
func TestOnlyRecipientsCanReadABackupOverHTTP(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{
		"recipient=",
		"recipient=age1",
		"recipient=" + mine.String(),
		"recipients=" + mine.Recipient().String(),
		"recipient=" + mine.Recipient().String() + "&recipient=x",
	} {
		w.want(w.do(w.admin, "GET", "/admin/backup?"+query), 400, "recipient")
	}
	a := w.do(w.admin, "GET", "/admin/backup?recipient="+mine.Recipient().String())
	w.want(a, 200, "")
	if mime := a.Header.Get("Content-Type"); mime != "application/octet-stream" {
		t.Errorf("it is of type %s", mime)
	}
	if err := restoreSealed(t, a.Body, nil); !errors.Is(err, backup.ErrSealed) {
		t.Errorf("without a key: %v", err)
	}
	if err := restoreSealed(t, a.Body, mine); err != nil {
		t.Error(err)
	}
	if err := restoreSealed(t, a.Body[:len(a.Body)-1], mine); err == nil {
		t.Error("an encrypted archive is restored that was cut off")
	}
	w.want(w.do(w.admin, "GET", "/admin/audit?action=backup&limit=0"), 200,
		"encrypted for "+mine.Recipient().String())
}

// restoreSealed restores an encrypted archive into a new folder. A nil key means none.
func restoreSealed(t *testing.T, archive []byte, key *age.X25519Identity) error {
	t.Helper()
	var keys io.Reader
	if key != nil {
		keys = strings.NewReader(key.String())
	}
	r, err := backup.Unseal(bytes.NewReader(archive), keys)
	if err != nil {
		return err
	}
	return restored(t, r, backup.To{Data: filepath.Join(t.TempDir(), "restored")})
}

// If a server stops sending, at sign-in, before the archive or in the middle of it, the command
// waits for --silence. Then there is no backup, and the message names the server.
func TestABackupOfASilentServerIsGivenUp(t *testing.T) {
	t.Parallel()
	binary, dir := built.Command(t, "ehi-server/api"), t.TempDir()
	p := serveProgram(t, binary, "--data", filepath.Join(dir, "data"))
	target, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	for name, silent := range map[string]func(*http.Response) error{
		"at the log-in": func(r *http.Response) error {
			<-r.Request.Context().Done()
			return r.Request.Context().Err()
		},
		"before the archive": func(r *http.Response) error {
			if r.Request.URL.Path == "/admin/backup" {
				<-r.Request.Context().Done()
			}
			return r.Request.Context().Err()
		},
		"in the midst of the archive": func(r *http.Response) error {
			if r.Request.URL.Path == "/admin/backup" {
				r.Body = &falling{r.Body, r.Request.Context(), 5000}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			forward := httputil.NewSingleHostReverseProxy(target)
			forward.FlushInterval, forward.ErrorLog = -1, log.New(io.Discard, "", 0)
			forward.ModifyResponse = silent
			proxy := httptest.NewServer(forward)
			defer proxy.Close()
			archive := filepath.Join(t.TempDir(), "archive")
			cmd := exec.CommandContext(t.Context(), binary, "backup", "--url", proxy.URL,
				"--silence", "1s", archive)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), proxy.URL+" has sent nothing for 1s") {
				t.Errorf("%v: %s", err, out)
			}
			if left, err := filepath.Glob(archive + "*"); err != nil || len(left) > 0 {
				t.Errorf("%q is left, %v", left, err)
			}
		})
	}
}

// falling is a response that stops in the middle.
type falling struct {
	io.ReadCloser
	request context.Context //nolint:containedctx // of the request that it answers
	left    int
}

// Read implements io.Reader.
func (f *falling) Read(p []byte) (int, error) {
	if f.left == 0 {
		<-f.request.Done()
		return 0, f.request.Err()
	}
	n, err := f.ReadCloser.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}
