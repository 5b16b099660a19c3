package native_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/encoding/json"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"ehi-server/exporter/native"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/files/filestest"
	"ehi-server/shared/files/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clinic is the tables of the tests: visits of patients, notes of visits, and look-up tables, of
// which one refers to another.
var clinic = must(datapackage.Parse([]byte(`{"name":"clinic","resources":[
 {"name":"visit","path":"visit.tsv","format":"tsv",
  "dialect":{"delimiter":"\t","lineTerminator":"\n"},
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"ward"},{"name":"on","type":"date"}],
   "primaryKey":"id","foreignKeys":[
    {"fields":"ward","reference":{"resource":"ward","fields":"code"}}]},
  "ehi:patient":["patient"],"ehi:category":"visits","ehi:date":"on"},
 {"name":"note","path":"note.csv",
  "schema":{"fields":[{"name":"visit"},{"name":"text"}],"foreignKeys":[
    {"fields":"visit","reference":{"resource":"visit","fields":"id"}}]},
  "ehi:patient":["visit","patient"],"ehi:category":"medicalRecord"},
 {"name":"oddity","path":"oddity.csv",
  "schema":{"fields":[{"name":"patient"},{"name":"what"}]},"ehi:patient":["patient"]},
 {"name":"ward","path":"ward.csv",
  "schema":{"fields":[{"name":"code"},{"name":"name"},{"name":"site"}],"primaryKey":"code",
   "foreignKeys":[{"fields":"site","reference":{"resource":"site","fields":"code"}}]},
  "ehi:lookup":true},
 {"name":"site","path":"site.csv",
  "schema":{"fields":[{"name":"code"},{"name":"name"}],"primaryKey":"code"},"ehi:lookup":true}]}`)))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// record is native content in memory.
type record struct {
	source.NoNative
	documents []*source.Document
	rows      map[string]string
}

func (record) Tables() *datapackage.Package { return clinic }

func (r record) Documents(
	_ context.Context, _ source.Query, visit func(*source.Document) error,
) error {
	for _, d := range r.documents {
		if err := visit(d); err != nil {
			return err
		}
	}
	return nil
}

func (r record) Rows(_ context.Context, table string, visit func(source.Rows) error) error {
	text := r.rows[table]
	if text == "" {
		return nil
	}
	n := int64(strings.Count(text, "\n") - strings.Count(text, "\n ")) // of notes
	return visit(source.Rows{Patient: "p", Data: []byte(text), Count: n})
}

// shelf is the rows of the look-up tables, by key.
var shelf = map[string]string{
	"ward W1": "W1,\"East, old\",S1\r\n", "ward W2": "W2,West,S2\r\n",
	"site S1": "S1,=Hill\r\n", "site S2": "S2,Dale\r\n",
}

func (record) Lookup(
	_ context.Context, table string, fields, values []string, visit func(source.Rows) error,
) error {
	if !slices.Equal(fields, []string{"code"}) {
		return fmt.Errorf("%s is looked up by %v", table, fields)
	}
	row := shelf[table+" "+values[0]]
	if row == "" {
		return nil
	}
	return visit(source.Rows{Data: []byte(row), Count: 1})
}

// document returns a document in memory, or in a file if dir is not "".
func document(t *testing.T, dir, name string, content []byte) *source.Document {
	t.Helper()
	digest := sha1.Sum(content)
	d := &source.Document{
		ID: "d-" + name, Patient: "p", Name: name, ContentType: "application/pdf",
		Title: "About " + name, Created: time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC),
		Category: ehi.MedicalRecord, Labels: []fhir.Coding{{Code: "R"}},
		Size: int64(len(content)), SHA1: digest[:],
		Sum:  string(files.SumOf(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
	if dir != "" {
		d.Path = filepath.Join(dir, name)
		if err := os.WriteFile(d.Path, content, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// exported is an export that was committed.
type exported struct {
	t     *testing.T
	store *local.Store
	task  ehi.Task
	res   native.Result
}

func export(t *testing.T, e native.Export) *exported {
	t.Helper()
	store, err := local.Open(local.Config{Root: filepath.Join(t.TempDir(), "exports")})
	if err != nil {
		t.Fatal(err)
	}
	e.Origin, e.Job = "https://ehi.example.org", "job"
	e.TakenAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if e.Batch, err = store.NewBatch("job", 0, 1); err != nil {
		t.Fatal(err)
	}
	x := &exported{t: t, store: store, task: ehi.Task{Job: "job", Attempt: 1}}
	if x.res, err = e.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	extents, err := e.Batch.Commit()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range x.res.Outputs {
		at := extents[o.Number]
		x.task.Files = append(x.task.Files, ehi.File{
			Type: o.Type, Kind: o.Kind, Count: o.Count, Bytes: o.Bytes,
			Object: at.Object, Offset: at.Offset, Length: at.Length, Sum: string(at.Sum),
		})
	}
	x.task.Links = x.res.Links
	return x
}

// read reads an extent to its end, which checks its sum.
func (x *exported) read(e files.Extent) []byte {
	x.t.Helper()
	r, err := x.store.Open("job", e)
	if err != nil {
		x.t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		x.t.Fatal(err)
	}
	return data
}

func (x *exported) file(f ehi.File) []byte {
	return x.read(files.Extent{
		Object: f.Object, Offset: f.Offset, Length: f.Length, Sum: files.Sum(f.Sum),
	})
}

// kind returns the content of the file of a kind.
func (x *exported) kind(k ehi.FileKind) []byte {
	x.t.Helper()
	f, ok := native.IndexOf(&x.task, k)
	if !ok {
		return nil
	}
	return x.file(f)
}

// get returns a loose file by its name.
func (x *exported) get(kind ehi.FileKind, name string) []byte {
	x.t.Helper()
	index := x.kind(kind)
	f, ok, err := native.Find(bytes.NewReader(index), int64(len(index)), name)
	if !ok || err != nil {
		x.t.Fatalf("%s is found %t, %v in %s", name, ok, err, index)
	}
	e, ok := native.Extent(&x.task, kind, f)
	if !ok {
		x.t.Fatalf("%+v lies nowhere", f)
	}
	return x.read(e)
}

// reference is what clients read of an EHIDocumentReference.
type reference struct {
	ID          string
	Description string
	Subject     fhir.Reference
	Date        string
	Category    []struct{ Coding []fhir.Coding }
	Labels      []struct{ Coding []fhir.Coding } `json:"securityLabel"`
	Content     []struct {
		Attachment fhir.Attachment
		Format     fhir.Coding
	}
}

// downloads is where the lists say that files are.
const downloads = "https://ehi.example.org/jobs/job/download/"

// listed returns the files of a list: their names, after checking each against its content.
func listed(t *testing.T, list []byte, base string, get func(name string) []byte) []string {
	t.Helper()
	seen := map[string]bool{}
	for line := range bytes.Lines(list) {
		var r reference
		if err := json.Unmarshal(line, &r); err != nil || len(r.Content) != 1 {
			t.Fatalf("%s: %v", line, err)
		}
		a := r.Content[0].Attachment
		name, ok := strings.CutPrefix(a.URL, base)
		if !ok || seen[name] || seen[r.ID] || !fhir.ValidID(r.ID) {
			t.Fatalf("%s is listed as %s", r.ID, a.URL)
		}
		seen[r.ID] = true
		content := get(name)
		digest := sha1.Sum(content)
		if a.Size != int64(len(content)) || a.ContentType == "" ||
			a.Hash != base64.StdEncoding.EncodeToString(digest[:]) {
			t.Errorf("%s has %d bytes, and is listed as %+v", name, len(content), a)
		}
		if f := r.Content[0].Format; f.Code == "" || f.System != "https://ehi.example.org/docs/ehi" ||
			!strings.Contains(r.Description, f.System+"#") {
			t.Errorf("%s has the format %+v and the description %q", name, f, r.Description)
		}
		if isDocument := strings.HasPrefix(name, "documents/"); isDocument &&
			(r.Category[0].Coding[0].Code != "medicalRecord" || r.Labels[0].Coding[0].Code != "R") {
			t.Errorf("%s has the category %+v and the labels %+v", name, r.Category, r.Labels)
		}
		delete(seen, r.ID)
		seen[name] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func sample(t *testing.T, dir string) record {
	return record{
		documents: []*source.Document{
			document(t, dir, "scan one.pdf", bytes.Repeat([]byte("large"), 40_000)),
			document(t, dir, "../letter?.pdf", []byte("small")),
		},
		rows: map[string]string{
			"visit": "v1\tp\tW1\t2024-01-02\nv2\tp\t\t2025-01-02\n",
			"note":  "v1,\"fine,\r\n thanks\"\r\n",
		},
	}
}

var tables = map[string]string{
	"tables/visit.tsv": "id\tpatient\tward\ton\nv1\tp\tW1\t2024-01-02\nv2\tp\t\t2025-01-02\n",
	"tables/note.csv":  "visit,text\r\nv1,\"fine,\r\n thanks\"\r\n",
	"tables/ward.csv":  "code,name,site\r\nW1,\"East, old\",S1\r\n",
	"tables/site.csv":  "code,name\r\nS1,=Hill\r\n",
}

// descriptorOf checks that a descriptor describes exactly some tables, which are beside it.
func descriptorOf(t *testing.T, descriptor []byte, get func(path string) []byte) {
	t.Helper()
	p, err := datapackage.Parse(descriptor)
	if err != nil || len(p.Resources) != len(tables) {
		t.Fatalf("%v: %s", err, descriptor)
	}
	for _, r := range p.Resources {
		content := get(r.Path[0])
		if digest := sha1.Sum(content); r.Bytes != int64(len(content)) ||
			r.Hash != fmt.Sprintf("sha1:%x", digest) {
			t.Errorf("%s is described as %d bytes, %s", r.Name, r.Bytes, r.Hash)
		}
	}
}

// NAT-1: each document and table of a patient has a URL of its own, and the list names it once.
// The look-up rows that the patient's rows refer to are there, directly or by another one.
func TestNAT1LooseFilesAreListedAndFound(t *testing.T) {
	r := sample(t, t.TempDir())
	r.documents[1].Path = "" // of another source
	x := export(t, native.Export{Record: r, Packaging: ehi.PackageFiles, Patient: "p"})
	get := func(name string) []byte {
		return x.get(ehi.Index, strings.ReplaceAll(name, "%20", " "))
	}
	names := listed(t, x.kind(ehi.Documents), downloads, get)
	want := slices.Sorted(maps.Keys(tables))
	want = append([]string{
		"documents/000001-scan%20one.pdf", "documents/000002-letter_.pdf",
		"tables/datapackage.json",
	}, want...)
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
	for name, content := range tables {
		if d := cmp.Diff(content, string(get(name))); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if got := get("documents/000001-scan one.pdf"); len(got) != 200_000 {
		t.Errorf("the document has %d bytes", len(got))
	}
	descriptorOf(t, get("tables/datapackage.json"), func(path string) []byte {
		return get("tables/" + path)
	})
	if x.res.Links != 1 || x.res.Written.Linked != 200_000 || x.res.Written.Rows != 5 ||
		x.res.Written.Documents != 2 || x.res.Written.Tables != 4 {
		t.Errorf("%d links, %+v", x.res.Links, x.res.Written)
	}
	linked := 0
	err := native.EachLink(&x.task, func(e files.Extent) (files.Reader, error) {
		return x.store.Open("job", e)
	}, func(e files.Extent) error {
		linked++
		return x.store.Verify(t.Context(), "job", e, io.Discard)
	})
	if err != nil || linked != 1 {
		t.Errorf("%d links are found: %v", linked, err)
	}
}

// NAT-2: an archive names every other file exactly once.
func TestNAT2ArchivesNameEachOfTheirFilesOnce(t *testing.T) {
	for _, compression := range []ehi.Compression{"", ehi.Gzip} {
		t.Run("compression "+string(compression), func(t *testing.T) {
			x := export(t, native.Export{
				Record: sample(t, ""), Packaging: ehi.PackageZIP, Patient: "p",
				Compression: compression,
			})
			if len(x.task.Files) != 2 || x.res.Links != 0 {
				t.Fatalf("%d links, %+v", x.res.Links, x.task.Files)
			}
			contents := unpack(t, x.file(x.task.Files[1]))
			check(t, contents)
			for name, content := range tables {
				if d := cmp.Diff(content, string(contents[name])); d != "" {
					t.Errorf("%s: %s", name, d)
				}
			}
			descriptorOf(t, contents["datapackage.json"], func(path string) []byte {
				return contents[path]
			})
			if !bytes.Contains(contents["README.txt"], []byte("into a folder of its own")) {
				t.Errorf("the readme does not say where to unpack: %s", contents["README.txt"])
			}
			whole := x.file(x.task.Files[1])
			names := listed(t, x.kind(ehi.Documents),
				downloads, func(string) []byte { return whole })
			if !slices.Equal(names, []string{"native-1.zip"}) {
				t.Errorf("the list of the manifest names %v", names)
			}
		})
	}
}

// NAT-2: files by patient have no part for what belongs to no patient. Their archives have the
// look-up rows that the patients' rows refer to, as those of one patient have, and no others.
func TestNAT2ArchivesByPatientHaveTheLookUpRowsOfTheirPatients(t *testing.T) {
	r := sample(t, "")
	for _, byPatient := range []bool{true, false} {
		x := export(t, native.Export{
			Record: r, Packaging: ehi.PackageZIP, ByPatient: byPatient,
		})
		contents := unpack(t, x.kind(ehi.Archive))
		for name, text := range tables {
			lookup := name == "tables/ward.csv" || name == "tables/site.csv"
			if lookup && !byPatient {
				text = ""
			}
			if got := string(contents[name]); got != text {
				t.Errorf("by patient %t: %s is %q, want %q", byPatient, name, got, text)
			}
		}
	}
}

// wideRecord is a table in UTF-16, whose file began with a byte order mark.
type wideRecord struct {
	record
	of *datapackage.Package
}

func (r wideRecord) Tables() *datapackage.Package { return r.of }

// A table is written without a byte order mark. Its type, its description and the list of its
// archive name the order of its bytes, so that nobody has to guess.
func TestATableInUTF16SaysTheOrderOfItsBytes(t *testing.T) {
	wide := func(text string) (out string) {
		for c := range strings.SplitSeq(text, "") {
			out += c + "\x00"
		}
		return out
	}
	for encoding, want := range map[string]string{
		"utf-16": "utf-16le", "UTF-16": "utf-16le", "utf-16le": "utf-16le",
	} {
		of := must(datapackage.Parse([]byte(`{"name":"wide","resources":[{"name":"oddity",
 "path":"oddity.csv","encoding":"` + encoding + `",
 "schema":{"fields":[{"name":"patient"},{"name":"what"}]},"ehi:patient":["patient"]}]}`)))
		text, row := wide("patient,what\r\np,odd\r\n"), wide("p,odd\r\n")
		r := wideRecord{record{rows: map[string]string{"oddity": row}}, of}
		x := export(t, native.Export{Record: r, Packaging: ehi.PackageZIP, Patient: "p"})
		contents := unpack(t, x.kind(ehi.Archive))
		if got := string(contents["tables/oddity.csv"]); got != text {
			t.Errorf("%q: the table is %q, want %q", encoding, got, text)
		}
		described := must(datapackage.Parse(contents["datapackage.json"])).Resources[0].Encoding
		list := string(contents["document_reference.ndjson"])
		if described != want ||
			!strings.Contains(list, `"contentType":"text/csv; charset=`+want+`"`) {
			t.Errorf("%q is described as %q and listed as %s", encoding, described, list)
		}
	}
}

// unpack reads an archive from its directory, and as it arrives: both must give the same.
func unpack(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || out[f.Name] != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		out[f.Name] = content
	}
	return out
}

// check checks that the list of an archive names all of its other files.
func check(t *testing.T, contents map[string][]byte) {
	t.Helper()
	plain := func(name string) string { return must(url.PathUnescape(name)) }
	names := listed(t, contents["document_reference.ndjson"], "", func(name string) []byte {
		return contents[plain(name)]
	})
	for i, name := range names {
		if strings.ContainsAny(name, " #") {
			t.Errorf("%q is no URL", name)
		}
		names[i] = plain(name)
	}
	want := slices.DeleteFunc(slices.Sorted(maps.Keys(contents)),
		func(name string) bool { return name == "document_reference.ndjson" })
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
}

// Archives end at their size, and a table that is larger goes on in the next one. No two files
// have the same ID.
func TestNAT2ArchivesAreSplit(t *testing.T) {
	r := sample(t, "")
	row := "v1\tp\tW1\t2024-01-02\n"
	r.rows["visit"] = strings.Repeat(row, 10_000)
	r.documents = append(r.documents, document(t, "", "b.pdf", make([]byte, 90_000)),
		document(t, "", "50% #c.pdf", make([]byte, 20_000)))
	x := export(t, native.Export{
		Record: manyRows{r}, Packaging: ehi.PackageZIP, Patient: "p", ArchiveBytes: 100_000,
	})
	archives, visits, documents, followed, apart := 0, "", 0, 0, 0
	ids := map[string]bool{}
	for _, f := range x.task.Files {
		if f.Kind != ehi.Archive {
			continue
		}
		archives++
		contents := unpack(t, x.file(f))
		check(t, contents)
		here, elsewhere := closed(t, contents)
		followed, apart = followed+here, apart+elsewhere
		for line := range bytes.Lines(contents["document_reference.ndjson"]) {
			var r reference
			if err := json.Unmarshal(line, &r); err != nil || ids[r.ID] {
				t.Errorf("the ID of %s: %v", line, err)
			}
			ids[r.ID] = true
		}
		rows, _ := strings.CutPrefix(string(contents["tables/visit.tsv"]), "id\tpatient\tward\ton\n")
		visits += rows
		size := 0
		for name, content := range contents {
			size += len(content)
			if strings.HasPrefix(name, "documents/") {
				documents++
			}
		}
		if size > 110_000 && contents["documents/000001-scan one.pdf"] == nil {
			t.Errorf("an archive holds %d bytes", size)
		}
	}
	if followed == 0 || apart < 2 {
		t.Errorf("%d keys are followed within archives, and %d are not", followed, apart)
	}
	if archives < 4 || visits != r.rows["visit"] || documents != 4 {
		t.Errorf("%d archives with %d documents and %d bytes of visits", archives, documents,
			len(visits))
	}
}

// closed checks that each key that an archive describes as one leads to a row in the archive. It
// returns how many these are, and how many lead elsewhere.
func closed(t *testing.T, contents map[string][]byte) (here, elsewhere int) {
	t.Helper()
	descriptor := contents["datapackage.json"]
	if descriptor == nil {
		return 0, 0
	}
	p := must(datapackage.Parse(descriptor))
	values := func(table *datapackage.Resource, field string) map[string]bool {
		out := map[string]bool{}
		codec, i := must(datapackage.NewCodec(table)), table.Fields.Field(field)
		content := contents[table.Path[0]]
		rows := bytes.TrimPrefix(content, codec.Header(content))
		for raw := range codec.Rows(rows) {
			out[string(must(codec.Fields(raw, nil))[i])] = true
		}
		return out
	}
	for i := range p.Resources {
		from := &p.Resources[i]
		elsewhere += len(from.Fields.Elsewhere)
		for _, k := range from.Fields.ForeignKeys {
			here++
			there := values(p.Table(k.Reference.Resource), k.Reference.Fields[0])
			for v := range values(from, k.Fields[0]) {
				if v != "" && !there[v] {
					t.Errorf("%s %q of %s leads nowhere: %s", k.Fields, v, from.Name, descriptor)
				}
			}
		}
	}
	return here, elsewhere
}

// manyRows gives rows in small pieces, as those of many patients come.
type manyRows struct{ record }

func (m manyRows) Rows(ctx context.Context, table string, visit func(source.Rows) error) error {
	return m.record.Rows(ctx, table, func(r source.Rows) error {
		for row := range bytes.Lines(r.Data) {
			if table == "note" {
				return visit(r)
			}
			if err := visit(source.Rows{Patient: "p", Data: row, Count: 1}); err != nil {
				return err
			}
		}
		return nil
	})
}

// A record without native content writes nothing.
func TestARecordWithoutNativeContentWritesNothing(t *testing.T) {
	for _, p := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
		x := export(t, native.Export{Record: source.NoNative{}, Packaging: p, Patient: "p"})
		if len(x.task.Files) != 0 || x.res.Links != 0 {
			t.Errorf("%s: %+v", p, x.res)
		}
	}
}

// Whatever the names are, the index finds each of them, and nothing else.
func TestTheIndexFindsEveryName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z/ü".-]{0,40}`), 0, 40,
			rapid.ID[string]).Draw(t, "names")
		slices.Sort(names)
		var index []byte
		for i, name := range names {
			line, err := json.Marshal(ehi.NativeFile{Name: name, Number: i, Length: int64(i)})
			if err != nil {
				t.Fatal(err)
			}
			index = append(append(index, line...), '\n')
		}
		for i, name := range names {
			f, ok, err := native.Find(bytes.NewReader(index), int64(len(index)), name)
			if !ok || err != nil || f.Number != i {
				t.Fatalf("%q is found %t as %+v, %v", name, ok, f, err)
			}
		}
		other := rapid.StringMatching(`[a-z/ü".-]{0,40}`).Draw(t, "other")
		_, ok, err := native.Find(bytes.NewReader(index), int64(len(index)), other)
		if err != nil || ok != slices.Contains(names, other) {
			t.Fatalf("%q is found %t, %v", other, ok, err)
		}
	})
}

// endless reads for ever, and calls at at its tenth megabyte.
type endless struct {
	n  int
	at func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.n += len(p); e.n > 10<<20 && e.at != nil {
		e.at()
		e.at = nil
	}
	return len(p), nil
}

// An export that is cancelled ends within a document, however large that is, and counts what it
// has moved until then.
func TestACancelledExportEndsWithinADocument(t *testing.T) {
	for _, way := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
		store, err := local.Open(local.Config{Root: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		batch, err := store.NewBatch("job", 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		d := document(t, "", "endless", nil)
		d.Open = func() (io.ReadCloser, error) {
			return io.NopCloser(&endless{at: cancel}), nil
		}
		var moved atomic.Int64
		e := native.Export{
			Record: record{documents: []*source.Document{d}}, Packaging: way, Batch: batch,
			Patient: "p", Moved: &moved,
		}
		if _, err := e.Write(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", way, err)
		}
		if n := moved.Load(); n < 10<<20 || n > 12<<20 {
			t.Errorf("%s: %d bytes were moved", way, n)
		}
		if err := batch.Discard(); err != nil {
			t.Error(err)
		}
	}
}

// Whichever write of an archive fails, the export fails with its error.
func TestAnArchiveThatCannotBeWrittenFailsItsExport(t *testing.T) {
	faults := filestest.NewFaulty(disk.OS())
	store, err := local.Open(local.Config{Root: t.TempDir(), Disk: faults})
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	d := document(t, "", "large.bin", make([]byte, 5<<20))
	failed := 0
	for calls := 0; ; calls++ {
		batch, err := store.NewBatch("job", 0, calls+1)
		if err != nil {
			t.Fatal(err)
		}
		faults.FailAfter(filestest.Write, full, calls)
		e := native.Export{
			Record: record{documents: []*source.Document{d}}, Packaging: ehi.PackageZIP,
			Batch: batch,
		}
		_, err = e.Write(t.Context())
		faults.Fail(filestest.Write, nil, 0)
		if err := batch.Discard(); err != nil {
			t.Error(err)
		}
		if err == nil {
			break
		}
		if failed++; !errors.Is(err, full) {
			t.Errorf("the error after %d writes is %v", calls, err)
		}
	}
	if failed < 5 {
		t.Errorf("the archive has %d writes", failed)
	}
}

// A list says only the dates that documents have. The attachment always has one, as the profile of
// EHIDocumentReferences wants it.
func TestAListHasNoDateForADocumentWithoutOne(t *testing.T) {
	dated, other := document(t, "", "a.pdf", []byte("a")), document(t, "", "b.pdf", []byte("b"))
	other.Created = time.Time{}
	r := record{documents: []*source.Document{dated, other}}
	x := export(t, native.Export{Record: r, Packaging: ehi.PackageFiles, Patient: "p"})
	var dates, creations []string
	for line := range bytes.Lines(x.kind(ehi.Documents)) {
		var r reference
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		dates = append(dates, r.Date)
		creations = append(creations, r.Content[0].Attachment.Creation)
	}
	if want := []string{"2024-03-01T00:00:00.000Z", ""}; !slices.Equal(dates, want) {
		t.Errorf("dates %q", dates)
	}
	if want := []string{"2024-03-01T00:00:00.000Z", "2026-01-02T03:04:05.000Z"}; !slices.Equal(
		creations, want) {
		t.Errorf("creations %q", creations)
	}
}

// manyDocuments is a record with small documents only.
type manyDocuments struct {
	source.NoNative
	n int
}

func (m manyDocuments) Documents(
	_ context.Context, _ source.Query, visit func(*source.Document) error,
) error {
	content := make([]byte, 1000)
	for i := range m.n {
		err := visit(&source.Document{
			ID: strconv.Itoa(i), Patient: "p", Name: "a.pdf", ContentType: "application/pdf",
			Size: int64(len(content)),
			Open: func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(content)), nil
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Small documents do not each take the memory of a large one.
func TestSmallDocumentsShareABuffer(t *testing.T) {
	const n = 1000
	for _, p := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		x := export(t, native.Export{Record: manyDocuments{n: n}, Packaging: p, Patient: "p"})
		runtime.ReadMemStats(&after)
		if x.res.Written.Documents != n {
			t.Errorf("%s: %+v", p, x.res)
		}
		if used := (after.TotalAlloc - before.TotalAlloc) / n; used > 64<<10 {
			t.Errorf("%s: each document takes %d bytes of memory", p, used)
		}
	}
}

// NAT-2: a list names only resources that the record of the document's patient has, with a form
// and without one.
func TestNAT2AListNamesOnlyResourcesOfTheRecord(t *testing.T) {
	for _, packaging := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
		for _, patient := range []string{"p", ""} {
			for _, decide := range []native.Decider{nil, native.NewRelease(strict{}, clinic)} {
				r := sample(t, "")
				r.documents[0].Resource = "Encounter/own"
				r.documents[0].Related = []string{"Condition/own"}
				r.documents[0].Type = fhir.Coding{Code: "first"}
				r.documents[0].Codings = []fhir.Coding{{Code: "second"}}
				r.documents[1].Resource = "Encounter/own"
				r.documents[1].Related = []string{"Encounter/stray"}
				x := export(t, native.Export{
					Record: r, Packaging: packaging, Patient: patient, Decide: decide,
					Holds: func(patient, typ, id string) (bool, error) {
						return patient == "p" && typ != "" && id == "own", nil
					},
				})
				var all []byte
				for _, f := range x.task.Files {
					all = append(all, x.file(f)...)
				}
				own := `"related":[{"reference":"Encounter/own"},{"reference":"Condition/own"}]`
				codes := `"type":{"coding":[{"code":"first"},{"code":"second"}]}`
				if !bytes.Contains(all, []byte(codes)) {
					t.Errorf("%s of %q lacks a code: %s", packaging, patient, all)
				}
				if !bytes.Contains(all, []byte(own)) || bytes.Contains(all, []byte("stray")) {
					t.Errorf("%s of %q: %s", packaging, patient, all)
				}
				leaves := bytes.Contains(all, []byte("documents/000002-"))
				if leaves != (decide == nil) {
					t.Errorf("%s of %q: a document of a stray resource leaves: %t", packaging,
						patient, leaves)
				}
			}
		}
	}
}

// A list says no more of a date than its document has. date is an instant, because R4 wants it so.
func TestAListSaysThePartialDateOfADocument(t *testing.T) {
	d := document(t, "", "a.pdf", []byte("a"))
	d.Date = "2024-03"
	x := export(t, native.Export{
		Record:    record{documents: []*source.Document{d}},
		Packaging: ehi.PackageFiles, Patient: "p",
	})
	var r reference
	if err := json.Unmarshal(x.kind(ehi.Documents), &r); err != nil ||
		r.Date != "2024-03-01T00:00:00.000Z" || r.Content[0].Attachment.Creation != "2024-03" {
		t.Errorf("%+v, %v", r, err)
	}
}
