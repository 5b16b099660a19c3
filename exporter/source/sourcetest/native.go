package sourcetest

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
)

// content is the native content of records: documents and rows, each with its patient, in the order
// of their visits; rows by table.
type content struct {
	Documents []string
	Rows      map[string][]string
}

// native checks that s keeps the contract of source.Native.
func native(t *testing.T, s source.Source, want Expect) {
	mine := nativeOf(t, s, want.Patient)
	t.Run("a patient has the expected documents and tables", func(t *testing.T) {
		if len(mine.Documents) != want.Documents {
			t.Errorf("%d documents instead of %d", len(mine.Documents), want.Documents)
		}
		if d := cmp.Diff(want.Tables, slices.Sorted(maps.Keys(mine.Rows))); d != "" {
			t.Error(d)
		}
	})
	t.Run("another visit is the same", func(t *testing.T) {
		if d := cmp.Diff(mine, nativeOf(t, s, want.Patient)); d != "" {
			t.Error(d)
		}
	})
	t.Run("a record has what its documents belong to, and nothing of others", func(t *testing.T) {
		belongs(t, s, want)
	})
	t.Run("rows that patients share are found by their keys", func(t *testing.T) {
		shared(t, s, want.Patient)
	})
	t.Run("an error of a visit and the end of a context stop it", func(t *testing.T) {
		nativeStops(t, s, want.Patient)
	})
	t.Run("a population has the content of its patients, in their order", func(t *testing.T) {
		all := freeze(t, s, "native")
		defer closing(t, all)
		var everybody, members []content
		for _, p := range want.Patients {
			of := nativeOf(t, s, p)
			everybody = append(everybody, of)
			if slices.Contains(want.Members, p) {
				members = append(members, of)
			}
		}
		for _, c := range []struct {
			of   source.Selection
			want content
		}{
			{source.Selection{Level: ehi.System}, joined(everybody...)},
			{source.Selection{Level: ehi.System, Native: true}, joined(everybody...)},
			{source.Selection{Level: ehi.AllPatients}, joined(everybody...)},
			{source.Selection{Level: ehi.AllPatients, ByPatient: true}, joined(everybody...)},
			{source.Selection{Level: ehi.OneGroup, Group: want.Group}, joined(members...)},
			{
				source.Selection{Level: ehi.AllPatients, Patients: []string{want.Patient}},
				joined(mine),
			},
		} {
			for _, target := range []int64{small, 1 << 40} {
				if d := cmp.Diff(c.want, population(t, all, c.of, target)); d != "" {
					t.Errorf("%+v: %s", c.of, d)
				}
			}
		}
	})
}

// belongs checks that a record knows which resources it has, while its documents are visited.
func belongs(t *testing.T, s source.Source, want Expect) {
	rec, err := s.Open(t.Context(), want.Patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close() // read only
	err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		resources := map[string]bool{"Patient/nobody": false}
		if d.Resource != "" {
			resources[d.Resource] = true
		}
		for _, p := range want.Patients {
			resources["Patient/"+p] = p == want.Patient
		}
		for name, in := range resources {
			typ, id, _ := strings.Cut(name, "/")
			if got, err := rec.Has(d.Patient, typ, id); err != nil || got != in {
				t.Errorf("%s is in the record: %t, %v", name, got, err)
			}
			others := !in && slices.Contains(want.Patients, id)
			if got, err := rec.Another(d.Patient, typ, id); err != nil || got != others {
				t.Errorf("%s is another patient's: %t, %v", name, got, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// joined returns the contents of records one after the other.
func joined(all ...content) content {
	out := content{Rows: map[string][]string{}}
	for _, c := range all {
		out.Documents = append(out.Documents, c.Documents...)
		for table, rows := range c.Rows {
			out.Rows[table] = append(out.Rows[table], rows...)
		}
	}
	return out
}

// nativeOf reads the native content of a record.
func nativeOf(t *testing.T, s source.Source, patient string) content {
	t.Helper()
	rec, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	return contentOf(t, rec, false)
}

// nativeSize returns the size of a record's documents and rows in bytes.
func nativeSize(t *testing.T, s source.Source, patient string) (n int64) {
	t.Helper()
	rec, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close() // read only
	err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		text, err := readDocument(d)
		n += int64(len(text))
		return err
	})
	if p := rec.Tables(); p != nil {
		for i := range p.Resources {
			err = errors.Join(err, rec.Rows(t.Context(), p.Resources[i].Name,
				func(r source.Rows) error {
					n += int64(len(r.Data))
					return nil
				}))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// population reads the native content of all parts of a plan, but for look-up tables, whose rows
// are in the part for what belongs to no patient only.
func population(
	t *testing.T, p source.Population, sel source.Selection, target int64,
) content {
	t.Helper()
	parts, err := p.Plan(t.Context(), sel, target)
	if err != nil {
		t.Fatal(err)
	}
	var all []content
	for _, part := range parts {
		rec, err := p.Open(t.Context(), sel, part)
		if err != nil {
			t.Fatal(err)
		}
		of := contentOf(t, rec, part.Shared)
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
		if !part.Shared {
			all = append(all, of)
		}
	}
	return joined(all...)
}

// contentOf reads the native content of a record, and checks it. shared says that it is the part of
// a population for what belongs to no patient.
func contentOf(t *testing.T, n source.Native, shared bool) content {
	t.Helper()
	out := content{Rows: map[string][]string{}}
	seen := map[string]bool{}
	err := n.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		if shared || !fhir.ValidID(d.ID) || seen[d.ID] || d.Patient == "" || d.Name == "" ||
			strings.ContainsAny(d.Name, "/\x00") || d.ContentType == "" {
			t.Errorf("document %+v", *d)
		}
		seen[d.ID] = true
		text, err := readDocument(d)
		out.Documents = append(out.Documents,
			fmt.Sprintf("%s %s %s %x", d.Patient, d.ID, d.Name, sha1.Sum(text)))
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if p := n.Tables(); p != nil {
		for i := range p.Resources {
			rows(t, n, &p.Resources[i], shared, out.Rows)
		}
	}
	return out
}

// readDocument reads a document, and compares it with what is said of it.
func readDocument(d *source.Document) ([]byte, error) {
	r, err := d.Open()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	sum := sha1.Sum(text)
	if d.SHA1 != nil && string(d.SHA1) != string(sum[:]) ||
		(d.SHA1 != nil || d.Size != 0) && d.Size != int64(len(text)) ||
		d.Sum != "" && files.Sum(d.Sum) != files.SumOf(text) {
		return nil, fmt.Errorf("document %s is not as it is described", d.ID)
	}
	if d.Path == "" {
		return text, nil
	}
	linked, err := os.ReadFile(d.Path)
	if err == nil && string(linked) != string(text) {
		err = fmt.Errorf("document %s is not the file at its path", d.ID)
	}
	return text, err
}

// rows reads a table, and checks that it visits whole rows, those of a patient together.
func rows(
	t *testing.T, n source.Native, table *datapackage.Resource, shared bool,
	into map[string][]string,
) {
	t.Helper()
	codec, err := datapackage.NewCodec(table)
	if err != nil {
		t.Fatal(err)
	}
	patients := map[string]bool{}
	last := ""
	err = n.Rows(t.Context(), table.Name, func(r source.Rows) error {
		if table.Lookup != shared || shared != (r.Patient == "") {
			t.Errorf("rows of the table %s for the patient %q", table.Name, r.Patient)
		}
		if r.Patient != last && patients[r.Patient] {
			t.Errorf("table %s comes back to %s", table.Name, r.Patient)
		}
		last, patients[r.Patient] = r.Patient, true
		count := int64(0)
		for row := range codec.Rows(r.Data) {
			values, err := codec.Fields(row, nil)
			if err == nil {
				err = codec.Check(values)
			}
			if err != nil {
				return fmt.Errorf("table %s: %q: %w", table.Name, row, err)
			}
			into[table.Name] = append(into[table.Name], r.Patient+" "+string(row))
			count++
		}
		if count != r.Count {
			t.Errorf("table %s: %d rows are counted as %d", table.Name, count, r.Count)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// shared checks that each row of a patient finds the rows of look-up tables that it refers to, and
// that no other table can be looked up.
func shared(t *testing.T, s source.Source, patient string) {
	rec, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	p := rec.Tables()
	if p == nil {
		return
	}
	found := map[string]int64{}
	for i := range p.Resources {
		table := &p.Resources[i]
		codec, err := datapackage.NewCodec(table)
		if err != nil {
			t.Fatal(err)
		}
		err = rec.Rows(t.Context(), table.Name, func(r source.Rows) error {
			for row := range codec.Rows(r.Data) {
				values, err := codec.Fields(row, nil)
				if err != nil {
					return err
				}
				for _, k := range table.Fields.ForeignKeys {
					if err := follow(t.Context(), rec, table, codec, k, values, found); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for what, n := range found {
		if n == 0 {
			t.Errorf("no row for %s", what)
		}
	}
}

// follow looks up what a row refers to, if that is in a look-up table. found counts rows by what
// was looked up.
func follow(
	ctx context.Context, n source.Native, table *datapackage.Resource, codec *datapackage.Codec,
	k datapackage.ForeignKey, row [][]byte, found map[string]int64,
) error {
	target := n.Tables().Table(k.Reference.Resource)
	if target == nil || !target.Lookup {
		return nil
	}
	var values []string
	for _, name := range k.Fields {
		at := table.Fields.Field(name)
		if codec.Missing(at, row[at]) {
			return nil
		}
		values = append(values, string(row[at]))
	}
	what := fmt.Sprintf("%s %q", target.Name, values)
	if found[what] > 0 {
		return nil
	}
	found[what] = 0
	return n.Lookup(ctx, target.Name, k.Reference.Fields, values, func(r source.Rows) error {
		if r.Patient != "" {
			return fmt.Errorf("%s belongs to a patient", what)
		}
		found[what] += r.Count
		return nil
	})
}

// nativeStops checks that visits end early.
func nativeStops(t *testing.T, s source.Source, patient string) {
	rec, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	mine := errors.New("enough")
	ended, end := context.WithCancel(t.Context())
	end()
	visits := func(ctx context.Context, visit func() error) (errs []error) {
		errs = append(errs, rec.Documents(ctx, source.Query{}, func(*source.Document) error {
			return visit()
		}))
		if p := rec.Tables(); p != nil {
			for _, table := range p.Resources {
				errs = append(errs, rec.Rows(ctx, table.Name, func(source.Rows) error {
					return visit()
				}))
			}
		}
		return errs
	}
	n := 0
	for _, err := range visits(t.Context(), func() error { n++; return mine }) {
		if err != nil && !errors.Is(err, mine) {
			t.Error(err)
		}
	}
	of := contentOf(t, rec, false)
	most := len(of.Rows)
	if len(of.Documents) > 0 {
		most++
	}
	if n != most {
		t.Errorf("%d visits instead of %d", n, most)
	}
	for _, err := range visits(ended, func() error { return nil }) {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
