package dataset_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A field with several foreign keys leads to its patient by the one that the first description has
// first, or marks, in whatever order another has them.
func TestThePathToThePatientKeepsItsForeignKey(t *testing.T) {
	const (
		first  = `{"fields": "visit", "reference": {"resource": "visits", "fields": "id"}%s}`
		second = `{"fields": "visit", "reference": {"resource": "rooms", "fields": "id"}%s}`
	)
	pack := func(keys ...string) string {
		return `{"resources": [
			{"name": "visits", "path": "visits.csv", "ehi:patient": ["patient"],
			 "schema": {"fields": [{"name": "id"}, {"name": "patient"}], "primaryKey": "id"}},
			{"name": "rooms", "path": "rooms.csv", "ehi:patient": ["patient"],
			 "schema": {"fields": [{"name": "id"}, {"name": "patient"}], "primaryKey": "id"}},
			{"name": "notes", "path": "notes.csv", "ehi:patient": ["visit", "patient"],
			 "schema": {"fields": [{"name": "visit"}, {"name": "text"}],
			 "foreignKeys": [` + strings.Join(keys, ",") + `]}}]}`
	}
	const mark = `, "ehi:path": true`
	plain, other := fmt.Sprintf(first, ""), fmt.Sprintf(second, "")
	marked := pack(other, fmt.Sprintf(first, mark))
	for name, c := range map[string]struct {
		descriptors []string
		of          string
		refused     bool
	}{
		"first":        {[]string{pack(plain, other)}, "a", false},
		"marked":       {[]string{marked}, "a", false},
		"marked again": {[]string{pack(plain, other), marked}, "a", false},
		"another":      {[]string{pack(plain, other), pack(other, plain)}, "a", true},
		"marked another": {
			[]string{pack(plain, other), pack(plain, fmt.Sprintf(second, mark))}, "a", true,
		},
		"two marks": {
			[]string{pack(fmt.Sprintf(first, mark), fmt.Sprintf(second, mark))}, "", true,
		},
	} {
		s := openStore(t, t.TempDir())
		var problems int64
		for _, descriptor := range c.descriptors {
			problems = load(t, s, folder(t, map[string]string{
				"p.ndjson": `{"resourceType":"Patient","id":"a"}` + "\n" +
					`{"resourceType":"Patient","id":"b"}` + "\n",
				"datapackage.json": descriptor, "visits.csv": "id,patient\n1,a\n",
				"rooms.csv": "id,patient\n1,b\n", "notes.csv": "visit,text\n1,hello\n",
			})).Problems
		}
		if (problems > 0) != c.refused {
			t.Errorf("%s: %d problems", name, problems)
		}
		for _, patient := range []string{"a", "b"} {
			has := slices.ContainsFunc(rowsOf(t, s, patient), func(rows string) bool {
				return strings.HasPrefix(rows, "notes ")
			})
			if has != (patient == c.of) {
				t.Errorf("%s: %s has the note: %t", name, patient, has)
			}
		}
	}
}
