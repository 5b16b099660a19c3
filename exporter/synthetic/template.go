package synthetic

import (
	"fmt"
	"strings"
)

// slot is a place in a template with a different value for each resource.
type slot uint8

const (
	none slot = iota
	self
	patient
	updated
	// Times, as FHIR instants; born is a date.
	born
	since
	start
	end
	moment
	// IDs of the patient's own resources.
	coverage
	careTeam
	goal
	condition // one of the patient's chronic conditions
	encounter
	order
	specimen
	claim
	target // of a Provenance
	study
	result // the IDs of a panel's results, in this order
	_
	_
	_
	_
	prescription
	// IDs of shared resources.
	organization
	practitioner
	role
	location
	medication
	// Words and numbers.
	number
	family
	given
	relative
	gender
	city
	phone
	street
	postal
	value
	payload // base64
	uid
	slots
)

var slotNames = map[string]slot{
	"id": self, "patient": patient, "updated": updated, "born": born, "since": since,
	"start": start, "end": end, "moment": moment,
	"coverage": coverage, "careTeam": careTeam, "goal": goal, "condition": condition,
	"encounter": encounter, "order": order,
	"specimen": specimen, "claim": claim, "target": target, "study": study,
	"prescription": prescription,
	"result0":      result, "result1": result + 1, "result2": result + 2, "result3": result + 3,
	"result4":      result + 4,
	"organization": organization, "practitioner": practitioner, "role": role, "location": location,
	"medication": medication,
	"number":     number, "family": family, "given": given, "relative": relative, "gender": gender,
	"city": city, "phone": phone,
	"street": street, "postal": postal, "value": value, "payload": payload, "uid": uid,
}

// template is the text of one kind of resource: literal pieces, each followed by a slot.
type template struct {
	typ   string
	parts []part
}

type part struct {
	text string
	slot slot // none at the end
}

// resource returns the template of a type: ID and meta, followed by the given elements, in which
// {{name}} is a slot.
func resource(typ, elements string) *template { return labelled(typ, "", elements) }

// labelled is resource with a security label in meta.
func labelled(typ, security, elements string) *template {
	if security != "" {
		security = `,"security":[` + security + `]`
	}
	t := &template{typ: typ}
	rest := `{"resourceType":"` + typ + `","id":"{{id}}","meta":{"lastUpdated":"{{updated}}"` +
		security + `},` + elements + `}`
	for {
		text, after, found := strings.Cut(rest, "{{")
		if !found {
			t.parts = append(t.parts, part{text: text})
			return t
		}
		name, after, _ := strings.Cut(after, "}}")
		s, known := slotNames[name]
		if !known {
			panic(fmt.Sprintf("synthetic: %s has a slot %q that nobody fills", typ, name))
		}
		t.parts = append(t.parts, part{text: text, slot: s})
		rest = after
	}
}

// fill appends the resource to dst.
func (t *template) fill(dst []byte, values *[slots][]byte) []byte {
	for i := range t.parts {
		p := &t.parts[i]
		dst = append(append(dst, p.text...), values[p.slot]...)
	}
	return dst
}
