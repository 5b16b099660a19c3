package pipeline_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/native"
	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
	"ehi-server/shared/records"
)

// clinic exports the native content of a generated patient.
type clinic struct {
	t       *testing.T
	source  *synthetic.Source
	patient string
	files   *local.Store
	exports int
}

func newClinic(t *testing.T, shape string) *clinic {
	t.Helper()
	s, err := synthetic.NewSource(synthetic.Config{Patients: 1, Seed: 1, Native: shape})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Patients(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return &clinic{t: t, source: s, patient: all[0].ID, files: newStore(t)}
}

// contents returns the tables and the documents of the patient's record.
func (c *clinic) contents() (tables *datapackage.Package, papers []source.Document) {
	c.t.Helper()
	record, err := c.source.Open(c.t.Context(), c.patient)
	if err != nil {
		c.t.Fatal(err)
	}
	if tables = record.Tables(); tables == nil {
		tables = &datapackage.Package{}
	}
	err = record.Documents(c.t.Context(), source.Query{}, func(d *source.Document) error {
		papers = append(papers, *d)
		return nil
	})
	if err := errors.Join(err, record.Close()); err != nil {
		c.t.Fatal(err)
	}
	return tables, papers
}

// chart is what an export has.
type chart struct {
	resources map[string]bool                // by Type/id
	told      map[string]bool                // those with a narrative, by Type/id
	rows      map[string][]map[string]string // by table, each by column
	documents map[string]string              // contents, by title
	waits     []string                       // names of what waits
	held      []byte                         // the list of it
	withheld  map[string]int64
	all       []byte // everything that leaves, with the names of files
}

// export exports the patient by a form; nil exports everything.
func (c *clinic) export(form *ehi.ReleaseForm) chart {
	c.t.Helper()
	record, err := c.source.Open(c.t.Context(), c.patient)
	if err != nil {
		c.t.Fatal(err)
	}
	defer record.Close() // read only
	return c.run(record, form)
}

// run exports a record of the patient.
func (c *clinic) run(record source.Record, form *ehi.ReleaseForm) chart {
	c.t.Helper()
	work := c.work(record, form)
	res, err := pipeline.Run(c.t.Context(), work)
	if err != nil {
		c.t.Fatal(err)
	}
	out := chart{
		resources: map[string]bool{}, told: map[string]bool{},
		rows:      map[string][]map[string]string{},
		documents: map[string]string{}, withheld: res.Withheld,
	}
	for _, f := range res.Files {
		content := c.read(f)
		switch {
		case f.Kind == "" && !f.Error:
			out.all = append(out.all, content...)
			for line := range strings.Lines(string(content)) {
				var r records.Resource
				if err := json.Unmarshal([]byte(line), &r); err != nil {
					c.t.Fatal(err)
				}
				out.resources[records.Key(r)] = true
				out.told[records.Key(r)] = r["text"] != nil
			}
		case f.Kind == ehi.Archive:
			c.unpack(&out, content)
		case f.Kind == ehi.HeldDocuments:
			out.held = append(out.held, content...)
		case f.Kind == ehi.HeldIndex:
			err := native.Each(bytes.NewReader(content), func(f ehi.NativeFile) error {
				out.waits = append(out.waits, f.Name)
				return nil
			})
			if err != nil {
				c.t.Fatal(err)
			}
		}
	}
	return out
}

func (c *clinic) work(record source.Record, form *ehi.ReleaseForm) pipeline.Task {
	c.t.Helper()
	rules, err := release.RulesFromFile("")
	if err != nil {
		c.t.Fatal(err)
	}
	policy, err := rules.Policy(form, ehi.KickOff{})
	if err != nil {
		c.t.Fatal(err)
	}
	job := &ehi.Job{ID: "job", Tasks: 1, Patient: ehi.Patient{ID: c.patient}, Form: form}
	work := pipeline.NewTask(job, policy, record)
	work.Native = &native.Export{
		Packaging: ehi.PackageZIP, Origin: "https://ehi.example.org", Job: "job",
		Task: c.exports, Patient: c.patient, TakenAt: time.Now(),
	}
	if work.Batch, err = c.files.NewBatch(job.ID, c.exports, 1); err != nil {
		c.t.Fatal(err)
	}
	c.exports++
	return work
}

func (c *clinic) read(f ehi.File) []byte {
	c.t.Helper()
	r, err := c.files.Open("job", files.Extent{
		Object: f.Object, Offset: f.Offset, Length: f.Length, Sum: files.Sum(f.Sum),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		c.t.Fatal(err)
	}
	return data
}

// unpack adds the files of an archive to a chart. It reads tables as a client would.
func (c *clinic) unpack(out *chart, archive []byte) {
	c.t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			c.t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			c.t.Fatal(err)
		}
		out.all = append(append(out.all, f.Name...), content...)
		name, isTable := strings.CutPrefix(f.Name, "tables/")
		if !isTable {
			if strings.HasPrefix(f.Name, "documents/") {
				out.documents[f.Name[len("documents/000000-"):]] = string(content)
			}
			continue
		}
		table, format, _ := strings.Cut(name, ".")
		out.rows[table] = append(out.rows[table], c.parse(format, content)...)
	}
}

// parse reads the rows of a table.
func (c *clinic) parse(format string, content []byte) (out []map[string]string) {
	c.t.Helper()
	var lines [][]string
	if format == "tsv" {
		for line := range strings.Lines(string(content)) {
			lines = append(lines, strings.Split(strings.TrimRight(line, "\r\n"), "\t"))
		}
	} else {
		var err error
		if lines, err = csv.NewReader(bytes.NewReader(content)).ReadAll(); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		out = append(out, row)
	}
	return out
}

// secretCodes are the codes of generated tables that need an authorization.
var secretCodes = map[string]string{
	"B20": "hiv", "F10.20": "alcoholAndDrug", "F32.9": "mentalHealth",
	"T74.11XA": "domesticViolence", "T74.21XA": "sexualAssault", "A54.9": "other",
	"86406008": "hiv", "7200002": "alcoholAndDrug", "35489007": "mentalHealth",
}

// oracle says which rows of a table leave, in other words than the product: by the dictionary, by
// the resources that leave, and by the rows of other tables that leave.
type oracle struct {
	tables    *datapackage.Package
	full, got chart
	form      *ehi.ReleaseForm
	papers    []source.Document
	secrets   []string // IDs of withheld resources
}

func (o *oracle) leaves(t *datapackage.Resource, row map[string]string) bool {
	if t.Category != datapackage.Always && t.Category != "" {
		choice, on := o.form.Parameters[ehi.Category(t.Category)]
		if t.Category == "medicalRecord" { // EHI-8: it has no dates
			choice = ehi.Choice{}
		}
		if !on || !inLimits(row[t.Date], choice) {
			return false
		}
	}
	for _, f := range t.Fields.Fields {
		v := row[f.Name]
		if f.Resource != "" && !o.whole(f.Resource+"/"+v) {
			return false
		}
		if needs := secretCodes[v]; f.System != "" && needs != "" && !o.authorized(needs) {
			return false
		}
		if f.Label && v == "R" && !o.authorized("confidential") {
			return false
		}
		if slices.ContainsFunc(o.secrets, func(id string) bool { return strings.Contains(v, id) }) {
			return false
		}
	}
	for _, s := range t.Sensitive {
		if slices.Contains(s.Values, row[s.Field]) && !o.authorized(s.Authorization) {
			return false
		}
	}
	return o.parentsLeave(t, row)
}

// whole reports whether a resource leaves with its narrative, if it has one. A Patient is whole
// for what belongs to him, and so is what is not in the record.
func (o *oracle) whole(id string) bool {
	return !o.full.resources[id] || o.got.resources[id] &&
		(o.got.told[id] || !o.full.told[id] || strings.HasPrefix(id, "Patient/"))
}

func (o *oracle) authorized(key string) bool { return o.form.Authorizes(ehi.Authorization(key)) }

// inLimits reports whether a date that begins with a day is within the limits of a choice.
func inLimits(date string, c ehi.Choice) bool {
	if c.From == "" && c.To == "" {
		return true
	}
	return len(date) >= 10 && (c.From == "" || date[:10] >= c.From) &&
		(c.To == "" || date[:10] <= c.To)
}

// parentsLeave reports whether the rows of patients that a row refers to leave.
func (o *oracle) parentsLeave(t *datapackage.Resource, row map[string]string) bool {
	for _, k := range t.Fields.ForeignKeys {
		parent := o.tables.Table(k.Reference.Resource)
		if parent == nil || parent.Lookup || row[k.Fields[0]] == "" {
			continue
		}
		same := func(of map[string]string) bool {
			for i, field := range k.Fields {
				if row[field] != of[k.Reference.Fields[i]] {
					return false
				}
			}
			return true
		}
		if slices.ContainsFunc(o.full.rows[parent.Name], same) &&
			!slices.ContainsFunc(o.got.rows[parent.Name], same) {
			return false
		}
	}
	return true
}

// check compares the rows of an export with the oracle.
func (o *oracle) check(t *testing.T) (left, stayed int) {
	t.Helper()
	for key := range o.full.resources {
		if typ, id, _ := strings.Cut(key, "/"); !o.got.resources[key] && typ != "" {
			o.secrets = append(o.secrets, id)
		}
	}
	for i := range o.tables.Resources {
		r := &o.tables.Resources[i]
		if r.Lookup {
			continue
		}
		var want []map[string]string
		for _, row := range o.full.rows[r.Name] {
			if r.Category != "" && o.leaves(r, row) {
				want = append(want, row)
			}
		}
		if d := cmp.Diff(want, o.got.rows[r.Name]); d != "" {
			t.Errorf("table %s: %.1500s", r.Name, d)
		}
		left += len(want)
		stayed += len(o.full.rows[r.Name]) - len(want)
	}
	o.lookups(t)
	o.documents(t)
	for _, id := range o.secrets {
		if at := bytes.Index(o.got.all, []byte(id)); at >= 0 {
			t.Errorf("the ID of a withheld resource leaves: %.300s", o.got.all[max(0, at-200):])
		}
	}
	return left, stayed
}

// documents compares the documents of an export with the oracle.
func (o *oracle) documents(t *testing.T) {
	t.Helper()
	var want []string
	for _, d := range o.papers {
		choice, on := o.form.Parameters[d.Category]
		if d.Category == "medicalRecord" {
			choice = ehi.Choice{}
		}
		secret := slices.ContainsFunc(d.Labels, func(l fhir.Coding) bool {
			return l.Code == "R" && !o.authorized("confidential")
		})
		text := o.full.documents[d.Name]
		mentions := slices.ContainsFunc(o.secrets, func(id string) bool {
			return !strings.HasPrefix(text, "%PDF") && strings.Contains(text, id)
		})
		if on && !secret && !mentions && inLimits(d.Created.Format(time.DateOnly), choice) &&
			(d.Resource == "" || o.whole(d.Resource)) {
			want = append(want, d.Name)
		}
	}
	slices.Sort(want)
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(o.got.documents))); d != "" {
		t.Errorf("documents: %s", d)
	}
}

// lookups checks that exactly those look-up rows leave to which a row that leaves refers.
func (o *oracle) lookups(t *testing.T) {
	t.Helper()
	needed := map[string]map[string]bool{}
	for more := true; more; {
		more = false
		for i := range o.tables.Resources {
			r := &o.tables.Resources[i]
			for _, k := range r.Fields.ForeignKeys {
				parent := o.tables.Table(k.Reference.Resource)
				if parent == nil || !parent.Lookup {
					continue
				}
				for _, row := range o.got.rows[r.Name] {
					if v := row[k.Fields[0]]; v != "" && len(k.Fields) == 1 {
						key := k.Reference.Fields[0] + "=" + v
						if needed[parent.Name] == nil {
							needed[parent.Name] = map[string]bool{}
						}
						needed[parent.Name][key] = true
					}
				}
			}
		}
	}
	for name, keys := range needed {
		for key := range keys {
			field, value, _ := strings.Cut(key, "=")
			if !slices.ContainsFunc(o.got.rows[name], func(row map[string]string) bool {
				return row[field] == value
			}) {
				t.Errorf("the row of %s with %s is missing", name, key)
			}
		}
	}
	for i := range o.tables.Resources {
		r := &o.tables.Resources[i]
		if !r.Lookup {
			continue
		}
		for _, row := range o.got.rows[r.Name] {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(row)), func(field string) bool {
				return needed[r.Name][field+"="+row[field]]
			}) && len(r.Fields.PrimaryKey) == 1 {
				t.Errorf("nothing refers to the row %v of %s", row, r.Name)
			}
		}
	}
}

// forms are all forms with one line, all but one line, and limits of dates.
func forms() map[string]*ehi.ReleaseForm {
	out := map[string]*ehi.ReleaseForm{"nothing": newForm(), "everything": everything()}
	for _, key := range lineKeys() {
		out["only "+key] = newForm(key)
		out["all but "+key] = everything(key)
	}
	dated := everything()
	for key := range dated.Parameters {
		dated.Parameters[key] = ehi.Choice{From: "2014-01-01", To: "2016-12-31"}
	}
	out["three years"] = dated
	return out
}

// EHI-8, EHI-9, NAT-4: of every form, exactly those rows leave that the dictionary and the form
// say. A table that nobody has classified waits, whatever the form says.
func TestNAT4NativeContentFollowsTheForm(t *testing.T) {
	for _, shape := range []string{"tsv-tables", "csv-zip", "ccda"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, shape)
			tables, papers := c.contents()
			full := c.export(nil)
			figures := map[string]string{}
			all := forms()
			for _, name := range slices.Sorted(maps.Keys(all)) {
				o := oracle{
					tables: tables, papers: papers, full: full, got: c.export(all[name]),
					form: all[name],
				}
				left, stayed := o.check(t)
				documents := len(o.got.documents)
				figures[name] = fmt.Sprintf(
					"%d rows and %d documents leave, %d and %d stay, %v wait",
					left, documents, stayed, len(papers)-documents, o.got.waits)
				for i := range tables.Resources {
					r := &tables.Resources[i]
					waits := slices.ContainsFunc(o.got.waits, func(name string) bool {
						return strings.HasPrefix(name, "tables/"+r.Name+".")
					})
					want := r.Category == "" && !r.Lookup &&
						slices.ContainsFunc(full.rows[r.Name], func(row map[string]string) bool {
							return o.leaves(r, row)
						})
					if want != waits {
						t.Errorf("%s: table %s waits: %t", name, r.Name, waits)
					}
				}
				if t.Failed() {
					t.Fatalf("the form is %q", name)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(figures)) {
				t.Logf("%-28s %s", name, figures[name])
			}
			if figures["nothing"] == figures["everything"] {
				t.Error("the form makes no difference")
			}
		})
	}
}

// strayed is a record whose documents belong to one resource.
type strayed struct {
	source.Record
	resource string
}

func (r strayed) Documents(
	ctx context.Context, q source.Query, visit func(*source.Document) error,
) error {
	return r.Record.Documents(ctx, q, func(d *source.Document) error {
		d.Resource = r.resource
		return visit(d)
	})
}

// NAT-4: a document that belongs to a resource which is not in the patient's record cannot be
// classified. It waits, and the resource, which may be another patient's, is not named.
func TestNAT4ADocumentOfAResourceThatIsNotInTheRecordWaits(t *testing.T) {
	c := newClinic(t, "ccda")
	record, err := c.source.Open(t.Context(), c.patient)
	if err != nil {
		t.Fatal(err)
	}
	defer record.Close() // read only
	of := func(resource string) chart { return c.run(strayed{record, resource}, everything()) }
	known, unknown := of("Patient/"+c.patient), of("Condition/of-another-patient")
	if len(known.documents) == 0 {
		t.Error("no document leaves")
	}
	if len(unknown.documents) != 0 ||
		len(unknown.waits) != len(known.waits)+len(known.documents) ||
		unknown.withheld[native.Unclassified] != int64(len(unknown.waits)) {
		t.Errorf("%d documents leave, %d wait, withheld: %v",
			len(unknown.documents), len(unknown.waits), unknown.withheld)
	}
	if bytes.Contains(unknown.held, []byte("of-another-patient")) {
		t.Errorf("the resource is named: %s", unknown.held)
	}
}

// torn is a record whose resources have narratives. Every second one refers to a sensitive one.
// Its documents belong to its visits.
type torn struct {
	source.Record
	secret string
	visits []string
}

func (r torn) Documents(
	ctx context.Context, q source.Query, visit func(*source.Document) error,
) error {
	n := 0
	return r.Record.Documents(ctx, q, func(d *source.Document) error {
		d.Resource = r.visits[n%len(r.visits)]
		n++
		return visit(d)
	})
}

func (r torn) Scan(
	ctx context.Context, q source.Query, visit func(source.Resource) error,
) error {
	return r.Record.Scan(ctx, q, func(of source.Resource) error {
		of.Line = r.narrated(of.Line)
		return visit(of)
	})
}

func (r torn) Find(ctx context.Context, q source.Query, typ, id string) ([]byte, error) {
	line, err := r.Record.Find(ctx, q, typ, id)
	if err != nil || line == nil {
		return nil, err
	}
	return r.narrated(line), nil
}

func (r torn) narrated(line []byte) []byte {
	more := `,"text":{"status":"generated","div":"<div>It says a lot.</div>"}}`
	if crc32.ChecksumIEEE(line)%2 == 0 && !bytes.Contains(line, []byte(r.secret)) {
		more = `,"extension":[{"url":"urn:why","valueReference":{"reference":"` + r.secret + `"}}]` +
			more
	}
	return append(bytes.Clone(line[:len(line)-1]), more...)
}

// EHI-9, NAT-4: rows and documents leave with a resource only if its narrative does.
func TestNAT4WhatBelongsToAResourceLeavesOnlyWithItsNarrative(t *testing.T) {
	for _, shape := range []string{"tsv-tables", "ccda"} {
		c := newClinic(t, shape)
		record, err := c.source.Open(t.Context(), c.patient)
		if err != nil {
			t.Fatal(err)
		}
		defer record.Close() // read only
		of := torn{Record: record}
		err = record.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
			var has records.Resource
			if err := json.Unmarshal(r.Line, &has); err != nil {
				return err
			}
			switch {
			case r.Type == "Encounter":
				of.visits = append(of.visits, records.Key(has))
			case r.Type == "Condition" && bytes.Contains(r.Line, []byte(`"86406008"`)):
				of.secret = records.Key(has)
			}
			return nil
		})
		if err != nil || of.secret == "" || len(of.visits) == 0 {
			t.Fatalf("%d visits, sensitive is %q: %v", len(of.visits), of.secret, err)
		}
		o := oracle{tables: record.Tables(), full: c.run(of, nil), form: everything("a:hiv")}
		if o.tables == nil {
			o.tables = &datapackage.Package{}
		}
		err = of.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
			o.papers = append(o.papers, *d)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		o.got = c.run(of, o.form)
		left, stayed := o.check(t)
		documents := len(o.got.documents)
		t.Logf("%s: %d rows and %d documents leave, %d and %d stay", shape,
			left, documents, stayed, len(o.papers)-documents)
	}
}
