package native_test

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"ehi-server/exporter/native"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// chart has keys of every kind: along the path to the patient, into the table itself, in a circle,
// of two fields, to another patient's rows, into look-up tables and between them.
var chart = must(datapackage.Parse([]byte(`{"name":"chart","resources":[
 {"name":"visit","path":"visit.csv",
  "schema":{"fields":[{"name":"id","type":"integer"},{"name":"patient"},
    {"name":"before","type":"integer"},{"name":"order","type":"integer"},{"name":"ward"}],
   "primaryKey":"id","foreignKeys":[
    {"fields":"before","reference":{"resource":"","fields":"id"}},
    {"fields":"order","reference":{"resource":"order","fields":"id"}},
    {"fields":"ward","reference":{"resource":"ward","fields":"code"}}]},
  "ehi:patient":["patient"],"ehi:category":"visits"},
 {"name":"order","path":"order.csv",
  "schema":{"fields":[{"name":"id","type":"integer"},{"name":"visit","type":"integer"},
    {"name":"kind"}],"primaryKey":"id","foreignKeys":[
    {"fields":"visit","reference":{"resource":"visit","fields":"id"}}]},
  "ehi:patient":["visit","patient"],"ehi:category":"visits"},
 {"name":"result","path":"result.csv",
  "schema":{"fields":[{"name":"patient"},{"name":"kind"},{"name":"of","type":"integer"}],
   "foreignKeys":[
    {"fields":["of","kind"],"reference":{"resource":"order","fields":["id","kind"]}}]},
  "ehi:patient":["patient"],"ehi:category":"visits"},
 {"name":"oddity","path":"oddity.csv",
  "schema":{"fields":[{"name":"patient"},{"name":"ward"}],"foreignKeys":[
    {"fields":"ward","reference":{"resource":"ward","fields":"code"}}]},
  "ehi:patient":["patient"]},
 {"name":"ward","path":"ward.csv",
  "schema":{"fields":[{"name":"code"},{"name":"part"}],"primaryKey":"code","foreignKeys":[
    {"fields":"part","reference":{"resource":"","fields":"code"}}]},"ehi:lookup":true}]}`)))

type chartRecord struct{ record }

func (chartRecord) Tables() *datapackage.Package { return chart }

func (r chartRecord) Lookup(
	_ context.Context, table string, _, values []string, visit func(source.Rows) error,
) error {
	for row := range strings.Lines(r.rows[table]) {
		if strings.HasPrefix(row, values[0]+",") {
			return visit(source.Rows{Data: []byte(row), Count: 1})
		}
	}
	return nil
}

// charted returns rows whose keys mostly hold. A break is how many of a hundred do not.
func charted(random *rand.Rand, breaks int) chartRecord {
	n := 1 + random.IntN(8)
	rows := map[string]string{}
	add := func(table string, cells ...string) {
		rows[table] += strings.Join(cells, ",") + "\r\n"
	}
	some := func(key func(i int) string) string {
		switch at := random.IntN(100); {
		case at < breaks:
			return key(n)
		case at > 80:
			return ""
		}
		return key(random.IntN(n))
	}
	number := func(i int) string {
		return []string{"", "0", "+"}[random.IntN(3)] + strconv.Itoa(i+1)
	}
	ward := func(i int) string { return fmt.Sprintf("W%d", i) }
	kinds := make([]string, n+1)
	for i := range n {
		kinds[i] = []string{"a", "b"}[random.IntN(2)]
		add("visit", number(i), "p", some(number), some(number), some(ward))
		add("order", number(i), number(random.IntN(n)), kinds[i])
		of := random.IntN(n)
		switch at := random.IntN(100); {
		case at < breaks:
			add("result", "p", "c", number(of))
		case at < 2*breaks:
			add("result", "p", "", number(of))
		default:
			add("result", "p", kinds[of], number(of))
		}
		add("oddity", "p", some(ward))
		add("ward", ward(i), some(ward))
	}
	return chartRecord{record{rows: rows}}
}

// keysOf returns the foreign keys that a description claims, and those that hold, as an independent
// reader finds them in the files beside it.
func keysOf(descriptor []byte, get func(path string) []byte) (claimed, hold []string) {
	p := must(datapackage.Parse(descriptor))
	for _, r := range p.Resources {
		for _, k := range r.Fields.ForeignKeys {
			claimed = append(claimed, fmt.Sprint(r.Name, k.Fields))
		}
	}
	p.Connect()
	rows := func(r *datapackage.Resource, fields []string) (out []string) {
		for _, row := range must(csv.NewReader(bytes.NewReader(get(r.Path[0]))).ReadAll())[1:] {
			var key []string
			for _, f := range fields {
				at := r.Fields.Field(f)
				v := row[at]
				if r.Fields.Fields[at].Type == "integer" && v != "" {
					v = strconv.Itoa(must(strconv.Atoi(v)))
				}
				key = append(key, v)
			}
			out = append(out, strings.Join(key, ","))
		}
		return out
	}
	for i := range p.Resources {
		r := &p.Resources[i]
		for _, k := range r.Fields.ForeignKeys {
			has := rows(p.Table(cmp.Or(k.Reference.Resource, r.Name)), k.Reference.Fields)
			without := strings.Repeat(",", len(k.Fields)-1)
			if !slices.ContainsFunc(rows(r, k.Fields), func(key string) bool {
				return key != without && !slices.Contains(has, key)
			}) {
				hold = append(hold, fmt.Sprint(r.Name, k.Fields))
			}
		}
	}
	slices.Sort(claimed)
	slices.Sort(hold)
	return claimed, hold
}

// NAT-3: a description claims no foreign key whose rows are not beside it, and each one whose rows
// are, if the export is one patient's.
func TestNAT3ADescriptionClaimsTheForeignKeysThatHold(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	all, none := 0, 0
	for i := range 24 {
		r := charted(random, []int{0, 3, 20}[i%3])
		x := export(t, native.Export{Record: r, Packaging: ehi.PackageFiles, Patient: "p"})
		claimed, hold := keysOf(x.get(ehi.Index, "tables/datapackage.json"),
			func(path string) []byte { return x.get(ehi.Index, "tables/"+path) })
		if d := gocmp.Diff(hold, claimed); d != "" {
			t.Errorf("files, %d: %s", i, d)
		}
		for name, e := range map[string]native.Export{
			"archive":     {Patient: "p"},
			"archives":    {Patient: "p", ArchiveBytes: 60},
			"by patient":  {ByPatient: true},
			"population":  {},
			"populations": {ArchiveBytes: 60},
		} {
			e.Record, e.Packaging = r, ehi.PackageZIP
			archives := 0
			for claimed, hold := range archived(t, export(t, e)) {
				archives++
				if len(claimed) > 0 {
					all++
				} else {
					none++
				}
				for _, key := range claimed {
					if !slices.Contains(hold, key) {
						t.Errorf("%s, %d: %s is broken", name, i, key)
					}
				}
				if name == "archive" {
					if d := gocmp.Diff(hold, claimed); d != "" {
						t.Errorf("%s, %d: %s", name, i, d)
					}
				}
			}
		}
	}
	if all == 0 || none == 0 {
		t.Errorf("%d archives claim keys, and %d none", all, none)
	}
}

// archived yields the keys of each archive of an export.
func archived(t *testing.T, x *exported) iter.Seq2[[]string, []string] {
	return func(yield func(claimed, hold []string) bool) {
		for _, f := range x.task.Files {
			if f.Kind != ehi.Archive {
				continue
			}
			archive := x.file(f)
			z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
			if err != nil {
				t.Fatal(err)
			}
			member := func(name string) []byte { return must(io.ReadAll(must(z.Open(name)))) }
			if !yield(keysOf(member("datapackage.json"), member)) {
				return
			}
		}
	}
}

// NAT-3: what waits for an administrator claims only what is released with it.
func TestNAT3ATableThatWaitsClaimsTheForeignKeysThatHold(t *testing.T) {
	for wards, want := range map[string][]string{
		"W0,W1\r\nW1,\r\n": {"oddity[ward]", "ward[part]"},
		"W0,W9\r\n":        {"oddity[ward]"},
		"":                 nil,
	} {
		r := chartRecord{record{rows: map[string]string{"oddity": "p,W0\r\n", "ward": wards}}}
		x := export(t, native.Export{
			Record: r, Packaging: ehi.PackageFiles, Patient: "p",
			Decide: native.NewRelease(strict{}, chart),
		})
		claimed, _ := keysOf(x.get(ehi.HeldBesideIndex, "tables/oddity~datapackage.json"),
			func(path string) []byte {
				if path == "oddity.csv" {
					return x.get(ehi.HeldIndex, "tables/"+path)
				}
				return x.get(ehi.HeldBesideIndex, "tables/"+path)
			})
		if d := gocmp.Diff(want, claimed); d != "" {
			t.Errorf("%q: %s", wards, d)
		}
	}
}

// NAT-3: a foreign key that would take too much memory to verify is not claimed.
func TestNAT3AForeignKeyOfVeryManyRowsIsNotClaimed(t *testing.T) {
	var visits strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&visits, "%d,p,,,\r\n", i)
	}
	r := chartRecord{record{rows: map[string]string{
		"visit": visits.String(), "order": "1,1,a\r\n", "result": "p,a,1\r\n",
	}}}
	x := export(t, native.Export{Record: r, Packaging: ehi.PackageZIP, Patient: "p"})
	for claimed := range archived(t, x) {
		if d := gocmp.Diff([]string{"order[visit]"}, claimed); d != "" {
			t.Error(d)
		}
	}
}

// NAT-3: a foreign key is claimed only if its values are equal for readers that do not know how we
// compare them.
func TestNAT3AForeignKeyIsClaimedIfItsValuesAreEqualForEveryReader(t *testing.T) {
	for _, c := range []struct {
		types [2]string
		from  string
		to    string
		holds bool
	}{
		{[2]string{"integer", "integer"}, "05", "5", true},
		{[2]string{"integer", "number"}, "5", "5.0", true},
		{[2]string{"number", "number"}, "NaN", "NaN", false},
		{[2]string{"string", "integer"}, "5", "5", false},
		{[2]string{"string", "string"}, "a", "a ", false},
		{[2]string{"boolean", "boolean"}, "true", "1", false},
		{[2]string{"datetime", "datetime"}, "2024-01-01T00:00:00", "2024-01-01T00:00:00Z", false},
		{[2]string{"datetime", "datetime"}, "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z", true},
		{[2]string{"date", `date", "format": "any`}, "2024-01-01", "2024-01-01", false},
	} {
		p := must(datapackage.Parse(fmt.Appendf(nil, `{"name":"pair","resources":[
		 {"name":"from","path":"from.csv","ehi:patient":["patient"],
		  "schema":{"fields":[{"name":"patient"},{"name":"to","type":"%s"}],"foreignKeys":[
		   {"fields":"to","reference":{"resource":"to","fields":"key"}}]}},
		 {"name":"to","path":"to.csv","ehi:patient":["patient"],
		  "schema":{"fields":[{"name":"patient"},{"name":"key","type":"%s"}]}}]}`,
			c.types[0], c.types[1])))
		r := pairRecord{record{rows: map[string]string{
			"from": "p," + c.from + "\r\n", "to": "p," + c.to + "\r\n",
		}}, p}
		x := export(t, native.Export{Record: r, Packaging: ehi.PackageZIP, Patient: "p"})
		for claimed := range archived(t, x) {
			if holds := len(claimed) == 1; holds != c.holds {
				t.Errorf("%+v is claimed: %t", c, holds)
			}
		}
	}
}

type pairRecord struct {
	record
	tables *datapackage.Package
}

func (r pairRecord) Tables() *datapackage.Package { return r.tables }
