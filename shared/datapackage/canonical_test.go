package datapackage_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/shared/datapackage"
)

func TestValuesThatMeanTheSameHaveOneCanonicalForm(t *testing.T) {
	for field, forms := range map[string]map[string][]string{
		`{"type":"integer"}`: {
			"5": {"5", "05", "+5", " 5 ", "5.0"}, "-5": {"-5", "-05"}, "0": {"0", "-0", "00"},
			"86406008": {"86406008"}, "x": {"x"}, "100": {"100", "0100"},
		},
		`{"type":"number"}`: {
			"1": {"1", "01", "1.0", "+1", "1e0", "1.", "10e-1", "0.1E+1"}, "1.5": {"1.50", "15e-1"},
			"86406008": {"86406008.0", "8.6406008e7"}, "0.05": {".05", "5e-2"},
			"NAN": {"NaN"}, "-INF": {"-inf"}, "1e100": {"1e100", "10e99"},
			"1e-100": {"1e-100", "0.1e-99"}, "1e99999999999999999999": {"1e99999999999999999999"},
		},
		`{"type":"number","decimalChar":",","groupChar":"."}`: {"1234.5": {"1.234,50", "1234,5"}},
		`{"type":"integer","bareNumber":false}`:               {"77": {"77", "no. 077"}},
		`{"type":"boolean","trueValues":["J","ja"],"falseValues":["N"]}`: {
			"true": {"J", "ja", "JA", "true", "1"}, "false": {"N", "n", "0"},
		},
		`{"type":"boolean","trueValues":["0"],"falseValues":["1"]}`: {
			"true": {"0", "true"}, "false": {"1", "False"},
		},
		`{"type":"datetime"}`: {"2024-01-01T00:00:00Z": {
			"2024-01-01T00:00:00Z", "2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00.0Z",
			"2024-01-01T00:00:00",
		}},
		`{"type":"date","format":"%d.%m.%Y"}`: {"2024-02-01T00:00:00Z": {"01.02.2024", "1.2.2024"}},
		`{"type":"date","format":"any"}`:      {"any": {"any"}},
		`{"type":"duration"}`:                 {"86400": {"P1D", "PT24H"}},
		`{"type":"year"}`:                     {"2024": {"2024", "02024"}},
		`{}`:                                  {"01": {"01", " 01"}},
	} {
		var f datapackage.Field
		if err := json.Unmarshal([]byte(field), &f); err != nil {
			t.Fatal(err)
		}
		for want, values := range forms {
			for _, v := range values {
				if got := f.Canonical(v); got != want {
					t.Errorf("%s: %q is %q, want %q", field, v, got, want)
				}
			}
		}
	}
}

func TestACanonicalNumberIsTheNumber(t *testing.T) {
	f := datapackage.Field{Type: "number"}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[+-]?[0-9]{1,12}(\.[0-9]{0,12})?([eE][+-]?[0-9]{1,2})?`)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		x, y := f.Canonical(a), f.Canonical(b)
		if rational(a).Cmp(rational(x)) != 0 || f.Canonical(x) != x {
			t.Fatalf("%s became %s", a, x)
		}
		if (rational(a).Cmp(rational(b)) == 0) != (x == y) {
			t.Fatalf("%s and %s became %s and %s", a, b, x, y)
		}
	})
}

func rational(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(fmt.Sprint(text, " is no number"))
	}
	return r
}
