package native_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/native"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// web is a table of a patient that refers to look-up rows, which refer to each other.
var web = must(datapackage.Parse([]byte(`{"name":"web","resources":[
 {"name":"use","path":"use.csv",
  "schema":{"fields":[{"name":"patient"},{"name":"of"}],"foreignKeys":[
    {"fields":"of","reference":{"resource":"even","fields":"key"}}]},
  "ehi:patient":["patient"],"ehi:category":"medicalRecord"},
 {"name":"even","path":"even.csv",
  "schema":{"fields":[{"name":"key"},{"name":"icd","ehi:system":"urn:icd"},
    {"name":"a"},{"name":"b"}],"primaryKey":"key","foreignKeys":[
    {"fields":"a","reference":{"resource":"","fields":"key"}},
    {"fields":"b","reference":{"resource":"odd","fields":"key"}}]},"ehi:lookup":true},
 {"name":"odd","path":"odd.csv",
  "schema":{"fields":[{"name":"key"},{"name":"icd","ehi:system":"urn:icd"},
    {"name":"a"},{"name":"b"}],"primaryKey":"key","foreignKeys":[
    {"fields":"a","reference":{"resource":"even","fields":"key"}},
    {"fields":"b","reference":{"resource":"","fields":"key"}}]},"ehi:lookup":true}]}`)))

// webRecord has look-up rows by table and key.
type webRecord struct {
	codedRecord
	lookups map[string]string
}

func (webRecord) Tables() *datapackage.Package { return web }

func (r webRecord) Lookup(
	_ context.Context, table string, _, values []string, visit func(source.Rows) error,
) error {
	return visit(source.Rows{Data: []byte(r.lookups[table+" "+values[0]]), Count: 1})
}

// EHI-9: a row stays if any way from it through look-up rows leads to a sensitive one, also where
// these refer to each other in circles.
func TestEHI9ARowStaysIfAnyWayThroughLookUpRowsLeadsToASensitiveOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r := webRecord{codedRecord{rows: map[string]string{}}, map[string]string{}}
	want := "patient,of\r\n"
	for graph := range 2000 {
		n := 2 + random.IntN(8)
		sensitive, next := map[string]bool{}, map[string][]string{}
		key := func(k int) string { return fmt.Sprintf("%d-%d", graph, k) }
		for _, table := range []string{"even", "odd"} {
			for k := range n {
				at := table + " " + key(k)
				cells := map[string]string{}
				for _, to := range []string{"even", "odd"} {
					if random.IntN(3) > 0 {
						cells[to] = key(random.IntN(n))
						next[at] = append(next[at], to+" "+cells[to])
					}
				}
				code := "E11.9"
				if sensitive[at] = random.IntN(2*n) == 0; sensitive[at] {
					code = "B20"
				}
				r.lookups[at] = strings.Join(
					[]string{key(k), code, cells["even"], cells["odd"]}, ",") + "\r\n"
			}
		}
		for _, k := range random.Perm(n) {
			row := "p," + key(k) + "\r\n"
			r.rows["use"] += row
			if !reaches("even "+key(k), next, sensitive, map[string]bool{}) {
				want += row
			}
		}
	}
	x := export(t, native.Export{
		Record: r, Packaging: ehi.PackageFiles, Patient: "p",
		Decide: native.NewRelease(strict{}, web),
	})
	if got := string(x.get(ehi.Index, "tables/use.csv")); got != want {
		t.Errorf("the rows that leave differ from those expected: %s", cmp.Diff(want, got))
	}
}

func reaches(at string, next map[string][]string, sensitive, seen map[string]bool) bool {
	if sensitive[at] {
		return true
	}
	seen[at] = true
	for _, to := range next[at] {
		if !seen[to] && reaches(to, next, sensitive, seen) {
			return true
		}
	}
	return false
}
