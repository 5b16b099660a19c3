package fhir_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ehi-server/shared/fhir"
)

func TestNamesFollowUsePeriodAndText(t *testing.T) {
	at := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ why, name, want string }{
		{"no name", `"id":"p"`, ""},
		{"given and family", `"name":[{"family":"Doe","given":["Jane","Q"]}]`, "Jane Q Doe"},
		{"only a text", `"name":[{"text":"Jane Doe"}]`, "Jane Doe"},
		{
			"the text is made to be shown",
			`"name":[{"family":"Doe","given":["Jane"],"text":"Dr. Jane Doe, PhD"}]`,
			"Dr. Jane Doe, PhD",
		},
		{"only a family name", `"name":[{"family":"Doe"}]`, "Doe"},
		{"only a given name", `"name":[{"given":["Jane"]}]`, "Jane"},
		{
			"official before usual before old",
			`"name":[{"use":"old","text":"O"},{"use":"usual","text":"U"},{"use":"official",` +
				`"text":"F"}]`,
			"F",
		},
		{"usual before old", `"name":[{"use":"old","text":"O"},{"use":"usual","text":"U"}]`, "U"},
		{
			"usual before none before nickname",
			`"name":[{"use":"nickname","text":"N"},{"text":"X"},{"use":"usual","text":"U"}]`,
			"U",
		},
		{"none before nickname", `"name":[{"use":"nickname","text":"N"},{"text":"X"}]`, "X"},
		{
			"the first of equals",
			`"name":[{"use":"official","text":"A"},{"use":"official","text":"B"}]`,
			"A",
		},
		{"old alone is better than none", `"name":[{"use":"old","text":"O"}]`, "O"},
		{
			"the use may come last",
			`"name":[{"text":"O","use":"old"},{"text":"F","use":"official"}]`,
			"F",
		},
		{
			"over",
			`"name":[{"use":"official","text":"A","period":{"end":"2020"}},{"use":"usual",` +
				`"text":"B"}]`,
			"B",
		},
		{
			"ends with its year",
			`"name":[{"use":"official","text":"A","period":{"end":"2026"}},{"use":"usual",` +
				`"text":"B"}]`,
			"A",
		},
		{
			"over for a moment",
			`"name":[{"use":"official","text":"A","period":{"end":"2026-06-15T11:59:59Z"}},` +
				`{"use":"usual","text":"B"}]`,
			"B",
		},
		{
			"not yet",
			`"name":[{"use":"official","text":"A","period":{"start":"2026-06-16"}},` +
				`{"use":"usual","text":"B"}]`,
			"B",
		},
		{
			"begins today",
			`"name":[{"use":"official","text":"A","period":{"start":"2026-06-15"}},` +
				`{"use":"usual","text":"B"}]`,
			"A",
		},
		{
			"in use before over before not yet",
			`"name":[{"text":"N","period":{"start":"2030"}},{"text":"O","period":{"end":"2020"}},` +
				`{"use":"old","text":"I"}]`,
			"I",
		},
		{
			"over before not yet",
			`"name":[{"text":"N","period":{"start":"2030"}},{"text":"O","period":{"end":"2020"}}]`,
			"O",
		},
		{
			"the married name, and the maiden name that an old one was",
			`"name":[{"use":"maiden","family":"Born"},{"use":"official","family":"Wed",` +
				`"given":["Eve"]}]`,
			"Eve Wed",
		},
		{
			"a wrong date counts for nothing",
			`"name":[{"use":"official","text":"A","period":{"end":"soon"}},{"text":"B"}]`,
			"A",
		},
		{
			"a name without text or parts is none",
			`"name":[{"use":"official","_family":{"extension":[{"url":"x",` +
				`"valueCode":"masked"}]}},{"use":"old","text":"O"}]`,
			"O",
		},
		{
			"white space alone is none",
			`"name":[{"use":"official","text":" \t"},{"use":"old","text":"O"}]`,
			"O",
		},
		{"escapes", `"name":[{"t\u0065xt":"M\u00fcller \"x\""}]`, `Müller "x"`},
		{
			"control characters",
			`"name":[{"text":"a\u0000b\u001b[31m\nc\u202ed\u2066e"}]`,
			"ab[31m cde",
		},
		{
			"the name of a contact is none of the patient",
			`"contact":[{"name":{"use":"official","text":"Mum"}}],"name":[{"text":"Me"}]`,
			"Me",
		},
		{
			"an extension's text is none",
			`"name":[{"family":"Doe","extension":[{"url":"x","valueString":"y"}],"given":["J"],` +
				`"_given":[{"id":"Zed"}]}]`,
			"J Doe",
		},
		{"a group", `"name":"The  cohort"`, "The cohort"},
	} {
		got := fhir.DisplayName([]byte(`{"resourceType":"Patient",`+c.name+`}`), at)
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
	long := fhir.DisplayName([]byte(`{"name":[{"text":"`+strings.Repeat("名", 1000)+`"}]}`), at)
	if len(long) > fhir.MaxDisplayName || len(long) < fhir.MaxDisplayName-3 ||
		!utf8.ValidString(long) {
		t.Errorf("a long name has %d bytes, valid: %v", len(long), utf8.ValidString(long))
	}
}
