package release

import (
	"bytes"
	"strings"

	"ehi-server/shared/fhir"
)

// R4 says which elements are of type Identifier, whatever they are called
// (fhir.IdentifierPaths). Each tells what its resource is called, what a group is called to
// which it belongs, or what another resource is called: then it is a Reference that has an
// identifier alone.

// identifierKind says what the Identifier in an element tells.
type identifierKind uint8

const (
	noIdentifier      identifierKind = iota
	ownIdentifier                    // what the resource, or something in it, is called
	sharedIdentifier                 // what it is called together with others
	foreignIdentifier                // what another resource is called
)

// sharedIdentifiers are elements by which several resources are called: orders that were written
// together, specimens that came together, bills that were paid together. Such a value leads to
// each of them, but makes none a copy of another.
var sharedIdentifiers = map[string]string{
	"ClaimResponse":        "payment.identifier",
	"CommunicationRequest": "groupIdentifier",
	"DeviceRequest":        "groupIdentifier",
	"Encounter":            "hospitalization.preAdmissionIdentifier",
	"ExplanationOfBenefit": "payment.identifier",
	"MedicationRequest":    "groupIdentifier",
	"RequestGroup":         "groupIdentifier",
	"ServiceRequest":       "requisition",
	"Specimen":             "accessionIdentifier",
	"Task":                 "groupIdentifier",
}

// foreignIdentifiers are elements that name another resource. All other Identifiers of R4 are
// what a resource, or something in it, is called.
var foreignIdentifiers = map[string]string{
	"Claim":                 "related.reference",
	"Composition":           "relatesTo.targetIdentifier",
	"DocumentManifest":      "related.identifier",
	"ExplanationOfBenefit":  "related.reference",
	"GuidanceResponse":      "requestIdentifier",
	"MedicinalProduct":      "crossReference",
	"Parameters":            "parameter.valueIdentifier",
	"PaymentReconciliation": "detail.predecessor",
	"StructureMap":          "group.rule.source.defaultValueIdentifier",
	"Task":                  "input.valueIdentifier output.valueIdentifier",
}

// identifierKinds are the kinds of the elements of each type, by its number; at 0 those of what
// R4 does not know. containedKinds are those of all types: what stands in another resource is of
// any.
var identifierKinds, containedKinds = func() (of [256]map[string]identifierKind, all map[string]identifierKind) {
	all = map[string]identifierKind{}
	of[0] = map[string]identifierKind{"identifier": ownIdentifier}
	for _, typ := range fhir.Types() {
		kinds := map[string]identifierKind{"identifier": ownIdentifier} // in whatever type
		for _, path := range fhir.IdentifierPaths(typ) {
			kinds[path] = ownIdentifier
		}
		for _, path := range strings.Fields(sharedIdentifiers[typ]) {
			kinds[path] = sharedIdentifier
		}
		for _, path := range strings.Fields(foreignIdentifiers[typ]) {
			kinds[path] = foreignIdentifier
		}
		for path, kind := range kinds {
			all[path] = max(all[path], kind)
		}
		of[fhir.TypeNumber([]byte(typ))] = kinds
	}
	return of, all
}()

// identifierAt is the kind of the element at a path of a resource of a type, or of what it
// contains or holds; noIdentifier where R4 has none there.
func identifierAt(typ uint16, path []byte) identifierKind {
	if within, is := bytes.CutPrefix(path, []byte(contained+".")); is {
		return containedKinds[string(within)]
	}
	if at := bytes.LastIndex(path, innerPath); at >= 0 {
		return containedKinds[string(
			bytes.TrimPrefix(path[at+len(innerPath):], []byte(contained+".")))]
	}
	if int(typ) >= len(identifierKinds) || identifierKinds[typ] == nil {
		typ = 0
	}
	return identifierKinds[typ][string(path)]
}

// innerPath is where R4 lets a resource stand in another one, see innerResource.
var innerPath = []byte(".resource.")

// mayBeIdentifier reports whether a field of that name may hold an Identifier where R4 has none,
// as that of an extension. A reference is an object in that case alone.
func mayBeIdentifier(field []byte) bool {
	return bytes.HasSuffix(field, []byte("dentifier")) || string(field) == "reference"
}

// namesAnother reports whether an object at a path, in a field of a name, is an Identifier of
// another resource: it is one by R4, or one that R4 has in no resource of that type.
func namesAnother(typ uint16, path, field []byte) bool {
	switch identifierAt(typ, path) {
	case ownIdentifier, sharedIdentifier:
		return false
	case foreignIdentifier:
		return true
	}
	return mayBeIdentifier(field)
}

// A quick look at a line finds an Identifier by the end of its name. Those that are called
// otherwise are told by their types: ownNames are the names of a resource's own ones; lines of
// oddTypes, which have some of others, are left to a walk, and so is an object that is called
// reference.
var ownNames, oddTypes = func() (own [256][]needle, odd [256]bool) {
	for number, kinds := range identifierKinds {
		own[number] = []needle{identifierName}
		for path, kind := range kinds {
			name := path[strings.LastIndexByte(path, '.')+1:]
			switch {
			case strings.HasSuffix(name, "dentifier"), name == "reference":
			case kind == foreignIdentifier:
				odd[number] = true
			default:
				own[number] = append(own[number], newNeedle(`"`+name+`"`))
			}
		}
	}
	return own, odd
}()
