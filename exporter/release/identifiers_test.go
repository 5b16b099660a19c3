package release_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// nested puts a value at a path in which every name is a list.
func nested(path, value string) string {
	names := strings.Split(path, ".")
	for _, name := range slices.Backward(names[1:]) {
		value = `{"` + name + `":[` + value + `]}`
	}
	return `"` + names[0] + `":[` + value + `]`
}

// whole puts an object at a path in the form of R4: its field is not a list.
func whole(path, value string) string {
	at := strings.LastIndexByte(path, '.')
	if at < 0 {
		return `"` + path + `":` + value
	}
	return nested(path[:at], `{"`+path[at+1:]+`":`+value+`}`)
}

// eachIdentifier calls visit with each element of R4 that is an Identifier.
func eachIdentifier(visit func(typ, path string, kind release.IdentifierKind)) {
	for _, typ := range fhir.Types() {
		for _, path := range fhir.IdentifierPaths(typ) {
			visit(typ, path, release.IdentifierAt(typ, path))
		}
	}
}

// EHI-9: a withheld resource is recognized by each Identifier that R4 gives it, whatever the
// element's name is: a Reference by its value is masked, and a resource about it alone is
// withheld.
func TestEHI9TheWithheldAreKnownByIdentifiersOfEveryName(t *testing.T) {
	const by = `{"identifier":{"system":"urn:x","value":"SECRET-0123456789"},"display":"SECRET"}`
	refers := `{"resourceType":"Condition","id":"c","evidence":[{"detail":[` + by + `]}]}`
	about := `{"resourceType":"Provenance","id":"p","target":[` + by + `],"policy":["SECRET"]}`
	n := 0
	eachIdentifier(func(typ, path string, kind release.IdentifierKind) {
		if kind == release.ForeignIdentifier || typ == "Patient" || typ == "Bundle" ||
			typ == "Parameters" {
			return
		}
		identifier := `{"value":"SECRET-0123456789"}`
		for _, field := range []string{nested(path, identifier), whole(path, identifier)} {
			for _, withheld := range []string{
				`{"resourceType":"` + typ + `","id":"w",` + hivLabel + `,` + field + `}`,
				`{"id":"w",` + field + `,"resourceType":"` + typ + `",` + hivLabel + `}`,
				`{"resourceType":"List","id":"l",` + hivLabel + `,"contained":[{"resourceType":"` +
					typ + `","id":"w",` + field + `}]}`,
			} {
				n++
				record := []string{withheld, refers, about}
				for _, resolved := range []bool{false, true} {
					got := released(t, reviewOf(t, form(ehi.MedicalRecord), resolved, record...),
						record...)
					out := strings.Join(got, "")
					if strings.Contains(out, "SECRET") || len(got) != 1 {
						t.Errorf("%s.%s: of %s left %s", typ, path, withheld, out)
					}
				}
			}
		}
	})
	if n < 300 {
		t.Errorf("%d elements", n)
	}
}

// Unticked resources are recognized by them too: References to them are masked.
func TestEHI9TheUntickedAreKnownByIdentifiersOfEveryName(t *testing.T) {
	refers := `{"resourceType":"Encounter","id":"e",` +
		`"diagnosis":[{"condition":{"identifier":{"value":"SECRET"}}}]}`
	for typ, field := range map[string]string{
		"ServiceRequest":    `"requisition":{"value":"SECRET"}`,
		"MedicationRequest": `"groupIdentifier":{"system":"urn:x","value":"secret "}`,
		"ImagingStudy":      `"series":[{"uid":"SECRET"}]`,
		"Specimen":          `"accessionIdentifier":{"value":"urn:uuid:SECRET"}`,
	} {
		for _, line := range []string{
			`{"resourceType":"` + typ + `","id":"w",` + field + `}`,
			`{` + field + `,"id":"w","resourceType":"` + typ + `"}`,
		} {
			got := released(t, reviewOf(t, form(ehi.Visits), true, line, refers), line, refers)
			if len(got) != 1 || strings.Contains(got[0], "SECRET") ||
				!strings.Contains(got[0], "masked") {
				t.Errorf("%s became %v", line, got)
			}
		}
	}
}

// EHI-9: an Identifier of another resource is masked if that one is withheld, whatever the
// element's name is, and its entry is removed. A resource's own Identifiers remain, and so do
// those that name nothing withheld.
func TestEHI9IdentifiersOfOthersAreComparedWhateverTheirName(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"w",` + hivLabel +
		`,"identifier":[{"value":"SECRET-7"}]}`
	eachIdentifier(func(typ, path string, kind release.IdentifierKind) {
		if typ == "Patient" || typ == "Parameters" ||
			kind == release.ForeignIdentifier && typ == "StructureMap" {
			return
		}
		for _, list := range []bool{false, true} {
			field := whole(path, `{"value":"%s"}`)
			if list && path != "related.identifier" {
				field = nested(path, `{"value":"%s"}`)
			}
			line := `{"resourceType":"` + typ + `","id":"o",` + field + `}`
			if kind == release.ForeignIdentifier {
				line = `{"resourceType":"` + typ + `","id":"o",` + field +
					`,"contained":[{"resourceType":"` + typ + `","id":"i",` + field + `}]}`
				line = strings.Replace(line, "%s", "%[1]s", 2)
			}
			named, free := fmt.Sprintf(line, "SECRET-7"), fmt.Sprintf(line, "FREE-7")
			user := `{"resourceType":"Basic","id":"b","code":{"text":"x"},"author":{"reference":"` +
				typ + `/o"}}`
			for _, c := range []struct {
				line  string
				whole bool
			}{{named, kind != release.ForeignIdentifier}, {free, true}} {
				got := released(t, reviewOf(t, everything(ehi.HIV), false, withheld, c.line, user),
					c.line)
				switch out := strings.Join(got, ""); {
				case c.whole && out != c.line && !strings.Contains(path, "detail."):
					t.Errorf("%s.%s: %s became %s", typ, path, c.line, out)
				case !c.whole && strings.Contains(out, "SECRET"):
					t.Errorf("%s.%s: %s became %s", typ, path, c.line, out)
				}
			}
		}
	})
}

// everything returns a form that requests everything except some authorizations.
func everything(but ...ehi.Authorization) *ehi.ReleaseForm {
	f := form()
	for _, c := range ehi.Categories() {
		f.Parameters[c.Key] = ehi.Choice{}
	}
	for _, a := range ehi.Authorizations() {
		if !slices.Contains(but, a.Key) {
			f.Authorize(a.Key)
		}
	}
	return f
}

// EHI-9: the entry of a bill that names a withheld bill only by number is removed with the
// elements beside it.
func TestEHI9ARelatedBillIsKnownByItsNumber(t *testing.T) {
	withheld := `{"resourceType":"Claim","id":"w",` + hivLabel +
		`,"identifier":[{"value":"SECRET-7"}]}`
	unticked := `{"resourceType":"Condition","id":"w","identifier":[{"value":"SECRET-7"}]}`
	other := `{"reference":{"value":"FREE-7"},"relationship":{"text":"KEPT"}}`
	for _, typ := range []string{"Claim", "ExplanationOfBenefit"} {
		line := `{"resourceType":"` + typ +
			`","id":"o","related":[{"reference":{"system":"urn:x","value":"SECRET-7"},` +
			`"relationship":{"text":"TOLD"}},` + other + `]}`
		for _, c := range []struct{ by, want string }{
			{withheld, `{"resourceType":"` + typ + `","id":"o","related":[` + other + `]}`},
			{
				unticked,
				`{"resourceType":"` + typ + `","id":"o","related":[{"reference":` + masked +
					`,"relationship":{"text":"TOLD"}},` + other + `]}`,
			},
		} {
			for _, resolved := range []bool{false, true} {
				got := released(t, reviewOf(t, form(ehi.Billing), resolved, c.by, line), line)
				if len(got) != 1 || got[0] != c.want {
					t.Errorf("%s became %v, want %s", line, got, c.want)
				}
			}
		}
	}
}

// EHI-9: a document that only signs, appends or replaces a withheld one is withheld, even if it
// names that one by an identifier.
func TestEHI9ADocumentStaysWithTheOneThatItNamesByItsIdentifier(t *testing.T) {
	withheld := `{"resourceType":"Composition","id":"w",` + hivLabel +
		`,"identifier":{"value":"SECRET-7"}}`
	line := `{"resourceType":"Composition","id":"o","title":"TOLD",` +
		`"relatesTo":[{"code":"appends","targetIdentifier":{"value":"%s"}}]}`
	for value, goes := range map[string]bool{"SECRET-7": false, "FREE-7": true} {
		line := fmt.Sprintf(line, value)
		got := released(t, reviewOf(t, form(ehi.MedicalRecord), true, withheld, line), line)
		if len(got) == 1 != goes {
			t.Errorf("%s became %v", line, got)
		}
	}
}

// EHI-9: a resource that shares an identifier with something withheld is not a copy of it, and
// is released with the identifier.
func TestEHI9SharedIdentifiersMakeNoCopies(t *testing.T) {
	withheld := `{"resourceType":"ServiceRequest","id":"w",` + hivLabel +
		`,"requisition":{"value":"R-7"}}`
	goes := `{"resourceType":"ServiceRequest","id":"o","requisition":{"value":"R-7"}}`
	bundle := `{"resourceType":"Bundle","id":"b","entry":[{"resource":` + goes + `}]}`
	holder := `{"resourceType":"Parameters","id":"b","parameter":[{"part":[{"resource":` + goes +
		`}]}]}`
	for _, line := range []string{goes, bundle, holder} {
		got := released(t, reviewOf(t, form(ehi.MedicalRecord), true, withheld, line), line)
		if len(got) != 1 || got[0] != line {
			t.Errorf("%s became %v", line, got)
		}
	}
}

// ownIdentifiers say why an Identifier of R4 with another name, or inside an element, is the
// resource's own.
var ownIdentifiers = map[string]string{
	"it is a further name of the resource": `CatalogEntry.additionalIdentifier ` +
		`DocumentManifest.masterIdentifier
		DocumentReference.masterIdentifier PaymentReconciliation.paymentIdentifier Claim.insurance.identifier`,
	"it is a part of the resource": `Contract.term.identifier Contract.term.offer.identifier
		Contract.term.asset.valuedItem.identifier Device.version.component InsurancePlan.plan.identifier
		PaymentReconciliation.detail.identifier Practitioner.qualification.identifier
		Specimen.container.identifier Substance.instance.identifier`,
}

// EHI-9: for each Identifier of R4, in each type of a patient's record, it is defined whether it
// identifies the resource itself.
func TestEHI9EveryIdentifierOfR4IsDecidedUpon(t *testing.T) {
	own := map[string]bool{}
	for _, paths := range ownIdentifiers {
		for _, path := range strings.Fields(paths) {
			own[path] = true
		}
	}
	eachIdentifier(func(typ, path string, kind release.IdentifierKind) {
		if strings.HasPrefix(typ, "MedicinalProduct") ||
			strings.HasPrefix(typ, "Substance") && typ != "Substance" {
			return // they identify a product
		}
		if is := path == "identifier" || own[typ+"."+path]; is != (kind == release.OwnIdentifier) {
			t.Errorf("%s.%s: is it what the resource is called?", typ, path)
		}
	})
}
