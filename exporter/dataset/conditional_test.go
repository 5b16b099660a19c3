package dataset_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/records"
)

// requested makes random states, deletes, and conditional creates and updates of a few resources
// that share a few identifiers. Each is a Bundle or a line of its own, with its own time.
func requested(t *rapid.T) (files []string) {
	tick := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	identifiers := func() string {
		list := ""
		for _, v := range rapid.SliceOfNDistinct(rapid.IntRange(1, 3), 0, 2, rapid.ID[int]).Draw(t,
			"identifiers") {
			list += fmt.Sprintf(`,{"system":"urn:x","value":"%d"}`, v)
		}
		if list == "" {
			return ""
		}
		return `"identifier":[` + list[1:] + `],`
	}
	subject := func(typ string) string {
		if typ == "Patient" {
			return ""
		}
		return `"subject":{"reference":"` + rapid.SampledFrom([]string{
			"Patient/a", "Patient/b", "Patient?identifier=urn:x|1",
		}).Draw(t, "subject") + `"},`
	}
	entry := func(resource, request, rest string) string {
		return `{` + resource + `"request":{` + request + `}` + rest + `}`
	}
	for n := range rapid.IntRange(2, 12).Draw(t, "events") {
		tick = tick.Add(time.Hour)
		at := tick.Format(time.RFC3339)
		typ := rapid.SampledFrom([]string{
			"Encounter", "Encounter", "Patient", "Organization",
		}).Draw(t, "type")
		id := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")
		sent := rapid.SampledFrom([]string{"", `"id":"a",`, `"id":"b",`}).Draw(t, "sent")
		body := fmt.Sprintf(`"meta":{"lastUpdated":"%s"},%s%s"language":"x-%d"}`, at, identifiers(),
			subject(typ), n)
		query := rapid.SampledFrom([]string{
			"identifier=urn:x|1", "identifier=urn:x|2", "identifier=1",
		}).Draw(t, "query")
		urn := fmt.Sprintf(`"fullUrl":"urn:uuid:00000000-0000-4000-8000-%012d",`, n)
		about := entry(fmt.Sprintf(`"resource":{"resourceType":"Provenance","id":"v%d",`+
			`"target":[{"reference":"urn:uuid:00000000-0000-4000-8000-%012d"},`+
			`{"reference":"%s?%s"}]},`, n, n, typ, query),
			fmt.Sprintf(`"method":"PUT","url":"Provenance/v%d"`, n), "")
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 0, 1, 2:
			files = append(files, `{"resourceType":"`+typ+`","id":"`+id+`",`+body)
		case 3:
			files = append(files,
				requests("batch",
					entry("", `"method":"DELETE","url":"`+typ+`/`+id+`"`,
						`,"response":{"status":"204","lastModified":"`+at+`"}`)))
		case 4:
			resource := urn + `"resource":{"resourceType":"` + typ + `",` + sent + body + `,`
			request := `"method":"PUT","url":"` + typ + `?` + query + `"`
			files = append(files, requests("transaction", entry(resource, request, ""), about))
		default:
			resource := urn + `"resource":{"resourceType":"` + typ + `",` + sent + body + `,`
			request := `"method":"POST","url":"` + typ + `","ifNoneExist":"` + query + `"`
			files = append(files, requests("transaction", entry(resource, request, ""), about))
		}
	}
	return files
}

// imported imports the files in random order, one or several at a time.
func imported(t *rapid.T, files []string) map[string][]string {
	dir, err := os.MkdirTemp("", "requests")
	if err != nil {
		t.Fatal(err)
	}
	s := storeOfAnyKind(t, dataset.Config{Dir: filepath.Join(dir, "records")})
	defer func() {
		if err := errors.Join(s.Close(), os.RemoveAll(dir)); err != nil {
			t.Fatal(err)
		}
	}()
	var paths []string
	for i, f := range rapid.Permutation(files).Draw(t, "order") {
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%02d.json", i)))
		if err := os.WriteFile(paths[len(paths)-1], []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
		if i < len(files)-1 && rapid.Bool().Draw(t, "together with the next") {
			continue
		}
		rep, err := s.Import(t.Context(), paths, source.ImportOptions{Now: time.Now()})
		if err != nil || rep.Problems > 0 {
			t.Fatalf("%v %+v", err, rep)
		}
		paths = nil
	}
	return all(t, s)
}

// IN-3: the result of conditional creates and updates does not depend on whether the targets of
// their searches come before or after them.
func TestIN3TheOrderOfConditionalRequestsDoesNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := requested(t)
		if d := cmp.Diff(imported(t, files), imported(t, files)); d != "" {
			t.Fatalf("the exports differ:\n%s", d)
		}
	})
}

// Conditional creates and updates follow the targets of their searches from import to import.
func TestIN3ConditionalRequestsFollowWhatTheirSearchesFind(t *testing.T) {
	entry := func(method, url, rest, body string) string {
		return requests("transaction",
			`{"fullUrl":"urn:uuid:77777777-0000-4000-8000-000000000001","request":{"method":"`+
				method+`","url":"`+url+`"`+rest+`},"resource":{"resourceType":"Observation",`+body+
				`"subject":{"reference":"Patient/p"}}}`,
			`{"request":{"method":"PUT","url":"DiagnosticReport/r"},`+
				`"resource":{"resourceType":"DiagnosticReport","id":"r",`+
				`"subject":{"reference":"Patient/p"},`+
				`"result":[{"reference":"urn:uuid:77777777-0000-4000-8000-000000000001"}]}}`)
	}
	create := entry("POST", "Observation", `,"ifNoneExist":"identifier=urn:x|1"`,
		`"meta":{"lastUpdated":"2024-01-03T00:00:00Z"},"status":"created",`)
	update := entry("PUT", "Observation?identifier=urn:x|1", "",
		`"meta":{"lastUpdated":"2024-01-03T00:00:00Z"},"status":"updated",`)
	one := observation("one", `"meta":{"lastUpdated":"2024-01-01T00:00:00Z"},"status":"first",`)
	newer := observation("one", `"meta":{"lastUpdated":"2024-01-05T00:00:00Z"},"status":"newer",`)
	two := observation("two", `"status":"second",`)
	gone := requests("history",
		deleteEntry("Observation/one",
			`,"response":{"status":"204","lastModified":"2024-01-04T00:00:00Z"}`))
	for name, c := range map[string]struct {
		files []string
		want  []string // the statuses of the observations, and the target of the report
	}{
		"a create that finds nothing": {
			[]string{create}, []string{"created", "made"},
		},
		"a create that finds one": {
			[]string{create, one}, []string{"first", "one"},
		},
		"a create that finds two": {
			[]string{create, one, two},
			[]string{"first", "second", "created", ""},
		},
		"a create that found what was deleted": {[]string{create, one, gone}, []string{""}},
		"an update that finds nothing": {
			[]string{update}, []string{"updated", "made"},
		},
		"an update that finds one": {
			[]string{update, one}, []string{"updated", "one"},
		},
		"an update that finds a newer state": {
			[]string{update, one, newer}, []string{"newer", "one"},
		},
		"an update that finds two": {
			[]string{update, one, two},
			[]string{"first", "second", "updated", ""},
		},
		"an update of what was deleted": {[]string{update, one, gone}, []string{""}},
		"a create and an update": {
			[]string{create, update}, []string{"updated", "made"},
		},
		"a create and an update of one": {
			[]string{create, update, one}, []string{"updated", "one"},
		},
		"an update of two of which one was deleted": {
			[]string{update, one, two, gone}, []string{"second", "updated", ""},
		},
		"an update of one that came back afterwards": {
			[]string{update, one, gone, newer},
			[]string{"newer", "one"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, order := range orders(len(c.files)) {
				s, dir := openStore(t, t.TempDir()), t.TempDir()
				load(t, s, write(t, dir, "patient.ndjson", somebody))
				for n, i := range order { // each in an import of its own
					load(t, s, write(t, dir, fmt.Sprintf("%d.json", n), c.files[i]))
				}
				if d := cmp.Diff(c.want, observed(export(t, s, "p"))); d != "" {
					t.Errorf("in the order %v: %s", order, d)
				}
			}
		})
	}
}

// orders lists the permutations of n numbers.
func orders(n int) (out [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, rest := range orders(n - 1) {
		for at := range n {
			out = append(out, slices.Insert(slices.Clone(rest), at, n-1))
		}
	}
	return out
}

// observed returns the statuses of a record's observations, those with derived ids last, and the
// id that its report refers to.
func observed(record map[string]records.Resource) (out []string) {
	isMade := func(id string) bool { return len(id) == 32 }
	var late []string
	for _, k := range slices.Sorted(maps.Keys(record)) {
		if id, ok := strings.CutPrefix(k, "Observation/"); ok && isMade(id) {
			late = append(late, fmt.Sprint(record[k]["status"]))
		} else if ok {
			out = append(out, fmt.Sprint(record[k]["status"]))
		}
	}
	refers := fmt.Sprint(record["DiagnosticReport/r"]["result"])
	id, resolved := strings.CutPrefix(refers, "[map[reference:Observation/")
	id = strings.TrimSuffix(id, "]]")
	switch {
	case !resolved:
		id = ""
	case isMade(id):
		id = "made"
	}
	return append(append(out, late...), id)
}
