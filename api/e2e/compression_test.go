package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strconv"
	"testing"

	"github.com/klauspost/compress/zstd"

	"ehi-server/api/node"
	"ehi-server/shared/ehi"
)

// unpack decodes a content coding.
func unpack(coding string, data []byte) ([]byte, error) {
	var r io.Reader = bytes.NewReader(data)
	switch coding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		z.Multistream(false) // like browsers: only one member is allowed
		r = z
	case "zstd":
		d, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		r = d
	}
	return io.ReadAll(r)
}

// However files are stored, every client gets the same lines, in a coding that it accepts.
func TestCompressedFilesSuitEveryClient(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Jobs.Compression = ehi.Zstd // the server's default, which a kick-off overrides
	cfg.Limits.SpillBytes = 4000    // files in memory and on disk
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	files := map[string]map[string][]byte{} // by compression and end of the URL
	for _, compression := range []string{"identity", "gzip", "zstd", ""} {
		base := "/no-form/auto-approve/fhir/Patient/" + p + "/$ehi-export"
		if compression != "" {
			base += "?_compression=" + compression
		}
		j, err := pat.Start(t.Context(), "POST", base, nil)
		if err != nil {
			t.Fatal(err)
		}
		files[compression] = map[string][]byte{}
		stored := map[string]bool{} // codings in which something was sent as stored
		for _, e := range w.manifest(pat, j).Output {
			for _, accepted := range []string{"", "gzip", "zstd", "br, gzip;q=0"} {
				a := w.do(pat, "GET", e.URL, "Accept-Encoding", accepted)
				coding := a.Header.Get("Content-Encoding")
				if coding != "" && coding != accepted || a.Status != 200 ||
					a.Header.Get("Vary") != "Accept-Encoding" {
					t.Fatalf("%s stored as %q, accepted %q: %d %v", e.URL, compression, accepted,
						a.Status, a.Header)
				}
				length := a.Header.Get("Content-Length")
				if length != "" && length != strconv.Itoa(len(a.Body)) {
					t.Errorf("Content-Length %s of %d bytes", length, len(a.Body))
				}
				if a.Header.Get("Accept-Ranges") == "bytes" && coding != "" &&
					a.Header.Get("Content-Length") != "" {
					stored[coding] = true
				}
				plain, err := unpack(coding, a.Body)
				if err != nil || int64(bytes.Count(plain, []byte{'\n'})) != e.Count {
					t.Fatalf("%s as %q: %d lines, %v", e.URL, coding,
						bytes.Count(plain, []byte{'\n'}), err)
				}
				before := files[compression][e.Type]
				if before != nil && !bytes.Equal(before, plain) {
					t.Errorf("%s as %q differs", e.URL, coding)
				}
				files[compression][e.Type] = plain
				b := w.do(pat, "GET", e.URL, "Accept-Encoding", accepted, "If-None-Match",
					a.Header.Get("ETag"))
				if b.Status != 304 {
					t.Errorf("%s with its own tag: %d", e.URL, b.Status)
				}
				h := w.do(pat, "HEAD", e.URL, "Accept-Encoding", accepted)
				if h.Status != 200 || len(h.Body) > 0 ||
					h.Header.Get("ETag") != a.Header.Get("ETag") {
					t.Errorf("HEAD %s: %d %v", e.URL, h.Status, h.Header)
				}
			}
		}
		want := map[string]string{"gzip": "gzip", "zstd": "zstd", "": "zstd"}[compression]
		if fmt.Sprint(stored) != fmt.Sprint(map[string]bool{want: true}) && want != "" ||
			want == "" && len(stored) > 0 {
			t.Errorf("%q is sent as it is stored in %v", compression, stored)
		}
		for typ, plain := range files["identity"] {
			if !bytes.Equal(plain, files[compression][typ]) {
				t.Errorf("%s stored as %q differs from the plain one", typ, compression)
			}
		}
	}
	w.wantOutcome(w.do(pat, "POST", "/fhir/Patient/"+p+"/$ehi-export?_compression=rar"), 400,
		"_compression")
}

// A range of a compressed file refers to the bytes that are sent. If the file must be
// decompressed, the whole file is sent.
func TestRangesOfCompressedFiles(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j, err := pat.Start(t.Context(), "POST",
		"/no-form/auto-approve/fhir/Patient/"+p+"/$ehi-export?_compression=gzip", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.manifest(pat, j)
	url := "/jobs/" + j.ID + "/download/Observation.ndjson"
	whole := w.do(pat, "GET", url, "Accept-Encoding", "gzip")
	part := w.do(pat, "GET", url, "Accept-Encoding", "gzip", "Range", "bytes=10-19")
	if part.Status != 206 || !bytes.Equal(part.Body, whole.Body[10:20]) {
		t.Errorf("range as stored: %d, %d bytes", part.Status, len(part.Body))
	}
	plain := w.do(pat, "GET", url, "Range", "bytes=10-19")
	if plain.Status != 200 || plain.Header.Get("Accept-Ranges") != "none" ||
		len(plain.Body) <= len(whole.Body) {
		t.Errorf("range of an unpacked file: %d, %d bytes, %v", plain.Status, len(plain.Body),
			plain.Header)
	}
}
