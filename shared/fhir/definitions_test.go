package fhir_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/shared/fhir"
)

// IN-2: who a resource belongs to is what R4's CompartmentDefinition and search parameters say.
func TestTheCompartmentFollowsThePublishedDefinitions(t *testing.T) {
	for typ, want := range map[string][]string{
		"SupplyRequest":    {"deliverTo"},
		"Task":             {"for", "focus"},
		"AuditEvent":       {"agent.who", "entity.what"},
		"Coverage":         {"policyHolder", "subscriber", "beneficiary", "payor"},
		"RequestGroup":     {"subject", "action.participant"},
		"ImagingStudy":     {"subject"},
		"Device":           {"patient"},
		"Contract":         {"subject"},
		"GuidanceResponse": {"subject"},
		"Patient":          nil,
		"Group":            nil,
		"Linkage":          nil,
		"Binary":           nil,
	} {
		if d := cmp.Diff(want, fhir.CompartmentPaths(typ)); d != "" {
			t.Errorf("%s: %s", typ, d)
		}
	}
	members := 0
	for _, typ := range fhir.Types() {
		if fhir.CompartmentPaths(typ) != nil {
			members++
		}
	}
	// The 67 of the CompartmentDefinition without Patient and Group, and three that have a
	// search parameter "patient".
	if members != 68 {
		t.Errorf("%d types belong to patients", members)
	}
}

func TestTypesAreThoseOfR4(t *testing.T) {
	if n := len(fhir.Types()); n != 146 {
		t.Errorf("%d types", n)
	}
	for _, typ := range []string{
		"Resource", "DomainResource", "MetadataResource", "SubscriptionStatus", "patient", "",
	} {
		if fhir.KnownType(typ) {
			t.Errorf("%q is taken for a resource type of R4", typ)
		}
	}
}

func TestElementsAreFoundAsFields(t *testing.T) {
	if d := cmp.Diff(
		[]string{"effectiveDateTime", "effectivePeriod", "effectiveTiming", "effectiveInstant"},
		fhir.Fields("Observation", "effective")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"code"}, fhir.Fields("Observation", "code")); d != "" {
		t.Error(d)
	}
	if !slices.Contains(fhir.MandatoryFields("DeviceRequest"), "codeReference") {
		t.Error("a DeviceRequest without its code")
	}
	for name, want := range map[string]bool{
		"presentedForm":   true,
		"photo":           true,
		"valueAttachment": true,
		"code":            false,
	} {
		if fhir.AttachmentField(name) != want {
			t.Errorf("Attachment %s: %v", name, !want)
		}
	}
}

func TestElementsAreThoseOfR4(t *testing.T) {
	for _, c := range []struct {
		typ, element string
		known        bool
	}{
		{"Patient", "birthDate", true}, {"Patient", "id", true}, {"Patient", "text", true},
		{"Patient", "deceased", true},
		{"Patient", "deceasedBoolean", true},
		{"Patient", "deceasedString", false},
		{"Patient", "nonsense", false}, {"Patient", "code", false}, {"Patient", "BirthDate", false},
		{"Patient", "DomainResource", false},
		{"Patient", "", false},
		{"Observation", "value", true},
		{"Binary", "data", true}, {"Binary", "language", true}, {"Binary", "text", false},
		{"Nope", "id", false}, {"", "id", false},
	} {
		if got := fhir.KnownElement(c.typ, c.element); got != c.known {
			t.Errorf("%s.%s: %v", c.typ, c.element, got)
		}
	}
	for _, typ := range fhir.Types() {
		if !fhir.KnownElement(typ, "meta") {
			t.Errorf("%s has no meta", typ)
		}
		for _, name := range fhir.Elements(typ) {
			if !fhir.KnownElement(typ, name) {
				t.Errorf("%s has no %s, which is among its elements", typ, name)
			}
		}
		if !slices.Contains(fhir.Elements(typ), "meta") {
			t.Errorf("meta is not among the elements of %s", typ)
		}
		for _, name := range slices.Concat(fhir.MandatoryFields(typ), fhir.ModifierFields(typ)) {
			if !fhir.KnownElement(typ, name) {
				t.Errorf("%s has no %s", typ, name)
			}
		}
	}
}

func TestSearchParametersComeFromTheDefinitions(t *testing.T) {
	for _, c := range []struct {
		typ, name string
		want      fhir.SearchParameter
	}{
		{"Patient", "birthdate", fhir.SearchParameter{Name: "birthdate", Kind: fhir.DateParameter,
			Fields: []fhir.ParameterField{{Path: "birthDate", Type: "date"}}}},
		{"Patient", "phone", fhir.SearchParameter{Name: "phone", Kind: fhir.TokenParameter,
			Fields: []fhir.ParameterField{
				{Path: "telecom", Type: "ContactPoint", System: "phone"},
			}}},
		{"Flag", "patient", fhir.SearchParameter{Name: "patient", Kind: fhir.ReferenceParameter,
			Fields: []fhir.ParameterField{
				{Path: "subject", Type: "Reference", Target: "Patient"},
			}}},
		{
			"Observation",
			"_lastUpdated",
			fhir.SearchParameter{Name: "_lastUpdated", Kind: fhir.DateParameter,
				Fields: []fhir.ParameterField{{Path: "meta.lastUpdated", Type: "instant"}}},
		},
		{
			"Condition",
			"onset-date",
			fhir.SearchParameter{Name: "onset-date", Kind: fhir.DateParameter,
				Fields: []fhir.ParameterField{
					{Path: "onsetDateTime", Type: "dateTime"},
					{Path: "onsetPeriod", Type: "Period"},
				}},
		},
	} {
		got, ok := fhir.FindSearchParameter(c.typ, c.name)
		if d := cmp.Diff(c.want, got); d != "" || !ok {
			t.Errorf("%s?%s: %s", c.typ, c.name, d)
		}
	}
	for _, c := range [][2]string{
		{"Observation", "onset-date"},
		{"Observation", "code-value-quantity"},
		{"Nothing", "_id"},
	} {
		if p, ok := fhir.FindSearchParameter(c[0], c[1]); ok {
			t.Errorf("%s?%s: %+v", c[0], c[1], p)
		}
	}
}

func TestAPlainPathRepeatsNothing(t *testing.T) {
	for path, want := range map[string]string{
		"": "", "item": "item", "item.answerValueSet": "item.answerValueSet",
		"item.item.item.answerValueSet":               "item.answerValueSet",
		"link.target.link.target.profile":             "link.target.profile",
		"link.target.link.target.link.target.profile": "link.target.profile",
		"group.rule.rule.rule.source":                 "group.rule.source",
		"a.b.a":                                       "a.b.a",
	} {
		if got := fhir.PlainPath(path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}
