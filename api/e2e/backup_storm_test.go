package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/shared/built"
	"ehi-server/shared/bus"
)

// backupRounds returns the number of rounds of the storm; EHI_BACKUP_ROUNDS increases it.
func backupRounds(t *testing.T) int {
	t.Helper()
	said := os.Getenv("EHI_BACKUP_ROUNDS")
	if said == "" {
		return 6
	}
	n, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// storm is a backup that goes through all kinds of failures.
type storm struct {
	*testing.T
	rand    *rand.Rand
	binary  string
	dir     string
	server  string // URL of the server to back up
	archive string
	bytes   []byte // of the archive
	want    map[string]string
	takes   time.Duration // approximate time of a restore
	counts  map[string]int
}

// run runs a command. It kills the command after the time kill; 0 means never.
func (s *storm) run(kill time.Duration, args ...string) (out string, err error) {
	cmd := exec.CommandContext(s.Context(), s.binary, args...)
	// the container has no /tmp
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(s.dir, "absent"))
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	if kill > 0 {
		// the command may have ended
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	err = cmd.Wait()
	return text.String(), err
}

// what returns what a data folder contains: the hashes of its files, and the records of its
// state.
func (s *storm) what(data string) map[string]string {
	return s.held(data, bus.Config{
		StoreDir: filepath.Join(data, backup.NATSFolder),
		Audit:    &bus.AuditConfig{},
	})
}

// held returns what a data folder and a state contain.
func (s *storm) held(data string, state bus.Config) map[string]string {
	held := map[string]string{}
	for _, folder := range []string{"records", "exports", backup.SandboxKeys} {
		err := filepath.WalkDir(filepath.Join(data, folder),
			func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".identity") ||
					strings.Contains(path, "/.pairing/") {
					return err
				}
				text, err := os.ReadFile(path)
				sum := sha256.Sum256(text)
				held[strings.TrimPrefix(path, data)] = hex.EncodeToString(sum[:])
				return err
			})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.Fatal(err)
		}
	}
	b, err := bus.Open(s.Context(), state)
	if err != nil {
		s.Fatal(err)
	}
	defer b.Close()
	keep := func(e bus.Entry) error {
		if e.Expires.IsZero() {
			held[e.Bucket+" "+e.Key+" "+string(e.Value)] = "record"
		}
		return nil
	}
	err = b.AuditEntries(s.Context(), keep)
	for _, bucket := range []string{bus.JobRecords, bus.TaskRecords, bus.AuthRecords} {
		err = errors.Join(err, b.Entries(s.Context(), bucket, keep))
	}
	if err != nil {
		s.Fatal(err)
	}
	return held
}

// export exports a demo patient.
func (s *storm) export(patient string) {
	open := client.New(s.server)
	defer open.Close()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	pat, _, err := open.Authorize(ctx, patient)
	if err != nil {
		s.Fatal(err)
	}
	defer pat.Close()
	j, err := pat.Start(ctx, "POST", "/no-form/auto-approve/fhir/Patient/"+patient+"/$ehi-export",
		nil)
	if err == nil {
		_, err = pat.Wait(ctx, j.StatusURL, time.Millisecond)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// outcome counts the outcome of a round.
func (s *storm) outcome(format string, args ...any) { s.counts[fmt.Sprintf(format, args...)]++ }

// whole reports whether a data folder contains the backup, completely and nothing else.
func (s *storm) whole(data string) bool { return maps.Equal(s.what(data), s.want) }

// killedBackup kills the command.
func (s *storm) killedBackup(to string) {
	out, err := s.run(1+time.Duration(s.rand.Int64N(int64(s.takes/3))), "backup", "--url", s.server,
		to)
	s.ends("backup killed", to, out, err)
}

// cutBackup breaks the connection off in the middle of the archive.
func (s *storm) cutBackup(to string) {
	target, err := url.Parse(s.server)
	if err != nil {
		s.Fatal(err)
	}
	left := new(atomic.Int64)
	left.Store(s.rand.Int64N(int64(len(s.bytes))))
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.FlushInterval, forward.ErrorLog = -1, log.New(io.Discard, "", 0)
	forward.ModifyResponse = func(r *http.Response) error {
		if strings.HasPrefix(r.Request.URL.Path, "/admin/backup") {
			r.Body = &breaking{r.Body, left}
		}
		return nil
	}
	proxy := httptest.NewServer(forward)
	defer proxy.Close()
	out, err := s.run(0, "backup", "--url", proxy.URL, to)
	s.ends("connection cut", to, out, err)
}

// breaking breaks off after a number of bytes.
type breaking struct {
	io.ReadCloser
	left *atomic.Int64
}

// Read implements io.Reader.
func (b *breaking) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), max(1, b.left.Load()))])
	if b.left.Add(-int64(n)) <= 0 {
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// ends checks a disturbed backup: a file with its name is a complete archive, and the exit code
// is then 0.
func (s *storm) ends(what, name, out string, err error) {
	f, missing := os.Open(name)
	if missing != nil {
		if err == nil {
			s.Errorf("%s: it says that it succeeded, and there is no file: %s", what, out)
		}
		s.outcome("%s: no file, and said so", what)
		return
	}
	defer f.Close() // read only
	if _, e := backup.Verify(f); e != nil {
		s.Errorf("%s: its file is no whole archive: %v, %s", what, e, out)
	}
	s.outcome("%s: a whole archive", what)
}

// changed returns the archive with a change at a random place.
func (s *storm) changed(how string) string {
	text, at := bytes.Clone(s.bytes), s.rand.IntN(len(s.bytes))
	if how == "flipped" {
		text[at] ^= 1 << s.rand.IntN(8)
	} else {
		text = text[:at]
	}
	name := filepath.Join(s.dir, "changed")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		s.Fatal(err)
	}
	return name
}

// changedArchive restores a changed archive.
func (s *storm) changedArchive(how, data string) {
	name := s.changed(how)
	_, verified := s.run(0, "backup", "verify", name)
	out, err := s.run(0, "restore", "--data", data, name)
	if (verified == nil) != (err == nil) {
		s.Errorf("archive %s: verify says %v, restore %v: %s", how, verified, err, out)
	}
	switch _, missing := os.Stat(data); {
	case err == nil && !s.whole(data):
		s.Errorf("archive %s: a restore succeeded, and is not the backup: %s", how, out)
	case err == nil:
		s.outcome("archive %s: it means nothing, and all was restored", how)
	case missing == nil || backup.Unfinished(data) != nil:
		s.Errorf("archive %s: a restore failed and left something: %s", how, out)
	default:
		s.outcome("archive %s: refused, and nothing is left", how)
	}
}

// killedRestore kills a restore. Afterwards there must be nothing usable, or everything. Then it
// restores again.
func (s *storm) killedRestore(what, data string, flags ...string) {
	args := append([]string{"restore", "--data", data}, flags...)
	args = append(args, s.archive)
	_, err := s.run(1+time.Duration(s.rand.Int64N(int64(s.takes*5/4))), args...)
	_, missing := os.Stat(filepath.Join(data, backup.NATSFolder))
	_, before := os.Stat(filepath.Join(data, "before"))
	switch unfinished := backup.Unfinished(data); {
	case unfinished != nil && err == nil:
		s.Errorf("%s: it succeeded, and is not finished", what)
	case unfinished != nil:
		out, e := s.run(0, "serve", "--data", data, "--addr", "127.0.0.1:0")
		if e == nil || !strings.Contains(out, "restore did not finish") {
			s.Errorf("%s: a server opens what is left: %v, %s", what, e, out)
		}
		s.outcome("%s: refused until it is made again", what)
	case missing != nil && err == nil:
		s.Errorf("%s: it succeeded, and there is nothing", what)
	case missing != nil:
		if len(flags) > 0 && before != nil {
			s.Errorf("%s: what was there is gone, and nothing is restored", what)
		}
		s.outcome("%s: nothing, or what was there", what)
	default:
		if !s.whole(data) {
			s.Errorf("%s: a part is there, and nothing says so", what)
		}
		s.outcome("%s: the whole", what)
		return
	}
	out, err := s.run(0, args...)
	if err != nil || backup.Unfinished(data) != nil || !s.whole(data) {
		s.Errorf("%s: it cannot be made again: %v, %s", what, err, out)
	}
}

// newStorm starts a server with an export, and makes the backup for all rounds.
func newStorm(t *testing.T) (s *storm, p *program) {
	t.Helper()
	seed := rand.Uint64()
	s = &storm{
		T:      t,
		rand:   rand.New(rand.NewPCG(seed, 1)), // #nosec G404 -- repeatable
		binary: built.Command(t, "ehi-server/api"),
		dir:    t.TempDir(),
		counts: map[string]int{},
	}
	t.Log("seed", seed)
	p = serveProgram(t, s.binary, "--data", filepath.Join(s.dir, "data"))
	s.server, s.archive = p.url, filepath.Join(s.dir, "archive")
	s.export("00000000-0000-4000-8000-161d100b05e5")
	if out, err := s.run(0, "backup", "--url", s.server, s.archive); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var err error
	if s.bytes, err = os.ReadFile(s.archive); err != nil {
		t.Fatal(err)
	}
	reference, begun := filepath.Join(s.dir, "reference"), time.Now()
	if out, err := s.run(0, "restore", "--data", reference, s.archive); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.takes, s.want = time.Since(begun), s.what(reference)
	if len(s.want) < 10 {
		t.Fatalf("the backup holds only %d things", len(s.want))
	}
	return s, p
}

// Issue 20, items 5 and 6: whatever is cut off, killed or flipped while a backup is made, stored
// or restored, there is never a false success.
func TestNoIncompleteBackupOrRestoreSucceeds(t *testing.T) {
	t.Parallel()
	s, p := newStorm(t)
	rounds := backupRounds(t)
	for n := range rounds {
		at := filepath.Join(s.dir, "round"+strconv.Itoa(n))
		switch n % 6 {
		case 0:
			s.killedBackup(at)
		case 1:
			s.cutBackup(at)
		case 2:
			s.changedArchive("flipped", at)
		case 3:
			s.changedArchive("cut off", at)
		case 4:
			s.killedRestore("restore killed", at)
		case 5:
			err := errors.Join(os.Mkdir(at, 0o700),
				os.WriteFile(filepath.Join(at, "before"), nil, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			s.killedRestore("restore over something killed", at, "--replace")
		}
		left, err := filepath.Glob(at + "*")
		for _, name := range left {
			err = errors.Join(err, os.RemoveAll(name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, n := range s.counts {
		t.Logf("%4d %s", n, what)
	}
	t.Logf("%4d rounds, none of them a success that is none", rounds)
	p.terminate()
	p.ended(stopWithin)
}
