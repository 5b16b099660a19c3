package dataset_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/dataset/blobs"
	"ehi-server/exporter/source"
)

// dataFile returns the name of a file of data in an export, and the fields of the attachment that
// names it.
func dataFile(content []byte) (name, fields string) {
	name = "DiagnosticReport.0." + blobName(content) + ".pdf"
	return name, fmt.Sprintf(`"contentType":"application/pdf",`+
		`"url":"https://ehi.example.org/base/jobs/J/download/data/%s","size":%d,"hash":"%s"`,
		name, len(content), sha1Of(content))
}

// take imports a folder, with data moving from 1000 bytes on.
func take(t testing.TB, s *dataset.Store, paths ...string) source.Report {
	t.Helper()
	return takeWith(t, s, source.ImportOptions{MoveFrom: 1000}, paths...)
}

func takeWith(
	t testing.TB, s *dataset.Store, o source.ImportOptions, paths ...string,
) source.Report {
	t.Helper()
	o.Now = time.Now()
	rep, err := s.Import(t.Context(), paths, o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// gzipped compresses a text.
func gzipped(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write([]byte(text))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The files of an export are imported with the data of attachments that lies beside them, however
// its resources are packed: large data as a blob, smaller data in the resource.
func TestDataBesideAFileIsTakenBackIntoItsAttachment(t *testing.T) {
	large, small := letter('L', 300_000), letter('s', 500)
	largeName, largeFields := dataFile(large)
	smallName, smallFields := dataFile(small)
	lines := patientsNamed("a") + report("large", "a", largeFields) + "\n" +
		report("small", "a", smallFields) + "\n" +
		report("both", "a", largeFields+`},{`+smallFields) + "\n"
	const path, escaped = "/jobs/J/download/data/", `\/jobs\/J\/download\/data\/`
	entries := strings.ReplaceAll(strings.TrimSpace(lines), "\n", `},{"resource":`)
	bundle := `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + entries + `}]}`
	for name, files := range map[string]map[string]string{
		"lines":           {"DiagnosticReport.0.0.ndjson": lines},
		"compressed":      {"DiagnosticReport.0.0.ndjson.gz": gzipped(t, lines)},
		"escaped slashes": {"r.ndjson": strings.ReplaceAll(lines, path, escaped)},
		"a Bundle":        {"bundle.json": bundle},
		"a Bundle's line": {"bundle.ndjson": bundle + "\n"},
		"an array":        {"all.json": "[" + strings.Join(strings.Fields(lines), ",") + "]"},
	} {
		t.Run(name, func(t *testing.T) {
			files["data/"+largeName], files["data/"+smallName] = string(large), string(small)
			s := openStore(t, t.TempDir())
			rep := take(t, s, folder(t, files))
			if rep.Problems > 0 || rep.Counts["DiagnosticReport"] != 3 || len(rep.Ignored) > 0 {
				t.Fatalf("%+v", rep)
			}
			content, err := movedContent(t, s, "a", blobName(large))
			if err != nil || !bytes.Equal(content, large) {
				t.Errorf("%v, %d bytes", err, len(content))
			}
			lines := linkedLines(t, s, "a")
			for part, times := range map[string]int{
				dataField(small):                   2,
				`"url":"` + blobName(large) + `"`:  2,
				`"size":300000`:                    2,
				`"hash":"` + sha1Of(large) + `"`:   2,
				"/download":                        0,
				`"contentType":"application/pdf",`: 4,
			} {
				if n := strings.Count(lines, part); n != times {
					t.Errorf("%.100s is there %d times, want %d, in\n%.3000s", part, n, times, lines)
				}
			}
		})
	}
}

// Data that cannot be taken is a problem of its line. The resource comes as it is, and once the
// file is there, the data comes with the next import.
func TestDataThatIsMissingOrWrongIsReported(t *testing.T) {
	content := letter('L', 20_000)
	name, fields := dataFile(content)
	line := report("r", "a", fields)
	for what, spoil := range map[string]func(dir, file string) error{
		"missing": func(string, string) error { return nil },
		"other content of the same size": func(_, file string) error {
			return os.WriteFile(file, letter('X', 20_000), 0o600)
		},
		"cut": func(_, file string) error { return os.WriteFile(file, content[:500], 0o600) },
		"a link": func(dir, file string) error {
			to := filepath.Join(dir, "elsewhere.bin")
			return errors.Join(os.WriteFile(to, content, 0o600), os.Symlink(to, file))
		},
		"a folder": func(_, file string) error { return os.Mkdir(file, 0o700) },
		"a folder of data that leads out": func(_, file string) error {
			outside := t.TempDir()
			return errors.Join(os.WriteFile(filepath.Join(outside, name), content, 0o600),
				os.Remove(filepath.Dir(file)), os.Symlink(outside, filepath.Dir(file)))
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := folder(t, map[string]string{"r.ndjson": patientsNamed("a") + line + "\n"})
			data := filepath.Join(dir, "data")
			file := filepath.Join(data, name)
			if err := errors.Join(os.Mkdir(data, 0o700), spoil(dir, file)); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, t.TempDir())
			rep := take(t, s, dir)
			if rep.Problems != 1 || rep.Bad[0].Line != 2 || rep.Counts["DiagnosticReport"] != 1 ||
				!strings.HasSuffix(rep.Bad[0].File, "r.ndjson") ||
				!strings.Contains(rep.Bad[0].Why, "data/"+name) {
				t.Errorf("%+v", rep)
			}
			if lines, _ := storedLines(t, s, "a"); !slices.Contains(lines, line) {
				t.Errorf("the lines are %q", lines)
			}
			err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o700),
				os.WriteFile(file, content, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			if rep := take(t, s, dir); rep.Problems > 0 {
				t.Errorf("with the file: %+v", rep)
			}
			got, err := movedContent(t, s, "a", blobName(content))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("with the file: %v, %d bytes", err, len(got))
			}
		})
	}
	dir := folder(t, map[string]string{"r.ndjson": line + "\n"})
	_, err := openStore(t, t.TempDir()).Import(t.Context(), []string{dir},
		source.ImportOptions{Now: time.Now(), Strict: true})
	if !errors.Is(err, source.ErrBad) {
		t.Errorf("a strict import: %v", err)
	}
}

// Files of data are no resources, whatever they are called. Those that nobody names are listed,
// unless the resources beside them were read by an earlier import.
func TestDataThatNobodyNamesIsListed(t *testing.T) {
	content := letter('L', 2000)
	name, fields := dataFile(content)
	foreign := []byte(`{"resourceType":"Patient","id":"foreign"}`)
	resource := "Binary.0." + blobName(foreign) + ".json"
	dir := folder(t, map[string]string{
		"r.ndjson":         patientsNamed("a") + report("r", "a", fields) + "\n",
		"data/" + name:     string(content),
		"data/" + resource: string(foreign),
	})
	s := openStore(t, t.TempDir())
	rep := take(t, s, dir)
	if rep.Problems > 0 || rep.Counts["Patient"] != 1 || len(rep.Ignored) != 1 ||
		rep.Ignored[0].File != filepath.Join(dir, "data", resource) {
		t.Errorf("%+v", rep)
	}
	if rep := take(t, s, dir); rep.Skipped != 1 || len(rep.Ignored) != 0 {
		t.Errorf("again: %+v", rep)
	}
}

// Only a url that a server of exports made leads to a file.
func TestOtherURLsOfAttachmentsStay(t *testing.T) {
	content := letter('L', 2000)
	name, fields := dataFile(content)
	for _, fields := range []string{
		strings.Replace(fields, "/download/data/", "/download/documents/", 1),
		strings.Replace(fields, name, "../data/"+name, 1),
		strings.Replace(fields, name, "letter.pdf", 1),
		strings.Replace(fields, name, name+"?x=1", 1),
		fields + `,"_url":{"extension":[{"url":"u","valueString":"v"}]}`,
		fields + `,"data":"aGVsbG8="`,
	} {
		dir := folder(t, map[string]string{
			"r.ndjson":        patientsNamed("a") + report("r", "a", fields) + "\n",
			"data/" + name:    string(content),
			"data/letter.pdf": string(content),
		})
		s := openStore(t, t.TempDir())
		rep := take(t, s, dir)
		lines, _ := storedLines(t, s, "a")
		if rep.Problems > 0 || !slices.Contains(lines, report("r", "a", fields)) {
			t.Errorf("%+v, %q", rep, lines)
		}
	}
}

// A limit that keeps all data in its resource yields to the limit of a resource.
func TestDataThatMakesAResourceTooLargeMovesInAnyCase(t *testing.T) {
	large, small := letter('L', 300_000), letter('s', 50_000)
	largeName, largeFields := dataFile(large)
	smallName, smallFields := dataFile(small)
	dir := folder(t, map[string]string{
		"r.ndjson": patientsNamed("a") +
			report("r", "a", smallFields+`},{`+largeFields+`},{`+smallFields) + "\n",
		"data/" + largeName: string(large),
		"data/" + smallName: string(small),
	})
	s := openStore(t, t.TempDir())
	rep := takeWith(t, s, source.ImportOptions{
		MoveFrom: source.MoveFrom(-1), MaxResource: 100_000,
	}, dir)
	lines := linkedLines(t, s, "a")
	if rep.Problems > 0 || strings.Count(lines, dataField(small)) != 1 ||
		!strings.Contains(lines, `"url":"`+blobName(small)) ||
		!strings.Contains(lines, `"url":"`+blobName(large)) || len(lines) > 110_000 {
		t.Errorf("%+v, %d bytes", rep, len(lines))
	}
}

// A resource that does not come in leaves no data behind.
func TestDataOfAnOlderStateIsNotKept(t *testing.T) {
	older, newer := letter('o', 2000), letter('n', 2000)
	at := func(day string, content []byte) string {
		_, fields := dataFile(content)
		return strings.Replace(report("r", "a", fields), `"id":"r"`,
			`"id":"r","meta":{"lastUpdated":"2024-01-`+day+`T00:00:00Z"}`, 1)
	}
	newName, _ := dataFile(newer)
	oldName, _ := dataFile(older)
	store := t.TempDir()
	s := openStore(t, store)
	rep := take(t, s, folder(t, map[string]string{
		"1.ndjson":        patientsNamed("a") + at("02", newer) + "\n",
		"2.ndjson":        at("01", older) + "\n",
		"data/" + newName: string(newer),
		"data/" + oldName: string(older),
	}))
	if rep.Problems > 0 || len(rep.Ignored) > 0 {
		t.Errorf("%+v", rep)
	}
	var kept []string
	err := blobs.In(store + ".blobs").Each(func(n blobs.Name) error {
		kept = append(kept, n.String())
		return nil
	})
	if err != nil || !slices.Equal(kept, []string{blobName(newer)}) {
		t.Errorf("%v, %v", kept, err)
	}
}

// A size and a hash that an attachment had before it was exported stay, right or wrong: the name of
// the file tells whether the content is whole.
func TestDataFromAFileKeepsTheSizeAndHashOfItsAttachment(t *testing.T) {
	content := letter('L', 2000)
	name, _ := dataFile(content)
	own := `"hash":"` + base64.StdEncoding.EncodeToString([]byte("a wrong one")) + `"`
	s := openStore(t, t.TempDir())
	rep := take(t, s, folder(t, map[string]string{
		"r.ndjson": patientsNamed("a") + report("r", "a",
			`"url":"http://h/jobs/J/download/data/`+name+`",`+own) + "\n",
		"data/" + name: string(content),
	}))
	want := report("r", "a", `"url":"`+blobName(content)+`","size":2000,`+own)
	if lines := linkedLines(t, s, "a"); rep.Problems > 0 || !strings.Contains(lines, want) {
		t.Errorf("%+v\n%s", rep, lines)
	}
}
