package release_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
)

// EHI-9: an entry that refers to something sensitive is removed as a whole, with everything that
// names it by number. The others remain unchanged.
func TestEHI9EntriesThatReferToTheWithheldAreLeftOut(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`
	goes := `{"resourceType":"Condition","id":"goes"}`
	encounter := `{"resourceType":"Encounter","id":"visit-0123456789"}`
	w, g := `{"reference":"Condition/withheld-0123456789"}`, `{"reference":"Condition/goes"}`
	for line, want := range map[string]string{
		`{"resourceType":"List","id":"x","entry":[{"flag":{"text":"LEAK"},"item":` + w +
			`},{"item":` + g + `}]}`: `{"resourceType":"List","id":"x","entry":[{"item":` + g +
			`}]}`,
		`{"entry": [ {"item":` + g + `} , {"item":` + w + `} , {"item":` + w +
			`} ], "resourceType":"List","id":"x"}`: `{"entry": [ {"item":` + g +
			`} ], "resourceType":"List","id":"x"}`,
		`{"resourceType":"CarePlan","id":"x","activity":[{"reference":` + w +
			`,"progress":[{"text":"LEAK"}]}]}`: `{"resourceType":"CarePlan","id":"x"}`,
		`{"activity":[{"outcomeReference":[` + w +
			`]}],"resourceType":"CarePlan","id":"x"}`: `{"resourceType":"CarePlan","id":"x"}`,
		`{"resourceType":"Composition","id":"x","section":[{"title":"LEAK","text":{"div":"LEAK"},` +
			`"entry":[` + w + `]},{"entry":[` + g +
			`],"title":"b"}]}`: `{"resourceType":"Composition","id":"x","section":[{"entry":[` + g +
			`],"title":"b"}]}`,
		`{"resourceType":"Composition","id":"x","section":[{"title":"a","text":{"div":"LEAK"},` +
			`"entry":[` + w + `,` + g +
			`]}]}`: `{"resourceType":"Composition","id":"x","section":[{"title":"a","entry":[` + g +
			`]}]}`,
		`{"resourceType":"Claim","id":"x","item":[{"sequence":1,"diagnosisSequence":[2],` +
			`"productOrService":{"text":"LEAK"}},{"sequence":2,"diagnosisSequence":[1]}],` +
			`"diagnosis":[{"sequence":1,"diagnosisReference":` + g +
			`},{"sequence":2,"diagnosisReference":` + w +
			`}]}`: `{"resourceType":"Claim","id":"x","item":[{"sequence":2,` +
			`"diagnosisSequence":[1]}],` +
			`"diagnosis":[{"sequence":1,"diagnosisReference":` + g + `}]}`,
		`{"resourceType":"ExplanationOfBenefit","id":"x","supportingInfo":[{"sequence":3,` +
			`"valueReference":` + w +
			`}],"item":[{"informationSequence":[3]}]}`: `{"resourceType":"ExplanationOfBenefit",` +
			`"id":"x"}`,
		`{"resourceType":"Claim","id":"x","related":[{"claim":` + w +
			`,"relationship":{"text":"LEAK"},"reference":{"value":"LEAK"}},{"claim":` + g +
			`}]}`: `{"resourceType":"Claim","id":"x","related":[{"claim":` + g + `}]}`,
		`{"resourceType":"ExplanationOfBenefit","id":"x",` +
			`"related":[{"reference":{"value":"LEAK"},"claim":` + w +
			`}]}`: `{"resourceType":"ExplanationOfBenefit","id":"x"}`,
		// References to unticked resources are masked and their entries remain, whatever the URL
		// is.
		`{"resourceType":"Claim","id":"x","related":[{"relationship":{"text":"a"},` +
			`"claim":{"reference":"Encounter/visit-0123456789"}}]}`: `{"resourceType":"Claim",` +
			`"id":"x","related":[{"relationship":{"text":"a"},"claim":` + masked + `}]}`,
		`{"resourceType":"Claim","id":"x",` +
			`"item":[{"encounter":[{"reference":"https://e.example/Encounter/` +
			`visit-0123456789"}]}]}`: `{"resourceType":"Claim","id":"x",` +
			`"item":[{"encounter":[` +
			masked + `]}]}`,
		`{"resourceType":"Claim","id":"x","item":[{"sequence":1,` +
			`"encounter":[{"reference":"Encounter/` +
			`visit-0123456789"}]}]}`: `{"resourceType":"Claim","id":"x","item":[{"sequence":1,` +
			`"encounter":[` +
			masked + `]}]}`,
	} {
		for _, short := range []bool{false, true} {
			record := []string{withheld, goes, encounter, line}
			expected := want
			if short {
				for i := range record {
					record[i] = strings.ReplaceAll(record[i], "withheld-0123456789", "w")
				}
			}
			got := released(t, reviewOf(t, form(ehi.MedicalRecord, ehi.Billing), !short, record...),
				record...)
			if len(got) != 2 || got[1] != expected {
				t.Errorf("%s became %v, want %s", line, got, expected)
			}
		}
	}
}

// EHI-9: the reason of a message concerns everything that it is about, including something
// withheld.
func TestEHI9TheReasonOfAMessageIsOfAllThatItIsAbout(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`
	goes := `{"resourceType":"Condition","id":"goes"}`
	message := func(focus, reason string) string {
		return `{"resourceType":"MessageHeader","id":"x","focus":[` + focus +
			`,{"reference":"Condition/goes"}]` + reason + `}`
	}
	const reason = `,"reason":{"text":"why"}`
	w, g := `{"reference":"Condition/withheld-0123456789"}`, `{"reference":"Condition/goes"}`
	for line, want := range map[string]string{
		message(w, reason): message(masked, ""),
		message(g, reason): message(g, reason),
	} {
		record := []string{withheld, goes, line}
		got := released(t, reviewOf(t, form(ehi.MedicalRecord), true, record...), record...)
		if len(got) != 2 || got[1] != want {
			t.Errorf("%s became %v, want %s", line, got, want)
		}
	}
}

// EHI-9: a signature is removed with any removed or masked part that it covers, wherever it is,
// because its data may contain the signed content. A signature over unchanged content remains.
func TestEHI9ASignatureGoesWithWhatItWasMadeOver(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`
	goes := `{"resourceType":"Condition","id":"goes"}`
	w, g := `{"reference":"Condition/withheld-0123456789"}`, `{"reference":"Condition/goes"}`
	leaks := `{"type":[{"code":"x"}],"data":"LEAK","extension":[{"url":"u",` +
		`"valueSignature":{"data":"LEAK"}}]}`
	signed, unsigned := `"signature":[`+leaks+
		`]`, `{"resourceType":"Provenance","id":"x","target":[`
	list := `{"resourceType":"List","id":"x","extension":[{"url":"u"`
	contract := `{"resourceType":"Contract","id":"x","signer":[{"party":` + g
	for line, want := range map[string]string{
		unsigned + w + `,` + g + `],` + signed + `}`:           unsigned + masked + `,` + g + `]}`,
		`{` + signed + `,` + unsigned[1:] + w + `,` + g + `]}`: unsigned + masked + `,` + g + `]}`,
		unsigned + g + `],` + signed + `}`:                     unsigned + g + `],` + signed + `}`,
		list + `,"valueSignature":` + leaks + `}],"entry":[{"item":` + w +
			`,"extension":[{"valueSignature":` + leaks +
			`}]},{"item":` + g + `}]}`: list + `}],"entry":[{"item":` + g + `}]}`,
		contract + `,` + signed + `,"type":{"code":"x"}}],"supportingInfo":[` + w + `]}`: contract +
			`,"type":{"code":"x"}}],"supportingInfo":[` + masked + `]}`,
	} {
		record := []string{withheld, goes, line}
		for _, resolved := range []bool{false, true} {
			got := released(t, reviewOf(t, form(ehi.MedicalRecord), resolved, record...), record...)
			if len(got) != 2 || got[1] != want {
				t.Errorf("%s became %v, want %s", line, got, want)
			}
		}
	}
}

// EHI-9: this also holds for content that the form does not release, for a report's
// presentedForm, and for a signature in a Bundle or a Parameters beside a removed part.
func TestEHI9ASignatureGoesWithWhateverIsLeftOut(t *testing.T) {
	const signature = `Signature":{"sigFormat":"application/jose","data":"SIGNED"}`
	const report = `"resourceType":"DiagnosticReport","id":"x","presentedForm":[{"data":"QQ=="}]`
	extension := `"extension":[{"url":"u","value` + signature + `}]`
	const patient = `{"resourceType":"Patient","id":"x","maritalStatus":{"coding":[{"code":`
	visit := `{"resourceType":"Encounter","id":"visit"}`
	withheld := `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`
	goes := `{"resourceType":"Condition","id":"goes","source` + signature + `}`
	target := `{"resourceType":"Provenance","id":"x","signature":[{"data":"SIGNED"}],` +
		`"target":[{"reference":"Condition/goes"}`
	bundle := func(inner string) string {
		entry := `{"resource":` + goes + `},{"resource":` + inner + `}`
		return `{"resourceType":"Bundle","id":"x",` + extension + `,"entry":[` + entry + `]}`
	}
	parameters := func(inner string) string {
		return `{"resourceType":"Parameters","id":"x","parameter":[{"resource":` + goes +
			`},{"resource":` + inner +
			`},{"name":"n","part":[{"name":"m","value` + signature + `}]}]}`
	}
	for _, c := range []struct {
		line string
		off  ehi.Category
		want int // number of removed Signatures
	}{
		{`{` + report + `,` + extension + `}`, ehi.OtherDocuments, 0},
		{`{` + report + `,` + extension + `}`, ehi.Labs, 1},
		{
			`{` + strings.ReplaceAll(report+`,`+extension, "Signature", `Signat\u0075re`) + `}`,
			ehi.OtherDocuments,
			0,
		},
		{target + `,{"reference":"Encounter/visit"}]}`, ehi.Visits, 0},
		{target + `,{"reference":"Encounter/visit"}]}`, ehi.Labs, 1},
		{target + `,{"reference":"Condition/nobody"}]}`, ehi.Labs, 1},
		{target + `],"reason":[{"text":"see withheld-0123456789"}]}`, ehi.Labs, 0},
		{patient + `"F11.20"}]},` + extension + `}`, ehi.Labs, 0},
		{patient + `"M"}]},` + extension + `}`, ehi.Labs, 1},
		{bundle(visit), ehi.Visits, 1},
		{bundle(visit), ehi.Labs, 2},
		{bundle(withheld), ehi.Labs, 1},
		{parameters(visit), ehi.Visits, 1},
		{parameters(visit), ehi.Labs, 2},
		{parameters(withheld), ehi.Labs, 1},
	} {
		record := []string{withheld, visit, goes, c.line}
		for _, resolved := range []bool{false, true} {
			got := released(t, reviewOf(t, allBut(c.off), resolved, record...), record...)
			last := got[len(got)-1]
			if strings.Count(last, "SIGNED") != c.want || !strings.Contains(last, `"id":"x"`) {
				t.Errorf("without %s %s became %s", c.off, c.line, last)
			}
		}
	}
}

// EHI-9: an attachment may have the same content by url and as data. If the url is masked, so
// are title, data and hash.
func TestEHI9TheDataOfAnAttachmentGoWithItsURL(t *testing.T) {
	binary := `{"resourceType":"Binary","id":"binary-0123456789",` + hivLabel +
		`,"data":"TEVBSw=="}`
	for _, fields := range [][]string{
		{`"title":"LEAK"`, `"data":"LEAK"`, `"hash":"LEAK"`, `"url":"Binary/binary-0123456789"`},
		{
			`"url":"Binary/binary-0123456789"`,
			`"hash":"LEAK"`,
			`"contentType":"text/plain"`,
			`"d\u0061ta":"LEAK"`,
		},
		{
			`"data":"LEAK"`,
			`"url":"https://e.example/r4/Binary/binary-0123456789"`,
			`"title":"LEAK"`,
		},
	} {
		attachment := `{"attachment":{` + strings.Join(fields, ",") + `}}`
		document := `{"resourceType":"DocumentReference","id":"x","content":[` + attachment + `]}`
		for _, line := range []string{
			document,
			strings.Replace(document, "binary-0", "another-0", 1),
		} {
			record := []string{binary, line}
			got := released(t, reviewOf(t, allBut(""), true, record...), record...)
			want := strings.Count(line, "LEAK")
			if line == document {
				want = 0
			}
			if len(got) != 1 || strings.Count(got[0], "LEAK") != want ||
				!json.Valid([]byte(got[0])) {
				t.Errorf("%s became %v", line, got)
			}
		}
	}
}

// Whatever entries are removed, the rest is JSON and unchanged.
func TestEHI9WhatIsLeftOfEntriesIsWhatTheyWere(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.SampledFrom([]string{"", "", " ", "\t"})
		fields := []string{`"resourceType":"Claim"`, `"id":"x"`, `"status":"active"`}
		want := map[string]any{"resourceType": "Claim", "id": "x", "status": "active"}
		for _, name := range []string{"diagnosis", "procedure", "supportingInfo", "item"} {
			var entries []string
			var left []any
			for i := range rapid.IntRange(0, 4).Draw(t, name) {
				if rapid.Bool().Draw(t, "withheld") {
					entries = append(entries,
						`{"a":[{"b":{"reference":"Condition/withheld-0123456789"}}],"text":"LEAK"}`)
					continue
				}
				text := fmt.Sprintf("kept %d", i)
				entries, left = append(entries, `{"text":"`+text+`"}`),
					append(left, map[string]any{"text": text})
			}
			if len(entries) > 0 {
				fields = append(fields,
					`"`+name+`":[`+strings.Join(entries, space.Draw(t, "a")+","+space.Draw(t, "b"))+
						`]`)
			}
			if len(left) > 0 {
				want[name] = left
			}
		}
		fields = rapid.Permutation(fields).Draw(t, "order")
		line := "{" + strings.Join(fields, space.Draw(t, "c")+","+space.Draw(t, "d")) + "}"
		out := adversaryReview(t, form(ehi.Billing), true, nil, []string{withheld, line})
		var got map[string]any
		if err := json.Unmarshal([]byte(out[1]), &got); err != nil {
			t.Fatalf("%s became %s: %v", line, out[1], err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s became %s\n%s", line, out[1], d)
		}
	})
}

// EHI-9: the text of a resource describes all its entries. If one is removed, so is the text.
func TestEHI9ATextGoesWithTheEntriesThatItTellsOf(t *testing.T) {
	withheld := `{"resourceType":"Condition","id":"withheld-0123456789",` + hivLabel + `}`
	const w, g = `{"reference":"Condition/withheld-0123456789"}`,
		`{"reference":"Condition/goes-0123456789"}`
	goes := `{"resourceType":"Condition","id":"goes-0123456789"}`
	for _, c := range []struct{ head, entry, fields string }{
		{`"resourceType":"List","id":"x"`, `"entry":[{"item":`, `}`},
		{`"resourceType":"Composition","id":"x"`, `"section":[{"entry":[`, `]}`},
		{`"resourceType":"Claim","id":"x"`, `"diagnosis":[{"diagnosisReference":`, `}`},
		{
			`"resourceType":"ExplanationOfBenefit","id":"x"`,
			`"diagnosis":[{"diagnosisReference":`,
			`}`,
		},
		{`"resourceType":"CarePlan","id":"x"`, `"activity":[{"reference":`, `}`},
	} {
		open := c.entry[strings.Index(c.entry, "[")+1:]
		kept := c.entry + g + c.fields + `]`
		both := c.entry + w + c.fields + `,` + open + g + c.fields + `]`
		const text = `"text":{"div":"LEAK"}`
		for line, want := range map[string]string{
			`{` + c.head + `,` + text + `,` + both + `}`: `{` + c.head + `,` +
				kept + `}`,
			`{` + c.head + `,` + both + `,` + text + `,"status":"active"}`: `{` + c.head + `,` +
				kept + `,"status":"active"}`,
			`{` + c.head + `,` + both + `,` + text + `}`: `{` + c.head + `,` + kept + `}`,
			`{` + c.head + `,` + kept + `,` + text + `}`: `{` + c.head + `,` + kept + `,` + text +
				`}`,
		} {
			record := []string{withheld, goes, line}
			got := released(t, reviewOf(t, form(ehi.MedicalRecord, ehi.Billing), true, record...),
				record...)
			if len(got) != 2 || got[1] != want {
				t.Errorf("%s became %v, want %s", line, got, want)
			}
		}
	}
}
