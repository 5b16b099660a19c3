package synthetic_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/exporter/synthetic/native"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

func nativeSource(t testing.TB, settings string) (*synthetic.Source, synthetic.Config) {
	t.Helper()
	c, err := synthetic.ParseConfig(settings)
	if err != nil {
		t.Fatal(err)
	}
	s, err := synthetic.NewSource(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// open opens the record of patient k.
func open(t testing.TB, s *synthetic.Source, c synthetic.Config, k int) source.Record {
	t.Helper()
	r, err := s.Open(t.Context(), c.PatientID(k))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rowsOf returns the rows of a table in a record.
func rowsOf(t testing.TB, r source.Record, table string) string {
	t.Helper()
	var data strings.Builder
	var count int64
	err := r.Rows(t.Context(), table, func(rows source.Rows) error {
		data.Write(rows.Data)
		count += rows.Count
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(len(cells(t, r.Tables().Table(table), data.String()))); n != count {
		t.Fatalf("%s: %d rows are counted as %d", table, n, count)
	}
	return data.String()
}

// cells returns the cells of rows, whose values have the types that the table declares.
func cells(t testing.TB, of *datapackage.Resource, data string) [][]string {
	t.Helper()
	codec, err := datapackage.NewCodec(of)
	if err != nil {
		t.Fatal(err)
	}
	rows, values, size := [][]string{}, [][]byte{}, 0
	for raw := range codec.Rows([]byte(data)) {
		size += len(raw)
		values, err = codec.Fields(raw, values)
		if err := errors.Join(err, codec.Check(values)); err != nil {
			t.Fatalf("%s: %v in the row %q", of.Name, err, raw)
		}
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = string(v)
		}
		rows = append(rows, row)
	}
	if size != len(data) || !strings.HasSuffix(data, of.Dialect.LineTerminator) && data != "" {
		t.Fatalf("%s: %d of %d bytes are whole rows", of.Name, size, len(data))
	}
	return rows
}

func place(of *datapackage.Resource, field string) int {
	return slices.IndexFunc(of.Fields.Fields, func(f datapackage.Field) bool {
		return f.Name == field
	})
}

// values returns some fields of each row, joined.
func values(of *datapackage.Resource, rows [][]string, fields []string) (out []string) {
	for _, row := range rows {
		var v []string
		for _, f := range fields {
			v = append(v, row[place(of, f)])
		}
		out = append(out, strings.Join(v, "\x00"))
	}
	return out
}

// tableShapes are the shapes with tables.
var tableShapes = []string{"tsv-tables", "csv-zip", "mixed"}

// settingsOf are settings with many kinds of records.
func settingsOf(shape string) []string {
	var out []string
	for _, s := range []string{"", "resources=3,", "resources=150,", "resources=5000,seed=4,"} {
		out = append(out, s+"native="+shape)
	}
	return out
}

// few is how many patients a test looks at: less of large ones.
func few(c synthetic.Config) int {
	if c.Resources > 1000 {
		return 1
	}
	return 5
}

func TestKeysOfTablesAreClosedAndLeadToThePatient(t *testing.T) {
	for _, shape := range tableShapes {
		for _, settings := range settingsOf(shape) {
			s, c := nativeSource(t, settings)
			for k := range few(c) {
				checkTables(t, s, c, k)
			}
		}
	}
}

func checkTables(t *testing.T, s *synthetic.Source, c synthetic.Config, k int) {
	t.Helper()
	r := open(t, s, c, k)
	tables, all := r.Tables(), map[string][][]string{}
	for i := range tables.Resources {
		of := &tables.Resources[i]
		if of.Lookup {
			all[of.Name] = lookupRows(t, s, of)
		} else {
			all[of.Name] = cells(t, of, rowsOf(t, r, of.Name))
		}
		keys := values(of, all[of.Name], of.Fields.PrimaryKey)
		slices.Sort(keys)
		if len(slices.Compact(keys)) != len(all[of.Name]) {
			t.Errorf("%s: a primary key is there twice", of.Name)
		}
	}
	for i := range tables.Resources {
		of := &tables.Resources[i]
		for _, key := range of.Fields.ForeignKeys {
			checkForeignKey(t, tables, all, of, key)
		}
		checkPatients(t, tables, all, of, c.PatientID(k))
	}
}

// lookupRows returns the rows of a look-up table, which Lookup also finds.
func lookupRows(
	t *testing.T, s *synthetic.Source, of *datapackage.Resource,
) (rows [][]string) {
	t.Helper()
	p, err := s.Freeze(t.Context(), "lookups")
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Open(t.Context(), source.Selection{Level: ehi.AllPatients}, ehi.Part{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	rows = cells(t, of, rowsOf(t, r, of.Name))
	for _, row := range rows {
		var key []string
		for _, f := range of.Fields.PrimaryKey {
			key = append(key, row[place(of, f)])
		}
		var found [][]string
		err := r.Lookup(t.Context(), of.Name, of.Fields.PrimaryKey, key,
			func(rows source.Rows) error {
				found = append(found, cells(t, of, string(rows.Data))...)
				return nil
			})
		if err != nil || len(found) != 1 || !slices.Equal(found[0], row) {
			t.Fatalf("%s: the row of %q is %q, %v", of.Name, key, found, err)
		}
	}
	return rows
}

func checkForeignKey(
	t *testing.T, tables *datapackage.Package, all map[string][][]string,
	of *datapackage.Resource, key datapackage.ForeignKey,
) {
	t.Helper()
	target := tables.Table(key.Reference.Resource)
	have := map[string]bool{}
	for _, v := range values(target, all[target.Name], key.Reference.Fields) {
		have[v] = true
	}
	for _, v := range values(of, all[of.Name], key.Fields) {
		if v != "" && !have[v] {
			t.Fatalf("%s: %v = %q is not in %s", of.Name, key.Fields, v, target.Name)
		}
	}
}

// checkPatients follows the path of a table to the patient.
func checkPatients(
	t *testing.T, tables *datapackage.Package, all map[string][][]string,
	of *datapackage.Resource, patient string,
) {
	t.Helper()
	if of.Lookup {
		return
	}
	for _, row := range all[of.Name] {
		in := of
		for _, field := range of.Patient[:len(of.Patient)-1] {
			value := row[place(in, field)]
			i := slices.IndexFunc(in.Fields.ForeignKeys, func(k datapackage.ForeignKey) bool {
				return slices.Equal(k.Fields, []string{field})
			})
			if i < 0 {
				t.Fatalf("%s: no foreign key of %s", of.Name, field)
			}
			to := in.Fields.ForeignKeys[i].Reference
			in = tables.Table(to.Resource)
			j := slices.IndexFunc(all[in.Name], func(row []string) bool {
				return row[place(in, to.Fields[0])] == value
			})
			row = all[in.Name][j]
		}
		if of.PatientSystem != "" {
			patient = recordNumber(t, all)
		}
		if got := row[place(in, of.Patient[len(of.Patient)-1])]; got != patient {
			t.Fatalf("%s: the row leads to patient %q, want %q", of.Name, got, patient)
		}
	}
}

// recordNumber is the identifier of the only patient.
func recordNumber(t *testing.T, all map[string][][]string) string {
	t.Helper()
	if len(all["persons"]) != 1 {
		t.Fatalf("there are %d persons", len(all["persons"]))
	}
	return all["persons"][0][0]
}

func TestColumnsWithResourcesHoldIDsOfTheRecord(t *testing.T) {
	for _, shape := range tableShapes {
		for _, settings := range settingsOf(shape) {
			s, c := nativeSource(t, settings)
			linked := 0
			for k := range 3 * few(c) {
				types, r := typesByID(t, c, k), open(t, s, c, k)
				for i := range r.Tables().Resources {
					of := &r.Tables().Resources[i]
					for _, row := range cells(t, of, rowsOf(t, r, of.Name)) {
						for j, f := range of.Fields.Fields {
							if f.Resource == "" || row[j] == "" {
								continue
							}
							linked++
							if types[row[j]] != f.Resource {
								t.Fatalf("%s: %s.%s = %s is a %q", settings, of.Name, f.Name,
									row[j], types[row[j]])
							}
						}
					}
				}
			}
			if linked == 0 {
				t.Errorf("%s: no row is linked to a resource", settings)
			}
		}
	}
}

func TestRowsDependOnSeedPatientAndTableOnly(t *testing.T) {
	for _, shape := range tableShapes {
		s, c := nativeSource(t, "native="+shape)
		p, err := s.Freeze(t.Context(), "rows")
		if err != nil {
			t.Fatal(err)
		}
		part, err := p.Open(t.Context(), source.Selection{Level: ehi.AllPatients},
			ehi.Part{From: "3", To: "9"})
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range part.Tables().Resources {
			var alone bytes.Buffer
			for k := 3; k < 9; k++ {
				alone.WriteString(rowsOf(t, open(t, s, c, k), table.Name))
			}
			if rowsOf(t, part, table.Name) != alone.String() {
				t.Errorf("%s: the rows of patients differ from those of the population",
					table.Name)
			}
		}
	}
}

func TestTablesAreDescribed(t *testing.T) {
	least := map[string]int{"tsv-tables": 80, "csv-zip": 12, "mixed": 12}
	for _, shape := range tableShapes {
		s, c := nativeSource(t, "native="+shape)
		tables := open(t, s, c, 0).Tables()
		if n := len(tables.Resources); n < least[shape] {
			t.Errorf("%s has %d tables, want %d", shape, n, least[shape])
		}
		held, names := 0, map[string]bool{}
		for i := range tables.Resources {
			of := &tables.Resources[i]
			if names[of.Name] || of.Title == "" || len(of.Fields.PrimaryKey) == 0 {
				t.Errorf("%s lacks something, or is there twice", of.Name)
			}
			names[of.Name] = true
			if of.Category == "" {
				held++
			}
			checkCategory(t, of)
			if of.Date != "" && place(of, of.Date) < 0 {
				t.Errorf("%s has no field %s", of.Name, of.Date)
			}
			for _, f := range of.Fields.Fields {
				if f.Title == "" {
					t.Errorf("%s.%s has no title", of.Name, f.Name)
				}
			}
		}
		if all := shape == "mixed"; all != (held == 0) || held > 1 {
			t.Errorf("%s has %d tables that nobody has classified", shape, held)
		}
	}
}

func checkCategory(t *testing.T, of *datapackage.Resource) {
	t.Helper()
	for _, c := range ehi.Categories() {
		if of.Category == string(c.Key) {
			return
		}
	}
	if of.Category != "" && of.Category != datapackage.Always {
		t.Errorf("%s has the category %q", of.Name, of.Category)
	}
}

func TestSettingsOfNativeContentAreChecked(t *testing.T) {
	for _, bad := range []string{
		"native=x", "documents=3", "document-bytes=2M", "native=tsv-tables,documents=-1",
		"native=tsv-tables,document-bytes=1T", "native=tsv-tables,document-bytes=M",
		"native=tsv-tables,document-bytes=9223372036854775807G",
		"native=tsv-tables,document-bytes=65G",
	} {
		if _, err := synthetic.ParseConfig(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for text, want := range map[string]int64{
		"7": 7, "3k": 3 << 10, "200M": 200 << 20, "4G": 4 << 30,
	} {
		c := config(t, "native=tsv-tables,documents=2,document-bytes="+text)
		if c.DocumentBytes != want || c.Documents != 2 || c.Native != "tsv-tables" {
			t.Errorf("%+v", c)
		}
		none := config(t, "native=tsv-tables,documents=0")
		if none == config(t, "native=tsv-tables") || none != config(t, none.Canonical()) {
			t.Errorf("no documents are %+v", none)
		}
		again := config(t, c.Canonical())
		if again != c {
			t.Errorf("%s makes %+v", c.Canonical(), again)
		}
	}
	if got := fmt.Sprint(config(t, "").Canonical()); got !=
		"patients=100,seed=1,resources=0,size=0,errors=0" {
		t.Errorf("the canonical text without native content is %s", got)
	}
}

// A source tells its tables without a record, with some whole rows of each that fit them.
func TestASourceTellsItsTablesAndSamplesOfThem(t *testing.T) {
	for _, shape := range native.Shapes() {
		s, c := nativeSource(t, "patients=2,native="+shape)
		tables, err := s.Tables(t.Context())
		if err != nil || tables != open(t, s, c, 0).Tables() {
			t.Fatalf("%s: %v", shape, err)
		}
		if tables == nil {
			continue
		}
		for i := range tables.Resources {
			of := &tables.Resources[i]
			rows, err := s.Sample(t.Context(), of.Name)
			if err != nil || len(rows) == 0 || len(rows) > 1<<20 {
				t.Fatalf("%s has a sample of %d bytes, %v", of.Name, len(rows), err)
			}
			codec, err := datapackage.NewCodec(of)
			if err != nil {
				t.Fatal(err)
			}
			var values [][]byte
			for row := range codec.Rows(rows) {
				if values, err = codec.Fields(row, values); err == nil {
					err = codec.Check(values)
				}
				if err != nil {
					t.Fatalf("%s has the row %q: %v", of.Name, row, err)
				}
			}
		}
	}
	none, c := nativeSource(t, "patients=1")
	if tables, err := none.Tables(t.Context()); tables != nil || err != nil ||
		open(t, none, c, 0).Tables() != nil {
		t.Errorf("a source without native content has tables, %v", err)
	}
}

func TestDescriptorsOfGeneratedTablesAreValid(t *testing.T) {
	for _, shape := range tableShapes {
		s, c := nativeSource(t, "native="+shape)
		tables := open(t, s, c, 0).Tables()
		again, err := datapackage.Parse(tables.JSON())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.JSON(), tables.JSON()) {
			t.Errorf("%s: the descriptor changes when it is read", shape)
		}
	}
}

// frictionless is the standard's own implementation. It checks types, constraints, primary keys
// and foreign keys.
func TestFrictionlessTakesGeneratedTables(t *testing.T) {
	for _, shape := range tableShapes {
		t.Run(shape, func(t *testing.T) {
			s, c := nativeSource(t, "native="+shape)
			r, folder := open(t, s, c, 1), t.TempDir()
			for i := range r.Tables().Resources {
				of := &r.Tables().Resources[i]
				codec, err := datapackage.NewCodec(of)
				if err != nil {
					t.Fatal(err)
				}
				data := codec.Header(nil)
				if of.Lookup {
					for _, row := range lookupRows(t, s, of) {
						data = codec.Append(data, row...)
					}
				} else {
					data = append(data, rowsOf(t, r, of.Name)...)
				}
				if err := os.WriteFile(filepath.Join(folder, of.Path[0]), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			descriptor := filepath.Join(folder, "datapackage.json")
			if err := os.WriteFile(descriptor, r.Tables().JSON(), 0o600); err != nil {
				t.Fatal(err)
			}
			out := python(t, "frictionless", `
import sys
from frictionless import Package
report = Package(sys.argv[1]).validate()
print(report.stats["tasks"], "tables", report.stats["errors"], "errors")
for error in report.flatten(["name", "rowNumber", "fieldName", "type", "note"])[:10]:
    print(error)
`, descriptor)
			want := fmt.Sprintf("%d tables 0 errors\n", len(r.Tables().Resources))
			if out != want {
				t.Errorf("frictionless says %s, want %s", out, want)
			}
		})
	}
}

// Parts of a plan have about the size asked for with rows and documents too.
func TestTheEstimatedSizeCountsNativeContent(t *testing.T) {
	for _, settings := range []string{
		"native=tsv-tables", "native=csv-zip,documents=300", "native=ccda,resources=3000",
		"native=mixed,documents=12,document-bytes=100k",
	} {
		s, c := nativeSource(t, settings)
		r := open(t, s, c, 20)
		var size int64
		err := r.Scan(t.Context(), source.Query{}, func(res source.Resource) error {
			size += int64(len(res.Line)) + 1
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.Tables() != nil {
			for _, of := range r.Tables().Resources {
				size += int64(len(rowsOf(t, r, of.Name)))
			}
		}
		for _, d := range documentsOf(t, r, source.Query{}) {
			size += d.Size
		}
		got, err := s.Size(t.Context(), []string{c.PatientID(20)}, true)
		if ratio := float64(got) / float64(size); err != nil || ratio < 0.6 || ratio > 1.6 {
			t.Errorf("%s: the size is estimated as %d, and is %d, %v", settings, got, size, err)
		}
	}
}

// policy returns the keys of a table of the release policy by system and code. A code may end in *.
func policy(t *testing.T, name string) map[string]string {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "release", name))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for line := range strings.Lines(string(file)) {
		if cells := strings.Split(strings.TrimSpace(line), ","); len(cells) == 3 {
			keys[cells[0]+"|"+cells[1]] = cells[2]
		}
	}
	return keys
}

// keyOf finds a code, or the longest beginning of it that stands for all that follows.
func keyOf(keys map[string]string, system, code string) string {
	if key := keys[system+"|"+code]; key != "" {
		return key
	}
	for n := len(code); n > 0; n-- {
		if key := keys[system+"|"+code[:n]+"*"]; key != "" {
			return key
		}
	}
	return ""
}

// Rows with a code that needs an authorization belong to the resource with the same code, if the
// record has it. Chronic conditions and what visits are about need none.
func TestRowsWithSensitiveCodesAreLinkedToTheSensitiveResources(t *testing.T) {
	keys := policy(t, "sensitive.csv")
	for table, column := range map[string]string{
		"problem": "diagnosis_code", "problem_history": "diagnosis_code",
		"genetic_result": "loinc_code", "visit_diagnosis": "diagnosis_code",
	} {
		s, c := nativeSource(t, "native=tsv-tables")
		r := open(t, s, c, 3)
		of := r.Tables().Table(table)
		system := of.Fields.Fields[place(of, column)].System
		found := map[string]int{}
		for _, row := range cells(t, of, rowsOf(t, r, table)) {
			key := keyOf(keys, system, row[place(of, column)])
			found[key]++
			if key == "" {
				continue
			}
			for i, f := range of.Fields.Fields {
				if (f.Resource == "Condition" || f.Resource == "Observation") && row[i] == "" {
					t.Errorf("%s: a row of %s is linked to nothing", table, key)
				}
			}
		}
		var want []string
		switch table {
		case "problem", "problem_history":
			want = []string{"", "hiv", "alcoholAndDrug", "mentalHealth", "domesticViolence",
				"sexualAssault", "other"}
		case "genetic_result":
			want = []string{"genetic"}
		default:
			want = []string{""}
		}
		for _, key := range want {
			if found[key] == 0 {
				t.Errorf("%s has no row of %q", table, key)
			}
		}
		if len(found) != len(want) {
			t.Errorf("%s has rows of %v, want %q", table, found, want)
		}
	}
}

// The type of a document and its line of the release form say the same.
func TestTypesOfDocumentsFitTheirCategories(t *testing.T) {
	keys, known := policy(t, "documents.csv"), 0
	for _, shape := range native.Shapes() {
		s, c := nativeSource(t, "native="+shape)
		for _, d := range documentsOf(t, open(t, s, c, 0), source.Query{}) {
			key := keyOf(keys, d.Type.System, d.Type.Code)
			if key != "" && key != string(d.Category) {
				t.Errorf("%s is of %q, its type of %q", d.Name, d.Category, key)
			}
			if key != "" {
				known++
			}
		}
	}
	if known < 10 {
		t.Errorf("the policy knows the types of %d documents", known)
	}
}
