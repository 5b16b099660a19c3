package release

import (
	"slices"
	"strings"
)

// Canonical names of code systems in the tables.
const (
	anySystem       = "*"
	actCode         = "v3-ActCode"
	confidentiality = "v3-Confidentiality"
	hl7v2           = "v2-0177"
	icd10           = "icd-10" // and ICD-10-CM, which has the same chapters
	icd10Procedures = "icd-10-pcs"
	icd11           = "icd-11"
	anyICD          = "icd" // an unknown revision, or an extension of one
	icd9            = "icd-9-cm"
	icd9Procedures  = "icd-9-cm-procedure"
	snomed          = "snomed"
	loinc           = "loinc"
	rxNorm          = "rxnorm"
	cpt             = "cpt"
	hcpcs           = "hcpcs"
	ndc             = "ndc"
	atc             = "atc"

	// Pseudo-systems with the rows of all code systems, and of all label systems, for codes
	// without a system.
	codesWithoutSystem  = "codes|"
	labelsWithoutSystem = "labels|"
)

// withoutSystem returns the pseudo-system that a system's rows are added to.
func withoutSystem(system string) string {
	switch system {
	case actCode, confidentiality, hl7v2:
		return labelsWithoutSystem
	}
	return codesWithoutSystem
}

// identifiedSystems maps object identifiers of HL7's registry to systems.
var identifiedSystems = map[string]string{
	"2.16.840.1.113883.5.4":    actCode,
	"2.16.840.1.113883.5.25":   confidentiality,
	"2.16.840.1.113883.12.177": hl7v2,
	"2.16.840.1.113883.6.90":   icd10,
	"2.16.840.1.113883.6.3":    icd10,
	"2.16.840.1.113883.6.4":    icd10Procedures,
	"2.16.840.1.113883.6.2":    icd9,
	"2.16.840.1.113883.6.42":   icd9,
	"2.16.840.1.113883.6.103":  icd9,
	"2.16.840.1.113883.6.104":  icd9Procedures,
	"2.16.840.1.113883.6.96":   snomed,
	"2.16.840.1.113883.6.1":    loinc,
	"2.16.840.1.113883.6.88":   rxNorm,
	"2.16.840.1.113883.6.12":   cpt,
	"2.16.840.1.113883.6.82":   cpt,
	"2.16.840.1.113883.6.14":   hcpcs,
	"2.16.840.1.113883.6.285":  hcpcs,
	"2.16.840.1.113883.6.69":   ndc,
	"2.16.840.1.113883.6.347":  icd11,
	"2.16.840.1.113883.6.73":   atc,
}

// namedSystems maps parts of names to systems, in search order. Names are reduced to letters and
// digits. They are URLs of every FHIR version, of value sets and of publishers, and plain names.
var namedSystems = []struct{ holds, system string }{
	{"icd10pcs", icd10Procedures}, {"codingicd10", icd10Procedures}, {"icd10", icd10},
	{"icd11", icd11}, {"icdrelease11", icd11}, {"diseases11", icd11}, {"diseaseseleventh", icd11},
	{"whoccno", atc}, {"anatomicaltherapeutic", atc},
	{"icdrelease10", icd10}, {"i10pcs", icd10Procedures}, {"i10cm", icd10}, {"i9cm", icd9},
	{"diseases10", icd10}, {"diseasestenth", icd10}, {"diseases9", icd9}, {"diseasesninth", icd9},
	{"icd9cmprocedure", icd9Procedures}, {"icd9procedure", icd9Procedures}, {"icd9", icd9},
	{"snomed", snomed}, {"loinc", loinc}, {"rxnorm", rxNorm}, {"hcpcs", hcpcs}, {"amaassn", cpt},
	{"actcode", actCode}, {"informationsensitivity", actCode}, {"actusprivacy", actCode},
	{"actprivacylaw", actCode}, {"actprivacypolicy", actCode}, {"securitylabel", actCode},
	{"v20177", hl7v2}, {"v2table0177", hl7v2}, {"hl7orgfhirv20177", hl7v2},
	{"confidentiality", confidentiality}, {"fhirsidndc", ndc}, {"nationaldrugcode", ndc},
}

// plainNames are names that are too short to be searched within others.
var plainNames = map[string]string{
	"i11": icd11, "atc": atc, "atccode": atc, "whoatc": atc, "sct": snomed, "ln": loinc, "cpt": cpt,
	"cpt4": cpt, "c4": cpt, "ndc": ndc, "i10": icd10, "i10c": icd10, "i9": icd9, "i9c": icd9,
	// HL7 table 0396
	"hl70177": hl7v2,
	"i9cp":    icd9Procedures, "i9cdx": icd9, "i10p": icd10Procedures, "c5": cpt, "hpc": hcpcs,
	"ndc9": ndc, "ndc10": ndc, "ndc11": ndc,
}

// canonicalSystem returns the canonical name of a code system for its URL, object identifier or
// name, with or without a version. For an unknown system it returns the URL in small letters,
// and "" for none.
func canonicalSystem(system string) string {
	if strings.ContainsAny(system, "%&") {
		system = string(revealed([]byte(system)))
	}
	system = strings.ToLower(strings.TrimSpace(folded(system)))
	if system == "" || system == anySystem {
		return system
	}
	url, _, _ := strings.Cut(system, "|")
	url = strings.TrimSuffix(strings.TrimSpace(url), "/")
	if known := identifiedSystem(url); known != "" {
		return known
	}
	letters := lettersIn(url)
	if known := plainNames[letters]; known != "" {
		return known
	}
	for _, n := range namedSystems {
		if strings.Contains(letters, n.holds) {
			return n.system
		}
	}
	// A short name may end a longer one: http://terminology.hl7.org/CodeSystem/CPT.
	if last := lettersIn(url[strings.LastIndexAny(url, "/:")+1:]); len(last) > 2 {
		if known := plainNames[last]; known != "" {
			return known
		}
	}
	if namesICD(url) {
		return anyICD
	}
	return strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://")
}

// lettersIn returns only the small letters and digits of a name.
func lettersIn(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, name)
}

// namesICD reports whether a system's name contains ICD as a word: https://www.cdc.gov/nchs/icd.
// ICD-O, for tumours, is another system.
func namesICD(name string) bool {
	words := strings.FieldsFunc(name, func(r rune) bool { return r < 'a' || r > 'z' })
	at := slices.Index(words, "icd")
	return at >= 0 && !(at+1 < len(words) && words[at+1] == "o")
}

// revisions are the possible systems of a code whose system is ICD without a revision.
var revisions = []string{icd10, icd9, icd11}

// registered begins the object identifiers of HL7's registry.
const registered = "2.16.840.1.113883."

// identifiedSystem returns the system whose object identifier a name contains; "" if there is
// none. A version may follow the identifier.
func identifiedSystem(name string) string {
	at := strings.Index(name, registered)
	if at < 0 {
		return ""
	}
	name = name[at:]
	end := strings.IndexFunc(name, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end >= 0 {
		name = name[:end]
	}
	for len(name) > len(registered) {
		if known := identifiedSystems[name]; known != "" {
			return known
		}
		name = name[:strings.LastIndexByte(name, '.')]
	}
	return ""
}

// mayBeDiagnosis reports whether a plain code may be of ICD-10-CM, if its system's name also
// covers ICD-10-PCS. Codes of procedures have seven characters and begin with the character of a
// section.
func mayBeDiagnosis(code string) bool {
	return len(code) != 7 || strings.IndexByte("0123456789BCDFGH", code[0]) < 0
}

// levels are the two levels of HCPCS. Claims use one system for both, and their codes never look
// alike.
var levels = map[string]string{cpt: hcpcs, hcpcs: cpt}

// codeAlphabet is the alphabet of plain codes.
const codeAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Classes of bytes in codes, in addition to the capital letter or digit that a byte stands for.
const (
	otherByte   = 0 // separates codes
	ignoredByte = 1
)

var codeBytes = func() (class [256]byte) {
	for _, c := range []byte(". -\t") {
		class[c] = ignoredByte
	}
	for _, c := range []byte(codeAlphabet) {
		class[c], class[c|0x20] = c, c
	}
	return class
}()

// plainCode returns a code in its compared form: only capital letters and digits. Dots, hyphens
// and spaces vary (T74.11XA, T7411XA).
func plainCode(code []byte) string {
	plain := make([]byte, 0, len(code))
	for _, c := range code {
		if class := codeBytes[c]; class > ignoredByte {
			plain = append(plain, class)
		}
	}
	return string(plain)
}

// telling reports whether a code without a system may be compared with all systems: it has a
// letter or a dot, or is too long to be a number in a local list.
func telling(code []byte) bool {
	digits := 0
	for _, c := range code {
		if c < '0' || c > '9' {
			return true
		}
		digits++
	}
	return digits > 5
}

// candidates returns the possible codes in a text: the whole text, and each part if there are
// several, as in a SNOMED CT expression (86406008|HIV|:...) or a code with its system or meaning
// (F10.20 Alcohol dependence).
func candidates(code []byte) []string {
	out := []string{plainCode(code)}
	parts := strings.FieldsFunc(string(code), func(r rune) bool {
		return r >= 0x80 || codeBytes[byte(r)] == otherByte || r == ' ' || r == '\t'
	})
	if len(parts) > 1 {
		for _, p := range parts {
			out = append(out, plainCode([]byte(p)))
		}
	}
	return out
}

// hasModifiers reports whether modifiers may follow the codes of a system, with or without a
// hyphen (86701-QW, for a waived test). Its codes have five characters, so a longer one is a
// code with a modifier.
func hasModifiers(system string) bool { return system == cpt || system == hcpcs }

// padded removes leading zeros from a code if they have no meaning: codes of SNOMED CT, LOINC
// and RxNorm are numbers.
func padded(system, code string) (short string, is bool) {
	switch system {
	case snomed, loinc, rxNorm, "":
		short = strings.TrimLeft(code, "0")
		return short, len(short) < len(code) && len(short) > 0
	}
	return "", false
}

// spellings returns the possible spellings of a table's code: an ICD-9-CM code may have lost a
// leading zero in a spreadsheet, and an NDC with eleven digits (5-4-2) may have ten, without the
// leading zero of one part.
func spellings(system, code string) []string {
	out := []string{code}
	switch {
	case system == icd9 && len(code) == 3:
		if short := strings.TrimLeft(code, "0"); len(short) > 0 && short != code {
			out = append(out, short)
		}
	case system == ndc && len(code) >= 9:
		for _, at := range []int{0, 5, 9} {
			if at < len(code) && code[at] == '0' {
				out = append(out, code[:at]+code[at+1:])
			}
		}
	}
	return out
}
