package release_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/exporter/release"
)

// EHI-9: the number of a withheld order or prescription is masked in any text and in any case.
// Numbers of the Patient or of released resources, dates, and short numbers are not.
func TestEHI9TheNumbersOfTheWithheldAreMaskedInTexts(t *testing.T) {
	order := func(label, identifier string) string {
		return `{"resourceType":"ServiceRequest","id":"o1",` + label +
			`,"identifier":[{"system":"urn:x","value":"` + identifier + `"}]}`
	}
	for _, c := range []struct {
		value, text string
		masked      bool
	}{
		{"ACC-2023-00451", "sample ACC-2023-00451 was taken", true},
		{"ACC-2023-00451", "<b>acc-2023-00451</b>", true},
		{"acc-2023-00451", "No.ACC-2023-00451.", true},
		{" urn:oid:1.2.840.99.77.1234 ", "see 1.2.840.99.77.1234.", true},
		{"RX-4711-A", "RX-4711-A", true},
		{"RX4711/77", "(RX4711/77)", true},
		{"123456789012", "called 123456789012", true},
		{"c60c5e63-7b4a-4b0e-9c58-2f9a3ab2a111", "C60C5E63-7B4A-4B0E-9C58-2F9A3AB2A111", true},
		{"ACC-2023-00451", "sample ACC-2023-004512 was taken", false},
		{"ACC-2023-00451", "sample XACC-2023-00451 was taken", false},
		{"1.2.840.99.77.1234", "see 1.2.840.99.77.1234.5", false},
		{"1.2.840.99.77.1234", "see 2.1.2.840.99.77.1234", false},
		{"12345678901", "called 12345678901", false},
		{"RX-47-A", "RX-47-A", false},
		{"2023-04-15T10:00", "at 2023-04-15T10:00", false},
		{"2023-04-15", "on 2023-04-15", false},
		{"admission", "his admission", false},
		{"MRN-2019-0001", "of MRN-2019-0001", false},
		{"BOTH-2019-0001", "of BOTH-2019-0001", false},
		{"DOCTOR-2019-0001", "of DOCTOR-2019-0001", false},
		{"LONG-2019-0001", "of LONG-2019-0001", false},
	} {
		for _, label := range []string{hivLabel, `"meta":{}`} {
			for _, twice := range []int{1, 40} { // with 40, some lines fit moulds and casts
				lines := []string{
					`{"resourceType":"Patient","id":"p","identifier":[{"value":"MRN-2019-0001"}]}`,
					order(label, c.value),
					`{"resourceType":"Practitioner","id":"doc",` +
						`"identifier":[{"value":"DOCTOR-2019-0001"}]}`,
					`{"resourceType":"Condition","id":"e",` +
						`"recorder":{"reference":"Practitioner/doc"}}`,
					`{"resourceType":"Condition","id":"l",` +
						`"identifier":[{"value":"LONG-2019-0001"}],"note":[{"text":"` +
						strings.Repeat("no mould is so long ", 1000) + `"}]}`,
				}
				for i := range twice {
					lines = append(lines,
						fmt.Sprintf(`{"resourceType":"Condition","id":"c%d",`+
							`"identifier":[{"value":"BOTH-2019-0001"}],`+
							`"note":[{"text":"said %s"}]}`, i, c.text),
						fmt.Sprintf(`{"resourceType":"Condition","id":"d%d",`+
							`"note":[{"text":"no %d"}]}`, i, i))
				}
				for _, resolved := range []bool{false, true} {
					r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), resolved, nil,
						lines...)
					got := released(t, r, lines...)
					want := twice
					if c.masked && label == hivLabel {
						want = 0
					}
					n := strings.Count(strings.Join(got, "\n"), "said "+c.text)
					if n != want || len(got) < 2*twice {
						t.Errorf(
							"%q of something with %s (resolved: %v): %q stands %d times, want %d",
							c.value, label, resolved, c.text, n, want)
					}
				}
			}
		}
	}
}

// A number of a group of orders, or of a resource outside the record, counts too. The names of a
// released resource remain.
func TestEHI9TheNumbersOfGroupsAreMaskedInTexts(t *testing.T) {
	patient := `{"resourceType":"Patient","id":"p"}`
	note := `{"resourceType":"Condition","id":"c1","note":[{"text":"said GRP-2023-00451"}]}`
	group := `"groupIdentifier":{"value":"GRP-2023-00451"}`
	hidden := `{"resourceType":"MedicationRequest","id":"m1",` + hivLabel + `,` + group + `}`
	open := `{"resourceType":"MedicationRequest","id":"m2",` + group + `}`
	for _, c := range []struct {
		lines  []string
		others []release.Other
		masked bool
	}{
		{[]string{patient, note, hidden}, nil, true},
		{[]string{patient, note, hidden, open}, nil, false},
		{[]string{patient, note, open}, nil, false},
		{[]string{patient, note, `{"resourceType":"Condition","id":"c2","extension":[` +
			`{"url":"urn:e","valueReference":{"identifier":{"value":"GRP-2023-00451"}}}]}`},
			[]release.Other{
				{
					Line:   hidden,
					Type:   "MedicationRequest",
					ID:     "m1",
					Values: []string{"GRP-2023-00451"},
				},
			},
			true},
	} {
		r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), false, c.others,
			c.lines...)
		got := strings.Join(released(t, r, c.lines...), "\n")
		if strings.Contains(got, "said GRP-2023-00451") == c.masked {
			t.Errorf("of %q went %s", c.lines, got)
		}
	}
}
