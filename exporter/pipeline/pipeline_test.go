package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a record of given lines, each with its type before it: "Patient {...}".
type lines struct {
	source.NoNative
	list       []string
	incomplete bool
	err        error // after the last line
}

func (lines) TakenAt() time.Time { return time.Time{} }

func (lines) Records() ehi.Records { return ehi.Records{} }
func (l lines) Total() int64       { return int64(len(l.list)) }
func (l lines) Complete() bool     { return !l.incomplete }
func (lines) Close() error         { return nil }

func (lines) Resolves(string, string) (bool, error) { return false, nil }

func (lines) Has(string, string, string) (bool, error) { return false, nil }

func (lines) Another(string, string, string) (bool, error) { return false, nil }

func (lines) Find(context.Context, source.Query, string, string) ([]byte, error) { return nil, nil }

func (lines) Beside(context.Context, []source.Name, func([]byte) error) error { return nil }

func (l lines) Scan(ctx context.Context, q source.Query, visit func(source.Resource) error) error {
	for _, x := range l.list {
		if err := ctx.Err(); err != nil {
			return err
		}
		typ, line, _ := strings.Cut(x, " ")
		if !q.AdmitsType(typ) {
			continue
		}
		if err := visit(source.Resource{Type: typ, Line: []byte(line)}); err != nil {
			return err
		}
	}
	return l.err
}

func task(t *testing.T, store *local.Store, r source.Record, form *ehi.ReleaseForm) pipeline.Task {
	t.Helper()
	rules, err := release.RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	p, err := rules.Policy(form, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := store.NewBatch("job", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.Task{Record: r, Policy: p, Batch: b}
}

func newStore(t *testing.T) *local.Store {
	t.Helper()
	s, err := local.Open(local.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// contents reads the files of a result by type.
func contents(t *testing.T, s *local.Store, res pipeline.Result) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, f := range res.Files {
		r, err := s.Open("job", files.Extent{Object: f.Object, Offset: f.Offset, Length: f.Length})
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		if n := int64(bytes.Count(data, []byte{'\n'})); n != f.Count && f.Type != "" {
			t.Errorf("%s has %d lines, its table says %d", f.Type, n, f.Count)
		}
		out[f.Type] = string(data)
	}
	return out
}

func TestEachTypeGetsItsLinesInOrder(t *testing.T) {
	s := newStore(t)
	record := lines{list: []string{`B {"b":1}`, `A {"a":1}`, `B {"b":2}`, `A {"a":2}`}}
	res, err := pipeline.Run(t.Context(), task(t, s, record, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": "{\"a\":1}\n{\"a\":2}\n", "B": "{\"b\":1}\n{\"b\":2}\n"}
	if d := cmp.Diff(want, contents(t, s, res)); d != "" {
		t.Error(d)
	}
	if res.Files[0].Type != "A" || res.Withheld != nil {
		t.Errorf("result %+v", res)
	}
}

func TestManySlabsAndALineLargerThanASlab(t *testing.T) {
	s := newStore(t)
	var record lines
	want := map[string]string{}
	for i := range 5000 {
		typ := string(rune('A' + i/1000))
		line := fmt.Sprintf(`{"n":%d,"fill":"%s"}`, i, strings.Repeat("x", 500))
		if i == 2500 {
			line = `{"huge":"` + strings.Repeat("y", 3*pipeline.SlabBytes) + `"}`
		}
		record.list = append(record.list, typ+" "+line)
		want[typ] += line + "\n"
	}
	res, err := pipeline.Run(t.Context(), task(t, s, record, nil))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, contents(t, s, res)); d != "" {
		t.Error("the files differ from the record")
	}
}

// However many releasers share a record out among themselves, and whatever they leave out or
// mask, its lines keep their order: in the files of their types, and in the blocks of their
// patients, of which none has a header alone.
func TestReleasersKeepTheOrder(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	fill, claim := strings.Repeat("x", 2000), ""
	var record blocks
	byType, byPatient := map[string]string{}, ""
	for p := range 12 {
		patient := fmt.Sprintf("p%d", p)
		byPatient += fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"header",`+
			`"valueReference":{"reference":"Patient/%s"}}]}`+"\n", patient)
		for i := range 500 {
			id, typ := fmt.Sprintf("%s-%012d", patient, i),
				[]string{"Claim", "Condition", "Goal"}[(p+i/7)%3]
			if typ == "Claim" && p%4 < 3 {
				claim = id
			}
			line := fmt.Sprintf(`{"resourceType":"%s","id":"%s","text":"%s",`+
				`"basedOn":{"reference":"Claim/%s"}}`, typ, id, fill[:i*i%2000], claim)
			record.list = append(record.list, source.Resource{
				Type:    typ,
				Patient: patient,
				Line:    []byte(line),
			})
			if typ == "Claim" || p%4 == 3 {
				continue
			}
			byPatient += line + "\n"
			byType[typ] += line + "\n"
		}
		if p%4 == 3 { // of this patient nothing is released
			byPatient = byPatient[:strings.LastIndex(strings.TrimSuffix(byPatient, "\n"), "\n")+1]
			for i := len(record.list) - 500; i < len(record.list); i++ {
				record.list[i].Type = "Claim"
				record.list[i].Line = fmt.Appendf(nil, `{"resourceType":"Claim","id":"%s-%d"}`,
					patient, i)
			}
		}
	}
	form := everyCategory()
	delete(form.Parameters, ehi.Billing)
	for name, want := range map[string]map[string]string{
		"by type":    byType,
		"by patient": {"": byPatient},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			do := task(t, s, record, form)
			do.Population, do.ByPatient = true, name == "by patient"
			res, err := pipeline.Run(t.Context(), do)
			if err != nil {
				t.Fatal(err)
			}
			got := contents(t, s, res)
			for typ, text := range want {
				if got[typ] != text {
					t.Errorf("%q: %d bytes of %d, or in another order", typ, len(got[typ]),
						len(text))
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d files, want %d", len(got), len(want))
			}
		})
	}
	t.Run("masked", func(t *testing.T) {
		s := newStore(t)
		res, err := pipeline.Run(t.Context(), task(t, s, record, form))
		if err != nil {
			t.Fatal(err)
		}
		got := contents(t, s, res)
		for typ, text := range byType {
			text = regexp.MustCompile(`\{"reference":"Claim/[^"]*"\}`).ReplaceAllString(text,
				string(fhir.MaskedReference))
			if got[typ] != text {
				t.Errorf("%q: %d bytes of %d, or in another order", typ, len(got[typ]), len(text))
			}
		}
	})
}

// blocks is a record of given resources.
type blocks struct {
	lines
	list []source.Resource
}

func (b blocks) Scan(_ context.Context, _ source.Query, visit func(source.Resource) error) error {
	for _, r := range b.list {
		if err := visit(r); err != nil {
			return err
		}
	}
	return nil
}

// REAL-3: no empty file, and a type whose every resource is withheld has none.
func TestREAL3NoEmptyFiles(t *testing.T) {
	s := newStore(t)
	record := lines{
		list: []string{
			`Patient {"resourceType":"Patient","id":"p"}`,
			`Claim {"resourceType":"Claim","id":"c"}`,
		},
	}
	res, err := pipeline.Run(t.Context(), task(t, s, record, &ehi.ReleaseForm{}))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Files) != 1 || res.Files[0].Type != "Patient" ||
		res.Withheld["category.billing"] != 1 {
		t.Errorf("result %+v", res)
	}
	res, err = pipeline.Run(t.Context(), task(t, newStore(t), lines{}, nil))
	if err != nil || len(res.Files) != 0 {
		t.Errorf("an empty record: %+v, %v", res, err)
	}
}

// EHI-9: a record in which a resource comes twice, and stays for what it says the second time,
// is reviewed once more.
func TestEHI9ARecordIsReviewedAsOftenAsItTakes(t *testing.T) {
	s := newStore(t)
	record := lines{list: []string{
		`Patient {"resourceType":"Patient","id":"p"}`,
		`Condition {"resourceType":"Condition","id":"c"}`,
		`Provenance {"resourceType":"Provenance","id":"q","target":[{"reference":"Condition/c"}]}`,
		`Condition {"resourceType":"Condition","id":"c","meta":{"security":[{"code":"HIV"}]}}`,
	}}
	res, err := pipeline.Run(t.Context(), task(t, s, record, everyCategory()))
	if err != nil {
		t.Fatal(err)
	}
	d := cmp.Diff(map[string]string{"Patient": record.list[0][len("Patient "):] + "\n"},
		contents(t, s, res))
	if d != "" {
		t.Error(d)
	}
}

func TestAnIncompleteRecordsReferencesAreMaskedWithoutAForm(t *testing.T) {
	s := newStore(t)
	record := lines{
		incomplete: true,
		list: []string{
			`Condition {"resourceType":"Condition","id":"c",` +
				`"subject":{"reference":"Patient/gone"}}`,
		},
	}
	res, err := pipeline.Run(t.Context(), task(t, s, record, nil))
	if err != nil {
		t.Fatal(err)
	}
	got := contents(t, s, res)["Condition"]
	if !strings.Contains(got, `"unknown"`) || strings.Contains(got, "gone") {
		t.Errorf("the line is %s", got)
	}
}

// The first error ends all actors, and their goroutines (goleak).
func TestAnActorsErrorEndsThePipeline(t *testing.T) {
	mine := errors.New("the source broke")
	_, err := pipeline.Run(t.Context(),
		task(t, newStore(t), lines{list: []string{`A {}`}, err: mine}, nil))
	if !errors.Is(err, mine) {
		t.Errorf("a source's error: %v", err)
	}
	broken := lines{list: []string{`Patient {"resourceType":"Patient","id":`}}
	_, err = pipeline.Run(t.Context(), task(t, newStore(t), broken, &ehi.ReleaseForm{}))
	if err == nil {
		t.Error("a broken line went through a review")
	}
	_, err = pipeline.Run(t.Context(), task(t, newStore(t), panics{}, nil))
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("a panic: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = pipeline.Run(ctx, task(t, newStore(t), endless{cancel: cancel}, nil))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
}

type panics struct{ lines }

func (panics) Scan(context.Context, source.Query, func(source.Resource) error) error {
	panic("boom")
}

// endless is a record without an end, whose reader's context ends after a while.
type endless struct {
	source.NoNative
	cancel func()
}

func (endless) TakenAt() time.Time { return time.Time{} }

func (endless) Records() ehi.Records { return ehi.Records{} }
func (endless) Total() int64         { return 0 }
func (endless) Complete() bool       { return true }
func (endless) Close() error         { return nil }

func (endless) Resolves(string, string) (bool, error) { return true, nil }

func (endless) Has(string, string, string) (bool, error) { return true, nil }

func (endless) Another(string, string, string) (bool, error) { return false, nil }

func (endless) Find(context.Context, source.Query, string, string) ([]byte, error) {
	return nil, nil
}

func (endless) Beside(context.Context, []source.Name, func([]byte) error) error { return nil }

func (e endless) Scan(
	ctx context.Context, _ source.Query, visit func(source.Resource) error,
) error {
	line := []byte(`{"fill":"` + strings.Repeat("x", 10_000) + `"}`)
	for n := 0; ; n++ {
		if n == 500 {
			e.cancel()
		}
		if err := visit(source.Resource{Type: string(rune('A' + n%20)), Line: line}); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
