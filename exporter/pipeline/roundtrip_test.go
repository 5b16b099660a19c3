package pipeline_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/native"
	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	shapes "ehi-server/exporter/synthetic/native"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// hospital is a record store whose exports are downloaded and unpacked into folders.
type hospital struct {
	t     *testing.T
	store *dataset.Store
	files *local.Store
	jobs  int
}

func newHospital(t *testing.T) *hospital {
	t.Helper()
	store, err := dataset.Open(dataset.Config{Dir: filepath.Join(t.TempDir(), "records")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &hospital{t: t, store: store, files: newStore(t)}
}

// load imports folders. Nothing of them is a problem.
func (h *hospital) load(folders ...string) source.Report {
	h.t.Helper()
	rep, err := h.store.Import(h.t.Context(), folders, source.ImportOptions{Now: time.Now()})
	if err != nil || rep.Problems > 0 || len(rep.UnplacedRows) > 0 || rep.UnplacedDocuments != nil {
		h.t.Fatalf("%v: %d problems: %.3000v, %v", err, rep.Problems, rep.Bad, rep.UnplacedRows)
	}
	return rep
}

// export exports a record, and downloads and unpacks everything into a folder.
func (h *hospital) export(
	record source.Record, how ehi.Packaging, patient string, task int, to string,
) {
	h.t.Helper()
	h.jobs++
	rules, err := release.RulesFromFile("")
	if err != nil {
		h.t.Fatal(err)
	}
	policy, err := rules.Policy(nil, ehi.KickOff{})
	if err != nil {
		h.t.Fatal(err)
	}
	job := &ehi.Job{ID: fmt.Sprint("job-", h.jobs), Tasks: 1, Patient: ehi.Patient{ID: patient}}
	if patient == "" {
		job.Level = ehi.System
	}
	work := pipeline.NewTask(job, policy, record)
	work.Native = &native.Export{
		Packaging: how, Origin: "https://ehi.example.org", Job: job.ID, Task: task,
		Patient: patient, TakenAt: time.Now(), ArchiveBytes: 64 << 10,
	}
	if work.Batch, err = h.files.NewBatch(job.ID, task, 1); err != nil {
		h.t.Fatal(err)
	}
	res, err := pipeline.Run(h.t.Context(), work)
	if err != nil {
		h.t.Fatal(err)
	}
	of := &ehi.Task{
		Job: job.ID, Number: task, Attempt: 1, Files: res.Files, Links: res.Links,
	}
	archives := 0
	for i, f := range res.Files {
		content := h.read(job.ID, files.Extent{
			Object: f.Object, Offset: f.Offset, Length: f.Length, Sum: files.Sum(f.Sum),
		})
		switch f.Kind {
		case "":
			put(h.t, filepath.Join(to, fmt.Sprintf("%s.%d.%d.ndjson", f.Type, task, i)), content)
		case ehi.Documents:
			name := fmt.Sprintf("documents.%d.%d.ndjson", task, i)
			if patient != "" {
				name = "documents.DocumentReference.ndjson"
			}
			put(h.t, filepath.Join(to, name), content)
		case ehi.Archive:
			name := native.ArchiveName(patient != "", task, archives)
			archives++
			unzip(h.t, content, filepath.Join(to, strings.TrimSuffix(name, ".zip")))
		case ehi.Index:
			err := native.Each(bytes.NewReader(content), func(f ehi.NativeFile) error {
				at, ok := native.Extent(of, ehi.Index, f)
				if !ok {
					return fmt.Errorf("%s lies nowhere", f.Name)
				}
				put(h.t, filepath.Join(to, filepath.FromSlash(f.Name)), h.read(job.ID, at))
				return nil
			})
			if err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

func (h *hospital) read(job string, e files.Extent) []byte {
	h.t.Helper()
	r, err := h.files.Open(job, e)
	if err != nil {
		h.t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		h.t.Fatal(err)
	}
	return data
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// unzip unpacks an archive into a folder.
func unzip(t *testing.T, archive []byte, to string) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err == nil {
		err = os.CopyFS(to, z)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// exportPatient exports the record of a patient.
func (h *hospital) exportPatient(id string, how ehi.Packaging, to string) {
	h.t.Helper()
	record, err := h.store.Open(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	h.export(record, how, id, 0, to)
	if err := record.Close(); err != nil {
		h.t.Fatal(err)
	}
}

// exportAll exports everything, in tasks of about 64 KiB.
func (h *hospital) exportAll(to string) {
	h.t.Helper()
	h.parts(64<<10, func(task int, r source.Record) { h.export(r, ehi.PackageZIP, "", task, to) })
}

// parts visits the parts of the population.
func (h *hospital) parts(target int64, visit func(task int, r source.Record)) {
	h.t.Helper()
	h.jobs++
	name := fmt.Sprint("frozen-", h.jobs)
	all, err := h.store.Freeze(h.t.Context(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	everything := source.Selection{Level: ehi.System}
	parts, err := all.Plan(h.t.Context(), everything, target)
	if err != nil {
		h.t.Fatal(err)
	}
	for n, part := range parts {
		record, err := all.Open(h.t.Context(), everything, part)
		if err != nil {
			h.t.Fatal(err)
		}
		visit(n, record)
		if err := record.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := errors.Join(all.Close(), h.store.Thaw(name)); err != nil {
		h.t.Fatal(err)
	}
}

// holdings is the native content of a store.
type holdings struct {
	Rows      map[string]string // by table and patient, in their order
	Lookups   map[string]bool   // rows of look-up tables, with the table
	Documents []string          // what is known of each, sorted
	Tables    map[string]string // descriptions
	rows      int64
}

// holdings returns the native content. Of look-up tables it has the rows that are referred to.
func (h *hospital) holdings() *holdings {
	h.t.Helper()
	out := &holdings{Rows: map[string]string{}, Lookups: map[string]bool{},
		Tables: map[string]string{}}
	h.parts(math.MaxInt64, func(_ int, r source.Record) {
		p := r.Tables()
		if p == nil {
			p = &datapackage.Package{}
		}
		for _, t := range p.Resources {
			if !t.Lookup {
				out.take(h.t, r, p, &t)
			}
		}
		out.documents(h.t, r)
	})
	slices.Sort(out.Documents)
	return out
}

// take adds the rows of a table, and the look-up rows that they refer to.
func (o *holdings) take(
	t *testing.T, r source.Record, p *datapackage.Package, of *datapackage.Resource,
) {
	t.Helper()
	codec, err := datapackage.NewCodec(of)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Rows(t.Context(), of.Name, func(rows source.Rows) error {
		o.rows += rows.Count
		o.Rows[of.Name+" of "+rows.Patient] += string(rows.Data)
		o.Tables[of.Name] = plain(of)
		for raw := range codec.Rows(slices.Clone(rows.Data)) {
			values, err := codec.Fields(raw, nil)
			if err == nil {
				err = o.lookups(t, r, p, of, codec, values)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lookups adds the look-up rows that a row refers to, directly or by another one.
func (o *holdings) lookups(
	t *testing.T, r source.Record, p *datapackage.Package, of *datapackage.Resource,
	codec *datapackage.Codec, values [][]byte,
) error {
	for _, k := range of.Fields.ForeignKeys {
		target := p.Table(k.Reference.Resource)
		if k.Reference.Resource == "" {
			target = of
		}
		if target == nil || !target.Lookup {
			continue
		}
		var key []string
		for _, name := range k.Fields {
			if at := of.Fields.Field(name); !codec.Missing(at, values[at]) {
				key = append(key, string(values[at]))
			}
		}
		if len(key) < len(k.Fields) {
			continue
		}
		codec, err := datapackage.NewCodec(target)
		if err != nil {
			return err
		}
		o.Tables[target.Name] = plain(target)
		visit := func(rows source.Rows) error {
			for raw := range codec.Rows(slices.Clone(rows.Data)) {
				id := target.Name + ": " + string(raw)
				if o.Lookups[id] {
					continue
				}
				o.Lookups[id] = true
				values, err := codec.Fields(raw, nil)
				if err == nil {
					err = o.lookups(t, r, p, target, codec, values)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
		if err := r.Lookup(t.Context(), target.Name, k.Reference.Fields, key, visit); err != nil {
			return err
		}
	}
	return nil
}

func (o *holdings) documents(t *testing.T, r source.Record) {
	t.Helper()
	err := r.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		in, err := d.Open()
		if err != nil {
			return err
		}
		content, err := io.ReadAll(in)
		title := d.Title
		if title == "" {
			title = d.Name
		}
		o.Documents = append(o.Documents, fmt.Sprintf(
			"%s %q %s %q %s %+v %s %+v %s %d bytes %x %x %s",
			d.Patient, ehi.FileName(d.Name), d.ContentType, title,
			fhir.FormatInstant(d.Created), d.Type, d.Category, d.Labels,
			slices.Collect(d.Resources()),
			d.Size, d.SHA1, sha1.Sum(content), d.Sum))
		return errors.Join(err, in.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// plain returns the description of a table but for what an export says of its file. The order of
// foreign keys does not count, nor whether the other table is there, nor how a key into the table
// itself names it.
func plain(t *datapackage.Resource) string {
	of := *t
	of.Path, of.Bytes, of.Hash, of.Format, of.MediaType = nil, 0, "", t.Extension(), ""
	s := &of.Fields
	s.ForeignKeys, s.Elsewhere = slices.Concat(s.ForeignKeys, s.Elsewhere), nil
	for i := range s.ForeignKeys {
		if to := &s.ForeignKeys[i].Reference.Resource; *to == "" {
			*to = t.Name
		}
	}
	slices.SortFunc(s.ForeignKeys, func(a, b datapackage.ForeignKey) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	return string((&datapackage.Package{Resources: []datapackage.Resource{of}}).JSON())
}

// Import, export and import again: what the second store has is what the first one had, and what it
// exports is the same again. A population, and patients' exports in both packages.
func TestNativeContentComesBackFromAnExport(t *testing.T) {
	for _, shape := range shapes.Shapes() {
		t.Run(shape, func(t *testing.T) {
			c := synthetic.Config{Patients: 3, Seed: 3, Resources: 40, Native: shape}
			h := newHospital(t)
			err := h.store.Generate(t.Context(), c, time.Now(), func(int, int) {})
			if err != nil {
				t.Fatal(err)
			}
			h.comesBack(c.PatientID(0), c.PatientID(1), c.PatientID(2))
		})
	}
}

// The same of tables and documents as other systems write them.
func TestImportedContentComesBackFromAnExport(t *testing.T) {
	from := t.TempDir()
	for name, text := range map[string]string{
		"datapackage.json": oddTables,
		"encounters.ndjson": `{"resourceType":"Encounter","id":"e","subject":` +
			`{"reference":"Patient/a"}}` + "\n",
		"patients.ndjson": `{"resourceType":"Patient","id":"a","identifier":[{"system":"urn:mrn",` +
			`"value":"m a"}]}` + "\n" + `{"resourceType":"Patient","id":"b"}` + "\n",
		"visit.txt": "a;v1;caf\xe9;2024-01-02\r\nb;v2;\"a;b\r\nc\";\r\na;v3;=1+1;2024-01-01",
		"note.tsv": "# notes\nvisit\ttext\nv3\tlast\\\tone\nv1\tNULL\nv1\tfirst\nv1\tNULL\n" +
			"v9\t?\n",
		"pet.csv":  "mrn,kind\nm a,2\nm a,1\nm a,2\n",
		"kind.csv": "code|name|part_of\r1|'cat'|9\r2|'a ''dog'''|9\r9|pet|\r3|fish|9\r",
		"documents.csv": "patient,path,type,category,date,title,labels,resource\n" +
			"a,x/50% off #1.txt,http://loinc.org|11488-4,visits,2024-05-06T07:08:09.5+02:00," +
			"A title,s|R;http://x|y,Encounter/e\n" +
			"a,x/Größe & mehr.json,a letter,,2024,,,\n" +
			"urn:mrn|m a,000001-x.pdf,,,,,,\n" +
			"b,\"x/a, b.txt\",,labs,,\"a, b.txt\",,\n" +
			"b,.hidden.txt,,,,,,\n",
		"x/50% off #1.txt":    "one",
		"x/Größe & mehr.json": `{"resourceType":"Patient","id":"x"}`,
		"000001-x.pdf":        "one", "x/a, b.txt": "", ".hidden.txt": "hidden",
	} {
		put(t, filepath.Join(from, filepath.FromSlash(name)), []byte(text))
	}
	h := newHospital(t)
	rep, err := h.store.Import(t.Context(), []string{from}, source.ImportOptions{Now: time.Now()})
	if err != nil || rep.Problems != 1 || rep.Documents != 5 ||
		rep.UnplacedRows["note"].Count != 1 {
		t.Fatalf("%v: %+v", err, rep)
	}
	h.comesBack("a", "b")
}

// Names that an export changes or cuts make no second document of any when the store imports its
// own export: not those that begin alike, with one content or with two, nor those in which a dot
// begins no extension.
func TestDocumentsWithLongNamesAreTheSameInTheirOwnExport(t *testing.T) {
	from := t.TempDir()
	put(t, filepath.Join(from, "p.ndjson"), []byte(`{"resourceType":"Patient","id":"a"}`+"\n"))
	names := []string{"CON.txt", "a?.txt", "a_.txt", "..x", "?", "e\u0301.txt", "tr ", "_"}
	for _, n := range []int{100, 111, 119, 120, 121, 130, 150, 199, 240, 251} {
		names = append(names, strings.Repeat("x", n)+".txt")
	}
	for _, c := range []string{"é", "日", "😀"} {
		names = append(names, strings.Repeat(c, 244/len(c))+".pdf", strings.Repeat(c, 120/len(c)))
	}
	long := strings.Repeat("y", 150)
	names = append(names, long+"1.txt", long+"2.txt", "x."+long, "x."+long[:60], long+"."+long[:60])
	index := "patient,path,date,title\n"
	for i, name := range names {
		content := "the same"
		if i%3 == 0 {
			content = name
		}
		put(t, filepath.Join(from, name), []byte(content))
		index += "a,\"" + name + "\",2024-01-02," + []string{"", "T"}[i%2] + "\n"
	}
	put(t, filepath.Join(from, "documents.csv"), []byte(index))
	h := newHospital(t)
	h.load(from)
	want := h.holdings()
	if len(want.Documents) != len(names) {
		t.Fatalf("%d documents of %d", len(want.Documents), len(names))
	}
	h.comesBack("a")
	for _, how := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
		for range 2 {
			exported := t.TempDir()
			h.exportPatient("a", how, exported)
			h.load(exported)
			same := cmp.AllowUnexported(holdings{})
			if d := cmp.Diff(want, h.holdings(), same); d != "" {
				t.Errorf("%s: %.3000s", how, d)
			}
		}
	}
}

// oddTables describes tables in several dialects, with properties that an import does not know.
const oddTables = `{"name": "odd", "keywords": ["x"], "resources": [
	{"name": "visit", "path": "visit.txt", "encoding": "latin1", "ehi:patient": ["patient"],
	 "ehi:category": "visits", "ehi:date": "day", "title": "Visits", "categories": ["x"],
	 "ehi:sensitive": [{"field": "ward", "values": ["psy"], "authorization": "mentalHealth"}],
	 "dialect": {"delimiter": ";", "header": false}, "schema": {"primaryKey": ["id"], "fields": [
		{"name": "patient", "categories": ["x"]}, {"name": "id", "title": "A key"},
		{"name": "ward", "ehi:system": "http://snomed.info/sct"},
		{"name": "day", "type": "date", "constraints": {"minimum": "2000-01-01"}}]}},
	{"name": "note", "path": "note.tsv", "ehi:patient": ["visit", "patient"],
	 "dialect": {"delimiter": "\t", "quoteChar": "", "escapeChar": "\\", "commentChar": "#"},
	 "schema": {"missingValues": ["NULL"], "fields": [{"name": "visit"}, {"name": "text"}],
		"foreignKeys": [{"fields": "visit", "reference": {"resource": "visit", "fields": "id"}}]}},
	{"name": "pet", "path": "pet.csv", "ehi:patient": ["mrn"], "ehi:patientSystem": "urn:mrn",
	 "schema": {"fields": [{"name": "mrn"}, {"name": "kind", "type": "integer"}], "foreignKeys": [
		{"fields": "kind", "reference": {"resource": "kind", "fields": "code"}}]}},
	{"name": "kind", "path": "kind.csv", "ehi:lookup": true,
	 "dialect": {"delimiter": "|", "quoteChar": "'", "lineTerminator": "\r"},
	 "schema": {"primaryKey": "code", "fields": [{"name": "code", "type": "integer"},
		{"name": "name"}, {"name": "part_of", "type": "integer"}], "foreignKeys": [
		{"fields": "part_of", "reference": {"resource": "", "fields": "code"}}]}}]}`

// comesBack exports the patients of a store, imports that into a second store, exports that, and
// imports both into a third one. All have the same content.
func (h *hospital) comesBack(patients ...string) {
	t := h.t
	t.Helper()
	want := h.holdings()
	if len(want.Documents) == 0 {
		t.Fatal("there are no documents")
	}
	single := func(how ehi.Packaging) func(h *hospital, to string) {
		return func(h *hospital, to string) {
			for _, id := range patients {
				h.exportPatient(id, how, filepath.Join(to, id))
			}
		}
	}
	for name, export := range map[string]func(h *hospital, to string){
		"population": (*hospital).exportAll,
		"archives":   single(ehi.PackageZIP),
		"files":      single(ehi.PackageFiles),
	} {
		begun := time.Now()
		exported, again := t.TempDir(), t.TempDir()
		export(h, exported)
		second := newHospital(t)
		rep := second.load(exported)
		got := second.holdings()
		same := cmp.AllowUnexported(holdings{})
		if d := cmp.Diff(want, got, same); d != "" {
			t.Errorf("%s: %.3000s", name, d)
		}
		export(second, again)
		if d := cmp.Diff(contentsOf(t, exported), contentsOf(t, again)); d != "" {
			t.Errorf("%s, exported again: %.3000s", name, d)
		}
		third := newHospital(t)
		third.load(exported, again) // the second time adds nothing
		if d := cmp.Diff(want, third.holdings(), same); d != "" {
			t.Errorf("%s, imported from both: %.3000s", name, d)
		}
		t.Logf("%s: %d rows and %d look-up rows of %d tables, %d documents, %d read, %v",
			name, got.rows, len(got.Lookups), len(got.Tables), len(got.Documents),
			rep.Documents, time.Since(begun).Round(time.Millisecond))
	}
}

// contentsOf returns the resources, the digests of documents, and the tables by export, each
// sorted. Where a table goes on in another archive, its rows are put together. Their lines are
// sorted, because archives end elsewhere when documents come in another order.
func contentsOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	tables := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "datapackage.json" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch filepath.Base(filepath.Dir(path)) {
		case "documents":
			out = append(out, fmt.Sprintf("document %x", sha1.Sum(content)))
		case "tables":
			rel, _ := filepath.Rel(dir, path)
			export, _, _ := strings.Cut(rel, string(filepath.Separator))
			if strings.HasPrefix(export, "native-") { // of a population
				export = export[:strings.LastIndexByte(export, '-')]
			}
			header, rows, _ := bytes.Cut(content, []byte("\n"))
			key := export + " " + d.Name() + " " + string(header)
			tables[key] += string(rows)
		default:
			lists := strings.HasPrefix(d.Name(), "document")
			if !lists && strings.HasSuffix(d.Name(), ".ndjson") {
				for line := range strings.Lines(string(content)) {
					out = append(out, line)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, rows := range tables {
		tables[key] = strings.Join(slices.Sorted(strings.Lines(rows)), "")
	}
	text, err := json.Marshal(tables)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return append(out, string(text))
}
