package native

import (
	"iter"
	"mime"
	"path"
	"strings"

	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// textsOf yields every text of a document that its list or a header of its download has. What
// decides about texts takes them from here, so that none is forgotten.
func textsOf(d *source.Document) iter.Seq[string] {
	return func(yield func(string) bool) {
		all := append([]string{d.ContentType}, namesOf(d)...)
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
