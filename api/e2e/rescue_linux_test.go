package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/shared/built"
	"ehi-server/shared/files/filestest"
)

// small returns the settings of a server on a disk of a few megabytes.
func small(data string, more ...string) []string {
	return append([]string{
		"--data", data, "--rescue-below", "33554432", "--reserve-bytes", "8388608",
		"--min-free-bytes", "41943040",
		"--sandbox-secret", "test_client_secret", "--keeper-every", "1s", "--poll-burst", "100000",
		"--drain", "1s",
	}, more...)
}

// onSmallDisk returns a data folder on a separate disk.
func onSmallDisk(t *testing.T, size string) string {
	t.Helper()
	data := t.TempDir()
	filestest.Mount(t, data, size)
	if err := os.Chmod(data, 0o700); err != nil {
		t.Fatal(err)
	}
	return data
}

// overHTTP returns a world that knows a server only by its URL.
func overHTTP(t *testing.T, url string) *world {
	t.Helper()
	open := client.New(url)
	t.Cleanup(open.Close)
	return &world{t: t, open: open}
}

// anyPatient returns a patient of the server's record store, with a token.
func (w *world) anyPatient() (id string, pat *client.Client) {
	w.t.Helper()
	service, err := w.open.Service(w.t.Context(), "test_client_secret", "system/*.rs")
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.do(service, "GET", "/fhir/Patient?_count=1")
	w.want(a, 200, "")
	var found struct {
		Entry []struct {
			Resource struct{ ID string }
		}
	}
	if err := json.Unmarshal(a.Body, &found); err != nil || len(found.Entry) == 0 {
		w.t.Fatalf("%v: %.300s", err, a.Body)
	}
	return found.Entry[0].Resource.ID, w.patient(found.Entry[0].Resource.ID)
}

// kickOffs counts what persistent clients get from a server.
type kickOffs struct {
	mu       sync.Mutex
	accepted []client.Job
	other    map[string]int // responses that are neither 202 nor a 503 with Retry-After
	// room limits the simultaneous exports, so that they do not fill the disk themselves.
	room chan struct{}
}

// keep kicks off exports until ctx ends. The client deletes each completed export, except those
// that are checked at the end.
func (k *kickOffs) keep(ctx context.Context, pat *client.Client, patient string) {
	for {
		select {
		case k.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		j, err := pat.KickOff(ctx, "/no-form/auto-approve", patient, nil)
		k.mu.Lock()
		if err == nil {
			k.accepted = append(k.accepted, j)
		} else if e, ok := err.(*client.Error); ok &&
			(e.Status != http.StatusServiceUnavailable || e.Header.Get("Retry-After") == "") {
			k.other[e.Error()]++
		} else if !ok && ctx.Err() == nil {
			k.other[err.Error()]++
		}
		k.mu.Unlock()
		if err != nil {
			<-k.room
		}
		if client.Sleep(ctx, 50*time.Millisecond) != nil {
			return
		}
	}
}

// take returns the accepted exports except the last few, which may still run.
func (k *kickOffs) take(but int) (out []client.Job) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := max(0, len(k.accepted)-but)
	out = k.accepted[:n:n]
	k.accepted = k.accepted[n:]
	return out
}

// diskRounds returns how often the disk is filled: EHI_DISK_ROUNDS, or 3.
func diskRounds(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("EHI_DISK_ROUNDS"), "3"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The whole data folder is on a disk that something else fills to the last byte, under load, and
// clears again. Meanwhile kick-offs are refused with the reason, and finished exports can be
// downloaded and deleted. Once there is room, the same process works again. Everything that it
// accepted at any time completes correctly.
func TestADiskThatIsFilledUnderLoadHealsWithoutARestart(t *testing.T) {
	t.Parallel()
	data := onSmallDisk(t, "600m")
	p := serveProgram(t, built.Command(t, "ehi-server/api"), small(data)...)
	w := overHTTP(t, p.url)
	patient, pat := w.anyPatient()
	first := w.kickOff(pat, "/no-form/auto-approve", patient, nil)
	m := w.manifest(pat, first)
	want := w.contents(pat, m)

	load := kickOffs{other: map[string]int{}, room: make(chan struct{}, 200)}
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() { load.keep(ctx, pat, patient) })
	}
	defer clients.Wait()
	defer stop()
	checked := 0
	check := func(but int) {
		for _, j := range load.take(but) {
			if got := w.contents(pat, w.manifest(pat, j)); !slices.Equal(got, want) {
				t.Errorf("the export of job %s is not right", j.ID)
			}
			w.until("the export is deleted", func() bool {
				a := w.do(pat, "DELETE", j.StatusURL)
				return a.Status == http.StatusAccepted || a.Status == http.StatusNotFound
			})
			checked++
			select {
			case <-load.room:
			default: // caused by this test
			}
		}
	}
	var took []time.Duration
	rounds := diskRounds(t)
	for range rounds {
		clear := filestest.Fill(t, data, 0)
		w.until("the server says that it is in rescue mode", func() bool {
			_ = client.Sleep(t.Context(), 10*time.Millisecond)
			a := w.do(w.open, "GET", "/readyz")
			return a.Status == http.StatusServiceUnavailable &&
				strings.Contains(string(a.Body), "rescue mode")
		})
		a := w.kick(pat, "/no-form/auto-approve", patient)
		w.wantOutcome(a, 503, "the disk of the data folder is full")
		if a.Header.Get("Retry-After") == "" {
			t.Error("a refusal does not say when to come again")
		}
		if got := w.contents(pat, m); !slices.Equal(got, want) {
			t.Error("what was done does not download while the disk is full")
		}
		clear()
		began := time.Now()
		w.until("the server is ready", func() bool {
			_ = client.Sleep(t.Context(), 10*time.Millisecond)
			return w.do(w.open, "GET", "/readyz").Status == http.StatusOK
		})
		w.until("a kick-off is accepted", func() bool {
			j, err := pat.KickOff(t.Context(), "/no-form/auto-approve", patient, nil)
			if err == nil {
				load.mu.Lock()
				load.accepted = append(load.accepted, j)
				load.mu.Unlock()
			}
			return err == nil
		})
		took = append(took, time.Since(began))
		check(8)
	}
	stop()
	clients.Wait()
	check(0)
	if err := p.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process has ended: %v", err)
	}
	for what, n := range load.other {
		t.Errorf("%d kick-offs: %s", n, what)
	}
	slices.Sort(took)
	t.Logf("%d rounds without a restart of the process: ready and accepting after %v (p50), %v "+
		"(max); %d accepted exports, all done and right",
		rounds, took[len(took)/2].Round(time.Millisecond),
		took[len(took)-1].Round(time.Millisecond), checked)
}

// A server that starts on a full disk serves what it has, deletes, and lets users sign in. It
// accepts nothing new until there is room, and then everything, without help.
func TestAServerStartsOnAFullDiskAndBecomesWhole(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(t *testing.T, dir string) (clear func()){
		"no room at all": func(t *testing.T, dir string) func() {
			return filestest.Fill(t, dir, 0)
		},
		"a few megabytes": func(t *testing.T, dir string) func() {
			return filestest.Fill(t, dir, 3<<20)
		},
		"no inodes": filestest.FillNames,
	} {
		t.Run(name, func(t *testing.T) {
			data := onSmallDisk(t, "160m,nr_inodes=2000")
			binary := built.Command(t, "ehi-server/api")
			p := serveProgram(t, binary, small(data)...)
			w := overHTTP(t, p.url)
			patient, pat := w.anyPatient()
			var jobs []client.Job
			for range 3 {
				jobs = append(jobs, w.kickOff(pat, "/no-form/auto-approve", patient, nil))
			}
			want := w.contents(pat, w.manifest(pat, jobs[0]))
			for _, j := range jobs {
				w.manifest(pat, j)
			}
			p.terminate()
			if how := p.ended(stopWithin); how != "exit status 0" {
				t.Fatal(how)
			}
			clear := fill(t, data)

			p = serveProgram(t, binary, small(data)...)
			w = overHTTP(t, p.url)
			w.rescued(patient, jobs, want)
			clear()
			w.until("the server is ready", func() bool {
				a, err := w.open.Do(t.Context(), "GET", "/readyz", nil)
				return err == nil && a.Status == http.StatusOK
			})
			pat = w.patient(patient)
			j := w.kickOff(pat, "/no-form/auto-approve", patient, nil)
			if got := w.contents(pat, w.manifest(pat, j)); !slices.Equal(got, want) {
				t.Error("the export after the rescue is not right")
			}
			if _, err := os.Stat(filepath.Join(data, "nats", "reserve")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A backup is most needed when the disk is full, before anything is deleted. A stopped server
// can be backed up to another disk however little room is left, and the backup is complete.
func TestAFullDiskIsBackedUp(t *testing.T) {
	t.Parallel()
	for name, but := range map[string]int64{"no room at all": 0, "a few megabytes": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			data := onSmallDisk(t, "160m")
			binary := built.Command(t, "ehi-server/api")
			p := serveProgram(t, binary, small(data)...)
			w := overHTTP(t, p.url)
			patient, pat := w.anyPatient()
			j := w.kickOff(pat, "/no-form/auto-approve", patient, nil)
			want := w.contents(pat, w.manifest(pat, j))
			p.terminate()
			if how := p.ended(stopWithin); how != "exit status 0" {
				t.Fatal(how)
			}
			filestest.Fill(t, data, but)
			archive, restored :=
				filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "data")
			for _, args := range [][]string{
				{"backup", "--data", data, archive},
				{"backup", "verify", archive},
				{"restore", "--data", restored, archive},
			} {
				out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
			}
			w = overHTTP(t, serveProgram(t, binary, small(restored)...).url)
			pat = w.patient(patient)
			j = w.kickOff(pat, "/no-form/auto-approve", patient, nil)
			if got := w.contents(pat, w.manifest(pat, j)); !slices.Equal(got, want) {
				t.Error("an export of what was restored is not right")
			}
		})
	}
}

// A command that writes records onto a nearly full disk ends and says why; the record store
// alone would retry forever. Run again with room, it brings everything.
func TestACommandEndsOnAFullDisk(t *testing.T) {
	t.Parallel()
	binary := built.Command(t, "ehi-server/api")
	for _, but := range []int64{500 << 10, 4 << 20} {
		data := t.TempDir()
		filestest.Mount(t, data, "160m")
		generate := func(patients string) (string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, "generate", "--data", data, "--patients",
				patients)
			out, err := cmd.CombinedOutput()
			if ctx.Err() != nil {
				t.Errorf("with %d bytes of room the command does not end", but)
			}
			return string(out), err
		}
		if out, err := generate("2"); err != nil {
			t.Fatal(err, out)
		}
		clear := filestest.Fill(t, data, but)
		out, err := generate("100")
		exit, _ := errors.AsType[*exec.ExitError](err)
		said := strings.Contains(out, "no space left on device") &&
			!strings.Contains(out, "goroutine ")
		if exit == nil || exit.ExitCode() != 1 || !said {
			t.Errorf("with %d bytes of room: %v\n%s", but, err, out)
		}
		clear()
		if out, err := generate("100"); err != nil {
			t.Errorf("with room again: %v\n%s", err, out)
		}
	}
}

// A disk that runs out of inodes while the server works counts as full: nothing new is accepted,
// nothing ends the process, and once there are inodes it continues.
func TestADiskThatRunsOutOfInodesUnderLoadHealsWithoutARestart(t *testing.T) {
	t.Parallel()
	data := onSmallDisk(t, "400m,nr_inodes=2000")
	p := serveProgram(t, built.Command(t, "ehi-server/api"), small(data)...)
	w := overHTTP(t, p.url)
	patient, pat := w.anyPatient()
	want := w.contents(pat, w.manifest(pat, w.kickOff(pat, "/no-form/auto-approve", patient, nil)))
	clear := filestest.FillNames(t, data)
	for range 20 {
		w.kick(pat, "/no-form/auto-approve", patient) // accepted or refused: the process survives
	}
	w.until("the server is in rescue mode", func() bool {
		a, err := w.open.Do(t.Context(), "GET", "/readyz", nil)
		return err == nil && a.Status == http.StatusServiceUnavailable &&
			strings.Contains(string(a.Body), "rescue mode")
	})
	w.wantOutcome(w.kick(pat, "/no-form/auto-approve", patient), 503, "inodes")
	clear()
	w.until("the server is ready", func() bool {
		a, err := w.open.Do(t.Context(), "GET", "/readyz", nil)
		return err == nil && a.Status == http.StatusOK
	})
	j := w.kickOff(pat, "/no-form/auto-approve", patient, nil)
	if got := w.contents(pat, w.manifest(pat, j)); !slices.Equal(got, want) {
		t.Error("the export after it is not right")
	}
	p.terminate()
	if how := p.ended(stopWithin); how != "exit status 0" {
		t.Error(how)
	}
}

// rescued checks what works in rescue mode and what does not.
func (w *world) rescued(patient string, jobs []client.Job, want []string) {
	w.t.Helper()
	a := w.do(w.open, "GET", "/readyz")
	w.want(a, 503, "rescue mode")
	w.want(w.do(w.open, "GET", "/healthz"), 200, "")
	w.want(w.do(w.open, "GET", "/metrics"), 200, "ehi_rescue 1")
	pat := w.patient(patient) // signing in works
	path := func(j client.Job) string {
		_, rest, _ := strings.Cut(j.StatusURL, "/jobs/")
		return w.open.Base + "/jobs/" + rest
	}
	j := jobs[0]
	j.StatusURL = path(j)
	if got := w.contents(pat, w.manifest(pat, j)); !slices.Equal(got, want) {
		w.t.Error("what was done does not download")
	}
	w.wantOutcome(w.kick(pat, "/no-form/auto-approve", patient), 503,
		"the disk of the data folder is full")
	w.want(w.do(pat, "GET", "/fhir/Patient/"+patient), 200, patient)
	for _, j := range jobs[1:] {
		w.want(w.do(pat, "DELETE", path(j)), 202, "")
		w.want(w.do(pat, "GET", path(j)), 404, "")
	}
	admin, err := w.open.AdminLogin(w.t.Context(), "admin", "admin-password")
	if err != nil {
		w.t.Fatal(err)
	}
	w.want(w.do(admin, "GET", "/admin/jobs"), 200, jobs[0].ID)
	w.want(w.do(admin, "GET", "/admin/ui/system", "Accept", "text/html"), 200, "rescue mode")
	w.want(w.do(admin, "POST", "/admin/keys/rotate"), 503, "the disk of the data folder is full")
	w.want(w.do(admin, "GET", "/admin/backup"), 503, "the disk of the data folder is full")
}
