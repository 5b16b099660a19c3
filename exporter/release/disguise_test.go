package release_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/exporter/release"
)

// disguises are spellings of a text that look unchanged to a reader or browser.
var disguises = map[string]func(text string) string{
	"as it is":              func(s string) string { return s },
	"decimal reference":     func(s string) string { return eachOf(s, "&#%d;") },
	"hexadecimal reference": func(s string) string { return eachOf(s, "&#x%X;") },
	"reference once more":   func(s string) string { return eachOf(s, "&amp;#%d;") },
	"soft hyphens":          func(s string) string { return s[:3] + "&shy;" + s[3:] },
	"percent":               func(s string) string { return eachOf(s, "%%%02x") },
	"percent twice":         func(s string) string { return eachOf(s, "%%25%02X") },
	"no width":              func(s string) string { return s[:3] + "\u200b" + s[3:] },
	"no width by reference": func(s string) string { return s[:3] + "&#8203;" + s[3:] },
	"no width by percent":   func(s string) string { return s[:3] + "%E2%80%8B" + s[3:] },
	"no width by number":    func(s string) string { return s[:3] + `\u2060` + s[3:] },
	"filler":                func(s string) string { return s[:3] + "\u3164" + s[3:] },
	"full width": func(s string) string {
		return strings.Map(func(r rune) rune {
			if r > ' ' {
				r += 0xfee0
			}
			return r
		}, s)
	},
	"one digit of full width": func(s string) string {
		return strings.Replace(s, "2", "\uff12", 1)
	},
	"mathematical digits": func(s string) string {
		return strings.ReplaceAll(s, "0", "\U0001d7d8")
	},
}

func eachOf(s, format string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, format, c)
	}
	return b.String()
}

// EHI-9: the id or number of something withheld is masked in a text in any spelling.
func TestEHI9NoDisguiseHidesAnIDInATextThatGoes(t *testing.T) {
	const id, number, kept = "w-0123456789ab", "ACC-2023-00451", "k-0123456789ab"
	withheld := `{"resourceType":"Procedure","id":"` + id + `",` + hivLabel +
		`,"identifier":[{"value":"` + number + `"}]}`
	goes := `{"resourceType":"Procedure","id":"` + kept + `"}`
	for name, disguise := range disguises {
		for _, field := range []string{
			`"note":[{"text":"%s"}]`, `"text":{"status":"generated","div":"<div>%s</div>"}`,
			`"implicitRules":"http://h/%s"`,
		} {
			for _, secret := range []string{id, number, kept, "Procedure/" + id} {
				for _, many := range []int{1, 40} { // with 40, some lines fit casts
					lines := []string{withheld, goes}
					for i := range many {
						with := fmt.Sprintf(field, fmt.Sprint("no ", i))
						lines = append(lines,
							fmt.Sprintf(`{"resourceType":"Condition","id":"d%d",%s}`, i, with))
					}
					for i := range many {
						with := fmt.Sprintf(field, "said "+disguise(secret)+" and so on")
						lines = append(lines,
							fmt.Sprintf(`{"resourceType":"Condition","id":"c%d",%s}`, i, with))
					}
					r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), true, nil,
						lines...)
					got, want := released(t, r, lines...), 0
					if secret == kept {
						want = many
					}
					n := strings.Count(strings.Join(got, "\n"), "said ")
					if n != want || len(got) != 2*many+1 {
						t.Errorf("%s: %q in %s went %d times of %d", name, disguise(secret), field,
							n, many)
					}
				}
			}
		}
	}
}

// EHI-9: a code withholds its resource in any spelling, and so do the name of its system and a
// label.
func TestEHI9NoDisguiseHidesACode(t *testing.T) {
	const (
		icd10   = "http://hl7.org/fhir/sid/icd-10-cm"
		actCode = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	)
	for name, disguise := range disguises {
		for _, c := range []struct {
			format, text string
			sensitive    bool
		}{
			{`"code":{"coding":[{"system":"` + icd10 + `","code":"%s"}]}`, "F10.20", true},
			{`"code":{"coding":[{"system":"` + icd10 + `","code":"%s"}]}`, "I10.20", false},
			{`"code":{"coding":[{"code":"%s"}]}`, "F10.20", true},
			{`"code":"%s"`, "F10.20", true},
			{`"code":{"coding":["%s"]}`, "F10.20", true},
			{
				`"code":{"coding":[{"system":"%s","code":"304.00"}]}`,
				"http://hl7.org/fhir/sid/icd-9-cm/2",
				true,
			},
			{
				`"code":{"coding":[{"system":"%s","code":"304.00"}]}`,
				"http://hl7.org/fhir/sid/icd-10-cm/2",
				false,
			},
			{`"meta":{"security":[{"system":"` + actCode + `","code":"%s"}]}`, "42CFRPart2", true},
			{`"meta":{"security":[{"display":"%s"}]}`, "42CFRPart2", true},
		} {
			line := `{"resourceType":"Condition","id":"c1",` +
				fmt.Sprintf(c.format, disguise(c.text)) + `}`
			got := released(t, review(t, form(everyLine()...), line), line)
			if len(got) == 0 != c.sensitive {
				t.Errorf("%s: %s is sensitive: %v, released %q", name, line, c.sensitive, got)
			}
		}
	}
}

// EHI-9: a Reference is masked in any spelling of its id or of its identifier's value.
func TestEHI9NoDisguiseHidesWhatAReferenceLeadsTo(t *testing.T) {
	for name, disguise := range disguises {
		for _, c := range []string{
			`{"reference":"https://h/fhir/Procedure/` + disguise("w-0123456789ab") +
				`","display":"SAID"}`,
			`{"reference":"https://h/` + disguise("w-0123456789ab") + `","display":"SAID"}`,
			`{"reference":"Procedure/` + disguise("w-0123456789ab") + `","display":"SAID"}`,
			`{"identifier":{"value":"` + disguise("ACC-2023-00451") + `"},"display":"SAID"}`,
		} {
			if strings.Contains(c, "identifier") &&
				(strings.Contains(c, "&") || strings.Contains(c, "%")) {
				continue // a value is neither HTML nor a URL
			}
			lines := []string{
				`{"resourceType":"Procedure","id":"w-0123456789ab",` + hivLabel +
					`,"identifier":[{"value":"ACC-2023-00451"}]}`,
				`{"resourceType":"Condition","id":"c1","extension":[{"url":"urn:e",` +
					`"valueReference":` + c + `}]}`,
			}
			for _, resolved := range []bool{false, true} {
				r := release.DecidedBeside(t, policyOf(t, form(everyLine()...)), resolved, nil,
					lines...)
				got := released(t, r, lines...)
				if len(got) != 1 || strings.Contains(got[0], "SAID") {
					t.Errorf("%s: released %q", name, got)
				}
			}
		}
	}
}
