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

// nested puts a value at a path, each name of which holds a list.
func nested(path, value string) string {
	names := strings.Split(path, ".")
	for _, name := range slices.Backward(names[1:]) {
		value = `{"` + name + `":[` + value + `]}`
	}
	return `"` + names[0] + `":[` + value + `]`
}

// whole puts an object at a path, as R4 has it: its field holds no list.
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

// EHI-9: a withheld resource is known by each Identifier that R4 gives it, whatever its element is
// called: a Reference by its value is masked, and what is about it alone stays.
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

// What only is not ticked is known by them as well: of it the Reference is masked.
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

// EHI-9: an Identifier that names another resource is masked where it names one that is
// withheld, whatever its element is called, and the entry that it stands in goes. What a
// resource itself is called stays, and so does one that names nothing withheld.
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

// everything is a form that asks for all there is, but for what some authorizations are needed for.
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

// EHI-9: the entry of a bill that names a withheld one by a number alone goes, with what stands
// beside that.
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

// EHI-9: a document that only signs, appends or replaces a withheld one stays, also where it
// names that by an identifier.
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

// EHI-9: what is called together with something withheld is no copy of it, and goes with that name.
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

// ownIdentifiers say why an Identifier of R4 that is not called identifier, or stands within an
// element, is the resource's own.
var ownIdentifiers = map[string]string{
	"it is a further name of the resource": `CatalogEntry.additionalIdentifier ` +
		`DocumentManifest.masterIdentifier
		DocumentReference.masterIdentifier PaymentReconciliation.paymentIdentifier Claim.insurance.identifier`,
	"it is a part of the resource": `Contract.term.identifier Contract.term.offer.identifier
		Contract.term.asset.valuedItem.identifier Device.version.component InsurancePlan.plan.identifier
		PaymentReconciliation.detail.identifier Practitioner.qualification.identifier
		Specimen.container.identifier Substance.instance.identifier`,
}

// EHI-9: of each element of R4 that is an Identifier, in each type of a patient's record, it is
// decided whether it is what the resource is called.
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
			return // they say what a product is
		}
		if is := path == "identifier" || own[typ+"."+path]; is != (kind == release.OwnIdentifier) {
			t.Errorf("%s.%s: is it what the resource is called?", typ, path)
		}
	})
}
