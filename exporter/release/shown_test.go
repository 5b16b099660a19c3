package release_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"ehi-server/exporter/release"
)

// EHI-9: a sensitive code in the text of a concept, or in the display of a Coding, withholds the
// resource in the spellings of source systems, unless there is a coding of a known system. Words
// and other codes do not.
func TestEHI9ACodeInATextKeepsItsResource(t *testing.T) {
	texts := map[string]bool{
		"F10.20 - Alcohol dependence": true,
		"F10.20 Alcohol dependence":   true,
		"B20":                         true,
		"b20":                         true,
		"ICD-10: F10.20":              true,
		"ICD-10 F10.20":               true,
		"ICD-10-CM code F10.20":       true,
		"ICD10 B20 HIV":               true,
		"ICD: F10.20":                 true,
		"[F10.20]":                    true,
		"(B20) HIV disease":           true,
		"[ICD-10-CM: B20]":            true,
		"Alcohol dependence [F10.20]": true,
		"Alcohol dependence (F10.20)": true,
		"HIV disease (ICD-10 B20)":    true,
		"B20 - HIV disease":           true,
		"B20 \u2013 HIV disease":      true,
		"B20: HIV disease":            true,
		"F10.20, Alcohol":             true,
		"Diagnosis: F10.20":           true,
		"F1020 - Alcohol":             true,
		"F10&#46;20 - Alcohol":        true,
		"F10.2\u200b0 Alcohol":        true,
		"86406008":                    true,
		"86406008 |HIV|":              true,
		"86406008 - HIV":              true,
		"HIV [86406008]":              true,
		"SNOMED CT: 86406008":         true,
		"DF10.20 - Alkohol":           true,
		"DF102":                       true,
		"SKS: DF102":                  true,
		"DB20":                        true,
		"LOINC: 7918-6":               true, "LOINC 7918-6 HIV antibodies": true,

		"J45.20 - Asthma":                false,
		"I10":                            false,
		"[I10]":                          false,
		"ICD-10: I10":                    false,
		"86406009":                       false,
		"F18 FDG of the whole body":      false,
		"Fludeoxyglucose (F18)":          false,
		"B20s of the last century":       false,
		"F10-Alcohol":                    false,
		"Room F20 is closed":             false,
		"Hypertension [I10]":             false,
		"DI10":                           false,
		"Alcohol dependence":             false,
		"Glucose [Mass/volume] in Blood": false,
		"Influenza (disorder)":           false,
		"10":                             false,
		"HIV":                            false,
		"2026-11-28":                     false,
		"D10.20 Lipoma":                  false,
		"LOINC: 718-7":                   false,
		"HIV disease B20":                false, "1020 F": false,
	}
	formats := []string{
		`"code":{"text":%s}`,
		`"code":{"coding":[{"display":%s}]}`,
		`"code":{"coding":[{"system":"urn:local","code":"X1","display":%s}]}`,
		`"code":{"coding":[{"system":"urn:local","code":"X1"}],"text":%s}`,
		`"category":[{"text":%s}]`,
		`"extension":[{"url":"urn:e","valueCodeableConcept":{"text":%s}}]`,
		`"extension":[{"url":"urn:e","valueCoding":{"display":%s}}]`,
		`"stage":[{"type":{"coding":[{"system":"urn:local","display":%s}]}}]`,
		`"contained":[{"resourceType":"Condition","id":"x","code":{"text":%s}}]`,
	}
	others := []string{
		`"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"I10",` +
			`"display":%s}]}`,
		`"code":{"coding":[{"system":"http://snomed.info/sct","code":"38341003"}],"text":%s}`,
		`"note":[{"text":%s}]`,
		`"recorder":{"display":%s}`,
	}
	for text, sensitive := range texts {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		check := func(format string, keeps bool) {
			for _, many := range []int{1, 20} { // with 20, some lines fit moulds
				var lines []string
				for i := range many {
					harmless := fmt.Sprintf(format, fmt.Sprintf(`"number %d"`, i))
					lines = append(lines,
						fmt.Sprintf(`{"resourceType":"Condition","id":"d%d",%s}`, i, harmless))
				}
				for i := range many {
					field := fmt.Sprintf(format, quoted)
					lines = append(lines,
						fmt.Sprintf(`{"resourceType":"Condition","id":"c%d",%s}`, i, field))
				}
				r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), true, nil,
					lines...)
				want := 2 * many
				if keeps {
					want = many
				}
				if got := released(t, r, lines...); len(got) != want {
					t.Errorf("%s with %s: %d of %d went, want %d", format, quoted, len(got),
						len(lines), want)
				}
			}
		}
		for _, format := range formats {
			check(format, sensitive)
		}
		for _, format := range others {
			check(format, false)
		}
	}
}

// EHI-9: a code of SKS, or of a system that may be one of ICD-10, counts without its leading D.
func TestEHI9ADStandsBeforeCodesOfNordicEditions(t *testing.T) {
	for _, c := range []struct {
		system, code string
		sensitive    bool
	}{
		{"urn:oid:1.2.208.176.2.4", "DF1020", true},
		{"urn:oid:1.2.208.176.2.4", "DF10.2", true},
		{"urn:oid:1.2.208.176.2.4", "df102", true},
		{"urn:oid:1.2.208.176.2.4", "DI10", false},
		{"http://hl7.org/fhir/sid/icd-10", "DB20", true},
		{"", "DB20", true},
		{"", "DI109", false},
		{"http://id.who.int/icd/release/11/mms", "DA51", false},
		{"http://snomed.info/sct", "DB20", false},
		{"urn:oid:1.2.208.176.2.4", "D102", false},
	} {
		line := fmt.Sprintf(
			`{"resourceType":"Condition","id":"c","code":{"coding":[{"system":%q,"code":%q}]}}`,
			c.system, c.code)
		got := released(t, review(t, form(everyLine()...), line), line)
		if (len(got) == 0) != c.sensitive {
			t.Errorf("%s of %q is sensitive: %v, want %v", c.code, c.system, len(got) == 0,
				c.sensitive)
		}
	}
}
