package fhir

import (
	"slices"
	"strings"
	"sync"
)

// The tables of tables.go are generated from the published definitions of R4, with mvn and npm, by
//
//go:generate go run ./generate tables.go

// table parses a generated table: the entries of each type.
func table(text string) func() map[string][]string {
	return sync.OnceValue(func() map[string][]string {
		m := map[string][]string{}
		for line := range strings.Lines(strings.TrimSpace(text)) {
			f := strings.Fields(line)
			m[f[0]] = f[1:]
		}
		return m
	})
}

// set parses a generated list.
func set(text string) map[string]bool {
	m := map[string]bool{}
	for _, word := range strings.Fields(text) {
		m[word] = true
	}
	return m
}

var (
	resourceTypes    = set(typesTable)
	attachmentFields = set(attachmentTable)

	compartment = table(compartmentTable)()

	mandatory = table(mandatoryTable)
	modifiers = table(modifierTable)
	choices   = table(choiceTable)
	elements  = table(elementTable)

	referenceFields = table(referenceTable)
	referencePaths  = table(referencePathTable)
	canonicalPaths  = table(canonicalPathTable)
	identifierPaths = table(identifierPathTable)
)

// ReferenceFields returns the names of all fields of type Reference, of all types, with the
// types that each may reference; "*" means all types. The caller must not change it.
func ReferenceFields() map[string][]string { return referenceFields() }

// ReferencePaths returns the dotted JSON paths of the References in a resource of type t. It
// omits those within data types (Annotation, Identifier, Extension, ...) and below an element
// that repeats an outer one (Composition.section.section). The caller must not change it.
func ReferencePaths(t string) []string { return referencePaths()[t] }

// CanonicalPaths returns the paths of canonical URLs of definitions in a resource of type t,
// like ReferencePaths. The caller must not change it.
func CanonicalPaths(t string) []string { return canonicalPaths()[t] }

// PlainPath returns a path of JSON fields without repetitions: item.item.item.answerValueSet
// becomes item.answerValueSet, and link.target.link.target.profile becomes link.target.profile.
func PlainPath(path string) string {
	var out []string
	for field := range strings.SplitSeq(path, ".") {
		out = append(out, field)
		for n := 1; n <= 2 && 2*n <= len(out); n++ {
			at := len(out) - n
			if slices.Equal(out[at-n:at], out[at:]) {
				out = out[:at]
			}
		}
	}
	return strings.Join(out, ".")
}

// IdentifierPaths returns the paths of the Identifiers in a resource of type t, its own and
// those of others, like ReferencePaths. The caller must not change it.
func IdentifierPaths(t string) []string { return identifierPaths()[t] }

// KnownType reports whether t is a concrete resource type of R4.
func KnownType(t string) bool { return resourceTypes[t] }

// Types returns the concrete resource types of R4, sorted.
func Types() []string { return strings.Fields(typesTable) }

// CompartmentPaths returns the dotted JSON paths of the references to a Patient that make a
// resource of type t part of that patient's record. It is nil for types that belong to no
// patient. The caller must not change it.
//
// It is the patient compartment of R4
// (https://hl7.org/fhir/R4/compartmentdefinition-patient.html) with two deviations, whose
// reasons are in generate/tables.go. Patient and Group are omitted. Types without a compartment
// rule that R4 gives a search parameter "patient" are included (Contract, Device,
// GuidanceResponse). A third deviation comes from the package behind the table: it includes Task
// by patient and focus, which the page of 4.0.1 does not.
func CompartmentPaths(t string) []string { return compartment[t] }

// MandatoryFields returns the top-level JSON fields of a type with a minimum cardinality of one;
// for a choice (medication[x]), each of its fields. The caller must not change it.
func MandatoryFields(t string) []string { return mandatory()[t] }

// ModifierFields returns the top-level JSON fields of a type that change the meaning of the rest
// (verificationStatus, doNotPerform...), except for implicitRules and modifierExtension, which
// every type has. The caller must not change it.
func ModifierFields(t string) []string { return modifiers()[t] }

// Fields returns the top-level JSON fields of an element of a type: those of a choice (value:
// valueQuantity, valueString...), or the element's name.
func Fields(t, element string) []string {
	for _, choice := range choices()[t] {
		if name, types, _ := strings.Cut(choice, "="); name == element {
			var out []string
			for _, suffix := range strings.Split(types, ",") {
				out = append(out, name+suffix)
			}
			return out
		}
	}
	return []string{element}
}

// KnownElement reports whether R4 has a top-level element for a type. A choice may be named by
// one of its fields (valueQuantity).
func KnownElement(t, element string) bool {
	list := elements()[t]
	if len(list) > 0 && elements()[list[0]] != nil { // the base type
		if KnownElement(list[0], element) {
			return true
		}
		list = list[1:]
	}
	return slices.ContainsFunc(list, func(name string) bool {
		return name == element || slices.Contains(Fields(t, name), element)
	})
}

// Elements returns the top-level elements of a type, starting with those of every resource. A
// choice is one element (value, see Fields).
func Elements(t string) (out []string) {
	list := elements()[t]
	if len(list) > 0 && elements()[list[0]] != nil { // the base type
		out, list = Elements(list[0]), list[1:]
	}
	return append(out, list...)
}

// AttachmentField reports whether some type has a field of that name with an Attachment, whose
// url may reference a Binary: photo, content, presentedForm, valueAttachment...
func AttachmentField(name string) bool { return attachmentFields[name] }
