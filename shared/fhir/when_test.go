package fhir_test

import (
	"strings"
	"testing"
	"time"

	"ehi-server/shared/fhir"
)

// spansOf says when a resource happened.
func spansOf(t *testing.T, line string) fhir.Spans {
	t.Helper()
	var c fhir.Cursor
	var d fhir.Dates
	for c.Reset([]byte(line)); c.Next(); {
		d.See(&c)
	}
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return d.Spans()
}

// within reports which of the years 2015 to 2024 a resource happened in.
func within(s fhir.Spans) (years string) {
	for y := 2015; y < 2025; y++ {
		from := time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)
		if s.Overlap(from, from.AddDate(1, 0, 0)) {
			years += from.Format(" 06")
		}
	}
	return years
}

// EHI-8: dates come from the elements that R4 says tell when something happened, wherever they
// stand.
func TestResourcesHappenWhenTheirElementsSay(t *testing.T) {
	for line, want := range map[string]string{
		`"Observation","effectiveDateTime":"2019-05"`:                                             " 19",
		`"Observation","effectiveInstant":"2019-05-01T10:00:00Z","issued":"2021-01-01T00:00:00Z"`: " 19",
		`"Observation","effectiveTiming":{"event":["2017","2019-02-03"]},` +
			`"issued":"2021-01-01T00:00:00Z"`: " 17 19",
		`"Observation","effectiveTiming":{"repeat":{"boundsPeriod":{"start":"2017","end":"2018"}}}`: " 17 18",
		`"Observation","effectivePeriod":{"end":"2016"}`:                                            " 15 16",
		`"Observation","effectivePeriod":{"start":"2023"}`:                                          " 23 24",
		`"Observation","effectivePeriod":{"start":"soon"},"issued":"2021-01-01T00:00:00Z"`:          " 21",
		`"Observation","effectiveDateTime":"2019-99","issued":"2021-01-01T00:00:00Z"`:               " 21",
		`"Observation","_effectiveDateTime":{"extension":[{"url":"u","valueDateTime":"2019"}]}`:     "",
		`"Observation","contained":[{"resourceType":"Observation","effectiveDateTime":"2019"}]`:     "",
		`"Observation","valueDateTime":"2019"`:                                                      "",
		`"Procedure","performedString":"2019"`:                                                      "",
		`"Procedure","performedAge":{"value":40}`:                                                   "",
		`"Claim","item":[{"servicedDate":"2017"},{"servicedPeriod":{"start":"2019",` +
			`"end":"2020"}}],"created":"2023"`: " 17 19 20",
		`"Claim","item":[{"servicedPeriod":{"start":"2016"}},` +
			`{"servicedPeriod":{"end":"2018"}}]`: " 15 16 17 18 19 20 21 22 23 24",
		`"Claim","billablePeriod":{"start":"2018","end":"2018"},"created":"2023"`:           " 18",
		`"ExplanationOfBenefit","addItem":[{"servicedDate":"2018-02-03"}],"created":"2023"`: " 18",
		`"ExplanationOfBenefit","created":"2023","payment":{"date":"2024"}`:                 " 23",
		`"DocumentReference","date":"2021-01-01T00:00:00Z","context":{"period":{"start":"2017",` +
			`"end":"2018"}}`: " 17 18",
		`"ImagingStudy","series":[{"started":"2017"},{"started":"2019"}]`:                       " 17 19",
		`"Condition","onsetDateTime":"2017","abatementDateTime":"2019","recordedDate":"2023"`:   " 17 18 19",
		`"Condition","onsetString":"2017","recordedDate":"2023"`:                                " 23",
		`"MedicationDispense","whenHandedOver":"2018"`:                                          " 18",
		`"Appointment","start":"2018-12-31T23:30:00Z","end":"2019-01-01T00:30:00Z"`:             " 18 19",
		`"Encounter","location":[{"period":{"start":"2016","end":"2016"}}]`:                     " 16",
		`"Account","servicePeriod":{"start":"2019","end":"2019"}`:                               " 19",
		`"Immunization","occurrenceDateTime":"2016-12-31T23:59:60Z"`:                            " 16",
		`"Media","createdPeriod":{"start":"2019","end":"2019"},"issued":"2023-01-01T00:00:00Z"`: " 19",
		`"Patient","birthDate":"2016","deceasedDateTime":"2019"`:                                "",
	} {
		if got := within(spansOf(t, `{"resourceType":`+line+`}`)); got != want {
			t.Errorf("%s happened in%s, want%s", line, got, want)
		}
	}
}

// EHI-9: the decision does not depend on the order of JSON keys.
func TestTheTypeOfADatedResourceMayStandLast(t *testing.T) {
	line := `{"issued":"2021-01-01T00:00:00Z","effectivePeriod":{"end":"2018","start":"2017"},` +
		`"resourceType":"Observation"}`
	if got := within(spansOf(t, line)); got != " 17 18" {
		t.Errorf("it happened in%s", got)
	}
}

// A leap second belongs to the day that it ends, and follows the rest of that day.
func TestLeapSecondsAreDates(t *testing.T) {
	ordered := []string{
		"2016-12-31T23:59:59Z",
		"2016-12-31T23:59:59.9Z",
		"2016-12-31T23:59:59.999999Z",
		"2016-12-31T23:59:60Z",
		"2016-12-31T23:59:60.1Z",
		"2016-12-31T18:59:60.25-05:00",
		"2017-01-01T05:29:60.999+05:30",
		"2017-01-01T00:00:00Z",
	}
	midnight := time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)
	var before time.Time
	for _, in := range ordered {
		s, err := fhir.ParseSpan(in)
		if err != nil || !s.Start.After(before) {
			t.Errorf("%s begins at %v (%v), not after %v", in, s.Start, err, before)
		}
		if strings.Contains(in, ":60") && !s.End.Equal(midnight) {
			t.Errorf("%s ends at %v, want %v", in, s.End, midnight)
		}
		before = s.Start
	}
	for _, bad := range []string{
		"2016-12-31T23:59:61Z", "2016-12-31T23:60:00Z", "2016-12-31T60:59:59Z",
		"2016-12-31T23:59:60", "2016-12-31T23:59:60.Z",
	} {
		if s, err := fhir.ParseSpan(bad); err == nil {
			t.Errorf("%s was taken for %v", bad, s)
		}
	}
}

func FuzzDates(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Claim","item":[{"servicedPeriod":{"start":"2016"}}]}`))
	f.Add([]byte(`{"start":"2016","resourceType":"Slot","end":"2017"}`))
	f.Add([]byte(`"2016"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var c fhir.Cursor
		var d fhir.Dates
		for c.Reset(line); c.Next(); {
			d.See(&c)
		}
		d.Spans().Overlap(time.Now(), time.Time{})
	})
}
