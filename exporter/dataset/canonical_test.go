package dataset_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// IN-1: a canonical URL adds the definition that it names to the record: in the version that it
// asks for, else the latest one.
func TestIN1ADefinitionGoesWithWhatNamesItByItsCanonicalURL(t *testing.T) {
	dir := t.TempDir()
	definition := func(typ, id, rest string) string {
		return `{"resourceType":"` + typ + `","id":"` + id + `","status":"active",` + rest + `}`
	}
	definitions := write(t, dir, "definitions.ndjson",
		definition("Questionnaire", "one",
			`"url":"http://q.org/One","item":[{"item":[{"linkId":"1",`+
				`"answerValueSet":"http://q.org/VS"}]}]`),
		definition("ValueSet", "vs", `"url":"http://q.org/VS"`),
		definition("Questionnaire", "v2", `"url":"http://q.org/V","version":"2.0"`),
		definition("Questionnaire", "v9", `"url":"http://q.org/V","version":"9.1","date":"2024"`),
		definition("Questionnaire", "v10", `"url":"http://q.org/V","version":"10.0","date":"2020"`),
		definition("Questionnaire", "old",
			`"url":"http://q.org/D","version":"spring","date":"2020-03"`),
		definition("Questionnaire", "new",
			`"url":"http://q.org/D","version":"autumn","date":"2020-09"`),
		definition("Questionnaire", "lower", `"url":"http://q.org/case","version":"2"`),
		definition("Questionnaire", "upper", `"url":"http://q.org/Case","version":"1"`),
		definition("Questionnaire", "relative", `"name":"x"`),
		definition("Questionnaire", "absolute", `"name":"x"`),
		definition("Questionnaire", "itself",
			`"url":"https://ehr.example.org/r4/Questionnaire/absolute2"`),
		definition("Questionnaire", "absolute2", `"name":"x"`),
		definition("PlanDefinition", "uuid", `"url":"urn:uuid:`+aUUID+`"`),
		definition("Questionnaire", "nobodys", `"url":"http://q.org/Nobody"`),
		definition("Questionnaire", "none",
			`"name":"http://q.org/None","extension":[{"url":"http://q.org/None"}]`),
	)
	var lines []string
	want, one := map[string][]string{}, []string{"Questionnaire/one", "ValueSet/vs"}
	for canonical, ids := range map[string][]string{
		"http://q.org/One":    one,
		"http://q.org/One|7":  one,
		"http://q.org/One#a":  one,
		`http:\/\/q.org\/One`: one,
		"https://q.org/One/":  one, "http://q.org/V": {"Questionnaire/v10"},
		"http://q.org/V|2.0": {"Questionnaire/v2"}, "http://q.org/V|2.0#x": {"Questionnaire/v2"},
		"http://q.org/V|3": {"Questionnaire/v10"}, "http://q.org/V#x|9.1": {"Questionnaire/v9"},
		"http://q.org/D":    {"Questionnaire/new"},
		"http://q.org/case": {"Questionnaire/lower"}, "http://q.org/Case": {"Questionnaire/upper"},
		"http://q.org/CASE|1":                                {"Questionnaire/upper"},
		"Questionnaire/relative":                             {"Questionnaire/relative"},
		"Questionnaire/relative|2#x":                         {"Questionnaire/relative"},
		"https://ehr.example.org/r4/Questionnaire/absolute":  {"Questionnaire/absolute"},
		"https://ehr.example.org/r4/Questionnaire/absolute2": {"Questionnaire/itself"},
		"urn:uuid:" + aUUID:                                  {"PlanDefinition/uuid"},
		"http://q.org/None":                                  nil,
		"Questionnaire/missing":                              nil,
		"#x":                                                 nil,
		"":                                                   nil,
		"|1":                                                 nil,
		"Patient/other":                                      nil,
	} {
		p := fmt.Sprint("p", len(want))
		want[p] = append([]string{"Patient/" + p, "QuestionnaireResponse/r" + p, "CarePlan/c" + p},
			ids...)
		self := `"subject":{"reference":"Patient/` + p + `"}`
		lines = append(lines, `{"resourceType":"Patient","id":"`+p+`"}`,
			`{"resourceType":"QuestionnaireResponse","id":"r`+p+`",`+self+`,"questionnaire":"`+
				canonical+`"}`,
			`{"instantiatesCanonical":["`+canonical+`"],"resourceType":"CarePlan","id":"c`+p+`",`+
				self+`}`)
	}
	lines = append(lines, `{"resourceType":"Patient","id":"other"}`)
	sources := strings.Join(lines, "\n")
	inBothWith(t, []string{"https://ehr.example.org/r4"}, func(t *testing.T, s *dataset.Store) {
		for p, ids := range want {
			wantKeys(t, s, p, ids...)
			rec, err := s.Open(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if !rec.Complete() {
				t.Errorf("%s is not complete", p)
			}
			err = rec.Scan(t.Context(), source.Query{}, func(r source.Resource) error {
				if r.Type == "CarePlan" && !strings.Contains(sources, string(r.Line)) {
					t.Errorf("%s has changed", r.Line)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if err := rec.Close(); err != nil {
				t.Error(err)
			}
		}
	}, definitions, write(t, dir, "patients.ndjson", lines...))
}

// If a definition changes its URL or is deleted, it leaves the records that named it. Another
// one with the URL replaces it.
func TestIN1DefinitionsThatChangeAreFoundAnew(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	state := func(id, at, rest string) string {
		return `{"resourceType":"Measure","id":"` + id + `","meta":{"lastUpdated":"` + at +
			`T00:00:00Z"}` + rest + `}`
	}
	n := 0
	next := func(want []string, lines ...string) {
		t.Helper()
		n++
		load(t, s, write(t, dir, fmt.Sprint(n, ".ndjson"), lines...))
		wantKeys(t, s, "p", append([]string{"Patient/p", "MeasureReport/r"}, want...)...)
	}
	next(nil, `{"resourceType":"Patient","id":"p"}`,
		`{"resourceType":"MeasureReport","id":"r","subject":{"reference":"Patient/p"},`+
			`"measure":"http://q.org/M"}`)
	next([]string{"Measure/a"}, state("a", "2024-01-01", `,"url":"http://q.org/M","version":"1"`))
	next([]string{"Measure/b"}, state("b", "2024-01-01", `,"url":"http://q.org/M","version":"2"`))
	next([]string{"Measure/a"},
		state("b", "2024-01-02", `,"url":"http://q.org/Other","version":"2"`))
	next([]string{"Measure/a", "Library/l"},
		state("a", "2024-01-03", `,"url":"http://q.org/M","library":["http://q.org/L"]`),
		`{"resourceType":"Library","id":"l","url":"http://q.org/L"}`)
	load(t, s, write(t, dir, "gone.json",
		`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE",`+
			`"url":"Measure/a"}}]}`))
	wantKeys(t, s, "p", "Patient/p", "MeasureReport/r")
	next([]string{"Measure/b"}, state("b", "2024-01-05", `,"url":"http://q.org/M"`))
}

// nested returns a field at a path in which each object is in a list.
func nested(path, value string) string {
	fields := strings.Split(path, ".")
	for at, f := range slices.Backward(fields) {
		if value = `"` + f + `":` + value; at > 0 {
			value = "[{" + value + "}]"
		}
	}
	return value
}

// Each canonical element of R4 points to its definition, wherever the type is in the line.
func TestIN1EveryCanonicalOfR4LeadsToItsDefinition(t *testing.T) {
	s := openStore(t, t.TempDir())
	lines := []string{`{"resourceType":"StructureDefinition","id":"d","url":"http://q.org/D"}`}
	var patients []string
	for _, typ := range fhir.Types() {
		for i, path := range fhir.CanonicalPaths(typ) {
			if typ == "Parameters" { // none is imported
				continue
			}
			p := fmt.Sprintf("%s-%d", typ, i)
			first, _, _ := strings.Cut(path, ".")
			of := fhir.CompartmentPaths(typ)
			whose := slices.IndexFunc(of, func(o string) bool {
				return !strings.HasPrefix(o, first)
			})
			if whose >= 0 {
				lines = append(lines, `{"resourceType":"Patient","id":"`+p+`"}`)
				of = []string{nested(of[whose], `{"reference":"Patient/`+p+`"}`)}
			} else {
				to := `{"reference":"` + typ + "/" + p + `"}`
				lines = append(lines,
					`{"resourceType":"Patient","id":"`+p+`","extension":[{"valueReference":`+to+
						`}]}`)
				of = []string{`"status":"active"`}
			}
			patients = append(patients, p)
			line := []string{
				nested(path, `"http://q.org/D"`), `"resourceType":"` + typ + `"`,
				`"id":"` + p + `"`, of[0],
			}
			if i%2 == 0 {
				line[0], line[1] = line[1], line[0]
			}
			lines = append(lines, "{"+strings.Join(line, ",")+"}")
		}
	}
	if len(patients) < 60 {
		t.Errorf("%d canonicals", len(patients))
	}
	load(t, s, write(t, t.TempDir(), "a.ndjson", lines...))
	for _, p := range patients {
		if out := keysOf(export(t, s, p)); !slices.Contains(out, "StructureDefinition/d") {
			t.Errorf("%s has %v", p, out)
		}
	}
}
