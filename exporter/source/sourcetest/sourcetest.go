// Package sourcetest is the conformance test that every kind of source.Source passes.
package sourcetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Expect describes the content of the source.
type Expect struct {
	Patient  string   // a patient
	Name     string   // the patient's name
	Types    []string // the types of the patient's record, sorted
	Patients []string // all patients, sorted
	Group    string   // the only group
	Members  []string // its patients, sorted; not all patients
	// Tables are those of which the patient has rows, sorted; Documents is how many documents the
	// patient has.
	Tables    []string
	Documents int
}

// Run checks that s keeps the contract of source.Source.
func Run(t *testing.T, s source.Source, want Expect) {
	ctx := t.Context()
	if err := s.Check(ctx); err != nil {
		t.Fatalf("Check: %v", err)
	}
	t.Run("patients", func(t *testing.T) { patients(t, s, want) })
	t.Run("record", func(t *testing.T) { record(t, s, want) })
	t.Run("tables", func(t *testing.T) { tables(t, s, want) })
	t.Run("native content", func(t *testing.T) { native(t, s, want) })
	t.Run("sizes", func(t *testing.T) { sizes(t, s, want) })
	t.Run("queries", func(t *testing.T) { queries(t, s, want) })
	t.Run("searches", func(t *testing.T) { searches(t, s, want) })
	t.Run("groups", func(t *testing.T) { groups(t, s, want) })
	t.Run("populations", func(t *testing.T) { populations(t, s, want) })
	t.Run("a visit's error and a context's end stop a scan", func(t *testing.T) {
		stops(t, s, want)
	})
}

func patients(t *testing.T, s source.Source, want Expect) {
	p, err := s.Patient(t.Context(), want.Patient)
	if err != nil || p.ID != want.Patient || p.Name != want.Name {
		t.Errorf("Patient = %+v, %v", p, err)
	}
	for _, absent := range []string{"nobody", "", "../x", "a b", "p\x00x"} {
		if _, err := s.Patient(t.Context(), absent); ehi.CodeOf(err) != ehi.NotFound {
			t.Errorf("Patient(%q): %v", absent, err)
		}
		if _, err := s.Open(t.Context(), absent); ehi.CodeOf(err) != ehi.NotFound {
			t.Errorf("Open(%q): %v", absent, err)
		}
	}
	all, err := s.Patients(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, p := range all {
		ids = append(ids, p.ID)
	}
	if d := cmp.Diff(want.Patients, ids); d != "" {
		t.Error(d)
	}
	if one, err := s.Patients(t.Context(), 1); err != nil || len(one) != 1 {
		t.Errorf("Patients(1) = %v, %v", one, err)
	}
}

// tables checks that the source tells the tables that its records have.
func tables(t *testing.T, s source.Source, want Expect) {
	rec, err := s.Open(t.Context(), want.Patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	for range 2 {
		got, err := s.Tables(t.Context())
		if err != nil || got != rec.Tables() {
			t.Errorf("the tables of the source are not those of a record, %v", err)
		}
	}
}

// sizes checks that the size of all patients is the sum of their sizes, and that the size of one
// is about that of the record.
func sizes(t *testing.T, s source.Source, want Expect) {
	sizeOf := func(patients []string, native bool) int64 {
		t.Helper()
		n, err := s.Size(t.Context(), patients, native)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	size := func(patients []string) int64 { return sizeOf(patients, false) }
	var sum int64
	for _, id := range want.Patients {
		sum += size([]string{id})
	}
	if all := size(nil); all != sum || all != size(want.Patients) {
		t.Errorf("all have %d bytes, %d together, and %d one by one", all, size(want.Patients), sum)
	}
	lines, _ := scan(t, s, want.Patient, source.Query{})
	var record int64
	for _, line := range lines {
		record += int64(len(line))
	}
	if n := size([]string{want.Patient}); n <= 0 || n > 20*record || record > 20*n {
		t.Errorf("a record of %d bytes has the size %d", record, n)
	}
	var content int64
	for _, id := range want.Patients {
		content += nativeSize(t, s, id)
		sum += sizeOf([]string{id}, true) - size([]string{id})
	}
	all := sizeOf(nil, true)
	if n := all - size(nil); all != sum || n > 2*content || content > 2*n {
		t.Errorf("native content of %d bytes has the size %d, %d of %d bytes", content, n, all, sum)
	}
	if n := sizeOf([]string{"nobody"}, true) + sizeOf([]string{}, true); n != 0 {
		t.Errorf("nobody has %d bytes", n)
	}
}

// scan returns the lines of a record as "type line".
func scan(t *testing.T, s source.Source, patient string, q source.Query) (lines, types []string) {
	t.Helper()
	rec, err := s.Open(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	var c fhir.Cursor
	err = rec.Scan(t.Context(), q, func(r source.Resource) error {
		typ, _, err := c.Identify(r.Line)
		if err != nil || typ != r.Type {
			t.Errorf("a %s came as %s, %v", typ, r.Type, err)
		}
		if slices.Contains(r.Line, '\n') {
			t.Errorf("a line holds a newline: %s", r.Line)
		}
		if !slices.Contains(types, typ) {
			types = append(types, typ)
		}
		lines = append(lines, string(r.Line))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(types)
	return lines, types
}

func record(t *testing.T, s source.Source, want Expect) {
	before := time.Now()
	first, types := scan(t, s, want.Patient, source.Query{})
	if d := cmp.Diff(want.Types, types); d != "" {
		t.Error(d)
	}
	again, _ := scan(t, s, want.Patient, source.Query{})
	if d := cmp.Diff(first, again); d != "" {
		t.Errorf("two scans differ:\n%s", d)
	}
	rec, err := s.Open(t.Context(), want.Patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	if rec.TakenAt().Before(before.Add(-time.Second)) ||
		rec.TakenAt().After(time.Now().Add(time.Second)) {
		t.Errorf("TakenAt = %v", rec.TakenAt())
	}
	if n := rec.Total(); n != 0 && n != int64(len(first)) {
		t.Errorf("Total = %d, %d scanned", n, len(first))
	}
}

func queries(t *testing.T, s source.Source, want Expect) {
	_, types := scan(t, s, want.Patient, source.Query{Types: want.Types[:1]})
	if !slices.Equal(types, want.Types[:1]) {
		t.Errorf("a query for %s gave %v", want.Types[0], types)
	}
	future := time.Now().Add(time.Hour)
	if lines, _ := scan(t, s, want.Patient, source.Query{Since: future}); len(lines) != 0 {
		t.Errorf("%d resources since the future", len(lines))
	}
	if _, types := scan(t, s, want.Patient, source.Query{Until: future}); !slices.Equal(types,
		want.Types) {
		t.Errorf("until the future: %v", types)
	}
}

func stops(t *testing.T, s source.Source, want Expect) {
	rec, err := s.Open(t.Context(), want.Patient)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	mine := errors.New("mine")
	n := 0
	if err := rec.Scan(t.Context(), source.Query{},
		func(source.Resource) error { n++; return mine }); !errors.Is(err, mine) || n != 1 {
		t.Errorf("after a visit's error: %v, %d visits", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	err = rec.Scan(ctx, source.Query{}, func(source.Resource) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("after the context's end: %v, %d visits", err, n)
	}
}
