package release

import (
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-9: a sensitive code withholds its resource in any shape, and a harmless one does not.
func TestEHI9CodesCountInEveryShape(t *testing.T) {
	const icd, sct = `"system":"http://hl7.org/fhir/sid/icd-10-cm"`,
		`"system":"http://snomed.info/sct"`
	shapes := []struct{ keeps, goes string }{
		{
			`"code":{"coding":[{` + sct + `,"code":86406008}]}`,
			`"code":{"coding":[{` + sct + `,"code":86406009}]}`,
		},
		{
			`"code":{"coding":[{` + sct + `,"code":86406008.0}]}`,
			`"code":{"coding":[{` + sct + `,"code":1.5}]}`,
		},
		{
			`"code":{"coding":[{` + sct + `,"code":8.6406008E7}]}`,
			`"code":{"coding":[{` + sct + `,"code":null}]}`,
		},
		{`"category":[{"coding":[{"code":86406008}]}]`, `"category":[{"coding":[{"code":true}]}]`},
		{
			`"code":{"coding":[{` + icd + `,"code":"B20","code":"J45"}]}`,
			`"code":{"coding":[{` + icd + `,"code":"J45","code":"J45"}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":"J45","code":"B20"}]}`,
			`"code":{"coding":[{` + icd + `,"code":"","code":"J45"}]}`,
		},
		{
			`"code":{"coding":[{` + sct + `,"code":"86406008","system":"http://x"}]}`,
			`"code":{"coding":[{"system":"http://x","code":"86406008"}]}`,
		},
		{
			`"code":{"coding":[{"system":{"value":"s"},"code":"B20"}]}`,
			`"code":{"coding":[{"system":{"value":"s"},"code":"J45"}]}`,
		},
		{
			`"code":{"coding":[{"system":["s"],"code":"B20"}]}`,
			`"code":{"coding":[{"system":5,"code":"J45"}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":{"value":"B20"}}]}`,
			`"code":{"coding":[{` + icd + `,"code":{"value":"J45"}}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":{"a":{"b":["B20"]}}}]}`,
			`"code":{"coding":[{` + icd + `,"code":{"a":{"b":["J45"]}}}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":["J45","B20"]}]}`,
			`"code":{"coding":[{` + icd + `,"code":["J45"]}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":"J45"},"B20"]}`,
			`"code":{"coding":[{` + icd + `,"code":"J45"},"J45"]}`,
		},
		{`"code":{"coding":"B20"}`, `"code":{"coding":"J45"}`},
		{
			`"code":{"coding":[[{` + icd + `,"code":"B20"}]]}`,
			`"code":{"coding":[[{` + icd + `,"code":"J45"}]]}`,
		},
		{`"code":{"coding":[],"value":"B20"}`, `"code":{"coding":[],"value":"J45"}`},
		{`"code":{"text":"x","#text":"B20"}`, `"code":{"text":"x","#text":"J45"}`},
		{`"code":{` + icd + `,"code":"B20"}`, `"code":{` + icd + `,"code":"J45"}`},
		{`"code":{"value":86406008}`, `"code":{"value":86406009}`},
		{`"code":["B20"]`, `"code":["J45"]`},
		{`"code":[{"text":"x"},{"value":"B20"}]`, `"code":[{"text":"x"},{"value":"J45"}]`},
		{`"valueCodeableConcept":"B20"`, `"valueCodeableConcept":"J45"`},
		{`"reasonCode":["B20"]`, `"reasonCode":["J45"]`},
		{
			`"reasonCode":[{"coding":[{` + icd + `,"code":"B20"}]}]`,
			`"reasonCode":[{"coding":[{` + icd + `,"code":"J45"}]}]`,
		},
		{
			`"extension":[{"url":"x","valueCode":"B20"}]`,
			`"extension":[{"url":"x","valueCode":"J45"}]`,
		},
		{`"extension":[{"url":"x","valueCoding":{"value":"B20"}}]`,
			`"extension":[{"url":"x","valueCoding":{"display":"J45"}}]`},
		{`"meta":{"security":"HIV"}`, `"meta":{"security":"N"}`},
		{`"meta":{"security":["N","HIV"]}`, `"meta":{"security":["N"]}`},
		{`"meta":{"security":{"value":"HIV"}}`, `"meta":{"security":{"value":"N"}}`},
		{
			`"meta":{"security":[{"code":{"value":"HIV"}}]}`,
			`"meta":{"security":[{"code":{"value":"N"}}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":"Ｂ２０"}]}`,
			`"code":{"coding":[{` + icd + `,"code":"Ｊ４５"}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":"\uff22\uff1220"}]}`,
			`"code":{"coding":[{` + icd + `,"code":"\uff2a45"}]}`,
		},
		{`"meta":{"security":[{"code":"ＨＩＶ"}]}`, `"meta":{"security":[{"code":"Ｎ"}]}`},
		{`"meta":{"Security":[{"code":"HIV"}]}`, `"meta":{"Security":[{"code":"N"}]}`},
		{`"meta":{"SECURITY":[{"display":"HIV"}]}`, `"meta":{"SECURITY":[{"display":"N"}]}`},
		{`"meta":{"_security":[{"code":"HIV"}]}`, `"meta":{"_security":[{"code":"N"}]}`},
		{
			`"meta":{"_security":[{"extension":[{"url":"x","valueCode":"HIV"}]}]}`,
			`"meta":{"_security":[{"extension":[{"url":"x","valueCode":"N"}]}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"CODE":"B20"}]}`,
			`"code":{"coding":[{` + icd + `,"CODE":"J45"}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":"X85-Y09"}]}`,
			`"code":{"coding":[{` + icd + `,"code":"J40-J47"}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"code":"X00-Y99"}]}`,
			`"code":{"coding":[{` + icd + `,"code":"I10 - I16.9"}]}`,
		},
		{`"code":{"coding":[{"code":"F01–F99"}]}`, `"code":{"coding":[{"code":"J00–J99"}]}`},
		{
			`"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-9-cm","code":"290-319"}]}`,
			`"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-9-cm","code":"460-519"}]}`,
		},
		{
			`"code":{"coding":[{` + icd + `,"display":"B20 HIV disease"}]}`,
			`"code":{"coding":[{` + icd + `,"display":"J45 Asthma"}]}`,
		},
		{`"code":{"coding":[{"display":"HIV 1 Ab 7918-6","system":"http://loinc.org"}]}`,
			`"code":{"coding":[{"display":"Hemoglobin 718-7","system":"http://loinc.org"}]}`},
		{`"code":{"coding":[{"display":"86406008",` + sct + `}]}`,
			`"code":{"coding":[{"display":"86406009","system":"urn:x"}]}`},
		{
			`"code":{"coding":[{"system":"http://snomed.info/sct/86406008"}]}`,
			`"code":{"coding":[{"system":"http://snomed.info/sct/86406009"}]}`,
		},
		{
			`"valueCoding":{"system":"http://snomed.info/sct#86406008"}`,
			`"valueCoding":{"system":"http://snomed.info/sct#86406009"}`,
		},
		{
			`"code":{"coding":[{"system":"2.16.840.1.113883.6.90","code":"B20"}]}`,
			`"code":{"coding":[{"system":"2.16.840.1.113883.6.90","code":"J45"}]}`,
		},
		{`"code" : { "coding" : [ { "code" : "J45" } , "B20" ] }`,
			`"code" : { "coding" : [ { "code" : "J45" } , { } ] , "text" : "J45" }`},
		{
			`"code":{"coding":[{"code":"J45","display":"\"B20\""}],"x":"B20"}`,
			`"address":[{"postalCode":"B20"}]`,
		},
	}
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	form := &ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{}}
	for _, c := range ehi.Categories() {
		form.Parameters[c.Key] = ehi.Choice{}
	}
	p, err := rules.Policy(form, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for _, shape := range shapes {
		for field, goes := range map[string]bool{shape.keeps: false, shape.goes: true} {
			for _, typ := range []string{"Condition", "MedicationRequest", "Observation"} {
				line := []byte(`{"resourceType":"` + typ + `","id":"c",` + field + `}`)
				for _, alone := range []bool{false, true} {
					compare(p, alone).check(t, line)
				}
				_, ok, err := p.Filter().Releaser().Release(line)
				if err != nil || ok && !p.everything && !goes {
					t.Errorf("a population's %s goes: %v, %v", line, ok, err)
				}
				review := Decided(t, p, false, string(line))
				if _, ok, err := review.Releaser().Release(line); ok != goes || err != nil {
					t.Errorf("%s goes: %v, want %v (%v)", line, ok, goes, err)
				}
			}
		}
	}
}

// A number counts as an identifier.
func TestEHI9IdentifiersCountAsNumbers(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	p, err := rules.Policy(&ehi.ReleaseForm{Parameters: map[ehi.Category]ehi.Choice{
		ehi.MedicalRecord: {},
	}}, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range [][2]string{{`4711`, `4711`}, {`"4711"`, `4711`}, {`4711`, `"4711"`}} {
		withheld := `{"resourceType":"Claim","id":"c","identifier":[{"value":` + values[0] + `}]}`
		line := `{"resourceType":"Basic","id":"b","author":{"identifier":{"value":` + values[1] +
			`}}}`
		review := Decided(t, p, false, withheld, line)
		out, ok, err := review.Releaser().Release([]byte(line))
		if !ok || err != nil || string(out) == line {
			t.Errorf("%s became %s: %v, %v", line, out, ok, err)
		}
	}
}
