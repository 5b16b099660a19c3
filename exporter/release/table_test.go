package release

import (
	"encoding/csv"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// mayHold is true for a code only if one of its spellings is in the table, for any system: a
// mere hash collision must not cost a walk.
func TestACodeMayBeInTheTableWhereItIsAlone(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for key := range table.exact {
		known = append(known, key[strings.LastIndexByte(key, '|')+1:])
	}
	for _, rows := range table.prefix {
		for _, r := range rows {
			known = append(known, r.prefix)
		}
	}
	slices.Sort(known)
	holds := func(code []byte) bool {
		is := func(spelling string) bool {
			short := strings.TrimLeft(spelling, "0")
			_, exact := table.anyCodes[spelling]
			if _, too := table.anyCodes[short]; too {
				exact = true
			}
			for _, rows := range table.prefix {
				exact = exact || slices.ContainsFunc(rows, func(r prefixRow) bool {
					return strings.HasPrefix(spelling, r.prefix) ||
						strings.HasPrefix(short, r.prefix)
				})
			}
			return exact
		}
		isOrSlip := func(spelling string) bool {
			for system := range slips {
				if right, wrong := slipped(system, spelling); wrong && is(right) {
					return true
				}
			}
			return is(spelling)
		}
		inRange := false
		for _, system := range []string{icd10, icd9, icd11} {
			table.lookupRanges(system, code, func(string) { inRange = true })
		}
		return inRange || slices.ContainsFunc(candidates(code), func(spelling string) bool {
			inner, is := withoutD(strings.TrimLeft(spelling, "0"))
			return is && isOrSlip(inner) || isOrSlip(spelling)
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		code := []byte(rapid.SampledFrom(known).Draw(t, "code"))
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			with := rapid.StringMatching(`[0-9A-Za-z .|-]{0,3}`).Draw(t, "with")
			at := rapid.IntRange(0, len(code)).Draw(t, "at")
			code = slices.Replace(code, at,
				min(len(code), at+rapid.IntRange(0, 2).Draw(t, "without")), []byte(with)...)
		}
		if len(plainCode(code)) > len(plainBytes{}.bytes) {
			return // long codes are not examined further
		}
		if may := table.mayHold(code); may && !holds(code) {
			t.Fatalf("%q may be in the table, and is not", code)
		}
	})
	for _, code := range known {
		if !table.mayHold([]byte(code)) {
			t.Errorf("%s may not be in the table", code)
		}
	}
	for _, code := range []string{"430193006", "8480-6"} {
		if table.mayHold([]byte(code)) {
			t.Errorf("%s may be in the table", code)
		}
	}
}

// codeForms are the forms of codes, or of prefixes, in each system of the built-in table.
var codeForms = map[string]*regexp.Regexp{
	"http://hl7.org/fhir/sid/icd-10-cm": regexp.MustCompile(
		`^[A-TV-Z](\d\*|\d[0-9AB](\.[0-9A-Z]{1,4})?\*?)$`),
	"http://hl7.org/fhir/sid/icd-9-cm": regexp.MustCompile(
		`^(E\d\d\*|(\d{3}|V\d\d|E\d{3})(\.\d{1,2})?\*?)$`),
	"http://id.who.int/icd/release/11/mms": regexp.MustCompile(
		`^\w\w\d\w?(\.\w{1,2})?\*?$`),
	"http://www.whocc.no/atc": regexp.MustCompile(
		`^[A-Z]\d\d[A-Z][A-Z](\d\d|\*)$`),
	"http://hl7.org/fhir/sid/ndc": regexp.MustCompile(
		`^\d{5}(-?\d{4}(-?\d\d)?)?\*?$`),
	"http://loinc.org":       regexp.MustCompile(`^(\d{1,7}|LP\d+)-\d$`),
	"http://snomed.info/sct": regexp.MustCompile(`^[1-9]\d{5,17}$`),
	"http://terminology.hl7.org/CodeSystem/icd9cm-procedure": regexp.MustCompile(
		`^\d\d\.\d{1,2}\*?$`),
	"http://www.ama-assn.org/go/cpt": regexp.MustCompile(
		`^(\d{3,4}\*|\d{4}[0-9FTU])$`),
	"http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets": regexp.MustCompile(
		`^[A-V](\d{3}\*|\d{4})$`),
	"http://www.cms.gov/Medicare/Coding/ICD10": regexp.MustCompile(
		`^[0-9A-HJ-NP-Z]{1,7}\*?$`),
	"http://www.nlm.nih.gov/research/umls/rxnorm": regexp.MustCompile(
		`^[1-9]\d{0,7}$`),
	"http://terminology.hl7.org/CodeSystem/v2-0177": regexp.MustCompile(`^[A-Z]{1,4}$`),
	"http://terminology.hl7.org/CodeSystem/v3-ActCode": regexp.MustCompile(
		`^\w[\w ,.()/-]*\*?$`),
	"http://terminology.hl7.org/CodeSystem/v3-Confidentiality": regexp.MustCompile(`^\w[\w ]*\*?$`),
}

// Each row of the built-in table has a valid code of its system. A code that a spreadsheet
// turned into a date or a fraction, or with a typing error, would match nothing.
func TestEveryRowOfTheTableHasACodeOfItsSystem(t *testing.T) {
	r := csv.NewReader(strings.NewReader(shippedSensitive))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil || len(rows) < 4000 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	seen := map[string]bool{}
	for _, row := range rows {
		system, code, key := row[0], row[1], strings.Join(row, ",")
		form, known := codeForms[system]
		switch {
		case !known:
			t.Errorf("%s: what do codes of this system look like?", key)
		case !form.MatchString(code), system == "http://loinc.org" && code[0] != 'L' &&
			!luhn(code), system == "http://snomed.info/sct" && !verhoeff(code):
			t.Errorf("%s is no code of its system", key)
		case seen[key]:
			t.Errorf("%s stands there twice", key)
		}
		seen[key] = true
	}
}

// luhn reports whether the last digit of a LOINC code is its check digit (LOINC Users' Guide,
// appendix C).
func luhn(code string) bool {
	sum, double := 0, false
	for _, c := range slices.Backward([]byte(strings.ReplaceAll(code, "-", ""))) {
		d := int(c - '0')
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum, double = sum+d, !double
	}
	return sum%10 == 0
}

// verhoeff reports whether the last digit of a SNOMED CT identifier is its check digit, by the
// dihedral group of order ten (SNOMED CT Release File Specification, 5.5).
func verhoeff(code string) bool {
	multiply := func(a, b int) int {
		switch {
		case a < 5 && b < 5:
			return (a + b) % 5
		case a < 5:
			return 5 + (a+b)%5
		case b < 5:
			return 5 + (a-b+5)%5
		}
		return (a - b + 5) % 5
	}
	permute := []int{1, 5, 7, 6, 2, 8, 3, 0, 9, 4}
	check := 0
	for i, c := range slices.Backward([]byte(code)) {
		d := int(c - '0')
		for range len(code) - 1 - i {
			d = permute[d]
		}
		check = multiply(check, d)
	}
	return check == 0
}

// EHI-9: the table has the codes of published value sets for each kind of sensitive information,
// and omits some on purpose (docs/release.md).
func TestEHI9SensitiveAreTheCodesThatPublishedValueSetsName(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	const icd, loinc, sct = "http://hl7.org/fhir/sid/icd-10-cm", "http://loinc.org",
		"http://snomed.info/sct"
	for _, c := range []struct{ system, codes, want string }{
		{loinc, "70241-5 29893-5 48345-3 49580-4 20447-9", "hiv"},
		{"http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets", "G0475", "hiv"},
		{loinc, "4077-4 3426-4 8220-6 3436-3 72109-2", "alcoholAndDrug"},
		{icd, "Z81.1 Z63.72", "alcoholAndDrug"},
		{sct, "26416006 191480000 428211000124100 361055000", "alcoholAndDrug"},
		{"http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets", "J0592", "alcoholAndDrug"},
		{loinc, "69737-5", "mentalHealth"},
		{icd, "Z86.59 Z13.39 R44.0 Z81.8", "mentalHealth"},
		{sct, "231504006 48500005 82313006 225337009", "mentalHealth"},
		{"http://www.ama-assn.org/go/cpt", "99484 99492", "mentalHealth"},
		{icd, "Z69.81", "sexualAssault"},
		{icd, "Z11.3 Z20.2 D57.1", "other"},
		{icd, "F17.210 F01.50 Z81.0", ""},
		{sct, "78648007 424393004", ""},
	} {
		for _, code := range strings.Fields(c.codes) {
			var got []string
			table.lookup([]byte(c.system), []byte(code), false, func(category string) {
				got = append(got, category)
			})
			slices.Sort(got)
			if got = slices.Compact(got); strings.Join(got, " ") != c.want {
				t.Errorf("%s %s needs %v, want %s", c.system, code, got, c.want)
			}
		}
	}
}
