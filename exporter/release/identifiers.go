package release

import (
	"bytes"
	"strings"

	"ehi-server/shared/fhir"
)

// fhir.IdentifierPaths lists the elements of type Identifier in R4, whatever their names are.
// Each identifies its own resource, a group that the resource belongs to, or another resource.
// In the last case it is a Reference that consists only of an identifier.

// identifierKind says what the Identifier in an element identifies.
type identifierKind uint8

const (
	noIdentifier      identifierKind = iota
	ownIdentifier                    // the resource, or something in it
	sharedIdentifier                 // the resource together with others
	foreignIdentifier                // another resource
)

// sharedIdentifiers are elements whose value identifies several resources: orders written
// together, specimens collected together, bills paid together. Such a value points to each of
// them, but does not make one a copy of another.
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

// foreignIdentifiers are elements that identify another resource. All other Identifiers of R4
// identify the resource, or something in it.
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

// identifierKinds are the kinds of the elements by type number; index 0 is for types unknown to
// R4. containedKinds combines all types, because a resource inside another one may be of any
// type.
var identifierKinds, containedKinds = func() (of [256]map[string]identifierKind, all map[string]identifierKind) {
	all = map[string]identifierKind{}
	of[0] = map[string]identifierKind{"identifier": ownIdentifier}
	for _, typ := range fhir.Types() {
		kinds := map[string]identifierKind{"identifier": ownIdentifier} // all types
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

// identifierAt returns the kind of the element at a path of a resource, or of a resource inside
// it; noIdentifier if R4 has no Identifier there.
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

// innerPath precedes the paths inside a resource that R4 allows in another one, see
// innerResource.
var innerPath = []byte(".resource.")

// mayBeIdentifier reports whether a field of that name may be an Identifier where R4 has none,
// such as in an extension. A field named reference is an object only in that case.
func mayBeIdentifier(field []byte) bool {
	return bytes.HasSuffix(field, []byte("dentifier")) || string(field) == "reference"
}

// namesAnother reports whether an object at a path is an Identifier of another resource: by R4,
// or because R4 has no such Identifier in that type.
func namesAnother(typ uint16, path, field []byte) bool {
	switch identifierAt(typ, path) {
	case ownIdentifier, sharedIdentifier:
		return false
	case foreignIdentifier:
		return true
	}
	return mayBeIdentifier(field)
}

// ownNames and oddTypes serve the fast path, which finds an Identifier by the end of its field
// name. Identifiers with other names depend on the type: ownNames are the field names of a
// resource's own Identifiers. Lines of oddTypes have such Identifiers of other resources and need
// a walk, as does an object named reference.
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
