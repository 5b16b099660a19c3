package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
	"ehi-server/shared/logtest"
)

// book is a log that can be read while it is written.
type book = logtest.Book

// exported is a finished export with its file table.
type exported struct {
	*world
	pat   *client.Client
	job   client.Job
	table []ehi.File
}

func (w *world) stored(compression string) exported {
	w.t.Helper()
	p := w.demoPatient()
	pat := w.patient(p)
	j, err := pat.Start(w.t.Context(), "POST",
		"/no-form/auto-approve/fhir/Patient/"+p+"/$ehi-export?_compression="+compression, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.manifest(pat, j)
	task, there, err := w.node.Bus.Tasks.Get(w.t.Context(), j.ID, 0)
	if err != nil || !there {
		w.t.Fatalf("the task: %v", err)
	}
	return exported{w, pat, j, task.Files}
}

// entries returns what the manifest says about each type.
func (e exported) entries() map[string]ehi.FileExtension {
	e.t.Helper()
	var m struct {
		Output []struct {
			Type      string
			Extension ehi.FileExtension
		}
	}
	if err := json.Unmarshal(e.do(e.pat, "GET", e.job.StatusURL).Body, &m); err != nil {
		e.t.Fatal(err)
	}
	out := map[string]ehi.FileExtension{}
	for _, f := range m.Output {
		out[f.Type] = f.Extension
	}
	return out
}

// path returns the path of an object of the export.
func (e exported) path(object string) string {
	e.t.Helper()
	place, err := local.Place(e.job.ID, object)
	if err != nil {
		e.t.Fatal(err)
	}
	return filepath.Join(e.data, files.Folder, place)
}

func (e exported) url(f ehi.File) string {
	return e.open.Base + "/jobs/" + e.job.ID + "/download/" + f.Type + ".ndjson"
}

// alter changes the bytes of an object, or removes it if change returns nil.
func (e exported) alter(object string, change func([]byte) []byte) {
	e.t.Helper()
	path := e.path(object)
	data, err := os.ReadFile(path)
	if err != nil {
		e.t.Fatal(err)
	}
	if data = change(data); data == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// Whatever the disk does to a file, and however the file is stored, requested and sent: the
// response is a 500 that says so, the log and the metrics have an incident, and the manifest
// marks the file. Other files are sent as before, and so is the export that is made again.
func TestADamagedFileIsAnsweredBy500(t *testing.T) {
	t.Parallel()
	log := &book{}
	w := startLogging(t, t.TempDir(), config(), node.Options{},
		slog.New(slog.NewTextHandler(log, nil)))
	for _, compression := range []string{"identity", "gzip", "zstd"} {
		for _, of := range []string{"segment", "file"} {
			for kind, change := range map[files.Kind]func(b []byte, at ehi.File) []byte{
				files.Changed: func(b []byte, f ehi.File) []byte {
					b[f.Offset+f.Length/2] ^= 0x10
					return b
				},
				files.Short:   func(b []byte, f ehi.File) []byte { return b[:f.Offset+f.Length-1] },
				files.Missing: func([]byte, ehi.File) []byte { return nil },
			} {
				t.Run(compression+" "+of+" "+string(kind), func(t *testing.T) {
					w := *w
					w.t = t
					e := w.stored(compression)
					i := e.pick(of)
					if i < 0 {
						t.Skip("no output is large enough to have a file of its own when it is " +
							"compressed")
					}
					e.damage(e.table[i], kind, change, log)
				})
			}
		}
	}
}

// pick returns the index of the last output in a segment, or in a file of its own; -1 for none.
func (e exported) pick(of string) int {
	for i := len(e.table) - 1; i >= 0; i-- {
		if strings.HasSuffix(e.table[i].Object, "seg") == (of == "segment") {
			return i
		}
	}
	return -1
}

func (e exported) damage(
	f ehi.File, kind files.Kind, change func([]byte, ehi.File) []byte, log *book,
) {
	t := e.t
	e.alter(f.Object, func(b []byte) []byte { return change(b, f) })
	for _, header := range [][]string{
		{}, {"Accept-Encoding", "gzip"}, {"Accept-Encoding", "zstd"}, {"Range", "bytes=0-3"},
		{"Want-Repr-Digest", "sha-256=0"},
	} {
		a := e.do(e.pat, "GET", e.url(f), header...)
		e.wantOutcome(a, 500, "damaged on the server's disk")
		for _, name := range []string{
			"Repr-Digest", "ETag", "Content-Encoding", "Content-Disposition",
		} {
			if a.Header.Get(name) != "" {
				t.Errorf("%v: the error has %s: %s", header, name, a.Header.Get(name))
			}
		}
	}
	if a := e.do(e.pat, "HEAD", e.url(f)); a.Status != 500 {
		t.Errorf("HEAD: %d", a.Status)
	}
	line := "kind=" + string(kind)
	text := log.String()
	if !strings.Contains(text, "job="+e.job.ID) || !strings.Contains(text, line) {
		t.Errorf("the log has no %s of job %s", line, e.job.ID)
	}
	m := string(e.do(e.admin, "GET", "/metrics").Body)
	if strings.Contains(m, `ehi_files_damaged_total{kind="`+string(kind)+`"} 0`) {
		t.Errorf("no %s file is counted", kind)
	}
	for typ, told := range e.entries() {
		if told.Damaged != (typ == f.Type) {
			t.Errorf("the manifest says that %s is damaged: %t", typ, told.Damaged)
		}
	}
	for _, other := range e.table {
		if other.Object != f.Object || kind == files.Changed && other.Type != f.Type {
			e.want(e.do(e.pat, "GET", e.url(other)), 200, "")
		}
	}
	e.want(e.do(e.pat, "DELETE", e.job.StatusURL), 202, "")
	again := e.stored("identity")
	for _, f := range again.table {
		e.want(e.do(e.pat, "GET", again.url(f)), 200, "")
	}
}

// Bytes after the recorded end of a file are not sent.
func TestAFileThatHasGrownIsSentAsItWas(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	e := w.stored("identity")
	f := e.table[len(e.table)-1]
	before := e.do(e.pat, "GET", e.url(f))
	e.alter(f.Object, func(b []byte) []byte { return append(b, "more"...) })
	after := e.do(e.pat, "GET", e.url(f))
	if after.Status != 200 || !bytes.Equal(before.Body, after.Body) {
		t.Errorf("%d, %d bytes, before %d", after.Status, len(after.Body), len(before.Body))
	}
}

// A file that is too large to be read in advance is verified while it is sent. If it has
// changed, the response breaks off before its end, and the next one is an error immediately.
func TestALargeDamagedFileBreaksOff(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Jobs.AttachmentBytes, cfg.HTTP.MaxBodyBytes = 80<<20, 100<<20
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form", p, nil)
	w.wait(j.ID, ehi.Retrieved)
	large := bytes.Repeat([]byte("0123456789abcdef"), 65<<16)
	if _, err := w.admin.AddFiles(t.Context(), j.ID,
		client.File{Name: "large.bin", Data: large}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	w.manifest(pat, j)
	record, err := w.node.Bus.Jobs.Get(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	e := exported{w, pat, j, nil}
	url := w.open.Base + "/jobs/" + j.ID + "/download/attachments/large.bin"
	a := w.do(pat, "GET", url)
	if a.Status != 200 || !bytes.Equal(a.Body, large) || a.Header.Get("Repr-Digest") != "" {
		t.Fatalf("%d, %d bytes, %v", a.Status, len(a.Body), a.Header)
	}
	if a := w.do(pat, "HEAD", url, "Want-Repr-Digest",
		"sha-256=1"); a.Header.Get("Repr-Digest") != digest(large) {
		t.Errorf("wanted a digest: %v", a.Header)
	}
	e.alter(record.Attachments[0].Object, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	if a, err := pat.Do(t.Context(), "GET", url, nil); err == nil {
		t.Fatalf("the damaged file was sent: %d, %d bytes", a.Status, len(a.Body))
	}
	w.wantOutcome(w.do(pat, "GET", url), 500, "damaged")
	w.wantOutcome(w.do(pat, "GET", url, "Range", "bytes=0-9"), 500, "damaged")
}

// digest returns a Repr-Digest (RFC 9530 3).
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// Repr-Digest covers the whole file in the coding in which it is sent, for responses with all,
// part or none of it. It is absent if the coding is applied while the file is sent. The
// manifest's checksum covers the same bytes.
func TestDigestsAreOfWhatIsSent(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	for _, compression := range []ehi.Compression{ehi.Identity, ehi.Gzip, ehi.Zstd} {
		e := w.stored(string(compression))
		entries := e.entries()
		for _, f := range e.table {
			whole := w.do(e.pat, "GET", e.url(f), "Accept-Encoding", string(compression))
			want := digest(whole.Body)
			if got := whole.Header.Get("Repr-Digest"); whole.Status != 200 || got != want {
				t.Fatalf("%s %s: %d %q, want %q", compression, f.Type, whole.Status, got, want)
			}
			for _, header := range [][]string{
				{"HEAD"},
				{"GET", "Range", "bytes=1-5"},
				{"GET", "Range", "bytes=-1"},
				{"GET", "Want-Repr-Digest", "sha-512=3, sha-256=5"},
			} {
				a := w.do(e.pat, header[0], e.url(f),
					append(header[1:], "Accept-Encoding", string(compression))...)
				if got := a.Header.Get("Repr-Digest"); a.Status/100 != 2 || got != want {
					t.Errorf("%s %s %v: %d %q, want %q", compression, f.Type, header, a.Status, got,
						want)
				}
			}
			other := map[ehi.Compression]string{
				ehi.Identity: "gzip",
				ehi.Gzip:     "identity",
				ehi.Zstd:     "gzip",
			}[compression]
			for _, header := range [][]string{
				{"Accept-Encoding", other},
				{"Accept-Encoding", string(compression), "Want-Repr-Digest", "sha-256=0"},
				{"Accept-Encoding", string(compression), "If-None-Match", whole.Header.Get("ETag")},
				{"Accept-Encoding", string(compression), "Range", "bytes=99999999-"},
			} {
				got := w.do(e.pat, "GET", e.url(f), header...).Header.Get("Repr-Digest")
				if got != "" {
					t.Errorf("%s %s %v: %q", compression, f.Type, header, got)
				}
			}
			c := entries[f.Type].Checksum
			if c == nil || c.Algorithm != "xxh3" || c.Size != int64(len(whole.Body)) ||
				c.Coding != compression ||
				c.DocumentationURL != w.open.Base+"/docs/ehi#checksum" ||
				c.Value != fmt.Sprintf("%016x", xxh3.Hash(whole.Body)) {
				t.Errorf("%s %s: the manifest has %+v", compression, f.Type, c)
			}
		}
	}
}
