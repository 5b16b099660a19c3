package release

import (
	"slices"
	"strings"
	"testing"
)

// slipsOf returns a code with letters in place of similar digits.
func slipsOf(system, code string) (out []string) {
	from, letters := 1, []string{"0", "O", "0", "o", "1", "I", "1", "l"}
	switch system {
	case icd11, icd10Procedures:
		from, letters = 0, []string{"0", "O", "0", "o", "1", "I"}
	case snomed, loinc, rxNorm, ndc, cpt:
		from, letters = 0, []string{"0", "O", "0", "o"}
	case "":
		from, letters = strings.IndexAny(code, digits)+1, []string{"0", "O", "0", "o"}
	case hcpcs:
		letters = []string{"0", "O", "0", "o"}
	case icd10, icd9, icd9Procedures, atc:
	default: // of labels
		return nil
	}
	for i := 0; i < len(letters); i += 2 {
		wrong := code[:from] + strings.ReplaceAll(code[from:], letters[i], letters[i+1])
		if wrong != code {
			out = append(out, wrong)
		}
	}
	if system == icd10 && code[0] == 'O' {
		out = append(out, "0"+code[1:])
	}
	return slices.DeleteFunc(out, func(code string) bool {
		return !strings.ContainsAny(code, digits)
	})
}

// EHI-9: each code of the table counts with an O for a zero, and with an I or an L for a one, if
// its system has no such letter.
func TestEHI9ALetterForADigitHidesNoCode(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	tried, missed := 0, 0
	hold := func(name, code, category string) {
		found := false
		table.lookup([]byte(name), []byte(code), false, func(c string) {
			found = found || c == category
		})
		if tried++; !found {
			if missed++; missed < 20 {
				t.Errorf("%q of %q is not found as %s", code, name, category)
			}
		}
	}
	for _, row := range shippedRows(t) {
		system := canonicalSystem(row[0])
		for _, wrong := range slipsOf(system, row[1]) {
			for _, name := range systemSpellings[system] {
				hold(name, wrong, row[2])
				hold(name, wrong+" some meaning", row[2])
			}
		}
		for _, wrong := range slipsOf("", row[1]) {
			if withoutSystem(system) == codesWithoutSystem {
				hold("", wrong, row[2])
			}
		}
	}
	if tried < 10_000 {
		t.Errorf("%d spellings only", tried)
	}
	t.Logf("%d spellings tried, %d missed", tried, missed)
}

// EHI-9: a code whose system is ICD without a revision counts in each revision. A system that
// merely contains these letters does not.
func TestEHI9CodesOfSomeRevisionOfICD(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	const own = "http://example.org/own-icd"
	for _, c := range []struct {
		system, codes string
		want          bool
	}{
		{
			"https://www.cdc.gov/nchs/icd",
			"B20|F10.20|F1O.20|303.91|3O3.91|6C40.2|F01-F99|290-319|6A00-6E8Z",
			true,
		},
		{own, "B20|F10.20 Alcohol dependence|042|1C62", true},
		{"ICD", "B20|Z21", true},
		{"urn:icd|2020", "B20", true},
		{own, "J45|I10|250.00|BA00|J40-J47|460-519|BA00-BE2Z", false},
		{"http://terminology.hl7.org/CodeSystem/icd-o-3", "9650/3|8500/3|C50.9", false},
		{"http://clinicdata.example.org/codes", "B20|F10.20|303.91", false},
		{"http://example.org/icdo", "B20", false},
	} {
		for code := range strings.SplitSeq(c.codes, "|") {
			found := false
			table.lookup([]byte(c.system), []byte(code), false, func(string) { found = true })
			if found != c.want {
				t.Errorf("%q of %q counts: %v", code, c.system, found)
			}
		}
	}
}

// EHI-9: a range or a block of ICD counts as each of its codes, in any spelling. Ranges of other
// systems do not.
func TestEHI9RangesAndBlocksOfEveryICD(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	const ten, eleven = "http://hl7.org/fhir/sid/icd-10-cm", "http://id.who.int/icd/release/11/mms"
	const nine, cms = "http://hl7.org/fhir/sid/icd-9-cm", "http://www.cms.gov/Medicare/Coding/ICD10"
	for _, c := range []struct{ system, sensitive, ordinary string }{
		{ten, "F01-F99|F01..F99|F01 .. F99|F01 to F99|F01\u2026F99|F01 through F99|" +
			"FO1-F99|f01 \u2013 f99|A50-A64|X6O-X84|F01-19|F10-9|A50\u201364|f01..19|FO1-19|F10 " +
			"to 19",
			"J40-7|J40\u201347|I10-6|I10-16|E10-4|O80-4|J40-0|J47-40|" +
				"J40-J47|J40..J47|J40 to J47|I10-I16|L40 - L45|O80-O84|E10-E14"},
		{cms, "F01-F99|F01..F99|F01-19", "J40-J47|J40..J47"},
		{nine, "290-319|290..319|290 to 319|29O-319", "460-519|460..519|250 to 259"},
		{
			eleven,
			"6A00-6E8Z|6A00..6E8Z|6A00 to " +
				"6E8Z|6AOO-6E8Z|6C40-6C4Z|6C3Z-6C50|PB00\u2013PD3Z|1A00-1H0Z|MA00-MH2Y|" +
				"BlockL1-6C4|BlockL2\u20116C4|blockl1-6c4|BlockL1-1A6|6C4|6c4|PB8|1C6",
			"BA00-BE2Z|BA00..BE2Z|CA00 to " +
				"CB7Z|5A00-5D46|6A00-6A04|LA00-LA9Z|BlockL1-5A1|BlockL2-CA2|5A1|BA0|LA8",
		},
		{"", "F01-F99|F01..F99|6C30-6C5Z|BlockL1-6C4",
			"F01-19|J40-J47|AB12-CD34|6A00-6A04|5A00-9Z99|12-34|10 to 20|BlockL1-5A1"},
	} {
		for list, want := range map[string]bool{c.sensitive: true, c.ordinary: false} {
			for code := range strings.SplitSeq(list, "|") {
				found := false
				table.lookup([]byte(c.system), []byte(code), false, func(string) { found = true })
				if found != want {
					t.Errorf("%q of %q counts: %v", code, c.system, found)
				}
			}
		}
	}
}

// EHI-9: an ordinary code or word that resembles a sensitive code with a letter for a digit is
// released.
func TestEHI9OrdinaryCodesWithLettersGo(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	for system, codes := range map[string]string{
		"ICD-10-CM": "O80 O82.0 O42.9 O99.0 O09.90 I10 I11.0 I20.0 L40.0 L10.1 M1A.09X0 Z3A.20 " +
			"C7A.01 S01.01XA " +
			"T36.0X5A E11.65 D50.0",
		"ICD-11": "5A11 BA00 BA01 LA80.0 LD20 CA22.0 KA20 8A00.0 NA00.0 1E50.0 DB10.0 6A02.0 " +
			"6C4A.0",
		"ICD-9-CM":  "250.00 410.10 V70.0 E885.9 401.1 038.9 100.0",
		"LOINC":     "8480-6 8302-2 LA6576-8 LA10449-9 LL1001-8 LP14449-0 718-7",
		"SNOMED-CT": "44054006 305058001 38341003 1000004",
		"RxNorm":    "1049502 860975 310965",
		"ATC":       "L01XX L01BB02 N02BE01 C10AA05 A10BA02 J01CA04 N02AA01 J05AB01",
		"CPT":       "99213 90471 0001F 1000F 99201",
		"HCPCS":     "L0100 L1900 G0101 J1100 A0010 H2O",
		"": "FiO2 FIO2 SpO2 PO2 pCO2 CO2 CO H2O VO2 VO2max N2O NO2 SO2 HCO3 LDL1 IL10 IL-10 O2 " +
			"TO4 COVID-19 " +
			"B12 A1C OB10 I20 L10 O42 O80 BLOOD FOO BOO1 zoo LO1 LOINC oral solution IO1 " +
			"completed laboratory 2O",
	} {
		for code := range strings.FieldsSeq(codes) {
			table.lookup([]byte(system), []byte(code), false, func(category string) {
				t.Errorf("%s of %q is %s", code, system, category)
			})
		}
	}
}
