package release_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
)

// told is the narrative of the resources of these tests.
const told = `"text":{"status":"generated","div":"<div>TOLD</div>"}`

// labeled is the category of a laboratory Observation.
const labeled = `"category":[{"coding":[{"system":` +
	`"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}]`

// hiddenPart is a sensitive Observation, and soundPart one that leaves.
const (
	hiddenPart = `{"resourceType":"Observation","id":"hidden",` + hivLabel + `}`
	soundPart  = `{"resourceType":"Observation","id":"sound"}`
)

// refs are References to resources of a type, as a list of JSON.
func refs(typ string, ids ...string) string {
	var all []string
	for _, id := range ids {
		all = append(all, `{"reference":"`+typ+`/`+id+`"}`)
	}
	return `[` + strings.Join(all, ",") + `]`
}

// panel is an Observation with a narrative and members.
func panel(id string, members ...string) string {
	return `{"resourceType":"Observation","id":"` + id + `",` + told + `,"hasMember":` +
		refs("Observation", members...) + `}`
}

// orders are the record forwards and backwards.
func orders(lines ...string) [][]string {
	back := slices.Clone(lines)
	slices.Reverse(back)
	return [][]string{lines, back}
}

// EHI-9: the texts of a report do not leave if a member of a panel among its results is withheld,
// directly or in a panel of panels, wherever the member stands in the record.
func TestEHI9AReportTellsOfNoWithheldMemberOfItsPanels(t *testing.T) {
	const report = `{"resourceType":"DiagnosticReport","id":"report",` + told +
		`,"conclusion":"TOLD","conclusionCode":[{"text":"TOLD"}],"presentedForm":[{"title":"TOLD",` +
		`"url":"Binary/b"}],"extension":[{"url":"x","valueSignature":{"data":"VE9MRA=="}}],` +
		`"code":{"text":"KEPT"},%s}`
	binary := `{"resourceType":"Binary","id":"b","data":"VE9MRA=="}`
	inner := panel("inner", "sound", "hidden")
	derived := `{"resourceType":"Observation","id":"derived","derivedFrom":` +
		refs("Observation", "hidden", "sound") + `}`
	for _, c := range []struct {
		names  string
		beside []string
		leaves bool
	}{
		{`"result":` + refs("Observation", "inner"), []string{inner}, false},
		{`"result":` + refs("Observation", "sound", "outer"),
			[]string{inner, panel("outer", "sound", "inner")}, false},
		{`"result":` + refs("Observation", "derived"), []string{derived}, false},
		{`"result":[{"reference":"https://ehr.example.org/fhir/Observation/inner"}]`,
			[]string{inner}, false},
		{`"result":[{"reference":"urn:uuid:inner"}]`, []string{inner}, false},
		{`"result":[{"identifier":{"value":"PANEL-777"}}]`, []string{strings.Replace(inner,
			`,"hasMember"`, `,"identifier":[{"value":"PANEL-777"}],"hasMember"`, 1)}, false},
		{`"contained":[{"resourceType":"Observation","id":"c","hasMember":` +
			refs("Observation", "inner", "sound") + `}],"result":[{"reference":"#c"}]`,
			[]string{inner}, false},
		{`"result":` + refs("Observation", "round"), []string{inner,
			panel("round", "sound", "turn"), panel("turn", "round", "inner")}, false},
		{`"result":` + refs("Observation", "round"),
			[]string{panel("round", "sound", "turn"), panel("turn", "round", "sound")}, true},
		{`"result":` + refs("Observation", "sound"), []string{inner}, true},
		{`"result":` + refs("Observation", "sound"), []string{panel("outer", "absent", "sound")},
			true},
	} {
		lines := slices.Concat(c.beside, []string{soundPart, hiddenPart, binary,
			fmt.Sprintf(report, c.names)})
		partsFirst := slices.Concat(lines[len(c.beside):len(lines)-1], c.beside,
			lines[len(lines)-1:])
		for _, record := range append(orders(lines...), partsFirst) {
			for _, resolved := range []bool{false, true} {
				r := reviewOf(t, everything(ehi.HIV), resolved, record...)
				got := released(t, r, lines[len(lines)-2:]...)
				all := strings.Join(got, "")
				if !strings.Contains(all, "KEPT") || len(got) == 2 != c.leaves ||
					strings.Contains(all, "VE9MRA==") != c.leaves ||
					(strings.Count(all, "TOLD") == 4) != c.leaves ||
					!c.leaves && strings.Contains(all, "TOLD") {
					t.Errorf("of\n%s\nthe texts leave, want %t:\n%s", strings.Join(record, "\n"),
						c.leaves, strings.Join(got, "\n"))
				}
				find := func(typ, id string) ([]byte, error) {
					for _, line := range record {
						if strings.Contains(line, `"`+typ+`","id":"`+id+`"`) {
							return []byte(line), nil
						}
					}
					return nil, nil
				}
				reason, err := r.Native().Describes([]byte(lines[len(lines)-1]), find)
				if err != nil || (reason == "") != c.leaves {
					t.Errorf("%s: what belongs to the report leaves, want %t: %q, %v", c.names,
						c.leaves, reason, err)
				}
			}
		}
	}
}

// EHI-9: so it is with each resource that consists of others by the definitions of R4, and with
// no other Reference: what a resource is for, where it was made, and what follows it.
func TestEHI9WhatConsistsOfOthersTellsOfNoWithheldPart(t *testing.T) {
	const group = `{"resourceType":"Group","id":"group","member":[{"entity":` +
		`{"reference":"Device/hidden"}},{"entity":{"reference":"Device/sound"}}]}`
	devices := []string{
		group, `{"resourceType":"Device","id":"hidden",` + hivLabel + `}`,
		`{"resourceType":"Device","id":"sound"}`,
	}
	for _, c := range []struct {
		fields string
		leaves bool
	}{
		{`"resourceType":"List","entry":[{"item":PANEL}]`, false},
		{`"resourceType":"DocumentManifest","content":[PANEL]`, false},
		{`"resourceType":"DocumentReference","context":{"related":[PANEL]}`, false},
		{`"resourceType":"DocumentReference","relatesTo":[{"target":PANEL}]`, false},
		{`"resourceType":"Composition","section":[{"entry":[PANEL]}]`, false},
		{`"resourceType":"Composition","section":[{"section":[{"entry":[PANEL]}]}]`, false},
		{`"resourceType":"Composition","event":[{"detail":[PANEL]}]`, false},
		{`"resourceType":"Composition","relatesTo":[{"targetReference":PANEL}]`, false},
		{`"resourceType":"DiagnosticReport","media":[{"link":PANEL}]`, false},
		{`"resourceType":"DiagnosticReport","imagingStudy":[PANEL],"result":[OTHER]`, false},
		{`"resourceType":"Communication","payload":[{"contentReference":PANEL}]`, false},
		{`"resourceType":"CommunicationRequest","payload":[{"contentReference":PANEL}]`, false},
		{`"resourceType":"MessageHeader","focus":[PANEL]`, false},
		{`"resourceType":"Group","member":[{"entity":{"reference":"Group/group"}}]`, false},
		{`"resourceType":"Bundle","entry":[{"resource":{"resourceType":"List","id":"in",` +
			`"entry":[{"item":PANEL},{"item":OTHER}]}}]`, false},
		{`"resourceType":"Procedure","contained":[{"resourceType":"List","id":"c","entry":` +
			`[{"item":PANEL},{"item":OTHER}]}],"extension":[{"url":"x","valueReference":` +
			`{"reference":"#c"}}]`, false},

		{`"resourceType":"Procedure","reasonReference":[PANEL]`, true},
		{`"resourceType":"Condition","evidence":[{"detail":[PANEL]}]`, true},
		{`"resourceType":"Provenance","target":[PANEL]`, true},
		{`"resourceType":"Observation","focus":[PANEL]`, true},
		{`"resourceType":"Media","partOf":[PANEL]`, true},
		{`"resourceType":"DetectedIssue","implicated":[PANEL]`, true},
		{`"resourceType":"RiskAssessment","basis":[PANEL]`, true},
		{`"resourceType":"ClinicalImpression","problem":[PANEL]`, true},
		{`"resourceType":"DiagnosticReport","basedOn":[PANEL],"result":[OTHER]`, true},
		{`"resourceType":"AllergyIntolerance","extension":[{"url":"x","valueReference":PANEL}]`,
			true},
		{`"resourceType":"List","entry":[{"item":OTHER}]`, true},
	} {
		fields := strings.NewReplacer("PANEL", `{"reference":"Observation/panel"}`,
			"OTHER", `{"reference":"Observation/sound"}`).Replace(c.fields)
		line := `{"id":"whole",` + fields + `,` + told + `}`
		lines := append([]string{panel("panel", "hidden", "sound"), hiddenPart, soundPart, line},
			devices...)
		if strings.Contains(line, `"Group"`) { // nothing else refers to it
			lines = append(lines, `{"resourceType":"Basic","id":"basic","subject":`+
				`{"reference":"Group/whole"}}`)
		}
		for _, record := range orders(lines...) {
			got := released(t, reviewOf(t, everything(ehi.HIV), true, record...), line)
			if len(got) != 1 || strings.Contains(got[0], "TOLD") != c.leaves {
				t.Errorf("the narrative leaves, want %t: %s\n%v", c.leaves, line, got)
			}
		}
	}
}

// EHI-9: a section of a document loses its text if an entry of it, however it is named, refers to
// something of which a part is withheld. Other sections keep theirs, and no entry is lost.
func TestEHI9ASectionTellsOfNoWithheldPartOfItsEntries(t *testing.T) {
	section := func(text, rest string) string {
		return `{"text":{"div":"` + text + `"},` + rest + `}`
	}
	for _, named := range []string{
		`{"reference":"Observation/panel"}`,
		`{"type":"Observation","reference":"urn:uuid:panel","display":"x"}`,
		`{"identifier":{"system":"urn:own","value":"PANEL-777"}}`,
		`{"identifier":{"value":"PANEL-777"},"extension":[{"url":"x","valueReference":` +
			`{"reference":"Observation/sound"}}]}`,
		`{"reference":"#c"}`,
	} {
		line := `{"resourceType":"Composition","id":"whole",` + told + `,"contained":[` +
			`{"resourceType":"List","id":"c","entry":[{"item":{"reference":"Observation/panel"}},` +
			`{"item":{"reference":"Observation/sound"}}]}],"section":[` +
			section("KEPT", `"title":"T1","entry":[{"reference":"Observation/sound"},`+
				`{"reference":"urn:uuid:sound"},{"identifier":{"value":"SOUND-777"}},`+
				`{"reference":"#c"}]`) + `,` +
			section("OUTER", `"title":"T2","section":[`+
				section("KEPT", `"title":"T3"`)+`,`+
				section("INNER", `"title":"T4","entry":[`+named+`]`)+`]`) + `]}`
		if !strings.Contains(named, "#c") {
			line = strings.Replace(line, `,{"reference":"#c"}`, ``, 1)
		}
		lines := []string{
			strings.Replace(panel("panel", "hidden", "sound"), `,"hasMember"`,
				`,"identifier":[{"system":"urn:own","value":"PANEL-777"}],"hasMember"`, 1),
			hiddenPart, strings.Replace(soundPart, `}`,
				`,"identifier":[{"value":"SOUND-777"}]}`, 1), line,
		}
		for _, record := range orders(lines...) {
			got := strings.Join(released(t, reviewOf(t, everything(ehi.HIV), true, record...), line),
				"")
			kept := 2
			if strings.Contains(named, "#c") {
				kept = 1
			}
			if strings.Count(got, "KEPT") != kept || strings.Contains(got, "OUTER") ||
				strings.Contains(got, "INNER") || strings.Contains(got, "TOLD") ||
				!strings.Contains(got, named) || strings.Count(got, `"title"`) != 4 {
				t.Errorf("%s\nbecame %s", line, got)
			}
		}
	}
}

// EHI-9: what refers to a contained resource that names something withheld describes it, too: a
// section, a report and a List that is contained beside it, directly or through another one.
func TestEHI9WhatIsContainedTellsOfNoWithheldPartOfItsParts(t *testing.T) {
	const list = `{"resourceType":"List","id":"l",` + told + `,"entry":[{"item":` +
		`{"reference":"#r"}},{"item":{"reference":"Observation/sound"}}]}`
	const report = `{"resourceType":"DiagnosticReport","id":"r",` + told +
		`,"conclusion":"TOLD","result":[{"reference":"#b"},{"reference":"Observation/sound"}]}`
	for _, line := range []string{
		`{"resourceType":"Composition","id":"whole","contained":[PANEL],"section":[{"text":` +
			`{"div":"TOLD"},"entry":[{"reference":"#b"}]},{"title":"other"}]}`,
		`{"resourceType":"Condition","id":"whole","contained":[` + report +
			`,PANEL],"evidence":[{"detail":[{"reference":"#r"}]}]}`,
		`{"resourceType":"Condition","id":"whole","contained":[` + list + `,` + report +
			`,PANEL],"evidence":[{"detail":[{"reference":"#l"}]}]}`,
	} {
		for _, c := range []struct {
			member, beside string
			form           *ehi.ReleaseForm
			leaves         bool
		}{
			{`{"reference":"Observation/hidden"}`, hiddenPart, everything(ehi.HIV), false},
			{`{"reference":"urn:uuid:hidden"}`, hiddenPart, everything(ehi.HIV), false},
			{`{"identifier":{"value":"HIDDEN-777"}}`, strings.Replace(hiddenPart, `"id"`,
				`"identifier":[{"value":"HIDDEN-777"}],"id"`, 1), everything(ehi.HIV), false},
			{`{"reference":"Observation/sound"}`, hiddenPart, everything(ehi.HIV), true},
			{`{"reference":"Observation/hidden"}`, hiddenPart, everything(), true},
			{`{"reference":"Observation/hidden"}`, `{"resourceType":"Observation","id":"hidden",` +
				labeled + `}`, allBut(ehi.Labs), true},
		} {
			panel := `{"resourceType":"Observation","id":"b",` + told + `,"hasMember":[` + c.member +
				`,{"reference":"Observation/sound"}]}`
			line := strings.Replace(line, `PANEL`, panel, 1)
			for _, record := range orders(line, c.beside, soundPart) {
				for _, resolved := range []bool{false, true} {
					got := released(t, reviewOf(t, c.form, resolved, record...), line)
					all, want := strings.Join(got, ""), 0
					if c.leaves {
						want = strings.Count(line, "TOLD")
					}
					if len(got) != 1 || strings.Count(all, "TOLD") != want ||
						strings.Count(all, `"id"`) != strings.Count(line, `"id"`) {
						t.Errorf("%s\nof %v\nbecame %s, want %d texts", line, record, all, want)
					}
				}
			}
		}
	}
}

// EHI-9: the presentedForm of a contained report does not leave if a part of the report, or of its
// parts, is withheld. Neither does the Binary that it shows.
func TestEHI9AContainedReportPresentsNothingOfAWithheldPart(t *testing.T) {
	const binary = `{"resourceType":"Binary","id":"b","data":"VE9MRA=="}`
	const presents = `{"resourceType":"DiagnosticReport","id":"r","code":{"text":"KEPT"},` +
		`"result":%s,"presentedForm":[{"title":"TOLD","data":"VE9MRA=="},{"title":"TOLD",` +
		`"url":"Binary/b"}]}`
	for _, holder := range []string{
		`{"resourceType":"Condition","id":"whole","contained":[REPORT],` +
			`"evidence":[{"detail":[{"reference":"#r"}]}]}`,
		`{"resourceType":"List","id":"whole","contained":[REPORT],"entry":[{"item":` +
			`{"reference":"#r"}},{"item":{"reference":"Observation/sound"}}]}`,
		`{"resourceType":"Composition","id":"whole","contained":[REPORT],"section":[{"entry":` +
			`[{"reference":"#r"}]}]}`,
	} {
		for _, c := range []struct {
			part, beside string
			form         *ehi.ReleaseForm
			leaves       bool
		}{
			{"hidden", hiddenPart, everything(ehi.HIV), false},
			{"panel", hiddenPart, everything(ehi.HIV), false},
			{"sound", hiddenPart, everything(ehi.HIV), true},
			{"hidden", hiddenPart, everything(), true},
			{"hidden", `{"resourceType":"Observation","id":"hidden",` + labeled + `}`,
				allBut(ehi.Labs), true},
		} {
			report := fmt.Sprintf(presents, refs("Observation", c.part, "sound"))
			line := strings.Replace(holder, `REPORT`, report, 1)
			lines := []string{line, c.beside, soundPart, panel("panel", "hidden", "sound"), binary}
			for _, record := range orders(lines...) {
				for _, resolved := range []bool{false, true} {
					r := reviewOf(t, c.form, resolved, record...)
					got := strings.Join(released(t, r, line, binary), "")
					told := strings.Count(got, "TOLD") + strings.Count(got, "VE9MRA==")
					if !strings.Contains(got, "KEPT") || c.leaves && told != 4 ||
						!c.leaves && told != 0 {
						t.Errorf("%s\nof %v\nbecame %s, leaves: %t", line, record, got, c.leaves)
					}
				}
			}
		}
	}
}

// EHI-9: a member counts through a panel that is only not ticked, and does not count if it is only
// not ticked itself.
func TestEHI9APartThatIsOnlyNotTickedHidesNoneOfItsParts(t *testing.T) {
	report := `{"resourceType":"DiagnosticReport","id":"report",` + told + `,"result":` +
		refs("Observation", "panel", "sound") + `}`
	unticked := strings.Replace(panel("panel", "hidden", "sound"), `,"hasMember"`,
		`,`+labeled+`,"hasMember"`, 1)
	lab := `{"resourceType":"Observation","id":"hidden",` + labeled + `}`
	for _, c := range []struct {
		member string
		form   *ehi.ReleaseForm
		leaves bool
	}{
		{hiddenPart, allBut(ehi.Labs), false},
		{lab, allBut(ehi.Labs), true},
		{hiddenPart, everything(), true},
	} {
		for _, record := range orders(report, unticked, c.member, soundPart) {
			got := released(t, reviewOf(t, c.form, true, record...), report)
			if len(got) != 1 || strings.Contains(got[0], "TOLD") != c.leaves {
				t.Errorf("%v: the narrative leaves, want %t: %v", record, c.leaves, got)
			}
		}
	}
	list := `{"resourceType":"List","id":"list","entry":[{"item":{"reference":` +
		`"Observation/hidden"}},{"item":{"reference":"Observation/sound"}}]}`
	scan := `{"resourceType":"DocumentReference","id":"scan",` + told + `,"context":{"related":` +
		refs("List", "list") + `}}`
	for _, record := range orders(list, scan, hiddenPart, soundPart) {
		got := released(t, reviewOf(t, allBut(ehi.MedicalRecord), true, record...), scan)
		if len(got) != 1 || strings.Contains(got[0], "TOLD") {
			t.Errorf("%v became %v", record, got)
		}
	}
}

// EHI-9: for random records, a narrative leaves exactly if nothing is withheld that can be reached
// from its resource by the names of parts, in any order, chain and circle. An oracle that knows
// nothing of the filter follows the names.
func TestEHI9NarrativesLeaveIfNothingTheyDescribeIsWithheld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := []struct{ typ, begin, end string }{
			{"Observation", `"hasMember":[`, `]`},
			{"Observation", `"derivedFrom":[`, `]`},
			{"DiagnosticReport", `"result":[`, `]`},
			{"DocumentReference", `"context":{"related":[`, `]}`},
			{"List", `"entry":[`, `]`},
			{"DocumentManifest", `"content":[`, `]`},
			{"Condition", `"evidence":[{"detail":[`, `]}]`},
		}
		n := rapid.IntRange(2, 12).Draw(t, "resources")
		chosen, hides := make([]int, n), make([]bool, n)
		for i := range n {
			chosen[i] = rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")
			hides[i] = rapid.IntRange(0, 5).Draw(t, "hides") == 0
		}
		name := func(i int) string { return fmt.Sprintf("%s/r%d", kinds[chosen[i]].typ, i) }
		parts, lines := make([][]int, n), make([]string, n)
		for i := range n {
			k, names := kinds[chosen[i]], []string{`{"reference":"Observation/anchor"}`}
			for range rapid.IntRange(0, 3).Draw(t, "parts") {
				to := rapid.IntRange(0, n-1).Draw(t, "part")
				parts[i] = append(parts[i], to)
				ref := rapid.SampledFrom([]string{
					name(to), "https://ehr.example.org/fhir/" + name(to), name(to) + "/_history/1",
				}).Draw(t, "spelling")
				names = append(names, `{"reference":"`+ref+`"}`)
			}
			if k.typ == "List" {
				for j := range names {
					names[j] = `{"item":` + names[j] + `}`
				}
			}
			label := ""
			if hides[i] {
				label = hivLabel + `,`
			}
			lines[i] = fmt.Sprintf(`{"resourceType":"%s","id":"r%d",%s%s,%s%s%s}`, k.typ, i, label,
				told, k.begin, strings.Join(names, ","), k.end)
		}
		leaves := func(i int) bool {
			seen, todo := map[int]bool{i: true}, []int{i}
			for len(todo) > 0 {
				at := todo[0]
				todo = todo[1:]
				for _, to := range parts[at] {
					if hides[to] && (at == i || kinds[chosen[at]].typ != "Condition") {
						return false // a Reference of its own, or of a part that has parts
					}
					if !seen[to] && kinds[chosen[at]].typ != "Condition" {
						seen[to], todo = true, append(todo, to)
					}
				}
			}
			return true
		}
		record := rapid.Permutation(append(slices.Clone(lines),
			`{"resourceType":"Observation","id":"anchor"}`)).Draw(t, "record")
		p, err := shippedPolicy(everything(ehi.HIV))
		if err != nil {
			t.Fatal(err)
		}
		x := release.Decided(t, p, rapid.Bool().Draw(t, "resolved"), record...).Releaser()
		for i, line := range lines {
			out, ok, err := x.Release([]byte(line))
			if err != nil || ok == hides[i] {
				t.Fatalf("%s leaves: %t, %v", line, ok, err)
			}
			if ok && strings.Contains(string(out), "TOLD") != leaves(i) {
				t.Fatalf("of\n%s\nthe narrative leaves, want %t: %s", strings.Join(record, "\n"),
					leaves(i), out)
			}
		}
	})
}

func shippedPolicy(form *ehi.ReleaseForm) (*release.Policy, error) {
	rules, err := shippedRules()
	if err != nil {
		return nil, err
	}
	return rules.Policy(form, ehi.KickOff{})
}

// EHI-9: chains of ten thousand panels, and panels of ten thousand members, are followed to their
// end, in any order of the record.
func TestEHI9PartsAreFollowedHoweverManyThereAre(t *testing.T) {
	const n = 10_000
	id := func(i int) string { return fmt.Sprintf("panel-%d", i) }
	chain, members := map[string]string{}, []string{"hidden"}
	for i := range n {
		next := id(i + 1)
		if i == n-1 {
			next = "hidden"
		}
		chain[id(i)] = panel(id(i), next, "sound")
		members = append(members, fmt.Sprintf("member-%d", i))
	}
	wide := panel("wide", members...)
	report := `{"resourceType":"DiagnosticReport","id":"report",` + told + `,"presentedForm":` +
		`[{"title":"TOLD"}],"result":` + refs("Observation", id(0), "sound") + `}`
	above := `{"resourceType":"DiagnosticReport","id":"above",` + told + `,"result":` +
		refs("Observation", "wide", "sound") + `}`
	record := append(slices.Collect(maps.Values(chain)), wide, report, above, hiddenPart, soundPart)
	r := reviewOf(t, everything(ehi.HIV), true, record...)
	for _, line := range released(t, r, record...) {
		if strings.Contains(line, "TOLD") {
			t.Fatalf("%.300s", line)
		}
	}
}

// EHI-9: the preview of a form does not count the Binary of a report's presentedForm if a member of
// a panel among the report's results would be withheld, and counts it otherwise.
func TestEHI9APreviewCountsNoBinaryOfAReportWithAWithheldMember(t *testing.T) {
	report := `{"resourceType":"DiagnosticReport","id":"report","presentedForm":[{"url":` +
		`"Binary/b"}],"result":` + refs("Observation", "outer", "sound") + `}`
	lines := []string{
		report, panel("outer", "inner"), panel("inner", "hidden", "sound"), hiddenPart, soundPart,
		`{"resourceType":"Binary","id":"b","data":"VE9MRA=="}`,
	}
	for _, record := range orders(lines...) {
		s, err := rules(t).Summarize(ehi.KickOff{})
		for i := 0; i < len(record) && err == nil; i++ {
			err = s.Observe([]byte(record[i]))
		}
		if err == nil {
			err = s.Conclude()
		}
		if err != nil {
			t.Fatal(err)
		}
		for released, form := range map[int64]*ehi.ReleaseForm{
			4: everything(ehi.HIV), 6: everything(),
		} {
			p, err := rules(t).Policy(form, ehi.KickOff{})
			if err != nil {
				t.Fatal(err)
			}
			counts, err := s.Summary().Count(p)
			if err != nil || counts.All.Released != released {
				t.Errorf("%d are counted, want %d: %v", counts.All.Released, released, err)
			}
			var lines int64
			for _, line := range releasedBy(t, p, record) {
				if line != "" {
					lines++
				}
			}
			if lines != released {
				t.Errorf("%d leave, want %d", lines, released)
			}
		}
	}
}

func releasedBy(t *testing.T, p *release.Policy, record []string) []string {
	return released(t, release.Decided(t, p, true, record...), record...)
}
