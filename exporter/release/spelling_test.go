package release

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

// systemSpellings are the names that occur for each system of the built-in table.
var systemSpellings = map[string][]string{
	actCode: {
		"http://terminology.hl7.org/CodeSystem/v3-ActCode",
		"https://terminology.hl7.org/CodeSystem/v3-ActCode/",
		"http://terminology.hl7.org/CodeSystem/v3-ActCode|9.0.0", "http://hl7.org/fhir/v3/ActCode",
		"urn:oid:2.16.840.1.113883.5.4", "URN:OID:2.16.840.1.113883.5.4", "2.16.840.1.113883.5.4",
		"http://terminology.hl7.org/ValueSet/v3-ActCode",
		"http://terminology.hl7.org/ValueSet/v3-InformationSensitivityPolicy",
		"http://terminology.hl7.org/CodeSystem/v3-ActPrivacyLaw",
		"http://terminology.hl7.org/ValueSet/v3-ActPrivacyLaw",
		"http://terminology.hl7.org/CodeSystem/v3-ActPrivacyPolicy",
		"urn:oid:2.16.840.1.113883.1.11.20428",
		"http://hl7.org/fhir/ValueSet/security-labels",
		"http://hl7.org/fhir/security-label",
		"http://example.org/labels",
		"http://hl7.org/fhir/ActCode",
		"ActCode",
		" http://terminology.hl7.org/CodeSystem/V3-ACTCODE ",
	},
	confidentiality: {
		"http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
		"http://hl7.org/fhir/v3/Confidentiality",
		"urn:oid:2.16.840.1.113883.5.25",
		"http://terminology.hl7.org/CodeSystem/v3-Confidentiality|2.0", "Confidentiality",
		"http://hl7.org/fhir/v3/Confidentiality/",
		"http://terminology.hl7.org/ValueSet/v3-ConfidentialityClassification",
	},
	hl7v2: {"http://terminology.hl7.org/CodeSystem/v2-0177", "http://hl7.org/fhir/v2/0177",
		"urn:oid:2.16.840.1.113883.12.177", "HL70177"},
	icd10: {
		"http://hl7.org/fhir/sid/icd-10-cm",
		"http://hl7.org/fhir/sid/icd-10",
		"http://hl7.org/fhir/sid/icd-10-us",
		"urn:oid:2.16.840.1.113883.6.90",
		"urn:oid:2.16.840.1.113883.6.3",
		"http://hl7.org/fhir/sid/icd-10-cm|2024",
		"http://hl7.org/fhir/sid/icd-10-cm/2024",
		"https://hl7.org/fhir/sid/ICD-10-CM",
		"ICD-10-CM",
		"ICD10",
		"I10",
		"http://id.who.int/icd/release/10/2019", "urn:oid:2.16.840.1.113883.6.90:2024",
		"urn:oid: 2.16.840.1.113883.6.90 ",
		"urn:oid:2.16.840.1.113883.6.90.2024",
		"I10CM",
		"http://www.cms.gov/Medicare/Coding/ICD10",
		"ICD 10 CM",
		fullWidth("http://hl7.org/fhir/sid/icd-10-cm"), "2.16.840.1.113883.6.90",
		"International Classification of Diseases, 10th Revision",
		"International Classification of Diseases, Tenth Revision",
	},
	icd10Procedures: {
		"http://www.cms.gov/Medicare/Coding/ICD10", "http://hl7.org/fhir/sid/icd-10-pcs",
		"urn:oid:2.16.840.1.113883.6.4", "ICD-10-PCS", "I10P",
	},
	icd9: {
		"http://hl7.org/fhir/sid/icd-9-cm", "http://hl7.org/fhir/sid/icd-9-cm/diagnosis",
		"urn:oid:2.16.840.1.113883.6.103",
		"urn:oid:2.16.840.1.113883.6.2",
		"http://hl7.org/fhir/sid/icd-9-cm|2014",
		"ICD-9-CM",
		"ICD9",
		"I9CDX",
		"urn:oid:2.16.840.1.113883.6.42",
	},
	icd9Procedures: {
		"http://terminology.hl7.org/CodeSystem/icd9cm-procedure", "urn:oid:2.16.840.1.113883.6.104",
		"http://hl7.org/fhir/sid/icd-9-cm/procedure",
	},
	snomed: {
		"http://snomed.info/sct",
		"https://snomed.info/sct/",
		"http://snomed.info/sct|http://snomed.info/sct/731000124108",
		"http://snomed.info/sct/731000124108/version/20230901",
		"urn:oid:2.16.840.1.113883.6.96",
		"SNOMED-CT",
		"SCT",
		"http://hl7.org/fhir/sid/sct", "urn:sct",
	},
	loinc: {"http://loinc.org", "https://loinc.org/", "http://loinc.org|2.77",
		"urn:oid:2.16.840.1.113883.6.1", "LOINC", "LN"},
	rxNorm: {"http://www.nlm.nih.gov/research/umls/rxnorm", "urn:oid:2.16.840.1.113883.6.88",
		"RxNorm", "http://www.nlm.nih.gov/research/umls/rxnorm|02052024"},
	cpt: {"http://www.ama-assn.org/go/cpt", "https://www.ama-assn.org/go/cpt|2024",
		"urn:oid:2.16.840.1.113883.6.12", "urn:oid:2.16.840.1.113883.6.82", "CPT", "C4", "C5",
		"http://terminology.hl7.org/CodeSystem/CPT", "http://hl7.org/fhir/sid/cpt", "urn:cpt"},
	hcpcs: {
		"http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets",
		"https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets",
		"http://terminology.hl7.org/CodeSystem/HCPCS", "urn:oid:2.16.840.1.113883.6.285",
		"urn:oid:2.16.840.1.113883.6.14",
		"HCPCS",
		"HPC",
		"https://bluebutton.cms.gov/resources/codesystem/hcpcs",
	},
	icd11: {
		"http://id.who.int/icd/release/11/mms", "https://id.who.int/icd/release/11/mms/",
		"http://id.who.int/icd/release/11/mms|2024-01",
		"http://id.who.int/icd/release/11/2024-01/mms", "http://id.who.int/icd11/mms",
		"http://hl7.org/fhir/sid/icd-11",
		"urn:oid:2.16.840.1.113883.6.347", "2.16.840.1.113883.6.347",
		"urn:oid:2.16.840.1.113883.6.347.2024", "ICD-11", "ICD11", "ICD-11 MMS", "WHOICD11", "I11",
		"International Classification of Diseases, 11th Revision",
		"International Classification of Diseases, Eleventh Revision",
	},
	atc: {
		"http://www.whocc.no/atc", "https://www.whocc.no/atc/", "http://www.whocc.no/atc|2026",
		"http://whocc.no/atc", "http://www.whocc.no/ATC",
		"urn:oid:2.16.840.1.113883.6.73", "URN:OID:2.16.840.1.113883.6.73",
		"2.16.840.1.113883.6.73", "ATC", "WHO ATC", "ATC-Code",
		"Anatomical Therapeutic Chemical (ATC) Classification System",
	},
	ndc: {
		"http://hl7.org/fhir/sid/ndc",
		"http://hl7.org/fhir/sid/ndc|1",
		"urn:oid:2.16.840.1.113883.6.69",
		"NDC",
		"https://www.accessdata.fda.gov/scripts/cder/ndc",
		"urn:ndc",
		"NDC-11",
	},
}

// codeSpellings returns the spellings of a code that occur.
func codeSpellings(system, code string) []string {
	out := []string{
		code, strings.ToLower(code), " " + code + " ", fullWidth(code), cyrillic.Replace(code),
		greek.Replace(strings.ToLower(code)),
		arabic(code), unseen(code),
	}
	out = append(out, strings.ReplaceAll(code, ".", ""), strings.ReplaceAll(code, "-", ""))
	switch system {
	case icd11: // with a code of an extension, or another stem
		out = append(out, code+"&XN8P1", code+"/MG50", code+" some meaning")
	case icd10, icd9, atc:
		out = append(out, code+" some meaning", strings.ToLower(strings.ReplaceAll(code, ".", "")))
	case snomed:
		out = append(out, code+"|some meaning|", code+":246075003=19030005",
			"243796009:363589002="+code,
			"0"+code, "00"+code+"|some meaning|")
	case loinc, rxNorm:
		out = append(out, "0"+code, "000"+code)
	case ndc:
		product := code[:strings.LastIndexByte(code, '-')] // without its package
		for _, c := range []string{code, product} {
			out = append(out, c, strings.TrimPrefix(c, "0"), strings.ReplaceAll(c, "-", ""))
		}
	case cpt, hcpcs:
		if len(code) != 5 {
			break // from a row for several codes
		}
		// With modifiers.
		out = append(out, code+"-QW", code+"QW", code+"-59", code+"59", code+":25", code+"-QW-59",
			code+"2559")
	}
	return out
}

// fullWidth returns a text in full-width letters and digits.
func fullWidth(text string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r + 0xfee0
		}
		return r
	}, text)
}

// Letters and digits that look like those of the tables.
var (
	cyrillic = strings.NewReplacer("A", "А", "B", "В", "C", "С", "E", "Е", "H", "Н", "I", "І",
		"J", "Ј", "K", "К", "M", "М", "O", "О", "P", "Р", "S", "Ѕ",
		"T", "Т", "X", "Х", "a", "а", "c", "с", "e", "е", "o", "о", "p", "р", "x", "х", "y",
		"у", "s", "ѕ", "3", "З")
	greek = strings.NewReplacer("A", "Α", "B", "Β", "E", "Ε", "Z", "Ζ", "H", "Η", "I", "Ι",
		"K", "Κ", "M", "Μ", "N", "Ν", "O", "Ο", "P", "Ρ", "T", "Τ",
		"Y", "Υ", "X", "Χ", "a", "α", "b", "β", "i", "ι", "k", "κ", "o", "ο", "p", "ρ", "v", "ν",
		"x", "χ")
)

// arabic returns a text with Arabic digits.
func arabic(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r - '0' + 0x0660
		}
		return r
	}, text)
}

// unseen returns a text with a zero-width space and a soft hyphen in it.
func unseen(text string) string { return text[:1] + "\u200b" + text[1:] + "\u00ad" }

// shippedRows returns the rows of the built-in table. A prefix is replaced by one of its codes.
func shippedRows(t *testing.T) (rows [][]string) {
	t.Helper()
	r := csv.NewReader(strings.NewReader(shippedSensitive))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if p, isPrefix := strings.CutSuffix(row[1], "*"); isPrefix {
			row[1] = p + "1"
			if canonicalSystem(row[0]) == ndc {
				row[1] = p + "-0914-01"[max(0, len(p)-5):]
			}
		}
	}
	return rows
}

// EHI-9: each code of the table counts with each name of its system and in each spelling.
func TestEHI9EverySensitiveCodeInEverySpelling(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	tried, missed, systems := 0, 0, map[string]bool{}
	for _, row := range shippedRows(t) {
		system := canonicalSystem(row[0])
		systems[system] = true
		names := systemSpellings[system]
		switch system { // claims use one system for both levels of HCPCS
		case cpt:
			names = slices.Concat(names, systemSpellings[hcpcs])
		case hcpcs:
			names = slices.Concat(names, systemSpellings[cpt])
		}
		names = append(slices.Clone(names), cyrillic.Replace(names[0]), greek.Replace(names[0]),
			unseen(names[0]))
		if withoutSystem(system) == labelsWithoutSystem || telling([]byte(row[1])) {
			names = append(slices.Clone(names), "")
		}
		for _, name := range names {
			for _, code := range codeSpellings(system, row[1]) {
				if name == "" && !telling(folded([]byte(code))) &&
					withoutSystem(system) == codesWithoutSystem {
					continue
				}
				found := false
				table.lookup([]byte(name), []byte(code), true, func(category string) {
					found = found || category == row[2]
				})
				tried++
				if !found {
					if missed++; missed < 20 {
						t.Errorf("%q of %q is not found as %s", code, name, row[2])
					}
				}
			}
		}
	}
	if len(systems) != len(systemSpellings) {
		t.Errorf("the table has the systems %v", systems)
	}
	t.Logf("%d spellings tried, %d missed", tried, missed)
}

// EHI-9: a code that is not in the table does not count, even if it looks similar.
func TestEHI9CodesThatOnlyLookSensitiveAreNot(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"http://hl7.org/fhir/sid/icd-10-cm", "J06.9"},
		{"http://hl7.org/fhir/sid/icd-9-cm", "427.31"},
		{"http://loinc.org", "29463-7"},
		{"http://loinc.org", "8302-2"},
		{"http://snomed.info/sct", "44054006"},
		{"http://snomed.info/sct", "305058001"},
		{"http://example.org/own", "F10.20"},
		{"", "3014"},
		{"", "laboratory"},
		{"http://hl7.org/fhir/sid/icd-9-cm", "305.1"},
		{"http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "N"},
		{"http://unitsofmeasure.org", "mg"},
		{"http://www.ama-assn.org/go/cpt", "99213"},
		{"http://hl7.org/fhir/sid/ndc", "00093-0150-01"},
	} {
		table.lookup([]byte(c[0]), []byte(c[1]), c[0] != "", func(category string) {
			t.Errorf("%q is %s", c, category)
		})
	}
}

// EHI-9: labels withhold a resource at every place where FHIR allows them, with or without a
// system.
func TestEHI9LabelsWithoutASystem(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewRules(table).Policy(&ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{
		ehi.MedicalRecord:  {},
		ehi.OtherDocuments: {},
	}}, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{
		`{"resourceType":"Condition","id":"c","meta":{"security":[{"code":"%s"}]}}`,
		`{"meta":{"security":[{"display":"x","code":"%s"}]},"id":"c","resourceType":"Condition"}`,
		`{"resourceType":"Condition","id":"c","contained":[{"resourceType":"Basic",` +
			`"meta":{"security":[{"code":"%s"}]}}]}`,
		`{"resourceType":"DocumentReference","id":"c",` +
			`"securityLabel":[{"coding":[{"code":"%s"}]}]}`,
		`{"resourceType":"Composition","id":"c","confidentiality":"%s"}`,
	} {
		for code, goes := range map[string]bool{
			"R": false, "v": false, "N": true, "L": true, "HIV": false, "42CFRPart2": false,
			"42cfrpart2": false, "x": true,
			"restricted": false, "Very Restricted": false, "normal": true, "42 CFR Part 2": false,
		} {
			line := fmt.Appendf(nil, format, code)
			if _, ok, err := p.Filter().Releaser().Release(line); err != nil || ok != goes {
				t.Errorf("%s goes: %v, %v", line, ok, err)
			}
		}
	}
}

// EHI-9: a label withholds by its display alone, and by a code of an unknown system. An
// unrelated label does not.
func TestEHI9LabelsOfWhateverSystemFailClosed(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewRules(table).Policy(&ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{
		ehi.MedicalRecord:  {},
		ehi.OtherDocuments: {},
	}}, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for label, goes := range map[string]bool{
		`{"system":"http://example.org/labels","code":"HIV"}`:                                       false,
		`{"system":"http://example.org/labels","code":"r"}`:                                         false,
		`{"system":"http://example.org/labels","code":"x","display":"Restricted"}`:                  false,
		`{"display":"42 CFR Part 2"}`:                                                               false,
		`{"display":"HIV/AIDS information sensitivity"}`:                                            false,
		`{"display":"substance abuse information sensitivity"}`:                                     false,
		`{"display":"Psychiatric records","system":"urn:x"}`:                                        false,
		`{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"restricted"}`: false,
		`{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"N"}`:          true,
		`{"display":"normal"}`: true,
		`{"display":"part V"}`: true,
		`{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT",` +
			`"display":"treat"}`: true,
		`{"system":"http://example.org/labels","code":"x","display":"unrestricted"}`: true,
	} {
		for _, line := range []string{
			`{"resourceType":"Condition","id":"c","meta":{"security":[` + label + `]}}`,
			`{"resourceType":"Condition","meta":{"security":[` + label + `]},"id":"c"}`,
			`{"resourceType":"DocumentReference","id":"c","securityLabel":[{"coding":[` + label +
				`]}]}`,
		} {
			if _, ok, err := p.Filter().Releaser().Release([]byte(line)); err != nil || ok != goes {
				t.Errorf("%s goes: %v, %v", line, ok, err)
			}
		}
	}
	for _, line := range []string{
		`{"resourceType":"DocumentReference","id":"c","securityLabel":[{"text":"42 CFR Part 2"}]}`,
		`{"resourceType":"Composition","id":"c","confidentiality":"restricted"}`,
	} {
		if _, ok, err := p.Filter().Releaser().Release([]byte(line)); err != nil || ok {
			t.Errorf("%s goes: %v, %v", line, ok, err)
		}
	}
}

// EHI-9: a name for both ICD-10-CM and ICD-10-PCS does not turn a diagnosis into a procedure,
// nor the other way round.
func TestEHI9ANameForBothPartsOfICD10(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[string]bool{
		"B20":      true,
		"F10.20":   true,
		"T40.1X1A": true,
		"GZ50ZZZ":  true,
		"B200ZZZ":  false,
		"F13Z00Z":  false,
	} {
		found := false
		table.lookup([]byte("http://www.cms.gov/Medicare/Coding/ICD10"), []byte(code), false,
			func(string) { found = true })
		if found != want {
			t.Errorf("%s is found: %v", code, found)
		}
	}
}

// EHI-9: the spellings in the case sensitive-spellings count.
func TestEHI9TheCaseOfSensitiveSpellings(t *testing.T) {
	data, err := os.ReadFile(
		filepath.Join(records.Cases(t, "sensitive-spellings"), "records.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	form := &ehi.ReleaseForm{
		Parameters: map[ehi.Category]ehi.Choice{
			ehi.MedicalRecord: {},
			ehi.Visits:        {},
			ehi.Labs:          {},
			ehi.Billing:       {},
		},
	}
	p, err := NewRules(table).Policy(form, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		goes := strings.Contains(line, `"Patient","id"`) || strings.Contains(line, "control-plain")
		if _, ok, err := p.Filter().Releaser().Release([]byte(line)); err != nil || ok != goes {
			t.Errorf("%s goes: %v, %v", line, ok, err)
		}
	}
}

// EHI-8: a laboratory's category counts in any case, and by its display.
func TestEHI8ALaboratoryInEverySpelling(t *testing.T) {
	table, err := SensitiveTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewRules(table).Policy(&ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{
		ehi.MedicalRecord: {},
	}}, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for category, goes := range map[string]bool{
		`{"coding":[{"code":"laboratory"}]}`:                          false,
		`{"coding":[{"code":"Laboratory "}]}`:                         false,
		`{"coding":[{"code":"lab"}]}`:                                 false,
		`{"coding":[{"code":"hm"}]}`:                                  false,
		`{"text":"Laboratory"}`:                                       false,
		`{"text":"LAB results"}`:                                      false,
		`{"coding":[{"code":"x","display":"laboratory"}]}`:            false,
		`{"coding":[{"code":"vital-signs","display":"Vital Signs"}]}`: true,
		`{"text":"available"}`:                                        true,
		`{"coding":[{"code":"imaging"}],"text":"Collaboration"}`:      true,
	} {
		line := `{"resourceType":"Observation","id":"o","category":[` + category + `]}`
		if _, ok, err := p.Filter().Releaser().Release([]byte(line)); err != nil || ok != goes {
			t.Errorf("%s goes: %v, %v", line, ok, err)
		}
	}
}
