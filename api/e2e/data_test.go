package e2e

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
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
		if !strings.HasPrefix(a.URL, w.node.URL+"/jobs/"+j.ID+"/download/data/") {
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

// One instant: an import that replaces the resources takes no data from an export that has ended.
// The data is there exactly for what a request selects, and opens with the type that has it.
func TestAnExportKeepsItsDataWhateverIsImportedLater(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	content := func(seed string) []byte { return bytes.Repeat([]byte(seed), 2<<20/len(seed)) }
	load := func(version string) {
		coded := func(seed string) string {
			return base64.StdEncoding.EncodeToString(content(seed + version))
		}
		meta := `"meta":{"lastUpdated":"2024-01-0` + version + `T00:00:00Z"},`
		document := func(id, status string) string {
			return `{"resourceType":"DocumentReference","id":"` + id + `",` + meta + `"status":"` +
				status + `","subject":{"reference":"Patient/p` + id +
				`"},"content":[{"attachment":{"data":"` + coded(id) + `"}}]}` + "\n"
		}
		w.load(`{"resourceType":"Patient","id":"pa",` + meta + `"photo":[{"data":"` +
			coded("face") + `"}]}` + "\n" + `{"resourceType":"Patient","id":"pb"}` + "\n" +
			document("a", "current") + document("b", "superseded"))
	}
	load("1")
	service := w.service("system/*.rs")
	documents := w.service("system/DocumentReference.rs")
	patient := []byte(`{"resourceType":"Parameters","parameter":[{"name":"patient",` +
		`"valueReference":{"reference":"Patient/pa"}}]}`)
	type selected struct {
		name, method, target string
		body                 []byte
		as                   *client.Client
		want                 []string // the seeds of its data
	}
	ways := []selected{
		{"all", "GET", "?_type=Patient,DocumentReference", nil, service, []string{"a", "b", "face"}},
		{"by patient", "GET", "?organizeOutputBy=Patient&_type=Patient,DocumentReference", nil,
			service, []string{"a", "b", "face"}},
		{"a type of its own", "GET", "?_type=DocumentReference", nil, documents,
			[]string{"a", "b"}},
		{"a search", "GET", "?_type=DocumentReference&_typeFilter=" +
			url.QueryEscape("DocumentReference?status=current"), nil, service, []string{"a"}},
		{"some elements", "GET", "?_type=Patient&_elements=birthDate", nil, service, nil},
		{"a patient", "POST", "?_type=Patient,DocumentReference", patient, service,
			[]string{"a", "face"}},
	}
	var jobs []client.Job
	for _, s := range ways {
		j, err := s.as.Start(t.Context(), s.method, "/fhir/Patient/$export"+s.target, s.body)
		if err != nil {
			t.Fatal(err)
		}
		w.manifest(s.as, j) // waits for it
		jobs = append(jobs, j)
	}
	load("2")
	for i, s := range ways {
		m := w.manifest(s.as, jobs[i])
		text := ""
		for _, e := range m.Output {
			lines, err := s.as.Download(t.Context(), e.URL)
			if err != nil {
				t.Fatal(err)
			}
			text += string(lines)
		}
		manifest, err := json.Marshal(m)
		if err != nil || bytes.Contains(manifest, []byte("/data/")) {
			t.Errorf("%s: %v, the manifest is %s", s.name, err, manifest)
		}
		urls := dataURLs.FindAllString(text, -1)
		if len(urls) != len(s.want) {
			t.Errorf("%s: the data is %v, want that of %v", s.name, urls, s.want)
		}
		for _, seed := range s.want {
			sum := sha256.Sum256(content(seed + "1"))
			of := slices.IndexFunc(urls, func(url string) bool {
				return strings.Contains(url, "."+hex.EncodeToString(sum[:]))
			})
			if of < 0 {
				t.Fatalf("%s: the data of %s is not in %v", s.name, seed, urls)
			}
			a := w.do(s.as, "GET", urls[of])
			if a.Status != 200 || !bytes.Equal(a.Body, content(seed+"1")) {
				t.Errorf("%s: the data of %s: %d, %d bytes", s.name, seed, a.Status, len(a.Body))
			}
		}
		for _, seed := range []string{"a", "b", "face"} {
			sum := sha256.Sum256(content(seed + "1"))
			for _, typ := range []string{"DocumentReference", "Patient", "mixed"} {
				url := w.node.URL + "/jobs/" + jobs[i].ID + "/download/data/" + typ + ".0." +
					hex.EncodeToString(sum[:])
				if slices.Contains(urls, url) {
					continue
				}
				if a := w.do(s.as, "GET", url); a.Status != 404 && a.Status != 403 {
					t.Errorf("%s: %s, which no line names: %d", s.name, url, a.Status)
				}
			}
		}
		if err := s.as.Delete(t.Context(), jobs[i].StatusURL); err != nil {
			t.Fatal(err)
		}
		for _, url := range urls {
			if a := w.do(s.as, "GET", url); a.Status != 404 {
				t.Errorf("%s: after the deletion: %d", s.name, a.Status)
			}
		}
	}
}

// dataURLs finds the URLs of data in the lines of an export.
var dataURLs = regexp.MustCompile(`https?://[^"]*/download/data/[^"]*`)

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
	type all struct {
		io.Reader
		io.Seeker
		io.Closer
	}
	whole := m.ReadSeekCloser
	m.ReadSeekCloser = all{
		io.MultiReader(io.LimitReader(whole, m.Size/2), iotest.ErrReader(*s.err)), whole, whole,
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

// withAttached returns a server with the resources of attachedRecord, these by ID, and its
// settings.
func withAttached(t *testing.T) (w *world, want map[string]records.Resource, cfg node.Config) {
	t.Helper()
	lines := attachedRecord()
	cfg = config()
	cfg.Demo = false
	w = start(t, t.TempDir(), cfg, node.Options{})
	w.load(strings.Join(lines, "\n") + "\n")
	want = map[string]records.Resource{}
	for _, line := range lines {
		var r records.Resource
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		want[r["id"].(string)] = r
	}
	return w, want, cfg
}

// With the data that its URLs name put back, an export is what was imported, in whichever way it
// comes: an import of it gives the same export again.
func TestExportedDataCanBePutBack(t *testing.T) {
	t.Parallel()
	first, want, cfg := withAttached(t)
	again := first.putBack(want)
	second := start(t, t.TempDir(), cfg, node.Options{})
	second.load(strings.Join(again, "\n") + "\n")
	second.putBack(want)
}

// A folder with the files of an export and those of its data can be imported: the data is then what
// it was, in every kind of export.
func TestAnExportIsImportedWithTheFilesOfItsData(t *testing.T) {
	t.Parallel()
	first, want, cfg := withAttached(t)
	owner, service := first.patient("pa"), first.service("system/*.rs")
	for name, folder := range map[string]string{
		"$ehi-export": first.saved(owner, first.manifest(owner,
			first.kickOff(owner, "/no-form/auto-approve", "pa", kickOffWith(ehi.PackageFiles)))),
		"$export": first.saved(service, first.manifest(service,
			first.begun(service, http.MethodGet, "/fhir/$export"))),
	} {
		data := t.TempDir()
		s, err := dataset.Open(dataset.Config{Dir: filepath.Join(data, dataset.Folder)})
		if err != nil {
			t.Fatal(err)
		}
		rep, err := s.Import(t.Context(), []string{folder}, source.ImportOptions{Now: time.Now()})
		if err = errors.Join(err, s.Close()); err != nil || rep.Problems > 0 {
			t.Fatalf("%s: %v, %+v", name, err, rep)
		}
		start(t, data, cfg, node.Options{}).putBack(want)
	}
}

// saved downloads the files of an export, and the data that they name, into a folder.
func (w *world) saved(c *client.Client, m *ehi.Manifest) (folder string) {
	w.t.Helper()
	folder = w.t.TempDir()
	save := func(url, below string) []byte {
		content, err := c.Download(w.t.Context(), url)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, below, path.Base(url)), content, 0o600)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		return content
	}
	if err := os.Mkdir(filepath.Join(folder, "data"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range m.Output {
		for _, url := range dataURLs.FindAllString(string(save(e.URL, "")), -1) {
			save(url, "data")
		}
	}
	return folder
}

// attachedRecord returns the resources of a patient with attachments of all sizes.
func attachedRecord() []string {
	data := func(seed string, size int) string {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(seed), size/len(seed)))
	}
	subject := `"subject":{"reference":"Patient/pa"}`
	return []string{
		`{"resourceType":"Patient","id":"pa","photo":[{"contentType":"image/png","data":"` +
			data("face", 2<<20) + `"},{"data":"` + data("small", 1000) + `"}]}`,
		`{"resourceType":"DocumentReference","id":"d","status":"current",` + subject +
			`,"content":[{"attachment":{"contentType":"application/pdf","data":"` +
			data("scan\xff", 3<<20) + `","title":"Scan"}},{"attachment":{"data":"` +
			data("face", 2<<20) + `"}}]}`,
		`{"resourceType":"DiagnosticReport","id":"r","status":"final","code":{"text":"x"},` +
			subject + `,"presentedForm":[{"contentType":"text/rtf","data":"` +
			data("rtf", 2<<20) + `"}]}`,
		`{"resourceType":"Media","id":"m","status":"completed",` + subject +
			`,"content":{"data":"` + data("media", 2<<20) + `"}}`,
	}
}

// putBack exports the record in each way. It requires that the export is what is wanted, with its
// data put back, and returns its lines.
func (w *world) putBack(want map[string]records.Resource) (lines []string) {
	w.t.Helper()
	const bulk = "/no-form/auto-approve/fhir/$ehi-export"
	owner, service := w.patient("pa"), w.service("system/*.rs system/$ehi-export")
	for _, way := range []struct {
		name    string
		as      *client.Client
		kickOff func() client.Job
	}{
		{"files", owner, func() client.Job {
			return w.kickOff(owner, "/no-form/auto-approve", "pa", kickOffWith(ehi.PackageFiles))
		}},
		{"archives", owner, func() client.Job {
			return w.kickOff(owner, "/no-form/auto-approve", "pa", kickOffWith(ehi.PackageZIP))
		}},
		{"a population", service, func() client.Job {
			return w.begun(service, http.MethodPost, bulk)
		}},
		{"a population by patient", service, func() client.Job {
			return w.begun(service, http.MethodPost, bulk+"?organizeOutputBy=Patient")
		}},
		{"$export", service, func() client.Job {
			return w.begun(service, http.MethodGet, "/no-form/auto-approve/fhir/$export")
		}},
	} {
		m := w.manifest(way.as, way.kickOff())
		lines = nil
		got := map[string]records.Resource{}
		for _, e := range m.Output {
			text, err := way.as.Download(w.t.Context(), e.URL)
			if err != nil {
				w.t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				var r records.Resource
				if err := json.Unmarshal([]byte(line), &r); err != nil {
					w.t.Fatal(err)
				}
				if r["resourceType"] == "Parameters" {
					continue
				}
				w.refill(way.as, map[string]any(r))
				got[r["id"].(string)] = r
				whole, err := json.Marshal(r)
				if err != nil {
					w.t.Fatal(err)
				}
				lines = append(lines, string(whole))
			}
		}
		for id, r := range want {
			if !reflect.DeepEqual(got[id], r) {
				text, _ := json.Marshal(got[id]) // it was JSON
				w.t.Errorf("%s: %s is no longer what was imported: %.1000s", way.name, id, text)
			}
		}
		if len(got) != len(want) {
			w.t.Errorf("%s: %d resources, want %d", way.name, len(got), len(want))
		}
	}
	return lines
}

// begun kicks a population off.
func (w *world) begun(c *client.Client, method, path string) client.Job {
	w.t.Helper()
	j, err := c.Start(w.t.Context(), method, path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// refill puts the data back into the attachments in a part of a resource, from their URLs. It
// requires that size and hash are those of the data.
func (w *world) refill(c *client.Client, part any) {
	w.t.Helper()
	switch part := part.(type) {
	case []any:
		for _, p := range part {
			w.refill(c, p)
		}
	case map[string]any:
		for _, p := range part {
			w.refill(c, p)
		}
		url, is := part["url"].(string)
		if !is || !strings.HasPrefix(url, w.node.URL) {
			return
		}
		a, err := c.Do(w.t.Context(), http.MethodGet, url, nil)
		if err != nil || a.Status != 200 {
			w.t.Fatalf("%s: %v, status %d", url, err, a.Status)
		}
		sum := sha1.Sum(a.Body)
		if part["size"] != float64(len(a.Body)) ||
			part["hash"] != base64.StdEncoding.EncodeToString(sum[:]) {
			w.t.Errorf("%s: size %v, hash %v of %d bytes", url, part["size"], part["hash"],
				len(a.Body))
		}
		delete(part, "url")
		delete(part, "size")
		delete(part, "hash")
		part["data"] = base64.StdEncoding.EncodeToString(a.Body)
	}
}

// EHI-9: the large data of a withheld resource is in no answer, and opens under no URL. The
// patient's own archive has the data of what is released, and nothing else.
func TestEHI9LargeDataOfWithheldResourcesLeavesForNobody(t *testing.T) {
	t.Parallel()
	p := &target{production: startProduction(t, nil)}
	secret := bytes.Repeat([]byte(withheldMark), 2<<20/len(withheldMark))
	shown := bytes.Repeat([]byte(releasedMark), 2<<20/len(releasedMark))
	document := func(id, label string, content []byte) string {
		return about("DocumentReference", id, "moved", label+`"status":"current","content":[`+
			`{"attachment":{"contentType":"text/plain","data":"`+
			base64.StdEncoding.EncodeToString(content)+`"}}]`)
	}
	sum := sha256.Sum256(secret)
	name := hex.EncodeToString(sum[:])
	seen := p.releases("moved", []string{"moved-withheld", name},
		document("moved-withheld", hivLabel+",", secret), document("moved-shown", "", shown))
	if !strings.Contains(seen["the archive"], string(shown)) ||
		!strings.Contains(seen["the archive"], "data/DocumentReference.0.") {
		t.Error("the patient's archive lacks the data")
	}
	if strings.Count(seen["the archive"], "data/DocumentReference.0.") != 2 { // and in its URL
		t.Error("the patient's archive has other data")
	}
}

// A download of a Binary that broke off goes on where it ended, as every other download does.
func TestDataOfABinaryHasRangesAndATag(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	content := bytes.Repeat([]byte("scan\xff"), 2<<20/5)
	w.load(`{"resourceType":"Patient","id":"pa","photo":[{"contentType":"image/png","data":"` +
		base64.StdEncoding.EncodeToString(content) + `"}]}`)
	sum := sha256.Sum256(content)
	c, path := w.service("system/*.rs"), "/fhir/Binary/"+hex.EncodeToString(sum[:])
	whole := w.do(c, "GET", path)
	tag := whole.Header.Get("ETag")
	if whole.Status != 200 || !bytes.Equal(whole.Body, content) || tag == "" ||
		whole.Header.Get("Last-Modified") != "" {
		t.Fatalf("%d, %d bytes, %v", whole.Status, len(whole.Body), whole.Header)
	}
	for _, x := range []struct {
		header []string
		status int
		body   []byte
	}{
		{[]string{"Range", "bytes=1000000-"}, 206, content[1_000_000:]},
		{[]string{"Range", "bytes=5-9", "If-Range", tag}, 206, content[5:10]},
		{[]string{"Range", "bytes=-7"}, 206, content[len(content)-7:]},
		{[]string{"Range", "bytes=5-9", "If-Range", `"other"`}, 200, content},
		{[]string{"Range", "bytes=9999999-"}, 416, nil},
		{[]string{"If-None-Match", tag}, 304, nil},
		{[]string{"If-Match", `"other"`}, 412, nil},
		{[]string{"If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"}, 200, content},
	} {
		a := w.do(c, "GET", path, x.header...)
		if a.Status != x.status || x.body != nil && !bytes.Equal(a.Body, x.body) {
			t.Errorf("%v: %d, %d bytes", x.header, a.Status, len(a.Body))
		}
	}
	if a := w.do(c, "HEAD", path); a.Status != 200 || a.Header.Get("ETag") != tag ||
		a.Header.Get("Content-Length") != strconv.Itoa(len(content)) || len(a.Body) > 0 {
		t.Errorf("HEAD: %d, %v", a.Status, a.Header)
	}
}

// Whether a Binary is somebody else's data, or nobody's, makes no difference to an answer.
func TestDataOfOthersLooksLikeNone(t *testing.T) {
	t.Parallel()
	w := start(t, t.TempDir(), config(), node.Options{})
	content := bytes.Repeat([]byte("scan\xff"), 2<<20/5)
	w.load(`{"resourceType":"Patient","id":"pb"}` + "\n" +
		`{"resourceType":"Patient","id":"pa","photo":[{"data":"` +
		base64.StdEncoding.EncodeToString(content) + `"}]}` + "\n")
	sum := sha256.Sum256(content)
	others := "/fhir/Binary/" + hex.EncodeToString(sum[:])
	sum[0] ^= 1
	nobodys := "/fhir/Binary/" + hex.EncodeToString(sum[:])
	for who, c := range map[string]*client.Client{
		"another patient":             w.patient("pb"),
		"a service without Binary":    w.service("system/Patient.rs"),
		"a service for the EHI alone": w.service("system/$ehi-export"),
		"nobody":                      w.open,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a, b := w.do(c, method, others), w.do(c, method, nobodys)
			_, one, _ := bytes.Cut(a.Body, []byte(`"issue"`)) // an outcome's id is its own
			_, other, _ := bytes.Cut(b.Body, []byte(`"issue"`))
			if a.Status < 400 || a.Status != b.Status || !bytes.Equal(one, other) {
				t.Errorf("%s %s: %d %s; %d %s", who, method, a.Status, a.Body, b.Status, b.Body)
			}
		}
	}
	if a := w.do(w.patient("pa"), "GET", others); a.Status != 200 || !bytes.Equal(a.Body, content) {
		t.Errorf("its own patient: %d, %d bytes", a.Status, len(a.Body))
	}
}

// An ID of a withheld resource may be in the text that stands for data in the store, on purpose:
// the export comes all the same.
func TestEHI9AnIDWithinAStandInEndsNoExport(t *testing.T) {
	t.Parallel()
	p := &target{production: startProduction(t, nil)}
	shown := bytes.Repeat([]byte(releasedMark), 2<<20/len(releasedMark))
	id := hex.EncodeToString([]byte(`","size":2`))
	p.releases("within", []string{id}, about("Condition", id, "within", hivCode),
		about("DocumentReference", "within-shown", "within", `"status":"current","content":[`+
			`{"attachment":{"contentType":"text/plain","data":"`+
			base64.StdEncoding.EncodeToString(shown)+`"}}]`))
}
