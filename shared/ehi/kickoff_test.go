package ehi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// asked makes parameters of name=value pairs.
func asked(level ehi.Level, op ehi.Operation, lenient bool, pairs ...string) ehi.Asked {
	a := ehi.Asked{
		Level:     level,
		Operation: op,
		Lenient:   lenient,
		Own:       func(base string) bool { return base == "http://own.test/fhir" },
	}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		a.Parameters = append(a.Parameters, fhir.Parameter{Name: name, Value: value})
	}
	return a
}

func texts(k ehi.KickOff) string {
	var out strings.Builder
	for _, n := range k.Notices() {
		fmt.Fprintf(&out, "%s: %s\n", n.Code, n.Text)
	}
	return out.String()
}

// EHI-6, BULK-1: what is not known or not supported is refused, or by lenient handling left out
// alone and told, each item once.
func TestEHI6WhatIsIgnoredIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		pairs []string
		told  []string // parts of the notices, in order
		kept  func(k ehi.KickOff) bool
	}{
		"an unknown type among known ones": {
			[]string{"_type=Patient,Nope,Observation"},
			[]string{`"Nope"`},
			func(k ehi.KickOff) bool {
				return slices.Equal(k.Types, []string{"Patient", "Observation"})
			},
		},
		"two unknown types, repeated": {
			[]string{"_type=Nope", "_type=Patient", "_type=patient"},
			[]string{`"Nope"`, `"patient"`},
			func(k ehi.KickOff) bool { return slices.Equal(k.Types, []string{"Patient"}) },
		},
		"an unknown parameter": {
			[]string{"what=ever", "_type=Patient"},
			[]string{`"what"`},
			func(k ehi.KickOff) bool { return len(k.Types) == 1 },
		},
		"an unknown search parameter": {
			[]string{"_typeFilter=Observation?nope=x,Condition?category=a"},
			[]string{"nope"},
			func(k ehi.KickOff) bool {
				return len(k.TypeFilters) == 1 && k.TypeFilters[0].Type == "Condition"
			},
		},
		"a search of no type": {
			[]string{"_typeFilter=Nope?x=y"},
			[]string{"Nope"},
			func(k ehi.KickOff) bool { return len(k.TypeFilters) == 0 },
		},
		"an alternative of searches": {
			[]string{"_typeFilter=Observation?nope=x", "_typeFilter=Observation?status=final"},
			[]string{"nope"},
			func(k ehi.KickOff) bool { return len(k.TypeFilters) == 0 },
		},
		"a search of a type that is left out": {
			[]string{"_type=Patient", "_typeFilter=Observation?status=final,Patient?gender=male"},
			[]string{"Observation"},
			func(k ehi.KickOff) bool {
				return len(k.TypeFilters) == 1 && k.TypeFilters[0].Type == "Patient"
			},
		},
		"associated data": {
			[]string{
				"includeAssociatedData=LatestProvenanceResources,RelevantProvenanceResources,_mine",
			},
			[]string{"_mine"},
			func(k ehi.KickOff) bool { return k.Provenance },
		},
		"the latest Provenance": {
			[]string{"includeAssociatedData=LatestProvenanceResources"},
			[]string{"Latest"},
			func(k ehi.KickOff) bool { return !k.Provenance },
		},
		"elements": {
			[]string{"_elements=id,Patient.name.family,Nope.id"},
			[]string{"Patient.name.family", "Nope.id"},
			func(k ehi.KickOff) bool { return slices.Equal(k.Elements, []string{"id"}) },
		},
		"elements that R4 does not have": {
			[]string{
				"_elements=nonsense,Patient.nonsense,Patient.code,Patient.name,value[x]," +
					"Observation.valueQuantity,Patient.",
			},
			[]string{`"nonsense"`, `"Patient.nonsense"`, `"Patient.code"`, `"Patient."`},
			func(k ehi.KickOff) bool {
				return slices.Equal(k.Elements, []string{
					"Patient.name", "value", "Observation.valueQuantity",
				})
			},
		},
		"another organization": {
			[]string{"organizeOutputBy=Encounter"},
			[]string{"Encounter"},
			func(k ehi.KickOff) bool { return !k.ByPatient },
		},
		"a compression": {
			[]string{"_compression=brotli"},
			[]string{"brotli"},
			func(k ehi.KickOff) bool { return k.Compression == "" },
		},
		"another server's patient": {
			[]string{"patient=Patient/1,http://other.test/fhir/Patient/2"},
			[]string{"other.test"},
			func(k ehi.KickOff) bool { return slices.Equal(k.Patients, []string{"1"}) },
		},
	} {
		if _, err := ehi.ParseKickOff(asked(ehi.AllPatients, ehi.BulkExport, false,
			c.pairs...)); ehi.CodeOf(err) != ehi.Unsupported {
			t.Errorf("%s: strictly %v", name, err)
		}
		k, err := ehi.ParseKickOff(asked(ehi.AllPatients, ehi.BulkExport, true, c.pairs...))
		if err != nil || !c.kept(k) || len(k.Notices()) != len(c.told) {
			t.Errorf("%s: %+v, %v", name, k, err)
			continue
		}
		for i, part := range c.told {
			if n := k.Notices()[i]; n.Code != ehi.Unsupported || !strings.Contains(n.Text, part) {
				t.Errorf("%s: told %+v, want %s", name, n, part)
			}
		}
	}
}

// BULK-1: of values that conflict the least restrictive one counts.
func TestBULK1TheLargerSetOfProvenanceCounts(t *testing.T) {
	for _, pairs := range [][]string{
		{"includeAssociatedData=LatestProvenanceResources,RelevantProvenanceResources"},
		{
			"includeAssociatedData=RelevantProvenanceResources",
			"includeAssociatedData=LatestProvenanceResources",
		},
	} {
		k, err := ehi.ParseKickOff(asked(ehi.AllPatients, ehi.BulkExport, false, pairs...))
		if err != nil || !k.Provenance || len(k.Notices()) > 0 {
			t.Errorf("%v: %+v, %v", pairs, k, err)
		}
	}
}

// BULK-1: the format of an export in every spelling of a media type.
func TestBULK1FormatsOfAnExport(t *testing.T) {
	for value, ok := range map[string]bool{
		"ndjson":                  true,
		"NDJSON":                  true,
		"application/fhir+ndjson": true,
		"Application/FHIR+NDJSON": true,
		"application/fhir ndjson": true,
		"application/ndjson":      true,
		"application/json":        false,
		"csv":                     false,
		"application/fhir+ndjson; fhirVersion=4.0": true,
		"application/ndjson;fhirversion=\"4.0.1\"": true,
		"ndjson;": false,
		"application/fhir+ndjson; fhirVersion=5.0": false,
		"application/fhir+ndjson; charset=utf-8":   false,
	} {
		_, err := ehi.ParseKickOff(
			asked(ehi.AllPatients, ehi.BulkExport, false, "_outputFormat="+value))
		if (err == nil) != ok {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// A request is never taken for a wider one: what is malformed is refused by lenient handling
// too, and so is a list of which nothing is left.
func TestEHI6LenientHandlingNeverWidens(t *testing.T) {
	for _, pair := range []string{
		"_type=Nope",
		"_type=",
		"_type=,",
		"patient=http://other.test/fhir/Patient/1",
		"patient=Observation/1",
		"patient=1",
		"patient=Patient/a b",
		"patient=",
		"_since=yesterday",
		"_until=2020-13-01",
		"_outputFormat=text/csv",
		"allowPartialManifests=maybe",
		"_typeFilter=nothing",
	} {
		k, err := ehi.ParseKickOff(asked(ehi.AllPatients, ehi.BulkExport, true, pair))
		if ehi.CodeOf(err) != ehi.Invalid {
			t.Errorf("%s: %+v, %v", pair, k, err)
		}
	}
	for _, pair := range []string{"category=nope", "from=soon"} {
		k, err := ehi.ParseKickOff(asked(ehi.OnePatient, ehi.EHIExport, true, pair))
		if ehi.CodeOf(err) != ehi.Invalid {
			t.Errorf("%s: %+v, %v", pair, k, err)
		}
	}
	k, err := ehi.ParseKickOff(asked(ehi.System, ehi.BulkExport, true, "patient=Patient/1"))
	if ehi.CodeOf(err) != ehi.Invalid {
		t.Errorf("patients of the system: %+v, %v", k, err)
	}
	if k, err := ehi.ParseKickOff(asked(ehi.AllPatients, ehi.BulkExport, false,
		"_since=2020-01-01T00:00:00Z",
		"_since=2021-01-01T00:00:00Z")); ehi.CodeOf(err) != ehi.Invalid {
		t.Errorf("two instants: %+v, %v", k, err)
	}
}

// BULK-1: a patient is named by any reference of this server, and counts once.
func TestBULK1PatientsAreNamedByAnyOwnReference(t *testing.T) {
	k, err := ehi.ParseKickOff(asked(ehi.AllPatients, ehi.BulkExport, false,
		"patient=Patient/1", "patient=http://own.test/fhir/Patient/2,Patient/1",
		"patient=Patient/3/_history/4", "patient=http://own.test/fhir/Patient/1/_history/1",
		"patient=Patient/4, Patient/4"))
	if err != nil || !slices.Equal(k.Patients, []string{"1", "2", "3", "4"}) {
		t.Errorf("%v, %v", k.Patients, err)
	}
}

// However much is ignored, a job's record stays small, and nothing is passed over without a word.
func TestEHI6NoticesAreBounded(t *testing.T) {
	var pairs []string
	for n := range 500 {
		pairs = append(pairs, fmt.Sprintf("%s%d=x", strings.Repeat("long", 100), n))
	}
	k, err := ehi.ParseKickOff(asked(ehi.OnePatient, ehi.EHIExport, true, pairs...))
	if text := texts(k); err != nil || len(text) > 8<<10 || !strings.Contains(text, "480 more") {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// SMART-7: of the types that were asked for the token's stay, the others are told.
func TestSMART7TypesBeyondTheScopesAreTold(t *testing.T) {
	granted := []string{"Patient", "Observation"}
	limit := func(k ehi.KickOff) (ehi.KickOff, error) {
		err := k.LimitTypes(func(typ string) bool { return slices.Contains(granted, typ) }, granted)
		return k, err
	}
	k, err := limit(ehi.KickOff{Types: []string{"Patient", "Claim", "Condition"}, Provenance: true})
	if err != nil || k.Provenance || !slices.Equal(k.Types, []string{"Patient"}) ||
		len(k.Notices()) != 1 || k.Notices()[0].Code != ehi.Suppressed ||
		!strings.HasSuffix(k.Notices()[0].Text, ": Claim, Condition, Provenance") {
		t.Errorf("%+v, %v", k, err)
	}
	k, err = limit(ehi.KickOff{TypeFilters: []fhir.Search{{Type: "Claim"}, {Type: "Patient"}}})
	if err != nil || len(k.TypeFilters) != 1 || len(k.Notices()) != 1 ||
		!strings.HasSuffix(k.Notices()[0].Text, ": Claim") {
		t.Errorf("%+v, %v", k, err)
	}
	if k, err = limit(ehi.KickOff{}); err != nil || !slices.Equal(k.Types, granted) ||
		len(k.Notices()) != 0 {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err = limit(ehi.KickOff{Types: []string{"Claim"}}); ehi.CodeOf(err) != ehi.Forbidden {
		t.Error(err)
	}
	j := ehi.Job{KickOff: ehi.KickOff{Patients: []string{"a", "b", "c"}}}
	if j.NoteAbsent([]string{"c", "a"}); !slices.Equal(j.AbsentPatients(), []string{"a", "c"}) {
		t.Errorf("absent %v", j.AbsentPatients())
	}
	if j.NoteAbsent(nil); j.AbsentPatients() != nil {
		t.Errorf("absent %v", j.AbsentPatients())
	}
}
