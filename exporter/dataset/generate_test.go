package dataset_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/exporter/synthetic/native"
)

// The native content of generated patients is the same in a store as in the source that generates
// it.
func TestAStoreHasTheNativeContentOfGeneratedPatients(t *testing.T) {
	for _, shape := range native.Shapes() {
		c := synthetic.Config{Patients: 4, Seed: 2, Resources: 20, Native: shape}
		from, err := synthetic.NewSource(c)
		if err != nil {
			t.Fatal(err)
		}
		s := openStore(t, t.TempDir())
		for range 2 { // the second time changes nothing
			if err := s.Generate(t.Context(), c, time.Now(), func(int, int) {}); err != nil {
				t.Fatal(shape, err)
			}
		}
		for k := range c.Patients {
			want, got := nativeOf(t, from, c.PatientID(k)), nativeOf(t, s, c.PatientID(k))
			if len(want) == 0 || !slices.Equal(want, got) {
				t.Errorf("%s: patient %d has %d rows and documents instead of %d", shape, k,
					len(got), len(want))
			}
		}
	}
}

// nativeOf returns the rows and documents of a record, sorted, but for the times of import.
func nativeOf(t *testing.T, s source.Source, patient string) (out []string) {
	t.Helper()
	rec, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	rows := map[string]string{}
	if p := rec.Tables(); p != nil {
		for _, table := range p.Resources {
			err := rec.Rows(t.Context(), table.Name, func(r source.Rows) error {
				rows[table.Name+" "+r.Patient] += string(r.Data)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for table, data := range rows {
		out = append(out, table+" "+data)
	}
	err = rec.Documents(t.Context(), source.Query{}, func(d *source.Document) error {
		content, err := d.Open()
		if err != nil {
			return err
		}
		defer content.Close()
		out = append(out, fmt.Sprint(d.ID, d.Patient, d.Name, d.ContentType, d.Title,
			d.Created.UTC(), d.Type, d.Category, d.Labels, d.Resource))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}
