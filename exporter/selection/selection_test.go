package selection_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/selection"
	"ehi-server/shared/ehi"
)

// BULK-1: _elements keeps what R4 calls mandatory, what modifies the meaning, and each name of a
// choice.
func TestBULK1ElementsKeepWhatTheRestNeeds(t *testing.T) {
	const tag = `"meta":{"tag":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}]}`
	for _, c := range []struct{ asked, typ, line, want string }{
		{
			"birthDate",
			"Patient",
			`{"resourceType":"Patient","id":"p","implicitRules":"http://x",` +
				`"modifierExtension":[{"url":"m"}],"name":[{"family":"F"}],"birthDate":"1990",` +
				`"_birthDate":{"id":"b"},"active":false}`,
			`{"resourceType":"Patient","id":"p","implicitRules":"http://x",` +
				`"modifierExtension":[{"url":"m"}],"birthDate":"1990","_birthDate":{"id":"b"},` +
				`"active":false,` + tag + `}`,
		},
		{
			"id",
			"Immunization",
			`{"resourceType":"Immunization","id":"i","status":"completed",` +
				`"vaccineCode":{"text":"v"},"patient":{"reference":"Patient/p"},` +
				`"occurrenceString":"in 1999","lotNumber":"L"}`,
			`{"resourceType":"Immunization","id":"i","status":"completed",` +
				`"vaccineCode":{"text":"v"},"patient":{"reference":"Patient/p"},` +
				`"occurrenceString":"in 1999",` + tag + `}`,
		},
		{
			"MedicationRequest.note",
			"MedicationRequest",
			`{"resourceType":"MedicationRequest","id":"m","status":"active","intent":"order",` +
				`"doNotPerform":true,"medicationReference":{"reference":"Medication/1"},` +
				`"subject":{},"note":[{"text":"n"}],"authoredOn":"2020"}`,
			`{"resourceType":"MedicationRequest","id":"m","status":"active","intent":"order",` +
				`"doNotPerform":true,"medicationReference":{"reference":"Medication/1"},` +
				`"subject":{},"note":[{"text":"n"}],` + tag + `}`,
		},
		{
			"value",
			"Observation",
			`{"resourceType":"Observation","id":"o","status":"final","code":{},` +
				`"valueQuantity":{"value":1.0},"valueless":1,"issued":"2020-01-01T00:00:00Z"}`,
			`{"resourceType":"Observation","id":"o","status":"final","code":{},` +
				`"valueQuantity":{"value":1.0},` + tag + `}`,
		},
		{
			"Patient.name",
			"Observation",
			`{"resourceType":"Observation","id":"o"}`,
			`{"resourceType":"Observation","id":"o"}`,
		},
	} {
		got, ok, err := selection.New(ehi.KickOff{Elements: []string{c.asked}}).Apply(nil, c.typ,
			[]byte(c.line))
		if d := cmp.Diff(c.want, string(got)); d != "" || !ok || err != nil {
			t.Errorf("_elements=%s: %s %v", c.asked, d, err)
		}
	}
}

// IN-6: a line may have space between its tokens; what becomes of it is JSON.
func TestIN6ElementsOfALineWithSpace(t *testing.T) {
	const tag = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue",` +
		`"code":"SUBSETTED"}`
	for meta, want := range map[string]string{
		`{ }`:                           `{"tag":[` + tag + `] }`,
		`{"tag": [ ] }`:                 `{"tag": [` + tag + ` ] }`,
		`{ "tag" : [ {"code": "x"} ] }`: `{ "tag" : [` + tag + `, {"code": "x"} ] }`,
		`{ "source": "s", "versionId":"1"}`: `{"tag":[` + tag +
			`], "source": "s", "versionId":"1"}`,
	} {
		line := `{ "resourceType" : "Basic", "id": "b", "meta": ` + meta +
			`, "code" : {"text": "c"}, "x": 1 }`
		got, ok, err := selection.New(ehi.KickOff{Elements: []string{"id"}}).Apply(nil, "Basic",
			[]byte(line))
		want = `{"resourceType":"Basic","id":"b","meta":` + want + `,"code":{"text": "c"}}`
		if d := cmp.Diff(want, string(got)); d != "" || !ok || err != nil || !json.Valid(got) {
			t.Errorf("meta %s: %s %v", meta, d, err)
		}
	}
}
