package fhir_test

import (
	"testing"

	"ehi-server/shared/fhir"
)

// BULK-1: searches of _typeFilter look where R4's search parameters do, in the way of their type.
func TestSearchesFollowTheDefinitions(t *testing.T) {
	const (
		patient = `{"resourceType":"Patient","id":"p1","active":true,"gender":"female",` +
			`"birthDate":"1980-05",` +
			`"identifier":[{"system":"urn:mrn","value":"1"},{"value":"2|3"}],` +
			`"name":[{"text":"x"},{"family":"Núñez","given":["Ana","María"]}],` +
			`"telecom":[{"system":"phone","use":"home","value":"555"},{"system":"email",` +
			`"value":"a@b.example"}],` +
			`"address":[{"city":"Gdańsk","postalCode":"80"}],` +
			`"managingOrganization":{"reference":"Organization/o1"},` +
			`"meta":{"lastUpdated":"2020-01-01T00:00:00Z","tag":[{"system":"t","code":"c"}],` +
			`"profile":["http://x/p"]}}`
		observation = `{"resourceType":"Observation","id":"o1","status":"final",` +
			`"category":[{"coding":[{"code":"a"},{"system":"s","code":"laboratory"}]}],` +
			`"code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}],"text":"height"},` +
			`"subject":{"reference":"Patient/p1/_history/2"},` +
			`"effectiveTiming":{"event":["2019-05-01"],"repeat":{"boundsPeriod":{"end":"2010"}}},` +
			`"valueCodeableConcept":{"coding":[{"code":"v"}]},"valueString":"Blue eyes"}`
		flag = `{"resourceType":"Flag","id":"f1","subject":{"reference":"Location/p1"}}`
	)
	for line, searches := range map[string]map[string]bool{
		patient: {
			"Patient?identifier=1":           true,
			"Patient?identifier=urn:mrn|1":   true,
			"Patient?identifier=|1":          false,
			`Patient?identifier=2\|3`:        true,
			"Patient?identifier=urn:mrn|":    true,
			"Patient?identifier=urn:other|":  false,
			"Patient?identifier=9,1":         true,
			`Patient?identifier=9\,1`:        false,
			"Patient?name=nunez":             true,
			"Patient?name=ana":               true,
			"Patient?name=MARI":              true,
			"Patient?name=ria":               false,
			"Patient?family=ana":             false,
			"Patient?given=María":            true,
			"Patient?birthdate=1980":         true,
			"Patient?birthdate=gt1980-05-31": false,
			"Patient?gender=female":          true,
			"Patient?gender=http://hl7.org/fhir/administrative-gender|female": true,
			"Patient?active=true":                  true,
			"Patient?active=false":                 false,
			"Patient?phone=555":                    true,
			"Patient?email=555":                    false,
			"Patient?telecom=home|555":             true,
			"Patient?address-city=gdansk":          true,
			"Patient?address=80":                   true,
			"Patient?organization=o1":              true,
			"Patient?organization=Organization/o1": true,
			"Patient?organization=Patient/o1":      false,
			"Patient?_id=p1":                       true,
			"Patient?_tag=t|c":                     true,
			"Patient?_tag=c":                       true,
			"Patient?_profile=http://x/p":          true,
			"Patient?_lastUpdated=ge2020":          true,
			"Patient?name=ana&gender=male":         false, "Patient?death-date=2020": false,
		},
		observation: {
			"Observation?category=laboratory":          true,
			"Observation?category=s|":                  true,
			"Observation?category=|laboratory":         false,
			"Observation?category=|a":                  true,
			"Observation?code=http://loinc.org|8302-2": true,
			"Observation?code=height":                  false,
			"Observation?date=2019-05-01":              true,
			"Observation?date=lt2011":                  true,
			"Observation?date=2012":                    false,
			"Observation?patient=p1":                   true,
			"Observation?subject=Patient/p1":           true,
			"Observation?subject=Group/p1":             false,
			"Observation?value-concept=v":              true,
			"Observation?combo-value-concept=v":        true,
			"Observation?value-string=blue":            true,
			"Observation?value-string=eyes":            false,
		},
		flag: {"Flag?subject=p1": true, "Flag?patient=p1": false, "Flag?subject=Location/p1": true},
	} {
		for query, want := range searches {
			s, err := fhir.ParseSearches(query)
			if err != nil {
				t.Errorf("%s: %v", query, err)
				continue
			}
			got, err := fhir.NewMatcher(s).Match(s[0].Type, []byte(line))
			if err != nil || got != want {
				t.Errorf("%s: %v, %v", query, got, err)
			}
		}
	}
}

func TestSearchesThatAreNotSupportedAreTold(t *testing.T) {
	for _, query := range []string{
		"Observation?code-value-quantity=x",
		"Observation?value-quantity=5",
		"Observation?subject:Patient=p",
		"Patient?_sort=name",
		"Patient?nope=x",
		"Location?near=1",
	} {
		if _, err := fhir.ParseSearches(query); err == nil || !fhir.IsUnsupported(err) {
			t.Errorf("%s: %v", query, err)
		}
	}
}
