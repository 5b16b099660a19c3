package native

import (
	"iter"
	"mime"
	"path"
	"regexp"
	"strings"

	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// textsOf yields every text of a document that its list or a header of its download has. What
// decides about texts takes them from here, so that none is forgotten.
func textsOf(d *source.Document) iter.Seq[string] {
	return func(yield func(string) bool) {
		all := append([]string{d.ContentType, d.Date}, namesOf(d)...)
		for c := range codingsOf(d) {
			all = append(all, c.System, c.Code, c.Display)
		}
		for resource := range d.Resources() {
			all = append(all, resource)
		}
		for _, text := range append(all, string(d.Category)) {
			if text != "" && !yield(text) {
				return
			}
		}
	}
}

// namesOf returns what a document is called: its title, its name with its extension and without
// it, and the parameters of its media type.
func namesOf(d *source.Document) []string {
	all := []string{d.Title, d.Name, strings.TrimSuffix(d.Name, path.Ext(d.Name))}
	_, parameters, err := mime.ParseMediaType(d.ContentType)
	if err != nil { // whoever reads the header may see more in it
		return append(all, strings.FieldsFunc(d.ContentType, func(c rune) bool {
			return strings.ContainsRune(";=\"", c)
		})...)
	}
	for name, value := range parameters {
		all = append(all, name, value, strings.TrimSuffix(value, path.Ext(value)))
	}
	return all
}

// codingsOf yields the codes of a document, and its labels.
func codingsOf(d *source.Document) iter.Seq[fhir.Coding] {
	return func(yield func(fhir.Coding) bool) {
		if !yield(d.Type) {
			return
		}
		for _, all := range [][]fhir.Coding{d.Codings, d.Labels} {
			for _, c := range all {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// codesIn yields what may be a code in a name, such as B20 in "scan_B20-2024.pdf": each word by
// itself, and with all that follows, which may begin with the name of a code system. Whatever is
// neither a letter nor a digit is a border, and so is the dot, but for codes that have one.
func codesIn(name string) iter.Seq[string] {
	name = uuid.ReplaceAllString(name, " ")
	return func(yield func(string) bool) {
		for _, at := range wordOrCode.FindAllStringIndex(name, maxWords) {
			word, rest := name[at[0]:at[1]], name[at[1]:]
			if checkDigit.MatchString(rest) && strings.Trim(word, "0123456789") == "" {
				continue // a code of LOINC, which without its end is the code of another system
			}
			if isIsotope(word, name) {
				continue
			}
			first, _, dotted := strings.Cut(word, ".")
			if !yield(word) || !yield(word+rest) || dotted && !yield(first) {
				return
			}
		}
	}
}

// maxWords is the number of words of a name that may be codes.
const maxWords = 256

var (
	wordOrCode = regexp.MustCompile(`[\pL\pN]+(?:\.[0-9][\pL\pN]*)?`)
	uuid       = regexp.MustCompile(`(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	checkDigit = regexp.MustCompile(`^-[0-9](?:[^0-9]|$)`)
	tracer     = regexp.MustCompile(`(?i)\b(?:pet|fdg|naf|psma)\b`)
)

// isIsotope reports whether a word of a name is fluorine-18, of which tracers of PET consist, and
// not a code of ICD-10.
func isIsotope(word, name string) bool {
	return strings.EqualFold(word, "F18") &&
		tracer.MatchString(strings.ReplaceAll(name, "_", " "))
}
