package release

import (
	"slices"
	"strings"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// facts is what a decision about one resource needs.
type facts struct {
	typ, id    string
	categories []string            // codes of category codings
	documents  []ehi.Category      // document groups by the codes of type, category, code and modality
	sensitive  []ehi.Authorization // authorizations that it needs
	happened   fhir.Spans          // when it happened; none where it does not say
	content    []string            // type/id in the fields that are its only content, see contentPaths
	other      bool                // whether a content field holds anything that is not a local reference
	attached   bool                // presentedForm
}

// contentPaths are the fields without which a resource says nothing: where all that they refer to is withheld, the
// resource is withheld too (EHI-9).
var contentPaths = map[string]string{
	"Provenance":               "target",
	"AuditEvent":               "entity.what",
	"List":                     "entry.item",
	"Linkage":                  "item.resource",
	"DocumentManifest":         "content",
	"DeviceUseStatement":       "device",
	"MedicationRequest":        "medicationReference",
	"MedicationAdministration": "medicationReference",
	"MedicationDispense":       "medicationReference",
	"MedicationStatement":      "medicationReference",
}

// examiner walks resources and gathers facts. It is for one goroutine.
type examiner struct {
	policy *Policy
	cursor fhir.Cursor
	dates  fhir.Dates
	path   []byte
	system []string // by depth: the system of the coding that is open there
	code   []string
}

func (x *examiner) examine(line []byte) (facts, error) {
	var f facts
	c := &x.cursor
	x.dates.Reset()
	for c.Reset(line); c.Next(); {
		x.dates.See(c)
		switch c.Kind {
		case fhir.Open:
			x.open(c.Depth)
			f.attached = f.attached || c.Depth == 1 && c.IsArray() && string(c.Key()) == "presentedForm"
		case fhir.Close:
			x.coding(&f)
		case fhir.Scalar:
			if c.IsString() {
				x.text(&f)
			}
		}
	}
	f.happened = x.dates.Spans()
	return f, c.Err()
}

func (x *examiner) open(depth int) {
	for len(x.system) <= depth {
		x.system, x.code = append(x.system, ""), append(x.code, "")
	}
	x.system[depth], x.code[depth] = "", ""
}

// coding looks at the object that closes: a coding wherever it stands.
func (x *examiner) coding(f *facts) {
	c := &x.cursor
	system, code := x.system[c.Depth], x.code[c.Depth]
	if code == "" {
		return
	}
	x.policy.sensitive.lookup(system, code, func(category string) {
		f.sensitive = appendNew(f.sensitive, ehi.Authorization(category))
	})
	switch top := string(c.KeyAt(1)); top {
	case "category":
		f.categories = appendNew(f.categories, code)
		fallthrough
	case "type", "code", "modality", "series":
		x.policy.documents.lookup(system, code, func(category string) {
			f.documents = appendNew(f.documents, ehi.Category(category))
		})
	}
}

func (x *examiner) text(f *facts) {
	c := &x.cursor
	k := c.Key()
	switch {
	case c.Depth > 0 && string(k) == "system":
		x.system[c.Depth-1] = string(c.Text())
	case c.Depth > 0 && string(k) == "code":
		x.code[c.Depth-1] = string(c.Text())
	case c.Depth == 1 && string(k) == "resourceType":
		f.typ = string(c.Text())
	case c.Depth == 1 && string(k) == "id":
		f.id = string(c.Text())
	case string(k) == "reference":
		x.reference(f)
	}
}

func (x *examiner) reference(f *facts) {
	path, ok := contentPaths[f.typ]
	if !ok {
		return
	}
	x.path = x.cursor.AppendPath(x.path[:0])
	if string(x.path) != path+".reference" {
		return
	}
	if typ, id, local := fhir.Local(x.cursor.Text()); local {
		f.content = append(f.content, string(typ)+"/"+string(id))
	} else {
		f.other = true
	}
}

func appendNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// laboratory sections of v2-0074 and the category of laboratory Observations.
func (f *facts) laboratory() bool {
	return slices.ContainsFunc(f.categories, func(code string) bool {
		return strings.EqualFold(code, "laboratory") ||
			slices.Contains([]string{"LAB", "CH", "HM", "MB", "BLB", "BG", "IMM", "MCB", "MYC", "SR", "TX", "VR"}, code)
	})
}

// documentGroup is the form's group of a document.
func (f *facts) documentGroup() ehi.Category {
	if len(f.documents) > 0 {
		// A modality says more than "image" does.
		if slices.Contains(f.documents, ehi.Radiology) {
			return ehi.Radiology
		}
		return f.documents[0]
	}
	if f.typ == "ImagingStudy" {
		return ehi.Radiology
	}
	return ehi.OtherDocuments
}
