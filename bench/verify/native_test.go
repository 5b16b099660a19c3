package verify_test

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// descriptor describes the tables of an export.
const descriptor = `{"name":"clinic","resources":[
 {"name":"visit","path":"visit.tsv","dialect":{"delimiter":"\t","lineTerminator":"\n"},
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"ward"},{"name":"on","type":"date"}],
   "primaryKey":"id",
   "foreignKeys":[{"fields":"ward","reference":{"resource":"ward","fields":"code"}}]},
  "ehi:patient":["patient"]},
 {"name":"note","path":"note.csv",
  "schema":{"fields":[{"name":"visit"},{"name":"text"}],
   "foreignKeys":[{"fields":"visit","reference":{"resource":"visit","fields":"id"}}]},
  "ehi:patient":["visit","patient"]},
 {"name":"ward","path":"ward.csv",
  "schema":{"fields":[{"name":"code"},{"name":"name"},{"name":"part_of"}],"primaryKey":"code",
   "foreignKeys":[{"fields":"part_of","reference":{"resource":"","fields":"code"}}]},
  "ehi:lookup":true},
 {"name":"odd","path":"odd.csv","encoding":"utf-16le","dialect":{"delimiter":";","quoteChar":""},
  "schema":{"fields":[{"name":"patient"},{"name":"n","type":"integer"}]},
  "ehi:patient":["patient"]}]}`

// utf16 returns ASCII text in UTF-16.
func utf16(text string) string { return strings.Join(strings.Split(text, ""), "\x00") + "\x00" }

// files returns the files of an export with one patient, without what describes them.
func files() map[string]string {
	return map[string]string{
		"documents/000001-a scan.pdf": strings.Repeat("%PDF scan", 500),
		"documents/000002-note.rtf":   `{\rtf1 note}`,
		"tables/visit.tsv": "id\tpatient\tward\ton\nv1\tp\tW1\t2024-01-02\n" +
			"v2\tp\t\t2025-01-02\n",
		"tables/note.csv": "visit,text\r\nv1,\"fine, \"\"he\"\"\r\nsaid\"\r\nv1,5' 6\" tall\r\n",
		"tables/ward.csv": "code,name,part_of\r\nW1,East,H\r\nH,=Hill,\r\n",
		"tables/odd.csv":  utf16("patient;n\r\np;1\r\np;2\r\n"),
	}
}

// entry is a line of a list.
type entry = map[string]any

// sample is an export, which tests break.
type sample struct {
	id      string // of its files
	origin  string // of its server
	packed  bool
	files   map[string]string // as they are served or packed
	tables  *datapackage.Package
	page    string           // of the documentation
	entries map[string]entry // of the list, by file
	list    []string         // the files in the order of the list
	served  map[string]string
	asked   int      // for files
	end     string   // of the list of an archive
	also    []string // files that an archive has once more
	archive entry    // the line of the archive
	damage  func(archive []byte)
	types   map[string]string // other media types of answers
	etags   []string          // of the answers with the archive, in turn
}

// stage is when a test breaks a sample.
type stage int

const (
	content   stage = iota // before anything is described
	described              // when the tables are described, before the descriptor is written
	listed                 // when all is listed
)

// build makes a sample that is broken at a stage.
func build(t *testing.T, packed bool, at stage, harm func(*sample)) *sample {
	t.Helper()
	p, err := datapackage.Parse([]byte(descriptor))
	if err != nil {
		t.Fatal(err)
	}
	s := &sample{
		id: "f", packed: packed, files: files(), tables: p, entries: map[string]entry{},
		types: map[string]string{}, etags: []string{`"1"`},
		page: `<tr id="format-pdf"><tr id="format-rtf"><tr id="format-zip"><tr id="format-text">` +
			`<tr id="format-datapackage"><tr id="table-visit"><tr id="table-note">` +
			`<tr id="table-ward"><tr id="table-odd">`,
	}
	server := httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(server.Close)
	s.origin = server.URL
	for now := range listed + 1 {
		switch now {
		case described:
			s.describe()
		case listed:
			s.enlist()
		}
		if now == at {
			harm(s)
		}
	}
	return s
}

func digest(text string) []byte {
	sum := sha1.Sum([]byte(text))
	return sum[:]
}

// describe completes the descriptor.
func (s *sample) describe() {
	for i := range s.tables.Resources {
		r := &s.tables.Resources[i]
		text := s.files["tables/"+r.Path[0]]
		r.Bytes, r.Hash = int64(len(text)), fmt.Sprintf("sha1:%x", digest(text))
		if s.packed {
			r.Path[0] = "tables/" + r.Path[0]
		}
	}
}

func (s *sample) descriptorName() string {
	if s.packed {
		return "datapackage.json"
	}
	return "tables/datapackage.json"
}

// enlist adds what describes an export, and lists its files.
func (s *sample) enlist() {
	if _, ok := s.files[s.descriptorName()]; !ok {
		s.files[s.descriptorName()] = string(s.tables.JSON())
	}
	if s.packed {
		s.files["README.txt"] = "Read me"
	}
	s.list = slices.Sorted(maps.Keys(s.files))
	for i, name := range s.list {
		s.entries[name] = s.entry(fmt.Sprint(s.id, "-", i), name)
	}
}

// mediaTypes are media types and the codes of formats by extension.
var mediaTypes = map[string][2]string{
	".pdf": {"application/pdf", "pdf"}, ".rtf": {"application/rtf", "rtf"},
	".tsv": {"text/tab-separated-values; charset=utf-8", "tsv"},
	".csv": {"text/csv; charset=utf-8", "csv"}, ".zip": {"application/zip", "zip"},
	".json": {datapackage.MediaType, "datapackage"}, ".txt": {"text/plain", "text"},
}

// entry lists a file.
func (s *sample) entry(id, name string) entry {
	kind, text := mediaTypes[path.Ext(name)], s.files[name]
	fragment, where := "format-"+kind[1], (&url.URL{Path: name}).String()
	if table, ok := strings.CutPrefix(name, "tables/"); ok && path.Ext(name) != ".json" {
		fragment = "table-" + strings.TrimSuffix(table, path.Ext(table))
	}
	if !s.packed || kind[1] == "zip" {
		where = s.origin + "/jobs/1/download/" + where
	}
	return entry{
		"resourceType": "DocumentReference", "id": id, "status": "current",
		"meta":        entry{"tag": []any{entry{"code": "ehi-export"}}},
		"subject":     entry{"reference": "Patient/p"},
		"description": name + ". Format: " + s.origin + "/docs/ehi#" + fragment,
		"content": []any{entry{
			"attachment": entry{
				"contentType": kind[0], "url": where, "size": len(text), "title": name,
				"hash": digest(text), "creation": "2024-01-01T00:00:00Z",
			},
			"format": entry{"system": s.origin + "/docs/ehi", "code": kind[1]},
		}},
	}
}

// attachment returns the attachment of the line of a file.
func (s *sample) attachment(name string) entry {
	return s.entries[name]["content"].([]any)[0].(entry)["attachment"].(entry)
}

// format returns the format of the line of a file.
func (s *sample) format(name string) entry {
	return s.entries[name]["content"].([]any)[0].(entry)["format"].(entry)
}

// lines returns the lines of a list.
func lines(t *testing.T, entries ...entry) (out string) {
	t.Helper()
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		out += string(line) + "\n"
	}
	return out
}

// lines returns the list of the files.
func (s *sample) lines(t *testing.T) (out string) {
	t.Helper()
	for _, name := range s.list {
		out += lines(t, s.entries[name])
	}
	return out
}

// zipped returns the archive of a sample, with the list.
func (s *sample) zipped(t *testing.T) string {
	t.Helper()
	if _, ok := s.files["document_reference.ndjson"]; !ok {
		s.files["document_reference.ndjson"] = s.lines(t) + s.end
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range append(slices.Sorted(maps.Keys(s.files)), s.also...) {
		if s.files[name] == absent {
			continue
		}
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(s.files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if s.damage != nil {
		s.damage(b.Bytes())
	}
	return b.String()
}

// absent is the content of a file that an archive does not have.
const absent = "absent"

// serve puts a sample on its server, and returns the entry of its manifest.
func (s *sample) serve(t *testing.T) ehi.ManifestEntry {
	t.Helper()
	s.served = maps.Clone(s.files)
	list := s.lines(t)
	if s.packed {
		text := s.zipped(t)
		s.served = map[string]string{"native-1.zip": text}
		if s.archive == nil {
			s.files["native-1.zip"] = text
			s.archive = s.entry(s.id, "native-1.zip")
		}
		list = lines(t, s.archive)
	}
	s.served["list"] = list
	return ehi.ManifestEntry{
		Type: "DocumentReference", URL: s.origin + "/jobs/1/download/list",
		Count: int64(strings.Count(list, "\n")),
	}
}

// answer is the server's handler.
func (s *sample) answer(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/jobs/1/download/")
	text, ok := s.served[name]
	switch {
	case r.URL.Path == "/docs/ehi":
		_, _ = w.Write([]byte(s.page))
		return
	case !ok:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", cmp.Or(s.types[name], mediaTypes[path.Ext(name)][0]))
	if name != "list" {
		w.Header().Set("ETag", s.etags[min(s.asked, len(s.etags)-1)])
		s.asked++
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
}

// check verifies a sample.
func (s *sample) check(t *testing.T, n *verify.Native) (verify.Content, error) {
	t.Helper()
	return export(t, n, s)
}

// export verifies samples as one export.
func export(t *testing.T, n *verify.Native, of ...*sample) (content verify.Content, err error) {
	t.Helper()
	n.Client, n.Pages, n.Patient, n.Folder = client.New(""), &verify.Pages{}, "p", t.TempDir()
	defer n.Client.Close()
	for _, s := range of {
		if _, err := n.File(t.Context(), s.serve(t)); err != nil {
			return content, err
		}
	}
	files, err := n.Files(t.Context())
	if err != nil {
		return content, err
	}
	for _, l := range files {
		if err := n.Get(t.Context(), l); err != nil {
			return content, err
		}
	}
	return n.Content()
}

func TestNativeContentIsCounted(t *testing.T) {
	none := func(*sample) {}
	loose, err := build(t, false, content, none).check(t, &verify.Native{})
	if err != nil {
		t.Fatal(err)
	}
	if loose.Files != 7 || loose.Archives != 0 || loose.Documents.Lines != 2 || loose.Rows() != 8 ||
		loose.Tables["visit"].Lines != 2 {
		t.Errorf("%+v", loose)
	}
	packed, err := build(t, true, content, none).check(t, &verify.Native{Resume: true})
	if err != nil {
		t.Fatal(err)
	}
	if packed.Files != 10 || packed.Archives != 1 || packed.Resumed != 1 ||
		loose.Difference(packed) != "" {
		t.Errorf("%+v, %s", packed, loose.Difference(packed))
	}
}

// Two exports of the same records have the same documents and rows, in any order.
func TestContentThatDiffersIsNamed(t *testing.T) {
	right, err := build(t, false, content, func(*sample) {}).check(t, &verify.Native{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		harm func(*sample)
		says string
	}{
		"another order": {func(s *sample) {
			s.replace("tables/odd.csv", utf16("p;1\r\np;2"), utf16("p;2\r\np;1"))
		}, ""},
		"a row less": {func(s *sample) {
			s.replace("tables/odd.csv", utf16("p;1\r\n"), "")
		}, "the table odd differs: 2 with 8 bytes, and 1 with 4"},
		"another value": {func(s *sample) {
			s.replace("tables/visit.tsv", "2024", "2023")
		}, "the table visit differs: the same number"},
		"a value in another column": {func(s *sample) {
			s.replace("tables/ward.csv", "=Hill,", "=Hil,l")
			s.replace("tables/ward.csv", "H\r", "l\r")
			s.replace("tables/ward.csv", "\nH,=Hil,l", "\nl,H=Hil,")
		}, "the table ward differs: the same number"},
		"another document": {func(s *sample) {
			s.replace("documents/000002-note.rtf", "note", "nope")
		}, "the documents differ: the same number"},
		"a document less": {func(s *sample) {
			delete(s.files, "documents/000002-note.rtf")
		}, "the documents differ: 2 with 4512 bytes, and 1 with 4500"},
	} {
		got, err := build(t, false, content, c.harm).check(t, &verify.Native{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		why := right.Difference(got)
		if !strings.HasPrefix(why, c.says) || c.says == "" && why != "" {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// replace replaces text in a file.
func (s *sample) replace(name, old, text string) {
	if !strings.Contains(s.files[name], old) {
		panic(old + " is not in " + name)
	}
	s.files[name] = strings.ReplaceAll(s.files[name], old, text)
}

// unlist removes a file from the list.
func (s *sample) unlist(name string) {
	s.list = slices.DeleteFunc(s.list, func(other string) bool { return other == name })
}

// add adds a file to an archive that is listed.
func (s *sample) add(name string) {
	s.files[name] = "new"
	s.list = append(s.list, name)
	s.entries[name] = s.entry("new", name)
}

const (
	scan = "documents/000001-a scan.pdf"
	note = "documents/000002-note.rtf"
)

// Which packagings can be broken in a way.
const (
	loose = 1 << iota
	packed
	both = loose | packed
)

// breakages are ways in which native content can be wrong, and what is said about each.
var breakages = map[string]struct {
	where int
	at    stage
	harm  func(*sample)
	says  string
}{
	"another byte": {both, listed, func(s *sample) {
		s.replace(scan, "PDF", "PDG")
	}, "has the hash"},
	"a document cut short": {both, listed, func(s *sample) {
		s.files[scan] = s.files[scan][:100]
	}, "has 100 bytes, and is listed with 4500"},
	"a document with more": {both, listed, func(s *sample) {
		s.files[scan] += "more"
	}, "bytes, and is listed with 4500"},
	"another size in the list": {both, listed, func(s *sample) {
		s.attachment(note)["size"] = 13
	}, "has 12 bytes, and is listed with 13"},
	"no size in the list": {both, listed, func(s *sample) {
		delete(s.attachment(note), "size")
	}, "no valid size"},
	"another hash in the list": {both, listed, func(s *sample) {
		s.attachment(note)["hash"] = digest("")
	}, "has the hash"},
	"a hash that is no SHA-1": {both, listed, func(s *sample) {
		s.attachment(note)["hash"] = "abcd"
	}, "the hash is no SHA-1"},
	"no title": {both, listed, func(s *sample) {
		s.attachment(note)["title"] = ""
	}, "no url, or no title"},
	"no time of creation": {both, listed, func(s *sample) {
		s.attachment(note)["creation"] = "2024"
	}, "no valid creation"},
	"another media type of the answer": {loose, listed, func(s *sample) {
		s.types[note] = "text/plain"
	}, `is listed as "application/rtf", and comes as "text/plain"`},
	"no media type in the list": {both, listed, func(s *sample) {
		s.attachment(note)["contentType"] = ""
	}, "no valid contentType"},
	"no valid ID": {both, listed, func(s *sample) {
		s.entries[note]["id"] = "a/b"
	}, "no valid id"},
	"an ID twice": {both, listed, func(s *sample) {
		s.entries[note]["id"] = s.entries[scan]["id"]
	}, "the id f-"},
	"a file listed twice": {both, listed, func(s *sample) {
		s.attachment(note)["url"] = s.attachment(scan)["url"]
	}, "is listed twice"},
	"a document of another patient": {both, listed, func(s *sample) {
		s.entries[note]["subject"] = entry{"reference": "Patient/q"}
	}, `has the subject "Patient/q"`},
	"a document that was replaced": {both, listed, func(s *sample) {
		s.entries[note]["status"] = "superseded"
	}, "the status is not current"},
	"two contents in a line": {both, listed, func(s *sample) {
		contents := s.entries[note]["content"].([]any)
		s.entries[note]["content"] = append(contents, contents...)
	}, "not one content"},
	"no format": {both, listed, func(s *sample) {
		s.format(note)["code"] = ""
	}, "no format"},
	"no link to the documentation": {both, listed, func(s *sample) {
		s.entries[note]["description"] = "A note"
	}, "the description has no link"},
	"a link to nowhere": {both, content, func(s *sample) {
		s.page = strings.ReplaceAll(s.page, `"format-rtf"`, `"format-rt"`)
	}, "#format-rtf, which does not exist"},
	"a link to another format": {both, listed, func(s *sample) {
		s.format(note)["code"] = "pdf"
	}, "has the format pdf, and its description links to format-rtf"},
	"a link to another table": {both, listed, func(s *sample) {
		s.entries["tables/note.csv"]["description"] = s.origin + "/docs/ehi#table-visit"
	}, "is the table note, and its description links to table-visit"},

	"a descriptor that is none": {both, described, func(s *sample) {
		s.files[s.descriptorName()] = `{"name":"none","resources":[]}`
	}, "resources"},
	"a table that is not there": {loose, listed, func(s *sample) {
		s.unlist("tables/note.csv")
	}, "note.csv, which is not listed"},
	"a packed table that is not there": {packed, described, func(s *sample) {
		s.tables.Resources[1].Path[0] = "tables/notes.csv"
	}, `the table note is at ["tables/notes.csv"], where nothing is`},
	"a table described twice": {both, described, func(s *sample) {
		again := s.tables.Resources[3]
		again.Name = "again"
		s.tables.Resources = append(s.tables.Resources, again)
	}, "twice"},
	"a table that is not described": {packed, described, func(s *sample) {
		s.tables.Resources = s.tables.Resources[:3]
	}, `no table of datapackage.json is "tables/odd.csv"`},
	"another size in the descriptor": {both, described, func(s *sample) {
		s.tables.Resources[0].Bytes++
	}, "and is described with"},
	"another hash in the descriptor": {both, described, func(s *sample) {
		s.tables.Resources[0].Hash = "sha1:" + strings.Repeat("0", 40)
	}, "and is described with"},
	"another header": {both, content, func(s *sample) {
		s.replace("tables/visit.tsv", "patient", "person")
	}, `the header: the header's column 2 is "person"`},
	"another header in an unusual dialect": {both, content, func(s *sample) {
		s.replace("tables/odd.csv", utf16("patient"), utf16("person"))
	}, `the header: the header's column 1 is "person"`},
	"no header": {both, content, func(s *sample) {
		s.files["tables/ward.csv"] = ""
	}, "the header: EOF"},
	"a value too few": {both, content, func(s *sample) {
		s.replace("tables/visit.tsv", "p\tW1", "p")
	}, "row 1: the row has 3 values"},
	"a row on two lines": {both, content, func(s *sample) {
		s.replace("tables/visit.tsv", "p\tW1", "p\t\nW1")
	}, "row 1: the row has 3 values"},
	"a quote that is not closed": {both, content, func(s *sample) {
		s.replace("tables/note.csv", "said\"", "said")
		s.replace("tables/note.csv", "6\"", "6")
	}, "row 1: a quote is not closed"},
	"a last row without a line end": {both, content, func(s *sample) {
		s.replace("tables/ward.csv", "Hill,\r\n", "Hill,")
	}, "row 2: a quote is not closed, or the last row has no line end"},
	"a date that is none": {both, content, func(s *sample) {
		s.replace("tables/visit.tsv", "2024-01-02", "2024-13-02")
	}, `row 1: field "on"`},
	"a number that is none": {both, content, func(s *sample) {
		s.replace("tables/odd.csv", utf16("p;2"), utf16("p;x"))
	}, `row 2: field "n"`},
	"a primary key twice": {both, content, func(s *sample) {
		s.replace("tables/visit.tsv", "v2", "v1")
	}, "row 2: the primary key id is missing, or is that of another row"},
	"no primary key": {both, content, func(s *sample) {
		s.replace("tables/visit.tsv", "v2", "")
	}, "row 2: the primary key id is missing"},
	"a foreign key that leads nowhere": {both, content, func(s *sample) {
		s.replace("tables/note.csv", "v1,5'", "v3,5'")
	}, "row 2: the foreign key visit leads to no row of visit"},
	"a foreign key into the table that leads nowhere": {both, content, func(s *sample) {
		s.replace("tables/ward.csv", "East,H", "East,I")
	}, "row 1: the foreign key part_of leads to no row of ward"},
	"a look-up table without its rows": {both, content, func(s *sample) {
		s.files["tables/ward.csv"] = "code,name,part_of\r\n"
	}, "row 1: the foreign key ward leads to no row of ward"},
	"a row of another patient": {both, content, func(s *sample) {
		s.replace("tables/visit.tsv", "v2\tp", "v2\tq")
	}, `row 2: it belongs to the patient "q"`},

	"a file missing in the archive": {packed, listed, func(s *sample) {
		s.files[note] = absent
	}, `lists "documents/000002-note.rtf", which the archive does not have`},
	"a file that is not listed": {packed, listed, func(s *sample) {
		s.files["documents/000003-extra.pdf"] = "%PDF"
	}, `the file "documents/000003-extra.pdf" is not listed`},
	"no read-me in the list": {packed, listed, func(s *sample) {
		s.unlist("README.txt")
	}, `the file "README.txt" is not listed`},
	"no list": {packed, listed, func(s *sample) {
		s.files["document_reference.ndjson"] = absent
	}, "lacks document_reference.ndjson"},
	"a list that lists itself": {packed, listed, func(s *sample) {
		s.attachment(note)["url"] = "document_reference.ndjson"
	}, "lists itself"},
	"a list that is cut": {packed, listed, func(s *sample) {
		s.end = `{"resourceType":`
	}, "does not end with a newline"},
	"a line of something else": {packed, listed, func(s *sample) {
		s.end = `{"resourceType":"Patient"}` + "\n"
	}, "lists what is no file"},
	"a file twice in the archive": {packed, listed, func(s *sample) {
		s.also = []string{note}
	}, `has "documents/000002-note.rtf" twice`},
	"a file twice but for capitals": {packed, listed, func(s *sample) {
		s.add("Documents/000002-note.rtf")
	}, "-note.rtf\" twice"},
	"a file outside of the archive": {packed, listed, func(s *sample) {
		s.add("../000003.pdf")
	}, `the file "../000003.pdf" leads out of the archive`},
	"a file that goes up and down": {packed, listed, func(s *sample) {
		s.add("documents/../../000003.pdf")
	}, "leads out of the archive"},
	"a file of the root": {packed, listed, func(s *sample) {
		s.add("/etc/000003.pdf")
	}, "leads out of the archive"},
	"a file outside on Windows": {packed, listed, func(s *sample) {
		s.add(`documents\..\..\000003.pdf`)
	}, "has a character that not every system allows"},
	"a folder": {packed, listed, func(s *sample) {
		s.files["documents/"] = ""
	}, `the file "documents/" is a folder`},
	"a descriptor of another type": {packed, listed, func(s *sample) {
		s.attachment("datapackage.json")["contentType"] = "application/json"
	}, `datapackage.json is listed as "application/json"`},
	"a damaged file in the archive": {packed, listed, func(s *sample) {
		s.damage = func(archive []byte) { archive[bytes.Index(archive, []byte("PDF"))]++ }
	}, "checksum error"},
	"no archive": {packed, listed, func(s *sample) {
		s.damage = func(archive []byte) { clear(archive[len(archive)-30:]) }
	}, "not a valid zip file"},
	"another size of the archive": {packed, listed, func(s *sample) {
		s.archive = s.entry("archive", "native-1.zip")
	}, "bytes, and is listed with 0"},
	"another media type of the archive": {packed, listed, func(s *sample) {
		s.types["native-1.zip"] = "application/octet-stream"
	}, `is listed as "application/zip", and comes as "application/octet-stream"`},
}

func TestWrongNativeContentIsFoundOut(t *testing.T) {
	for name, b := range breakages {
		for where, s := range map[int]func() *sample{
			loose:  func() *sample { return build(t, false, b.at, b.harm) },
			packed: func() *sample { return build(t, true, b.at, b.harm) },
		} {
			if where&b.where == 0 {
				continue
			}
			_, err := s().check(t, &verify.Native{})
			if !errors.Is(err, verify.ErrWrong) || !strings.Contains(err.Error(), b.says) {
				t.Errorf("%s (%d): %v", name, where, err)
			}
		}
	}
}

// A loose file that is not there is an error of the client.
func TestALooseFileThatIsNotThereIsAnError(t *testing.T) {
	_, err := build(t, false, listed, func(s *sample) {
		delete(s.files, note)
	}).check(t, &verify.Native{})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusNotFound {
		t.Error(err)
	}
}

// The rest of an archive must be the rest of the archive whose first half was downloaded.
func TestAnArchiveThatCannotBeResumedIsFoundOut(t *testing.T) {
	changed := build(t, true, listed, func(s *sample) { s.etags = []string{`"1"`, `"2"`} })
	_, err := changed.check(t, &verify.Native{Resume: true})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusOK {
		t.Error(err)
	}
	untagged := build(t, true, listed, func(s *sample) { s.etags = []string{""} })
	_, err = untagged.check(t, &verify.Native{Resume: true})
	if !errors.Is(err, verify.ErrWrong) || !strings.Contains(err.Error(), "has no ETag") {
		t.Error(err)
	}
}

// Keys that an archive says lead elsewhere lead to another one, and all others to rows in the same
// archive. A primary key is unique in all of them.
func TestKeysAreThoseOfAllArchives(t *testing.T) {
	const nowhere = "row 1: the foreign key ward leads to no row of ward"
	for name, c := range map[string]struct {
		id, ward string
		apart    bool // the key to wards leads elsewhere
		says     string
	}{
		"another visit":                 {"v3", "", false, ""},
		"a visit again":                 {"v1", "", false, "is that of a row in another file"},
		"a ward here":                   {"v3", "W2", false, ""},
		"a ward elsewhere":              {"v3", "W1", true, ""},
		"a ward that is not here":       {"v3", "W1", false, nowhere},
		"a ward nowhere":                {"v3", "W9", true, nowhere},
		"a ward neither here nor there": {"v3", "W9", false, nowhere},
	} {
		second := build(t, true, content, func(s *sample) {
			s.id = "g"
			s.files = map[string]string{
				"tables/visit.tsv": "id\tpatient\tward\ton\n" + c.id + "\tp\t" + c.ward + "\t\n",
				"tables/ward.csv":  "code,name,part_of\r\nW2,West,\r\n",
			}
			s.tables = s.tables.Narrow(func(name string) bool {
				return name == "visit" || name == "ward"
			}, func(_ *datapackage.Resource, k datapackage.ForeignKey) bool {
				return !c.apart || k.Reference.Resource != "ward"
			})
		})
		first := build(t, true, content, func(*sample) {})
		_, err := export(t, &verify.Native{}, first, second)
		if c.says == "" && err != nil ||
			c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
