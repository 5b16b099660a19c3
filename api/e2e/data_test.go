package e2e

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/shared/records"
)

// attached is an Attachment of an exported resource.
type attached struct {
	URL   string  `json:"url"`
	Size  int     `json:"size"`
	Hash  []byte  `json:"hash"`
	Data  *[]byte `json:"data"`
	Title string  `json:"title"`
}

// attachedTo returns the attachment of a DocumentReference.
func attachedTo(t *testing.T, r records.Resource) (a attached) {
	t.Helper()
	var of struct {
		Content []struct {
			Attachment attached `json:"attachment"`
		} `json:"content"`
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(text, &of)
	}
	if err != nil || len(of.Content) != 1 {
		t.Fatalf("%s: %v", text, err)
	}
	return of.Content[0].Attachment
}

// Large data of an attachment is a file of the export, which its own token alone opens, and leaves
// with its resource alone.
func TestLargeDataOfAnAttachmentIsDownloadedByItsURL(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	content := bytes.Repeat([]byte("scan\xff"), 2<<20/5)
	coded := base64.StdEncoding.EncodeToString(content)
	w.load(`{"resourceType":"Patient","id":"pa"}
{"resourceType":"Patient","id":"pb"}
{"resourceType":"DocumentReference","id":"d","status":"current",` +
		`"subject":{"reference":"Patient/pa"},"content":[{"attachment":{` +
		`"contentType":"application/pdf","data":"` + coded +
		`","title":"Scan"}}]}
{"resourceType":"DocumentReference","id":"small","status":"current",` +
		`"subject":{"reference":"Patient/pa"},"content":[{"attachment":{` +
		`"contentType":"text/plain","data":"aGVsbG8="}}]}
`)
	owner, other := w.patient("pa"), w.patient("pb")
	service := w.service("system/*.rs system/$ehi-export")
	check := func(what string, c doer, a attached) {
		t.Helper()
		sum := sha1.Sum(content)
		if a.Data != nil || a.Size != len(content) || !bytes.Equal(a.Hash, sum[:]) {
			t.Fatalf("%s: %+v", what, a)
		}
		got, err := c.Do(t.Context(), http.MethodGet, a.URL, nil)
		if err != nil || got.Status != 200 || !bytes.Equal(got.Body, content) ||
			!strings.HasPrefix(got.Header.Get("Content-Type"), "application/pdf") {
			t.Fatalf("%s: %v, status %d, %d bytes, %v", what, err, got.Status, len(got.Body),
				got.Header)
		}
		for who, no := range map[string]doer{"another patient": other, "nobody": w.open} {
			refused, err := no.Do(t.Context(), http.MethodGet, a.URL, nil)
			if err != nil || refused.Status != 404 && refused.Status != 401 {
				t.Errorf("%s for %s: %v, status %d", what, who, err, refused.Status)
			}
		}
	}
	var url string
	for _, packaging := range []string{"files", "zip"} {
		body := []byte(`{"resourceType":"Parameters","parameter":[{"name":"_package","valueCode":"` +
			packaging + `"}]}`)
		m := w.manifest(owner, w.kickOff(owner, "/no-form/auto-approve", "pa", body))
		all, text := w.download(owner, m)
		if !strings.Contains(text, `"data":"aGVsbG8="`) || strings.Contains(text, "urn:ehi-data") {
			t.Errorf("the lines are\n%.2000s", text)
		}
		a := attachedTo(t, all["DocumentReference/d"])
		check(packaging, owner, a)
		url = a.URL
	}

	a, err := owner.Do(t.Context(), http.MethodGet, url, nil, "Range", "bytes=5-9")
	if err != nil || a.Status != 206 || !bytes.Equal(a.Body, content[5:10]) {
		t.Errorf("a range: %v, status %d, %q", err, a.Status, a.Body)
	}
	wrong := strings.Replace(url, "/DocumentReference.", "/Observation.", 1)
	if a, err := owner.Do(t.Context(), http.MethodGet, wrong, nil); err != nil || a.Status != 404 {
		t.Errorf("under another type: %v, status %d", err, a.Status)
	}

	for _, bulk := range []string{"$export", "$ehi-export"} {
		method := http.MethodGet
		if bulk == "$ehi-export" {
			method = http.MethodPost
		}
		j, err := service.Start(t.Context(), method, "/no-form/auto-approve/fhir/"+bulk, nil)
		if err != nil {
			t.Fatal(err)
		}
		all, _ := w.download(service, w.manifest(service, j))
		a := attachedTo(t, all["DocumentReference/d"])
		if binary := strings.Contains(a.URL, "/fhir/Binary/"); binary != (bulk == "$export") {
			t.Errorf("%s: the URL is %s", bulk, a.URL)
		}
		check(bulk, service, a)
	}

	// what the form withholds has no file, whatever its name is
	j := w.kickOff(owner, "/auto-approve", "pa", nil)
	w.submit(owner, j.ID, newForm("visits"))
	m := w.manifest(owner, j)
	all, text := w.download(owner, m)
	if all["DocumentReference/d"] != nil || strings.Contains(text, "/download/data/") {
		t.Errorf("a withheld document leaves: %s", slices.Sorted(maps.Keys(all)))
	}
	_, path, _ := strings.Cut(url, "/download/")
	a, err = owner.Do(t.Context(), http.MethodGet, w.node.URL+"/jobs/"+j.ID+"/download/"+path, nil)
	if err != nil || a.Status != 404 {
		t.Errorf("the withheld data: %v, status %d", err, a.Status)
	}
}

// cutting is a source whose moved data ends early with an error.
type cutting struct {
	source.Source
	err *error
}

func (s cutting) ImportFrom(
	ctx context.Context, name string, r io.Reader, o source.ImportOptions,
) (source.Report, error) {
	return s.Source.(source.Importer).ImportFrom(ctx, name, r, o)
}

func (s cutting) Moved(
	ctx context.Context, patient, name string,
) (*source.MovedContent, error) {
	m, err := s.Source.Moved(ctx, patient, name)
	if err != nil || *s.err == nil {
		return m, err
	}
	type both struct {
		io.Reader
		io.Closer
	}
	m.ReadCloser = both{
		io.MultiReader(io.LimitReader(m.ReadCloser, m.Size/2), iotest.ErrReader(*s.err)),
		m.ReadCloser,
	}
	return m, nil
}

// TestACutAnswerNeverLooksWhole holds for data that is read as a Binary too.
func TestCutDataNeverLooksWhole(t *testing.T) {
	t.Parallel()
	var failure error
	w := start(t, t.TempDir(), config(), node.Options{
		WrapSource: func(s source.Source) source.Source { return cutting{s, &failure} },
	})
	content := bytes.Repeat([]byte("scan\xff"), 2<<20/5)
	sum := sha256.Sum256(content)
	w.load(`{"resourceType":"Patient","id":"pa","photo":[{"contentType":"image/png","data":"` +
		base64.StdEncoding.EncodeToString(content) + `"}]}`)
	url := w.node.URL + "/fhir/Binary/" + hex.EncodeToString(sum[:])
	service := w.service("system/*.rs")
	for _, accept := range []string{"*/*", "application/fhir+json"} {
		header := http.Header{
			"Authorization": {"Bearer " + service.Token}, "Accept": {accept},
		}
		failure = nil
		whole := fetched(t, url, header, nil)
		if whole.err != nil || whole.status != 200 || len(whole.body) < len(content) {
			t.Fatalf("%s: %d, %d bytes, %v", accept, whole.status, len(whole.body), whole.err)
		}
		for _, failure = range []error{syscall.EIO, io.EOF, io.ErrUnexpectedEOF} {
			cut := fetched(t, url, header, nil)
			if cut.err == nil && cut.status == 200 {
				t.Errorf("%s, %v: %d bytes look whole", accept, failure, len(cut.body))
			}
		}
	}
}
