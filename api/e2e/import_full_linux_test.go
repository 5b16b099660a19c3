package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"

	"ehi-server/api/client"
	"ehi-server/shared/built"
)

// Issue 20: an import through a server that fills the disk ends with an error that says so,
// never with success. The process survives, and earlier data is unchanged. Once there is room,
// the same import brings everything, before and after a restart.
func TestAnImportThatFillsTheDiskFailsAloud(t *testing.T) {
	t.Parallel()
	data := onSmallDisk(t, "200m")
	binary := built.Command(t, "ehi-server/api")
	p := serveProgram(t, binary, small(data)...)
	w := overHTTP(t, p.url)
	patient, pat := w.anyPatient()
	before := w.contents(pat,
		w.manifest(pat, w.kickOff(pat, "/no-form/auto-approve", patient, nil)))
	var err error
	if w.admin, err = w.open.AdminLogin(t.Context(), "admin", "admin-password"); err != nil {
		t.Fatal(err)
	}
	const patients, each = 40, 80
	lines := incompressible(t, patients, each, 64<<10)
	load := func() *client.Answer {
		t.Helper()
		a, err := w.admin.Do(t.Context(), "POST", "/admin/import?strict=true",
			bytes.NewReader(lines),
			"Content-Type", "application/fhir+ndjson")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := load()
	w.want(a, http.StatusServiceUnavailable, "disk")
	if a.Header.Get("Retry-After") == "" {
		t.Error("the refusal does not say when to come again")
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(lines)), nil }
	_, err = w.admin.Import(t.Context(), client.ImportOptions{Strict: true}, open)
	refused, _ := errors.AsType[*client.Error](err)
	if refused == nil || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("the import command goes on by %v", err)
	}
	if err := p.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("the process has ended: %v", err)
	}
	err = syscall.Mount("tmpfs", data, "tmpfs", syscall.MS_REMOUNT, "size=1200m,mode=0700")
	if err != nil {
		t.Fatal(err)
	}
	w.until("the server is ready", func() bool {
		return w.do(w.open, "GET", "/readyz").Status == http.StatusOK
	})
	w.want(load(), http.StatusOK, "")
	whole := func(when string) {
		t.Helper()
		_, pat := w.anyPatient()
		m := w.manifest(pat, w.kickOff(pat, "/no-form/auto-approve", patient, nil))
		if got := w.contents(pat, m); len(got) != len(before) {
			t.Errorf("%s: %d files of the record from before, want %d", when, len(got), len(before))
		}
		for n := range patients {
			id := fmt.Sprintf("full-%d", n)
			pat := w.patient(id)
			m := w.manifest(pat, w.kickOff(pat, "/no-form/auto-approve", id, nil))
			count := int64(0)
			for _, o := range m.Output {
				count += o.Count
			}
			if count != each+1 {
				t.Errorf("%s: %d resources of %s, want %d", when, count, id, each+1)
			}
		}
	}
	whole("before a restart")
	p.terminate()
	if how := p.ended(stopWithin); how != "exit status 0" {
		t.Errorf("it ended by %s", how)
	}
	p = serveProgram(t, binary, small(data)...)
	w = overHTTP(t, p.url)
	whole("after a restart")
}

// incompressible returns patients with observations whose text is too random to be compressed
// below the given size.
func incompressible(t *testing.T, patients, each, size int) []byte {
	t.Helper()
	var out bytes.Buffer
	out.Grow(patients * each * (size*4/3 + 256))
	random, text := make([]byte, size), []byte(nil)
	for n := range patients {
		fmt.Fprintf(&out,
			`{"resourceType":"Patient","id":"full-%d","name":[{"family":"Full"}]}`+"\n", n)
		for i := range each {
			if _, err := io.ReadFull(rand.Reader, random); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, `{"resourceType":"Observation","id":"full-%d-%d","status":"final",`+
				`"code":{"text":"x"},"subject":{"reference":"Patient/full-%d"},"valueString":"`, n,
				i, n)
			text = base64.StdEncoding.AppendEncode(text[:0], random)
			out.Write(text)
			out.WriteString("\"}\n")
		}
	}
	return out.Bytes()
}
