package fhir

import (
	"slices"
	"strings"
	"sync"
)

// The tables of tables.go are generated from the published definitions of R4, with mvn and npm, by
//
//go:generate go run ./generate tables.go

// table reads a generated table: the entries of each type.
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

// set reads a generated list.
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

// ReferenceFields are the names of all fields of type Reference, in whatever type, each with the
// types to which it may lead; "*" stands for all types. The caller must not change it.
func ReferenceFields() map[string][]string { return referenceFields() }

// ReferencePaths are where a resource of type t has References, as dotted paths of JSON fields,
// but for those within data types (Annotation, Identifier, Extension, ...) and below an element
// that repeats one above it (Composition.section.section). The caller must not change it.
func ReferencePaths(t string) []string { return referencePaths()[t] }

// CanonicalPaths are where a resource of type t names a definition by its canonical URL, as
// ReferencePaths has its References. The caller must not change it.
func CanonicalPaths(t string) []string { return canonicalPaths()[t] }

// PlainPath is a path of JSON fields without what repeats itself: item.item.item.answerValueSet is
// item.answerValueSet, and link.target.link.target.profile is link.target.profile.
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

// IdentifierPaths are where a resource of type t has Identifiers, as ReferencePaths has its
// References: its own ones, and those of others. The caller must not change it.
func IdentifierPaths(t string) []string { return identifierPaths()[t] }

// KnownType reports whether t is a concrete resource type of R4.
func KnownType(t string) bool { return resourceTypes[t] }

// Types are the concrete resource types of R4, sorted.
func Types() []string { return strings.Fields(typesTable) }

// CompartmentPaths returns where in a resource of type t a reference to a Patient makes it part
// of that patient's record, as dotted paths of JSON fields; nil for types that belong to no
// patient. The caller must not change it.
//
// It is the patient compartment of R4
// (https://hl7.org/fhir/R4/compartmentdefinition-patient.html) with two deviations, which
// generate/tables.go gives reasons for: Patient and Group are left out, and types that the
// compartment has no rule for, although R4 gives them a search parameter "patient", are taken in
// (Contract, Device, GuidanceResponse). A third one is the package's that the table is made
// from: it has Task by patient and focus, which the page of 4.0.1 leaves out of the compartment.
func CompartmentPaths(t string) []string { return compartment[t] }

// MandatoryFields are the top-level JSON fields of a type with a minimum of one; of a choice
// (medication[x]), each of its fields. The caller must not change it.
func MandatoryFields(t string) []string { return mandatory()[t] }

// ModifierFields are the top-level JSON fields of a type that change the meaning of the rest
// (verificationStatus, doNotPerform...), but for implicitRules and modifierExtension, which
// every type has. The caller must not change it.
func ModifierFields(t string) []string { return modifiers()[t] }

// Fields are the top-level JSON fields of an element of a type: those of a choice (value:
// valueQuantity, valueString...), or the name itself.
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

// KnownElement reports whether R4 has a top-level element for a type, by its name or, of a
// choice, by that of one of its fields (valueQuantity).
func KnownElement(t, element string) bool {
	list := elements()[t]
	if len(list) > 0 && elements()[list[0]] != nil { // what it is based on
		if KnownElement(list[0], element) {
			return true
		}
		list = list[1:]
	}
	return slices.ContainsFunc(list, func(name string) bool {
		return name == element || slices.Contains(Fields(t, name), element)
	})
}

// Elements are the top-level elements of a type, those that every resource has first; a choice
// is one element (value, see Fields).
func Elements(t string) (out []string) {
	list := elements()[t]
	if len(list) > 0 && elements()[list[0]] != nil { // what it is based on
		out, list = Elements(list[0]), list[1:]
	}
	return append(out, list...)
}

// AttachmentField reports whether some type has a field of that name that holds an Attachment,
// whose url may lead to a Binary: photo, content, presentedForm, valueAttachment...
func AttachmentField(name string) bool { return attachmentFields[name] }
