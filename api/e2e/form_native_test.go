package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/shared/ehi"
)

// NAT-4: the form counts documents and tables that are not FHIR under their lines and
// authorizations, says what falls under none, and what it says is what the export does.
func TestNAT4TheFormCountsDocumentsAndTables(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"records.ndjson": `{"resourceType":"Patient","id":"ann"}`,
		"documents.csv": "patient,path,category,date,labels\n" +
			"ann,ray.pdf,radiology,2024-01-01,\nann,old.pdf,radiology,2014-01-01,\n" +
			"ann,undated.pdf,radiology,,\nann,letter.pdf,,,\nann,hiv.pdf,radiology,2024-01-01," +
			"http://terminology.hl7.org/CodeSystem/v3-ActCode|HIV\n",
		"ray.pdf": "%PDF-ray", "old.pdf": "%PDF-old", "undated.pdf": "%PDF-undated",
		"letter.pdf": "%PDF-letter", "hiv.pdf": "%PDF-hiv",
		"datapackage.json": `{"name":"x","resources":[{"name":"test","path":"test.csv",` +
			`"ehi:patient":["patient"],"ehi:category":"labs","schema":{"fields":[` +
			`{"name":"patient"},{"name":"value"}]}}]}`,
		"test.csv": "patient,value\nann,7\nann,8\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := startOn(t, folder)
	j, b := w.formOf("ann")
	b.sees(200, `id="p-labs-count" data-count="p.labs">In your record: 2 entries<`,
		`id="p-radiology-count" data-count="p.radiology">In your record: 4 entries<`,
		`id="a-hiv-count" data-count="a.hiv">In your record: 1 entry<`,
		`id="p-visits-count" data-count="p.visits">Your record has no entries of this kind<`,
		"With these choices, 1 of 7 entries would be shared. "+
			"Of none of these kinds: 1 entry. The hospital decides about that separately.")
	fill := []string{
		"p.labs", "on", "p.radiology", "on", "p.radiology.from", "2020-01-01",
	}
	b.submit(append(fill, "do", "preview")...)
	b.counted()
	b.sees(200, "2 of 2 entries would be shared", "1 of 4 entries would be shared. "+
		"Not shared because of the dates you entered: 1 entry without a date",
		"With these choices, 4 of 7 entries would be shared.")
	b.submit(fill...)
	b.sees(200, "Your request")
	job := w.wait(j.ID, ehi.Retrieved)
	want := map[string]int64{"sensitive.hiv": 1, "category.radiology": 2, "unclassified": 1}
	if d := cmp.Diff(want, job.Withheld); d != "" {
		t.Errorf("withheld: %s", d)
	}
}
