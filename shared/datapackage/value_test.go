package datapackage_test

import (
	"encoding/json"
	"strings"
	"testing"

	"ehi-server/shared/datapackage"
)

func TestValuesAreCheckedByTypeFormatAndConstraints(t *testing.T) {
	for field, c := range map[string]struct{ good, bad []string }{
		`{}`: {
			[]string{"", "x", "√"},
			[]string{"\xff"},
		},
		`{"type": "any"}`: {[]string{"", "x"}, nil},
		`{"format": "email"}`: {
			[]string{"a@b.org"},
			[]string{"a", "a b@c", "@", "a@b..org", ".a@b.org", "A <a@b.org>", "<a@b.org>"},
		},
		`{"format": "uri"}`: {
			[]string{"urn:x", "https://x/y"},
			[]string{"x", "%"},
		},
		`{"format": "binary"}`: {[]string{"YQ=="}, []string{"YQ", "?"}},
		`{"format": "uuid"}`: {
			[]string{"a8098c1a-f86e-11da-bd1a-00112444be1e"},
			[]string{"a8"},
		},
		`{"type": "integer"}`: {
			[]string{"0", "-12", "+7", ""},
			[]string{"1.0", "x", "-", "1e3", " 1"},
		},
		`{"type": "number"}`: {
			[]string{"1", "-1.5", ".5", "5.", "1e-7", "NaN", "-inf", "1E+3"},
			[]string{".", "1,5", "e1", "1e", "0x1", "--1", "+NaN", "1e9999999999999999999"},
		},
		`{"type": "boolean"}`: {
			[]string{"true", "False", "1", "0"},
			[]string{"yes", "tRUE"},
		},
		`{"type": "date"}`: {
			[]string{"2024-02-29"},
			[]string{"2023-02-29", "24-02-01", "2024-2-1", "2024-02-01T00:00:00", "0000-01-01"},
		},
		`{"type": "time"}`: {
			[]string{"23:59:59"},
			[]string{"24:00:00", "1:00:00", "10:00"},
		},
		`{"type": "datetime"}`: {
			[]string{"2024-01-26T15:00:00", "2024-01-26T15:00:00Z",
				"2024-01-26T15:00:00.300-05:00"},
			[]string{"2024-01-26", "2024-01-26 15:00:00", "2024-01-26T5:00:00",
				"2024-01-26T15:00:00,3Z", "0000-01-26T15:00:00Z", "2024-01-26T15:00:00+24:00"},
		},
		`{"type": "year"}`: {
			[]string{"2024", "0800"},
			[]string{"24", "x", "02024", "20240", "-0044", "+2024"},
		},
		`{"type": "yearmonth"}`: {
			[]string{"2024-12"},
			[]string{"2024-13", "2024", "20240-01", "-0044-01"},
		},
		`{"type": "duration"}`: {
			[]string{"P1Y2M3DT4H5M6.5S", "PT1H", "-P1D"},
			[]string{"P", "P1YT", "1D", "PT", "-P", "P1H"},
		},
		`{"type": "object"}`: {
			[]string{`{"a": 1}`},
			[]string{"[1]", "{", "x"},
		},
		`{"type": "array"}`: {[]string{`[1]`}, []string{"{}", "["}},
		`{"type": "geojson"}`: {
			[]string{
				`{"type": "Point", "coordinates": [1, 2]}`,
				`{"type": "Point", "coordinates": [1, 2, 3], "bbox": [1, 2, 1, 2]}`,
				`{"type": "LineString", "coordinates": [[1, 2], [3, 4]]}`,
				`{"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1], [0, 0]]]]}`,
				`{"type": "GeometryCollection", "geometries": [
					{"type": "Point", "coordinates": [1, 2]}]}`,
				`{"type": "Feature", "geometry": null, "properties": {"a": 1}}`,
				`{"type": "FeatureCollection", "features": []}`,
			},
			[]string{
				"1", "{}", "null", `{"type": "Foo"}`, `{"type": "Point"}`,
				`{"type": "Point", "coordinates": [1]}`,
				`{"type": "Point", "coordinates": ["1", "2"]}`,
				`{"type": "Point", "coordinates": [1, 2], "bbox": 1}`,
				`{"type": "LineString", "coordinates": [[1, 2]]}`,
				`{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 0]]]}`,
				`{"type": "GeometryCollection", "geometries": [{}]}`,
				`{"type": "Feature", "geometry": null}`,
				`{"type": "FeatureCollection", "features": [{"type": "Point"}]}`,
			},
		},
		`{"type": "geojson", "format": "topojson"}`: {
			[]string{
				`{"type": "Topology", "objects": {"a": {"type": "Polygon", "arcs": [[0]]}},
					"arcs": [[[0, 0], [1, 1]]]}`,
				`{"type": "MultiPoint", "coordinates": [[1, 2]]}`,
				`{"type": "GeometryCollection", "geometries": []}`,
			},
			[]string{
				"{}", `{"type": "Topology"}`, `{"type": "Topology", "objects": {}, "arcs": [[[0]]]}`,
				`{"type": "Topology", "objects": {"a": 1}, "arcs": []}`,
				`{"type": "LineString", "coordinates": [[1, 2], [3, 4]]}`,
			},
		},
		`{"type": "geopoint"}`: {
			[]string{"90.5, 45", "1,2"},
			[]string{"1", "181,0", "x,y", "NaN,1", "0x1p-2,1"},
		},
		`{"type": "geopoint", "format": "array"}`: {
			[]string{"[1, 2]"},
			[]string{"[1]", "[null, 1]", "[1, 2, 3]"},
		},
		`{"type": "geopoint", "format": "object"}`: {
			[]string{`{"lon": 1, "lat": 2}`},
			[]string{`{"Lon": 1, "Lat": 2}`, `{"lon": 1}`, `{"lon": 1, "lat": 2, "x": 3}`},
		},
		`{"type": "date", "format": "any"}`: {[]string{"yesterday"}, nil},
		`{"type": "date", "format": "%d/%m/%Y"}`: {
			[]string{"31/01/2026", "1/2/2026"},
			[]string{"31/02/2026", "2026-01-31", "31/01/2026x", "31/01/26", "31/01/0000"},
		},
		`{"type": "date", "format": "fmt:%d %b %y"}`: {
			[]string{"31 Jan 26"},
			[]string{"31 Jup 26"},
		},
		`{"type": "datetime", "format": "%Y%m%d %I:%M:%S.%f %p %z"}`: {
			[]string{"20260131 11:59:59.5 PM +01:00"},
			[]string{"20260131 13:59:59.5 PM +01:00"},
		},
		`{"type": "datetime", "format": "%A, %B %d %F %T 100%%"}`: {
			[]string{"Monday, May 01 2026-05-01 10:00:00 100%"},
			[]string{"Monday, May 01 2026-05-01 10:00:00 100"},
		},
		`{"type": "date", "format": "%Y-%j"}`: {
			[]string{"2026-365"},
			[]string{"2026-367"},
		},
		`{"type": "boolean", "trueValues": ["Y"], "falseValues": ["N"]}`: {
			[]string{"Y", "N"},
			[]string{"true", "y"},
		},
		`{"type": "boolean", "trueValues": ["Y"], "constraints": {"enum": [true]}}`: {
			[]string{"Y"},
			[]string{"0"},
		},
		`{"type": "number", "decimalChar": ",", "groupChar": "."}`: {
			[]string{"1.000,5", "1"},
			[]string{"1,2,3", "x"},
		},
		`{"type": "number", "bareNumber": false}`: {
			[]string{"€95", "95 %", "EUR -1.5"},
			[]string{"x"},
		},
		`{"type": "integer", "groupChar": ","}`: {
			[]string{"1,000"},
			[]string{"1.000"},
		},
		`{"type": "integer", "constraints": {"minimum": 2, "maximum": "10"}}`: {
			[]string{"2", "10", "007"},
			[]string{"1", "11", "99999999999999999999"},
		},
		`{"type": "number", "constraints": {"exclusiveMinimum": 1, "exclusiveMaximum": 2}}`: {
			[]string{"1.0000000000000000000001"},
			[]string{"1", "1.0", "2", "NaN", "1e999999999"},
		},
		`{"type": "number", "constraints": {"enum": ["1.50"]}}`: {
			[]string{"1.5", "1.50"},
			[]string{"2"},
		},
		`{"type": "date", "constraints": {"minimum": "2020-01-01"}}`: {
			[]string{"2020-01-01"},
			[]string{"2019-12-31"},
		},
		`{"type": "yearmonth", "constraints": {"maximum": "2020-06"}}`: {
			[]string{"2020-06", "2019-12"},
			[]string{"2020-07"},
		},
		`{"type": "duration", "constraints": {"maximum": "P1M"}}`: {
			[]string{"P29D"},
			[]string{"P32D"},
		},
		`{"type": "year", "constraints": {"enum": [2020]}}`: {
			[]string{"2020"},
			[]string{"2021"},
		},
		`{"constraints": {"required": true}}`: {
			[]string{"x"},
			[]string{""},
		},
		`{"missingValues": ["-"], "type": "integer", "constraints": {"required": true}}`: {
			[]string{"1"},
			[]string{"", "-"},
		},
		`{"missingValues": ["-"], "type": "integer"}`: {
			[]string{"-"},
			[]string{""},
		},
		`{"constraints": {"minLength": 2, "maxLength": 3}}`: {
			[]string{"√√", "abc", ""},
			[]string{"√", "abcd"},
		},
		`{"type": "array", "constraints": {"minLength": 2}}`: {
			[]string{"[1,2]"},
			[]string{"[1]"},
		},
		`{"constraints": {"pattern": "a+|b"}}`: {
			[]string{"aa", "b"},
			[]string{"ab", "c"},
		},
		`{"constraints": {"pattern": "^a.*$"}}`: {
			[]string{"apple"},
			[]string{"orange"},
		},
		`{"constraints": {"enum": ["a", "b"]}}`: {
			[]string{"a"},
			[]string{"A", "c"},
		},
	} {
		var f datapackage.Field
		if err := json.Unmarshal([]byte(field), &f); err != nil {
			t.Fatal(err)
		}
		for _, v := range c.good {
			if err := f.Check(v); err != nil {
				t.Errorf("%s: %q %v", field, v, err)
			}
		}
		for _, v := range c.bad {
			if err := f.Check(v); err == nil {
				t.Errorf("%s takes %q", field, v)
			} else if len(v) > 4 && strings.Contains(err.Error(), v) {
				t.Errorf("the error tells the value: %v", err)
			}
		}
	}
}

func TestRowsAreCheckedWithTheMissingValuesOfTheirSchema(t *testing.T) {
	r := table(nil, "windows-1252", "id", "n")
	r.Fields.Fields[1].Type = "integer"
	r.Fields.MissingValues = []string{"NA"}
	c := codec(t, r)
	for row, want := range map[string]string{
		"1,2\n":       "",
		"\xe9,NA\n":   "",
		"1,\n":        `field "n": the value is no integer`,
		"1\n":         "the row has 1 values, but the table has 2 fields",
		"\"1\",\"x\"": `field "n": the value is no integer`,
	} {
		values, err := c.Fields([]byte(row), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := c.Check(values); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s", row, got)
		}
	}
	if err := c.CheckHeader([]string{"id", "n"}); err != nil {
		t.Error(err)
	}
	for _, names := range [][]string{{"id"}, {"n", "id"}, {"ID", "n"}, {"4711", "of a patient"}} {
		err := c.CheckHeader(names)
		if err == nil {
			t.Errorf("%q is the header", names)
		} else if strings.Contains(err.Error(), "4711") {
			t.Errorf("the error tells a value of a row: %v", err)
		}
	}
}

func TestConstraintsThatCannotBeAppliedAreErrors(t *testing.T) {
	for _, f := range []datapackage.Field{
		{Name: "x", Type: "strange"},
		{Name: "x", Constraints: &datapackage.Constraints{Pattern: "("}},
		{Name: "x", Constraints: &datapackage.Constraints{MinLength: new(2), MaxLength: new(1)}},
		{Name: "x", Type: "date", Constraints: &datapackage.Constraints{Minimum: "soon"}},
		{Name: "x", Type: "integer", Constraints: &datapackage.Constraints{Enum: []any{"a"}}},
	} {
		if f.Check("1") == nil {
			t.Errorf("%+v can be checked", f)
		}
	}
}

// FuzzCheck holds that no value and no format makes a check fail in another way.
func FuzzCheck(f *testing.F) {
	f.Add("datetime", "%d/%m/%Y", "1/2/2026")
	f.Add("number", "", "1e999999999")
	f.Fuzz(func(t *testing.T, kind, format, value string) {
		x := datapackage.Field{Name: "x", Type: kind, Format: format, GroupChar: format}
		if x.Check(value) != nil {
			return
		}
		x.Constraints = &datapackage.Constraints{Minimum: value, Enum: []any{value}}
		_ = x.Check(value)
	})
}
