package dataset_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/records"
)

// zipped returns a text in gzip form.
func zipped(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	if _, err := io.WriteString(gz, text); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// raw writes a file with unmodified content.
func raw(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// everything reads each line of a store, in order.
func everything(t testing.TB, s *dataset.Store) (lines []string) {
	t.Helper()
	frozen, err := s.Freeze(t.Context(), "everything")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := frozen.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Thaw("everything"); err != nil {
			t.Error(err)
		}
	}()
	parts, err := frozen.Plan(t.Context(), source.Selection{}, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		r, err := frozen.Open(t.Context(), source.Selection{}, p)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
			lines = append(lines, string(r.Line))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

// problems returns the line numbers of a report's problems.
func problems(r source.Report) (lines []int) {
	for _, b := range r.Bad {
		lines = append(lines, b.Line)
	}
	return lines
}

const (
	aPatient = `{"resourceType":"Patient","id":"p1","name":[{"family":"Müller"}]}`
	latin    = "{\"resourceType\":\"Patient\",\"id\":\"p2\",\"name\":[{\"family\":\"M\xfcller\"}]}"
	half     = `{"resourceType":"Patient","id":"p3","name":[{"family":"\ud83d"}]}`
	control  = `{"resourceType":"Patient","id":"p4","name":[{"family":"a\u0000\u001b"}]}`
)

// The same resources in each kind of file: text that is not valid Unicode is a problem with its
// line, the rest is imported, and no output is invalid UTF-8.
func TestWhatIsNoTextIsAProblemInEveryKindOfFile(t *testing.T) {
	lines := strings.Join([]string{aPatient, latin, half, control}, "\n")
	entry := func(r string) string { return `{"resource":` + r + `}` }
	bundle := `{"resourceType":"Bundle","type":"collection","entry":[` + "\n" +
		strings.Join([]string{entry(aPatient), entry(latin), entry(half), entry(control)}, ",\n") +
		`]}`
	for _, c := range []struct {
		name, content string
		bad           []int
	}{
		{"a.ndjson", lines, []int{2, 3}},
		{"a.ndjson.gz", zipped(t, lines), []int{2, 3}},
		{"a.json", bundle, []int{3, 4}},
		{"a.json.gz", zipped(t, bundle), []int{3, 4}},
		{"bundle.ndjson", strings.ReplaceAll(bundle, "\n", " "), []int{1, 1}},
		{"lines.json", lines, []int{2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			rep := load(t, s, raw(t, t.TempDir(), c.name, c.content))
			if d := cmp.Diff(c.bad, problems(rep)); d != "" {
				t.Errorf("%s\n%v", d, rep.Bad)
			}
			got := everything(t, s)
			if d := cmp.Diff([]string{aPatient, control}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestACharsetConvertsWhatIsNoUTF8AndLeavesTheRest(t *testing.T) {
	text := aPatient + "\n" + latin + "\n" +
		"{\"resourceType\":\"Patient\",\"id\":\"bad\",\"name\":[{\"text\":\"\x81\"}]}\n"
	s := openStore(t, t.TempDir())
	paths := []string{raw(t, t.TempDir(), "a.ndjson", text), raw(t, t.TempDir(), "b.json", latin)}
	rep, err := s.Import(t.Context(), paths, source.ImportOptions{
		Charset: "latin1",
		Now:     time.Now(),
	})
	if err != nil || len(rep.Bad) > 1 {
		t.Fatalf("%v, %v", rep.Bad, err)
	}
	for _, line := range everything(t, s) {
		if !utf8.ValidString(line) ||
			!strings.Contains(line, "Müller") && !strings.Contains(line, `"bad"`) {
			t.Errorf("exported %q", line)
		}
	}
	_, err = s.Import(t.Context(), paths, source.ImportOptions{Charset: "klingon", Now: time.Now()})
	if err == nil || !strings.Contains(err.Error(), "klingon") {
		t.Errorf("an unknown charset: %v", err)
	}
}

// utf16 returns a text in UTF-16, with or without a byte order mark.
func utf16(text string, little, mark bool) string {
	var out []byte
	if mark {
		text = "\ufeff" + text
	}
	for _, r := range text { // all in the basic plane
		if little {
			out = append(out, byte(r), byte(r>>8))
		} else {
			out = append(out, byte(r>>8), byte(r))
		}
	}
	return string(out)
}

func TestUTF16IsRecognisedAndSaid(t *testing.T) {
	for _, little := range []bool{true, false} {
		for _, mark := range []bool{true, false} {
			for _, name := range []string{"a.ndjson", "a.json", "a.json.gz"} {
				content := utf16(aPatient, little, mark)
				if strings.HasSuffix(name, ".gz") {
					content = zipped(t, content)
				}
				path := raw(t, t.TempDir(), name, content)
				s := openStore(t, t.TempDir())
				rep := load(t, s, path)
				want := map[bool]string{true: "UTF-16LE", false: "UTF-16BE"}[little]
				if len(rep.Bad) != 1 || !strings.Contains(rep.Bad[0].Why, want) ||
					rep.Bad[0].Line != 1 {
					t.Errorf("%s, mark %v: %v", name, mark, rep.Bad)
				}
				_, err := s.Import(t.Context(), []string{path}, source.ImportOptions{
					Charset: "utf-16",
					Now:     time.Now(),
				})
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff([]string{aPatient}, everything(t, s)); d != "" {
					t.Errorf("%s, mark %v: %s", name, mark, d)
				}
			}
		}
	}
	s := openStore(t, t.TempDir())
	rep := load(t, s, raw(t, t.TempDir(), "a.ndjson", "\xff\xfe\x00\x00{\x00\x00\x00"))
	if len(rep.Bad) != 1 || !strings.Contains(rep.Bad[0].Why, "UTF-32LE") {
		t.Errorf("UTF-32: %v", rep.Bad)
	}
}

func TestAByteOrderMarkIsSkippedWhereverTextBegins(t *testing.T) {
	const mark = "\ufeff"
	bundle := `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + aPatient +
		`}]}`
	for name, content := range map[string]string{
		"a.ndjson":      mark + aPatient,
		"a.json":        mark + aPatient,
		"a.ndjson.gz":   zipped(t, mark+aPatient),
		"b.json":        mark + bundle,
		"b.json.gz":     zipped(t, mark+bundle),
		"within.ndjson": "\n" + mark + aPatient + "\n" + mark + aPatient,
		"within.json":   "\n" + mark + bundle,
		"b.ndjson":      mark + bundle,
		"only.ndjson":   mark + "\n" + aPatient,
	} {
		s := openStore(t, t.TempDir())
		rep := load(t, s, raw(t, t.TempDir(), name, content))
		if d := cmp.Diff([]string{aPatient}, everything(t, s)); d != "" || len(rep.Bad) > 0 {
			t.Errorf("%s: %s\n%v", name, d, rep.Bad)
		}
	}
}

func TestTheCasesOfEncodings(t *testing.T) {
	dir := records.Cases(t, "encodings")
	s := openStore(t, t.TempDir())
	rep := load(t, s, filepath.Join(dir, "bom.ndjson"))
	if len(rep.Bad) > 0 || rep.Resources() == 0 {
		t.Errorf("bom.ndjson: %v", rep)
	}
	if rep := load(t, s, filepath.Join(dir, "latin1.ndjson")); len(rep.Bad) == 0 ||
		rep.Bad[0].Line == 0 || !strings.HasSuffix(rep.Bad[0].File, "latin1.ndjson") {
		t.Errorf("latin1.ndjson: %v", rep)
	}
	for _, line := range everything(t, s) {
		if !utf8.ValidString(line) {
			t.Errorf("exported %q", line)
		}
	}
}

// large returns a resource of n bytes.
func large(id string, n int) string {
	start, end := `{"resourceType":"Basic","id":"`+id+`","code":{"text":"`, `"}}`
	return start + strings.Repeat("x", n-len(start)-len(end)) + end
}

// IN-5: there is one limit, exact to the byte, for every kind of file. What follows a larger
// resource is imported.
func TestALargerResourceIsSkippedWithItsPlaceAndTheRestImported(t *testing.T) {
	const limit = 600_000 // more than a chunk
	fits, tooLarge, small := large("fits", limit), large("large", limit+1), large("small", 100)
	huge := large("huge", 5*limit)
	lines := strings.Join([]string{tooLarge, fits, huge, small, tooLarge}, "\n")
	entry := func(r string) string { return `{"fullUrl":"urn:uuid:x","resource":` + r + `}` }
	bundle := `{"resourceType":"Bundle","type":"collection","entry":[` + "\n" +
		strings.Join([]string{
			entry(tooLarge), entry(fits), entry(huge), entry(small), entry(tooLarge),
		}, ",\n") + `]}`
	for _, c := range []struct {
		name, content string
		bad           []int
		want          []string
	}{
		{"a.ndjson", lines, []int{1, 3, 5}, []string{fits, small}},
		{"a.ndjson.gz", zipped(t, lines), []int{1, 3, 5}, []string{fits, small}},
		{"lines.json", lines, []int{1, 3, 5}, []string{fits, small}},
		{"a.json", bundle, []int{2, 4, 6}, []string{fits, small}},
		{"a.json.gz", zipped(t, bundle), []int{2, 4, 6}, []string{fits, small}},
		{"one.json", tooLarge, []int{1}, nil},
		{"one-fits.json", fits, nil, []string{fits}},
		{"last.ndjson", small + "\n" + huge, []int{2}, []string{small}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			path := raw(t, t.TempDir(), c.name, c.content)
			rep, err := s.Import(t.Context(), []string{path}, source.ImportOptions{
				MaxResource: limit,
				Now:         time.Now(),
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.bad, problems(rep)); d != "" {
				t.Errorf("%s\n%v", d, rep.Bad)
			}
			for _, b := range rep.Bad {
				if !strings.Contains(b.Why, "600000") {
					t.Errorf("the problem does not tell the limit: %v", b)
				}
			}
			got := everything(t, s)
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("%d resources are in", len(got))
			}
		})
	}
}

func TestFoldersAreReadWholeAndWhatIsLeftOutIsListed(t *testing.T) {
	dir := t.TempDir()
	patient := func(id string) string {
		return fmt.Sprintf(`{"resourceType":"Patient","id":%q}`, id)
	}
	for name, content := range map[string]string{
		"a.ndjson":            patient("p1"),
		"b.jsonl":             patient("p2"),
		"c.json.gz":           zipped(t, patient("p3")),
		"D.NDJSON":            patient("p4"),
		"deep/er/e.ndjson.gz": zipped(t, patient("p5")),
		"f.Json":              patient("p6"),
		"g.JSONL.GZ":          zipped(t, patient("p7")),
		"h.ndjson.gz":         patient("p8"),
		"i.ndjson":            zipped(t, patient("p9")),
		"log.ndjson": `{"exportId":"https://x.test/1",` +
			`"timestamp":"2026-01-01T00:00:00Z","eventId":"kickoff","eventDetail":{}}`,
		"manifest.json": `{"transactionTime":"2026-01-01T00:00:00Z",` +
			`"request":"https://x.test/$export","requiresAccessToken":false,"output":[],` +
			`"error":[]}`,
		"notes.txt":      "hello",
		".hidden.ndjson": patient("no"),
		"._a.ndjson":     "\x00\x05\x16\x07",
		".git/x.json":    patient("no"),
		"deep/x.xml":     "<Patient/>",
	} {
		raw(t, dir, name, content)
	}
	if err := os.Symlink(filepath.Join(dir, "absent"), filepath.Join(dir, "z.ndjson")); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, t.TempDir())
	rep := load(t, s, dir)
	if rep.Counts["Patient"] != 9 || rep.Files != 9 || rep.Problems != 0 {
		t.Errorf("imported %v from %d files, %v", rep.Counts, rep.Files, rep.Bad)
	}
	left := map[string]string{}
	for _, i := range rep.Ignored {
		name, err := filepath.Rel(dir, i.File)
		if err != nil || left[name] != "" {
			t.Errorf("%s is listed twice, or is not in the folder: %v", i.File, err)
		}
		left[name] = i.Why
	}
	const other = "no file named .json, .ndjson or .jsonl, gzipped (.gz) or not"
	want := map[string]string{
		"log.ndjson":     "the log of a bulk export",
		"manifest.json":  "the manifest of a bulk export",
		"notes.txt":      other,
		"deep/x.xml":     other,
		".hidden.ndjson": "hidden",
		"._a.ndjson":     "hidden",
		".git":           "hidden",
		"z.ndjson":       "cannot be read: no such file or directory",
	}
	if d := cmp.Diff(want, left); d != "" {
		t.Error(d)
	}
	again := load(t, s, dir)
	if again.Files != 0 || again.Skipped != 9 || len(again.Ignored) != len(want) {
		t.Errorf("the second time: %d files read, %d unchanged, left out %v", again.Files,
			again.Skipped, again.Ignored)
	}
}

// The named folder may be a symbolic link. Links inside a folder are not followed.
func TestAFolderMayBeNamedByALink(t *testing.T) {
	dir := t.TempDir()
	raw(t, dir, "p.ndjson", aPatient+"\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skipf("no links here: %v", err)
	}
	for _, path := range []string{link, link + "/"} {
		s := openStore(t, t.TempDir())
		if rep := load(t, s, path); rep.Files != 1 || len(rep.Ignored) > 0 {
			t.Errorf("%s: %+v", path, rep)
		}
	}
	inner := t.TempDir()
	raw(t, inner, "q.ndjson", aPatient+"\n")
	if err := os.Symlink(dir, filepath.Join(inner, "link")); err != nil {
		t.Fatal(err)
	}
	if rep := load(t, openStore(t, t.TempDir()), inner); rep.Files != 1 {
		t.Errorf("%+v", rep)
	}
}

// IN-6: JSON that can be written in several ways remains as it is, including white space in a
// line. If a resource has several lines, only white space between the tokens is removed.
func TestIN6LinesComeOutAsTheyWentIn(t *testing.T) {
	line := `{"id":"o1","resourceType":"Observation","valueQuantity":{"value":1.00,` +
		`"unit":"\u00b5g\/l <&> \"é\" \ud83d\ude00 \u2028"},` +
		`"component":[{"valueInteger":123456789012345678901234567890},{"valueDecimal":-0.0},` +
		`{"valueDecimal":1.0E+2},{"valueDecimal":0.10}],"status":"final"}`
	spaced := strings.NewReplacer(`{"id"`, "{ \"id\"", `,"status":`,
		"\t,\r\n \"status\" : ").Replace(line)
	one := strings.ReplaceAll(spaced, "\r\n", " ")
	bundle := func(of string) string {
		return `{"resourceType": "Bundle", "type": "collection", "entry": [ {"resource": ` + of +
			` } ] }`
	}
	for name, c := range map[string]struct{ content, want string }{
		"a.ndjson": {line, line}, "b.json": {spaced, line}, "c.json": {bundle(spaced), line},
		"d.ndjson.gz": {zipped(t, line), line},
		"e.ndjson":    {one, one},
		"f.json":      {bundle(one), one},
		"g.json":      {one + "\r\n", one}, "h.ndjson": {" \t" + one + " \r\n\r\n", one},
		"i.ndjson": {bundle(one) + "\n", one}, "j.json": {"[" + one + " ,\n" + line + "]", line},
	} {
		s := openStore(t, t.TempDir())
		load(t, s, raw(t, t.TempDir(), name, c.content))
		if d := cmp.Diff([]string{c.want}, everything(t, s)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// IN-3: if one state occurs twice with different white space, the version with less of it is
// kept, and belongs to the patients of both bundles.
func TestIN3WhiteSpaceMakesNoNewVersion(t *testing.T) {
	dir := t.TempDir()
	bundle := func(patient, line string) string {
		return raw(t, dir, patient+".json",
			`{"resourceType":"Bundle","type":"collection","entry":[`+
				`{"resource":{"resourceType":"Patient","id":"`+patient+`"}},{"resource":`+line+
				`}]}`)
	}
	const short, long = `{"resourceType":"Basic","id":"b"}`, `{"resourceType": "Basic", "id": "b"}`
	inBoth(t, func(t *testing.T, s *dataset.Store) {
		wantKeys(t, s, "p", "Patient/p", "Basic/b")
		wantKeys(t, s, "q", "Patient/q", "Basic/b")
		if lines := everything(t, s); !slices.Contains(lines, short) {
			t.Errorf("%q", lines)
		}
	}, bundle("p", short), bundle("q", long))
}

// A truncated bundle is imported up to its end, and the report says where that is.
func TestABundleThatIsCutOffGivesWhatCameBefore(t *testing.T) {
	s := openStore(t, t.TempDir())
	rep := load(t, s,
		raw(t, t.TempDir(), "b.json",
			`{"resourceType":"Bundle","type":"collection","entry":[`+"\n"+`{"resource":`+aPatient+
				"},\n"+`{"resource":{"resourceType":"Pat`))
	if d := cmp.Diff([]int{3}, problems(rep)); d != "" {
		t.Errorf("%s\n%v", d, rep.Bad)
	}
	if got := everything(t, s); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// A Bundle is recognized whatever the order of its keys, and a List with entries is not one.
func TestTheOrderOfKeysDoesNotMakeABundle(t *testing.T) {
	list := `{"entry":[{"item":{"reference":"Patient/p1"}}],"resourceType":"List","id":"l1"}`
	s := openStore(t, t.TempDir())
	rep := load(t, s,
		raw(t, t.TempDir(), "a.json",
			`{"entry":[{"resource":`+aPatient+`},{"resource":`+list+
				`}],"type":"collection","resourceType":"Bundle"}`),
		raw(t, t.TempDir(), "b.json", strings.Replace(list, "l1", "l2", 1)))
	if len(rep.Bad) > 0 || rep.Counts["List"] != 2 || rep.Counts["Patient"] != 1 {
		t.Errorf("%v, %v", rep.Counts, rep.Bad)
	}
}

func TestAPatientIsCalledByTheNameInUse(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, write(t, t.TempDir(), "a.ndjson",
		`{"resourceType":"Patient","id":"p1","name":[{"use":"old","family":"Before"},`+
			`{"use":"official","text":"Jane Now","period":{"start":"2020"}}]}`,
		`{"resourceType":"Patient","id":"p2","name":[{"use":"official","family":"Was",`+
			`"period":{"end":"2001"}},{"use":"usual","family":"Is"}]}`))
	for id, want := range map[string]string{"p1": "Jane Now", "p2": "Is"} {
		if p, err := s.Patient(t.Context(), id); err != nil || p.Name != want {
			t.Errorf("%s is called %q, %v", id, p.Name, err)
		}
	}
}

// The importer, the release filter and the client could each use a different value of a repeated
// field.
func TestIN4AFieldThatIsThereTwiceIsAProblem(t *testing.T) {
	const good = `{"resourceType":"Condition","id":"good","subject":{"reference":"Patient/p"}}`
	for name, bad := range map[string]string{
		"id": `{"resourceType":"Condition","id":"a","id":"b",` +
			`"subject":{"reference":"Patient/p"}}`,
		"subject": `{"resourceType":"Condition","id":"a",` +
			`"subject":{"reference":"Patient/x"},"subject":{"reference":"Patient/p"}}`,
		"resourceType": `{"resourceType":"Condition","id":"a",` +
			`"subject":{"reference":"Patient/p"},"resourceType":"Observation"}`,
		"an escaped name": `{"resourceType":"Condition","id":"a",` +
			`"subject":{"reference":"Patient/p"},"\u0069d":"b"}`,
		"a reference": `{"resourceType":"Condition","id":"a",` +
			`"subject":{"reference":"Patient/x","reference":"Patient/p"}}`,
		"a code": `{"resourceType":"Condition","id":"a",` +
			`"subject":{"reference":"Patient/p"},"code":{"coding":[{"code":"1","code":"2"}]}}`,
		"a label": `{"resourceType":"Condition","id":"a","meta":{"security":[]},` +
			`"meta":{},"subject":{"reference":"Patient/p"}}`,
		"an equal field": `{"resourceType":"Condition","id":"a","id":"a",` +
			`"subject":{"reference":"Patient/p"}}`,
		"in what it contains": `{"resourceType":"Condition","id":"a","contained":[{"id":"x",` +
			`"id":"y"}],"subject":{"reference":"Patient/p"}}`,
		"between spaces": `{ "resourceType" : "Condition", "id":"a", "id" : "b" , ` +
			`"subject":{"reference":"Patient/p"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			patient := `{"resourceType":"Patient","id":"p"}`
			entry := func(r string) string { return "\n" + `{"resource":` + r + `}` }
			for file, content := range map[string]string{
				"a.ndjson": patient + "\n" + bad + "\n" + good + "\n",
				"b.json": `{"resourceType":"Bundle","type":"collection","entry":[` +
					entry(patient) + "," + entry(bad) + "," + entry(good) + `]}`,
			} {
				s := openStore(t, t.TempDir())
				rep := load(t, s, raw(t, t.TempDir(), file, content))
				wantKeys(t, s, "p", "Patient/p", "Condition/good")
				line := 2
				if strings.HasPrefix(file, "b") {
					line = 3
				}
				if len(rep.Bad) != 1 || rep.Bad[0].Line != line ||
					!strings.Contains(rep.Bad[0].Why, "an object has two fields") {
					t.Errorf("%s: problems %v", file, rep.Bad)
				}
			}
		})
	}
}

func TestIN4AFieldOfABundleThatIsThereTwiceIsAProblem(t *testing.T) {
	const resource = `{"resourceType":"Patient","id":"%s"}`
	p, q := fmt.Sprintf(resource, "p"), fmt.Sprintf(resource, "q")
	for name, bundle := range map[string]string{
		"entry": `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + p +
			`}],"entry":[{"resource":` + q + `}]}`,
		"type": `{"resourceType":"Bundle","type":"collection","type":"history",` +
			`"entry":[{"resource":` + p + `}]}`,
		"resourceType": `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + p +
			`}],"resourceType":"Bundle"}`,
		"resource": `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + p +
			`,"resource":` + q + `}]}`,
		"fullUrl": `{"resourceType":"Bundle","type":"collection",` +
			`"entry":[{"fullUrl":"urn:uuid:1","resource":` + p + `,"fullUrl":"urn:uuid:2"}]}`,
		"method": `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"PUT",` +
			`"method":"DELETE","url":"Patient/p"},"resource":` +
			p + `}]}`,
		"request": `{"resourceType":"Bundle","type":"batch",` +
			`"entry":[{"request":{"method":"DELETE","url":"Patient/p"},` +
			`"requ\u0065st":{"method":"PUT","url":"Patient/p"},"resource":` +
			p + `}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, file := range []string{"b.json", "b.ndjson"} {
				s := openStore(t, t.TempDir())
				rep := load(t, s, raw(t, t.TempDir(), file, bundle))
				if len(rep.Bad) != 1 ||
					!strings.Contains(rep.Bad[0].Why, fmt.Sprintf("two fields %q", name)) ||
					len(rep.Counts) > 0 {
					t.Errorf("%s: %+v", file, rep)
				}
			}
		})
	}
}

// Some systems write resources, or bundles, as one array. Each element is imported by itself.
func TestIN4AnArrayIsTakenApart(t *testing.T) {
	const p = `{"resourceType":"Patient","id":"p"}`
	condition := func(id string) string {
		return `{"resourceType":"Condition","id":"` + id + `","subject":{"reference":"Patient/p"}}`
	}
	bundle := `{"resourceType":"B\u0075ndle","id":"x","type":"collection","entry":[{"resource":` +
		condition("in") + `}]}`
	array := "[" + p + ",\n" + condition("a") + ",\n" + `{"resourceType":"Condition"},` + "\n" +
		`7, [` + condition("nested") + `], null,` + "\n" + bundle + "]"
	for _, c := range []struct {
		name, content string
		bad           []int
	}{
		{"a.json", array, []int{3, 4, 4}},
		{"a.json.gz", zipped(t, array), []int{3, 4, 4}},
		{"bom.json", "\ufeff\n" + array, []int{4, 5, 5}},
		{"line.ndjson", strings.ReplaceAll(array, "\n", " "), []int{1, 1, 1}},
		{"before.json", array + "\n" + condition("behind") + "\n", []int{3, 4, 4}},
		{"cut.json", array[:len(array)-1], []int{3, 4, 4, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			rep := load(t, s, raw(t, t.TempDir(), c.name, c.content))
			want := []string{"Patient/p", "Condition/a", "Condition/nested", "Condition/in"}
			if c.name == "before.json" {
				want = append(want, "Condition/behind")
			}
			wantKeys(t, s, "p", want...)
			if d := cmp.Diff(c.bad, problems(rep)); d != "" {
				t.Errorf("problems (-want +got):\n%s\n%v", d, rep.Bad)
			}
		})
	}
	for _, empty := range []string{"[]", " [ ] "} {
		rep := load(t, openStore(t, t.TempDir()), raw(t, t.TempDir(), "a.json", empty))
		if rep.Problems > 0 || len(rep.Counts) > 0 {
			t.Errorf("%q: %+v", empty, rep)
		}
	}
}

// Documents with several lines are distinguished from NDJSON by their content, not by the file's
// name, and may follow each other.
func TestIN4DocumentsInSeveralLinesAreTakenWhole(t *testing.T) {
	patient := "{\n  \"resourceType\": \"Patient\",\n  \"id\": \"p\"\n}\n"
	condition := func(id string) string {
		return "{\r\n \"resourceType\": \"Condition\",\r\n \"id\": \"" + id +
			"\",\r\n \"subject\": {\"reference\": \"Patient/p\"}\r\n}\r\n"
	}
	line := `{"resourceType":"Condition","id":"line","subject":{"reference":"Patient/p"}}` + "\n"
	bundle := func(id string) string {
		return "{\n\"resourceType\":\"Bundle\",\"type\":\"collection\"," +
			"\n\"entry\":[\n{\"resource\":" + condition(id) + "}]\n}\n"
	}
	for name, content := range map[string]string{
		"resources": patient + "\n" + condition("a") + condition("b"),
		"an array": "[\n" + patient + "," + condition("a") + "," +
			condition("b") + "]\n",
		"bundles":                       bundle("a") + bundle("b") + patient,
		"resources and lines":           patient + condition("a") + line,
		"a bundle, a resource, a line":  bundle("a") + patient + line,
		"behind a mark and empty lines": "\ufeff\n\n" + patient + condition("a") + line,
	} {
		for _, file := range []string{"a.ndjson", "a.json", "a.jsonl.gz"} {
			text := content
			if strings.HasSuffix(file, ".gz") {
				text = zipped(t, content)
			}
			s := openStore(t, t.TempDir())
			rep := load(t, s, raw(t, t.TempDir(), file, text))
			last := "Condition/b"
			if strings.Contains(content, line) {
				last = "Condition/line"
			}
			wantKeys(t, s, "p", "Patient/p", "Condition/a", last)
			if rep.Problems > 0 {
				t.Errorf("%s in %s: %v", name, file, rep.Bad)
			}
		}
	}
}
