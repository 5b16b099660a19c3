package dataset_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/encoding/json"
	"pgregory.net/rapid"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/dataset/blobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// letter is a content of some bytes, which a seed tells from others.
func letter(seed byte, size int) []byte {
	return bytes.Repeat([]byte{seed, 'a', 'b', '\n', 0xff}, (size+4)/5)[:size]
}

// report is a DiagnosticReport of a patient with an attachment that has these fields.
func report(id, patient, fields string) string {
	return `{"resourceType":"DiagnosticReport","id":"` + id + `","subject":{"reference":"Patient/` +
		patient + `"},"presentedForm":[{` + fields + `}]}`
}

func dataField(content []byte) string {
	return `"data":"` + base64.StdEncoding.EncodeToString(content) + `"`
}

// loadFrom imports lines, with data moving from a number of bytes on.
func loadFrom(t fataler, s *dataset.Store, from int64, lines ...string) source.Report {
	for i, line := range lines {
		if strings.HasPrefix(line, `{"resourceType":"Bundle"`) {
			lines[i] = strings.ReplaceAll(line, "\n", "")
		}
	}
	rep, err := s.ImportFrom(t.Context(), "lines", strings.NewReader(strings.Join(lines, "\n")),
		source.ImportOptions{Now: time.Now(), MoveFrom: from})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// storedLines returns the lines of a record, and which of them have moved data.
func storedLines(t testing.TB, s source.Source, patient string) (lines []string, moved []bool) {
	t.Helper()
	r, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // read only
	err = r.Scan(t.Context(), source.Query{}, func(res source.Resource) error {
		lines = append(lines, string(res.Line))
		moved = append(moved, res.Moved)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, moved
}

func sortedOf(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// blobName returns the name of a content.
func blobName(content []byte) string { return blobs.Of(content).Name.String() }

// sha1Of returns the hash that an Attachment has.
func sha1Of(content []byte) string {
	sum := sha1.Sum(content)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// An import of the same files puts data back that was lost, or cut off.
func TestLostDataComesBackWithItsUnchangedFile(t *testing.T) {
	for what, harm := range map[string]func(path string) error{
		"lost":    os.Remove,
		"cut off": func(path string) error { return os.Truncate(path, 3) },
	} {
		dir := filepath.Join(t.TempDir(), "records")
		s := openStore(t, dir)
		content, other := letter(1, 2<<20), letter(2, 2<<20)
		from := folder(t, map[string]string{
			"a.ndjson": patientsNamed("a") + report("r", "a", dataField(content)) + "\n" +
				`{"resourceType":"Bundle","type":"batch","entry":[{"resource":` +
				strings.Replace(report("", "a", dataField(other)), `"id":"",`, "", 1) +
				`,"request":{"method":"POST","url":"DiagnosticReport",` +
				`"ifNoneExist":"identifier=urn:x|1"}}]}` + "\n",
		})
		load(t, s, from)
		for _, c := range [][]byte{content, other} {
			path := blobs.In(dir + ".blobs").Path(blobs.Of(c).Name)
			if err := errors.Join(os.Chmod(path, 0o600), harm(path)); err != nil {
				t.Fatal(err)
			}
		}
		before := linkedLines(t, s, "a")
		rep := load(t, s, from)
		for _, c := range [][]byte{content, other} {
			got, err := movedContent(t, s, "a", blobName(c))
			if err != nil || !bytes.Equal(got, c) {
				t.Errorf("%s: %d bytes, %v", what, len(got), err)
			}
		}
		if rep.Skipped > 0 || rep.Problems > 0 || linkedLines(t, s, "a") != before {
			t.Errorf("%s: %+v", what, rep)
		}
		if rep = load(t, s, from); rep.Skipped != 1 {
			t.Errorf("%s: an import with nothing lost: %+v", what, rep)
		}
	}
}

// linkedLines returns the lines of a record with URLs that are the names of moved data.
func linkedLines(t testing.TB, s source.Source, patient string) string {
	t.Helper()
	lines, _ := storedLines(t, s, patient)
	out, err := source.Link(nil, []byte(strings.Join(lines, "\n")),
		func(m *source.Moved) string { return m.Name })
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// movedContent reads moved data.
func movedContent(t testing.TB, s source.Source, patient, name string) ([]byte, error) {
	t.Helper()
	m, err := s.Moved(t.Context(), patient, name)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(m)
	return content, errors.Join(err, m.Close())
}

func TestLargeDataOfAnAttachmentMovesOutOfItsResource(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	content := letter(1, 2<<20)
	line := report("r", "p", `"contentType":"application/pdf",`+dataField(content)+`,"title":"x"`)
	loadFrom(t, s, 0, patientsNamed("p", "q"), line)

	lines, moved := storedLines(t, s, "p")
	if len(lines) != 2 || len(lines[0]) > 2048 || !moved[0] || moved[1] {
		t.Fatalf("%d lines, the first of %d bytes; moved: %v", len(lines), len(lines[0]), moved)
	}
	names := blobsOf(t, dir)
	if len(names) != 1 || names[0] != blobName(content) {
		t.Fatalf("blobs: %v", names)
	}
	want := report("r", "p", `"contentType":"application/pdf","url":"`+names[0]+
		`","size":2097152,"hash":"`+sha1Of(content)+`","title":"x"`)
	if got := linkedLines(t, s, "p"); !strings.HasPrefix(got, want+"\n") {
		t.Errorf("linked:\n%s\nwant\n%s", got, want)
	}
	for _, patient := range []string{"p", ""} {
		got, err := movedContent(t, s, patient, names[0])
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("content for %q: %d bytes, %v", patient, len(got), err)
		}
	}
	if _, err := movedContent(t, s, "q", names[0]); ehi.CodeOf(err) != ehi.NotFound {
		t.Errorf("another patient's data: %v", err)
	}
}

func TestDataThatDoesNotMoveStaysAsItCame(t *testing.T) {
	content := letter(2, 1000)
	data := dataField(content)
	for name, fields := range map[string]string{
		"smaller":           dataField(content[:999]),
		"with a url":        `"url":"https://example.org/x",` + data,
		"url after it":      data + `,"url":"https://example.org/x"`,
		"no Base64":         `"data":"` + strings.Repeat("!", 4000) + `"`,
		"badly padded":      strings.Replace(data, `="`, `"`, 1),
		"data extended":     data + `,"_data":{"extension":[]}`,
		"not a string":      `"data":[` + strings.Repeat("1,", 2000) + `1]`,
		"of a SampledData":  `"extension":[{"url":"u","valueSampledData":{` + data + `}}]`,
		"of a Signature":    `"extension":[{"url":"u","valueSignature":{` + data + `}}]`,
		"in an extension's": `"extension":[{"url":"u","x":{` + data + `}}]`,
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			line := report("r", "p", fields)
			loadFrom(t, s, 1000, patientsNamed("p"), line)
			lines, moved := storedLines(t, s, "p")
			if lines[0] != line || moved[0] {
				t.Errorf("the line became\n%s", lines[0])
			}
		})
	}
}

func TestEveryElementThatIsAnAttachmentMovesItsData(t *testing.T) {
	content := letter(3, 1000)
	data := "{" + dataField(content) + "}"
	about := `"subject":{"reference":"Patient/p"}`
	for name, line := range map[string]string{
		"document": `{"resourceType":"DocumentReference","id":"r",` + about +
			`,"content":[{"attachment":` + data + `}]}`,
		"media": `{"resourceType":"Media","id":"r",` + about + `,"content":` + data + `}`,
		"report": `{"resourceType":"DiagnosticReport","id":"r",` + about +
			`,"presentedForm":[` + data + `]}`,
		"consent": `{"resourceType":"Consent","id":"r","patient":{"reference":"Patient/p"},` +
			`"sourceAttachment":` + data + `}`,
		"message": `{"resourceType":"Communication","id":"r",` + about +
			`,"payload":[{"contentAttachment":` + data + `}]}`,
		"extension": `{"resourceType":"Basic","id":"r",` + about +
			`,"extension":[{"url":"u","valueAttachment":` + data + `}]}`,
		"contained": `{"resourceType":"Basic","id":"r",` + about +
			`,"contained":[{"resourceType":"Media","id":"m","content":` + data + `}]}`,
		"spelled": `{"resourceType":"Media","id":"r",` + about + ` , "content" : { "d\u0061ta" : ` +
			data[len(`{"data":`):] + `}`,
		"with space": `{"resourceType":"Media","id":"r",` + about + `,"content":{"data":" ` +
			strings.ReplaceAll(data[len(`{"data":"`):], "Y", `\nY `) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			if rep := loadFrom(t, s, 1000, patientsNamed("p"), line); rep.Problems > 0 {
				t.Fatalf("%+v", rep)
			}
			all := linkedLines(t, s, "p")
			if strings.Contains(all, `"data"`) || !strings.Contains(all, `"size":1000`) {
				t.Errorf("the record is\n%s", all)
			}
		})
	}
}

func TestAnAttachmentKeepsItsOwnSizeAndHash(t *testing.T) {
	s := openStore(t, t.TempDir())
	content := letter(4, 1000)
	loadFrom(t, s, 1, patientsNamed("p"),
		report("r", "p", `"size":7,`+dataField(content)+`,"hash":"aGFzaA=="`))
	name := blobName(content)
	want := report("r", "p", `"size":7,"url":"`+name+`","hash":"aGFzaA=="`)
	if got := linkedLines(t, s, "p"); !strings.HasPrefix(got, want+"\n") {
		t.Errorf("linked:\n%s\nwant\n%s", got, want)
	}
}

// Whoever knows how stand-ins are written cannot import one.
func TestNoImportBringsAStandIn(t *testing.T) {
	s := openStore(t, t.TempDir())
	content := letter(5, 1000)
	loadFrom(t, s, 1, patientsNamed("p", "q"), report("r", "p", dataField(content)))
	lines, _ := storedLines(t, s, "p")
	_, forged, _ := strings.Cut(lines[0], `"presentedForm":[{`)
	forged, _, _ = strings.Cut(forged, `}]`)
	if !strings.HasPrefix(forged, `"data":"urn:ehi-data:`) {
		t.Fatalf("a stand-in is %s", forged)
	}
	for name, from := range map[string]int64{"moving": 1, "staying": source.MoveFrom(-1)} {
		t.Run(name, func(t *testing.T) {
			loadFrom(t, s, from, report("f", "q", forged+`,"title":"urn:ehi-data:"`))
			lines, moved := storedLines(t, s, "q")
			if moved[0] || source.HasMoved([]byte(lines[0])) {
				t.Errorf("the forged stand-in counts: %s", lines[0])
			}
			var want, got any
			err := errors.Join(
				json.Unmarshal([]byte(report("f", "q", forged+`,"title":"urn:ehi-data:"`)), &want),
				json.Unmarshal([]byte(lines[0]), &got))
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Errorf("it no longer means the same (-want +got): %v\n%s", err, d)
			}
			_, err = movedContent(t, s, "q", blobName(content))
			if ehi.CodeOf(err) != ehi.NotFound {
				t.Errorf("it opens another patient's data: %v", err)
			}
		})
	}
}

func TestMovedDataIsKeptWhileAResourceHasIt(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	one, two := letter(6, 1000), letter(7, 1000)
	check := func(what string, want ...[]byte) {
		t.Helper()
		var names []string
		for _, content := range want {
			names = append(names, blobName(content))
		}
		if d := cmp.Diff(sortedOf(names), sortedOf(blobsOf(t, dir))); d != "" {
			t.Errorf("%s: blobs (-want +got):\n%s", what, d)
		}
	}
	a, b := report("a", "p", dataField(one)), report("b", "q", dataField(one))
	loadFrom(t, s, 1, patientsNamed("p", "q"), a, b)
	check("two resources with one content", one)
	loadFrom(t, s, 1, a)
	check("the same again", one)
	loadFrom(t, s, 1, report("a", "p", dataField(two)))
	check("one of them changed", one, two)
	loadFrom(t, s, 1, report("b", "q", dataField(two)))
	check("both changed", two)
	loadFrom(t, s, 1, report("a", "p", `"title":"none"`))
	check("one has none", two)
	loadFrom(t, s, 1, report("b", "p", dataField(two)))
	if _, err := movedContent(t, s, "q", blobName(two)); ehi.CodeOf(err) != ehi.NotFound {
		t.Errorf("the resource went to another patient, and its data did not: %v", err)
	}
	if _, err := movedContent(t, s, "p", blobName(two)); err != nil {
		t.Error(err)
	}
	loadFrom(t, s, 1, requests("transaction", deleteEntry("DiagnosticReport/b", "")))
	check("deleted")
}

// A conditional update is stored apart from the resource that it changes, and both may have data.
func TestConditionalUpdatesKeepTheirData(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	own, update := letter(8, 1000), letter(9, 1000)
	identified := func(id string, content []byte) string {
		return strings.Replace(report(id, "p", dataField(content)), `"subject"`,
			`"identifier":[{"system":"urn:s","value":"1"}],"subject"`, 1)
	}
	loadFrom(t, s, 1, patientsNamed("p"), identified("own", own))
	query := "DiagnosticReport?identifier=urn:s|1"
	loadFrom(t, s, 1, requests("transaction", `{"resource":`+identified("x", update)+
		`,"request":{"method":"PUT","url":"`+query+`"}}`))
	if d := cmp.Diff(2, len(blobsOf(t, dir))); d != "" {
		t.Errorf("both states have data: %s", d)
	}
	got, err := movedContent(t, s, "p", blobName(update))
	if err != nil || !bytes.Equal(got, update) {
		t.Errorf("the update's data: %d bytes, %v", len(got), err)
	}
	loadFrom(t, s, 1, requests("transaction", deleteEntry("DiagnosticReport/own", "")))
	if left := blobsOf(t, dir); len(left) > 1 {
		t.Errorf("blobs that are left: %v", left)
	}
}

func TestABulkImportMovesDataToo(t *testing.T) {
	dir := t.TempDir()
	s, err := dataset.Open(dataset.Config{Dir: dir, Bulk: true})
	if err != nil {
		t.Fatal(err)
	}
	content := letter(10, 2<<20)
	for i := range 3 {
		loadFrom(t, s, 0, patientsNamed(fmt.Sprintf("p%d", i)),
			report(fmt.Sprintf("r%d", i), fmt.Sprintf("p%d", i), dataField(content)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	for i := range 3 {
		got, err := movedContent(t, s, fmt.Sprintf("p%d", i), blobName(content))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("patient %d: %d bytes, %v", i, len(got), err)
		}
	}
}

func TestAPopulationKeepsItsMovedData(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	content := letter(11, 1000)
	loadFrom(t, s, 1, patientsNamed("p"), report("r", "p", dataField(content)))
	p := freeze(t, s, "job")
	loadFrom(t, s, 1, report("r", "p", `"title":"none"`))
	if got := blobsOf(t, dir); len(got) != 1 {
		t.Errorf("blobs: %v", got)
	}
	if err := errors.Join(p.Close(), s.Thaw("job")); err != nil {
		t.Fatal(err)
	}
	loadFrom(t, s, 1, report("r", "p", dataField(letter(12, 1000))))
	if got := blobsOf(t, dir); len(got) != 1 || got[0] == blobName(content) {
		t.Errorf("blobs: %v", got)
	}
}

// Lines whose attachments are below the limit are what they were without any limit.
func TestSmallDataChangesNoByte(t *testing.T) {
	s := openStore(t, t.TempDir())
	rapid.Check(t, func(r *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(r, "content")
		title, _ := json.Marshal(rapid.String().Draw(r, "title"))
		space := rapid.SampledFrom([]string{"", " ", "  "}).Draw(r, "space")
		id := rapid.StringMatching(`[a-z]{8}`).Draw(r, "id")
		line := report("r", id, space+dataField(content)+space+`,"title":`+space+string(title))
		loadFrom(r, s, 201, patientsNamed(id), line)
		lines, moved := storedLines(t, s, id)
		if lines[0] != line || moved[0] {
			r.Fatalf("%s\nbecame\n%s", line, lines[0])
		}
		loadFrom(r, s, 1, line)
		if len(content) == 0 {
			return
		}
		got, err := movedContent(t, s, id, blobName(content))
		if err != nil || !bytes.Equal(got, content) {
			r.Fatalf("moved: %q, %v; want %q", got, err, content)
		}
	})
}

// Whoever reads exactly the size of moved data learns that it was changed, and does not get all of
// it. A part is read as it is.
func TestChangedDataIsNeverReadWhole(t *testing.T) {
	dir, content := t.TempDir(), letter('L', 2000)
	s := openStore(t, dir)
	loadFrom(t, s, 1000, patientsNamed("a"), report("r", "a", dataField(content)))
	name := blobName(content)
	file := blobs.In(dir + ".blobs").Path(blobs.Of(content).Name)
	err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, letter('X', 2000), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Moved(t.Context(), "a", name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(m, 2000))
	if n == 2000 || !errors.Is(err, blobs.ErrDamaged) {
		t.Errorf("%d bytes, %v", n, err)
	}
	_, err = m.Seek(1990, io.SeekStart)
	part, e := io.ReadAll(m)
	if err = errors.Join(err, e, m.Close()); err != nil || len(part) != 10 {
		t.Errorf("a part: %d bytes, %v", len(part), err)
	}
}
