package datapackage_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/shared/datapackage"
	"ehi-server/shared/tooltest"
)

// python returns a Python that has modules, or skips the test. EHI_TEST_PYTHON names it; python3
// is the default.
func python(t *testing.T, modules string) string {
	t.Helper()
	name := os.Getenv("EHI_TEST_PYTHON")
	if name == "" {
		name = "python3"
	}
	if exec.Command(name, "-c", "import "+modules).Run() != nil {
		tooltest.Lacking(t, "a Python with "+modules+" (EHI_TEST_PYTHON)")
	}
	return name
}

// verdicts runs a Python program, which reads a list of descriptors and returns for each why it
// is not valid, or the empty string.
func verdicts(t *testing.T, python, program string, descriptors []string) []string {
	t.Helper()
	c := exec.Command(python, "-c", program)
	c.Stdin = strings.NewReader("[" + strings.Join(descriptors, ",") + "]")
	c.Stderr = new(bytes.Buffer)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, c.Stderr)
	}
	var reasons []string
	if err := json.Unmarshal(out, &reasons); err != nil || len(reasons) != len(descriptors) {
		t.Fatalf("%d verdicts, %v", len(reasons), err)
	}
	return reasons
}

// ignored are the properties of the descriptor below that Parse does not read.
var ignored = []string{"$schema", "keywords", "licenses", "csvddfVersion"}

// replacements are what a property is changed to.
var replacements = []string{
	`null`, `true`, `0`, `-1`, `1.5`, `3`, `""`, `"x"`, `"A b"`, `"/x"`, `"../x"`, `[]`, `[""]`,
	`["x"]`, `["x", "x"]`, `[1]`, `{}`, `[{}]`, `{"fields": "x"}`,
}

// mutations returns variants of a value, each with one place that has another value or is left
// out.
func mutations(v any) []any {
	var all []any
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if slices.Contains(ignored, key) {
				continue
			}
			less := maps.Clone(v)
			delete(less, key)
			all = append(all, less)
			for _, x := range mutations(v[key]) {
				other := maps.Clone(v)
				other[key] = x
				all = append(all, other)
			}
		}
	case []any:
		for i := range v {
			all = append(all, slices.Delete(slices.Clone(v), i, i+1))
			for _, x := range mutations(v[i]) {
				other := slices.Clone(v)
				other[i] = x
				all = append(all, other)
			}
		}
	}
	for _, text := range replacements {
		var x any
		json.Unmarshal([]byte(text), &x)
		all = append(all, x)
	}
	return all
}

// variants returns descriptors with one change each, valid and invalid ones.
func variants(t *testing.T, text string) []string {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	descriptors := []string{text}
	for _, v := range mutations(tree) {
		if _, ok := v.(map[string]any); !ok {
			continue
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		descriptors = append(descriptors, string(data))
	}
	return descriptors
}

// firstVersion is the clinic in the words of the first version of the standard.
func firstVersion() string {
	return strings.NewReplacer(
		`"$schema": "https://datapackage.org/profiles/2.0/datapackage.json",`, ``,
		`"type": "table",`, ``,
		`"missingValues": [{"value": ""}, {"value": "-", "label": "none"}],`, ``,
	).Replace(clinic)
}

// compare holds that what Parse takes is valid by the others, and counts.
func compare(t *testing.T, descriptors, theirs []string, known func(why string) bool) {
	t.Helper()
	counts, reasons := map[string]int{}, map[string]int{}
	for i, text := range descriptors {
		_, err := datapackage.Parse([]byte(text))
		verdict := "we " + strconv.FormatBool(err == nil) + ", they " +
			strconv.FormatBool(theirs[i] == "")
		if err == nil && theirs[i] != "" && known(theirs[i]) {
			verdict = "a known difference"
		} else if err == nil && theirs[i] != "" {
			t.Errorf("we take %s\nthey say %s", text, theirs[i])
		}
		counts[verdict]++
		if err != nil && theirs[i] == "" {
			why, _, _ := strings.Cut(err.Error(), "\n")
			reasons[why]++
		}
	}
	if counts["we true, they true"] < 10 || theirs[0] != "" {
		t.Errorf("the descriptors are not right: %s", theirs[0])
	}
	t.Logf("%d descriptors: %v", len(descriptors), counts)
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		t.Logf("they take %d where we say: %s", reasons[why], why)
	}
}

// Parse is stricter than the JSON schemas of both versions, and never takes what they refuse.
func TestParseTakesNothingThatThePublishedSchemasRefuse(t *testing.T) {
	profiles := os.Getenv("EHI_TEST_DATAPACKAGE_PROFILES")
	if profiles == "" {
		tooltest.Lacking(t,
			"the JSON schema of descriptors (EHI_TEST_DATAPACKAGE_PROFILES, see .ci/judges)")
	}
	python := python(t, "jsonschema")
	for version, text := range map[string]string{"1.0": firstVersion(), "2.0": clinic} {
		t.Run(version, func(t *testing.T) {
			// The first version's prose has defaults for what its schema demands, and the second
			// version leaves the resource out for the table itself.
			known := func(why string) bool {
				return version == "1.0" && (strings.Contains(why, "required property") ||
					strings.HasSuffix(why, ".foreignKeys[0]") ||
					strings.HasSuffix(why, ".foreignKeys[1]"))
			}
			schema := filepath.Join(profiles, version, "datapackage.json")
			program := `import json, sys, jsonschema
v = jsonschema.Draft7Validator(json.load(open(` + strconv.Quote(schema) + `)))
def why(d):
    e = next(v.iter_errors(d), None)
    return "" if e is None else e.message[-300:] + " at " + e.json_path
print(json.dumps([why(d) for d in json.load(sys.stdin)]))`
			descriptors := variants(t, text)
			// What JSON writes is valid by both versions.
			for _, d := range descriptors {
				if p, err := datapackage.Parse([]byte(d)); err == nil {
					descriptors = append(descriptors, string(p.JSON()))
				}
			}
			compare(t, descriptors, verdicts(t, python, program, descriptors), known)
		})
	}
}

// frictionless is the standard's own implementation in Python.
func TestParseTakesNothingThatFrictionlessRefuses(t *testing.T) {
	python := python(t, "frictionless")
	program := `import json, sys, logging
from frictionless import Package
logging.disable(logging.CRITICAL)
def why(d):
    try:
        return "; ".join(x[0] for x in Package.validate_descriptor(d).flatten(["note"]))
    except Exception as e:
        return repr(e)
print(json.dumps([why(d) for d in json.load(sys.stdin)]))`
	var descriptors []string
	for i, d := range variants(t, clinic) {
		if i%4 == 0 { // frictionless takes 5 ms for each
			descriptors = append(descriptors, d)
		}
	}
	// frictionless checks examples and the names of constraints, and reads profiles; the
	// standard does not.
	known := func(why string) bool {
		return strings.HasPrefix(why, "example value") || strings.HasPrefix(why, "constraint") ||
			strings.HasPrefix(why, "cannot retrieve metadata")
	}
	compare(t, descriptors, verdicts(t, python, program, descriptors), known)
}

// frictionless reads the same values from the files that Append writes, by the descriptor that
// JSON writes. It cannot read tables without quotes.
func TestFrictionlessReadsTheTablesThatAppendWrites(t *testing.T) {
	python := python(t, "frictionless")
	values := []string{"", "a", " b ", "1,2", "3;4", "5\t6", `7"8`, `"9"`, "'x'", "é", "l1\nl2",
		"l1\r\nl2", `\`, "#", "=1+2", "|"}
	var rows [][]string
	for i, v := range values {
		rows = append(rows, []string{"x" + strconv.Itoa(i), v, values[(i+5)%len(values)]})
	}
	folder := t.TempDir()
	p := &datapackage.Package{Name: "tables"}
	for i, c := range []struct {
		dialect  datapackage.Dialect
		encoding string
	}{
		{datapackage.Dialect{}, ""},
		{datapackage.Dialect{}, "windows-1252"},
		{datapackage.Dialect{}, "utf-16le"},
		{datapackage.Dialect{Delimiter: "\t", LineTerminator: "\n"}, "utf-8"},
		{datapackage.Dialect{Delimiter: ";", QuoteChar: new("'")}, "iso-8859-1"},
		{datapackage.Dialect{Delimiter: "|", CommentChar: "#"}, "utf-8"},
		{datapackage.Dialect{EscapeChar: `\`, DoubleQuote: new(false)}, "utf-8"},
	} {
		r := table(&c.dialect, c.encoding, "id", "b", "c")
		r.Name = "t" + strconv.Itoa(i)
		r.Path = datapackage.Paths{r.Name + ".csv"}
		codec := codec(t, r)
		file := codec.Header(nil)
		for _, row := range rows {
			file = codec.Append(file, row...)
		}
		if err := os.WriteFile(filepath.Join(folder, r.Path[0]), file, 0o600); err != nil {
			t.Fatal(err)
		}
		p.Resources = append(p.Resources, *r)
	}
	descriptor := filepath.Join(folder, "datapackage.json")
	if err := os.WriteFile(descriptor, p.JSON(), 0o600); err != nil {
		t.Fatal(err)
	}
	program := `import json, sys
from frictionless import Package
p = Package(sys.argv[1])
report = p.validate()
if not report.valid: sys.exit(str(report.flatten(["name", "rowNumber", "note"])))
print(json.dumps([[[v or "" for v in r.values()] for r in t.read_rows()] for t in p.resources]))`
	c := exec.Command(python, "-c", program, descriptor)
	c.Stderr = new(bytes.Buffer)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, c.Stderr)
	}
	var read [][][]string
	if err := json.Unmarshal(out, &read); err != nil || len(read) != len(p.Resources) {
		t.Fatalf("%d tables, %v", len(read), err)
	}
	for i, got := range read {
		if diff := cmp.Diff(rows, got); diff != "" {
			t.Errorf("table %d: %s", i, diff)
		}
	}
}
