package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// plain is a deliberately simple Review: maps of whole ids, and a search for each withheld id in
// each text.
type plain struct {
	reasons  map[string]string
	stripped map[string]bool
	secrets  []string
}

func newPlain(t *rapid.T, p *Policy, lines []string) *plain {
	r := &plain{reasons: map[string]string{}, stripped: map[string]bool{}}
	type group struct {
		targets []string
		why     bool
	}
	pointers, used := map[string][]group{}, map[string][]string{}
	shown, parts := map[string][]string{}, map[string][]string{}
	supports, owned, tells := map[string]bool{}, map[string]bool{}, map[string][]string{}
	x := p.examiner()
	for _, line := range lines {
		f, err := x.examine([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		self := string(f.typ) + "/" + string(f.id)
		r.reasons[self] = p.withhold(f)
		f.abouts(func(targets []target, why bool) {
			about := group{why: why}
			for _, c := range targets {
				about.targets = append(about.targets, string(c.typ)+"/"+string(c.id))
			}
			pointers[self] = append(pointers[self], about)
		})
		if isSupporting(f.typ) {
			supports[self] = true
			owned[self] = f.owned
		}
		for _, s := range f.supports {
			used[string(s.typ)+"/"+string(s.id)] = append(used[string(s.typ)+"/"+string(s.id)],
				self)
		}
		for _, s := range f.tells {
			tells[string(s.typ)+"/"+string(s.id)] = append(tells[string(s.typ)+"/"+string(s.id)],
				self)
		}
		r.stripped[self] = f.presents && string(f.typ) == "DiagnosticReport" &&
			!p.allows(f.documentGroup(), f)
		f.shown(func(t target) {
			shown[self] = append(shown[self], string(t.typ)+"/"+string(t.id))
		})
		parts[self] = plainParts(t, line)
	}
	tellsOf := func(of string) bool {
		reason := r.reasons[of]
		return reason != "" && reason != unusedName && !strings.HasPrefix(reason, categoryReason)
	}
	for changed := true; changed; {
		changed = false
		withhold := func(self string) {
			if r.reasons[self] == "" || r.reasons[self] == unusedName {
				r.reasons[self], changed = referenceOnlyName, true
			}
		}
		kept := func(self string) bool {
			return r.reasons[self] != "" && r.reasons[self] != unusedName
		}
		for self, groups := range pointers {
			for _, g := range groups {
				stays := func(of string) bool { return tellsOf(of) || !g.why && kept(of) }
				if !slices.ContainsFunc(g.targets, func(of string) bool { return !stays(of) }) {
					withhold(self)
				}
			}
		}
		reached, denied := map[string]bool{}, map[string]bool{}
		reach := func() {
			for range supports {
				for self := range supports {
					for _, by := range used[self] {
						reached[self] = reached[self] ||
							r.reasons[by] == "" && (!supports[by] || reached[by])
					}
				}
			}
		}
		reach()
		for range supports {
			for self := range supports {
				for _, by := range used[self] {
					denied[self] = denied[self] || kept(by) || !reached[by] && denied[by]
				}
			}
		}
		for self := range supports {
			told := len(tells[self]) > 0 &&
				!slices.ContainsFunc(tells[self], func(by string) bool {
					return r.reasons[by] != ""
				})
			reached[self] = reached[self] || (owned[self] || told) && !denied[self]
		}
		reach()
		for self := range supports {
			switch {
			case reached[self]:
			case denied[self], slices.ContainsFunc(tells[self], kept):
				withhold(self)
			case r.reasons[self] == "":
				r.reasons[self], changed = unusedName, true
			}
		}
	}
	for self, targets := range shown {
		r.stripped[self] = r.stripped[self] || slices.ContainsFunc(targets, tellsOf) ||
			slices.ContainsFunc(reachedFrom(self, parts), tellsOf)
	}
	released := map[string]bool{}
	for self, reason := range r.reasons {
		_, id, _ := strings.Cut(self, "/")
		released[id] = released[id] || reason == ""
	}
	for id, goes := range released {
		if !goes && len(id) >= minSecret {
			r.secrets = append(r.secrets, id)
		}
	}
	return r
}

// plainParts returns what a drawn resource consists of, by encoding/json.
func plainParts(t *rapid.T, line string) (parts []string) {
	type reference struct{ Reference string }
	var m struct {
		ResourceType               string
		Result, HasMember, Content []reference
		Entry                      []struct{ Item reference }
	}
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatal(err)
	}
	named := map[string][]reference{
		"DiagnosticReport": m.Result, "Observation": m.HasMember, "DocumentManifest": m.Content,
	}[m.ResourceType]
	for _, e := range m.Entry {
		if m.ResourceType == "List" {
			named = append(named, e.Item)
		}
	}
	for _, r := range named {
		typ, _, _ := strings.Cut(r.Reference, "/")
		isResult := m.ResourceType == "DiagnosticReport" || m.ResourceType == "Observation"
		never := []string{"Encounter", "Patient", "Medication", "Practitioner", "Device"}
		if !isResult || !slices.Contains(never, typ) {
			parts = append(parts, r.Reference)
		}
	}
	return parts
}

// reachedFrom returns what something consists of, and what that consists of, and so on.
func reachedFrom(self string, parts map[string][]string) (all []string) {
	for todo := parts[self]; len(todo) > 0; todo = todo[1:] {
		if !slices.Contains(all, todo[0]) {
			all, todo = append(all, todo[0]), append(slices.Clip(todo), parts[todo[0]]...)
		}
	}
	return all
}

// holds searches each withheld id at each position of a text.
func (r *plain) holds(text string) bool {
	for _, id := range r.secrets {
		for at := 0; at+len(id) <= len(text); at++ {
			end := at + len(id)
			bounded := (at == 0 || !alphanumeric(text[at-1])) &&
				(end == len(text) || !alphanumeric(text[end]))
			if text[at:end] == id && (len(id) >= looseSecret || bounded) {
				return true
			}
		}
	}
	return false
}

func (r *plain) release(line string) (string, bool) {
	var c fhir.Cursor
	typ, id, _ := c.Identify([]byte(line))
	self := typ + "/" + id
	if r.reasons[self] != "" {
		return "", false
	}
	var edits []fhir.Edit
	replace := func(start, end int, with string) {
		for len(edits) > 0 && edits[len(edits)-1].Start >= start {
			edits = edits[:len(edits)-1]
		}
		edits = append(edits, fhir.Edit{Start: start, End: end, With: []byte(with)})
	}
	var masks []string
	for c.Reset([]byte(line)); c.Next(); {
		start, end := c.Span()
		switch {
		case c.Kind == fhir.Open:
			masks = append(masks, "")
		case c.Kind == fhir.Close:
			if m := masks[len(masks)-1]; m != "" {
				replace(start, end, m)
			} else if c.Depth == 1 && string(c.Key()) == "presentedForm" && r.stripped[self] {
				from, to := fieldSpan([]byte(line), c.KeyStart(), end)
				replace(from, to, "")
			}
			masks = masks[:len(masks)-1]
		case !c.IsString():
		case string(c.Key()) == "reference":
			if m := r.mask(c.Text()); m != "" {
				masks[len(masks)-1] = m
			}
		case c.Depth == 1 && string(c.Key()) == "id":
		case !r.holds(string(c.Text())) && r.mask(c.Text()) != string(fhir.MaskedReference):
		case c.KeyStart() < 0:
			replace(start, end, `"masked"`)
		default:
			replace(c.KeyStart(), end, `"_`+string(c.Key())+`":`+string(fhir.MaskedReference))
		}
	}
	return string(fhir.Apply(nil, []byte(line), edits)), true
}

func (r *plain) mask(ref []byte) string {
	typ, id, local := fhir.Local(ref)
	reason, known := r.reasons[string(typ)+"/"+string(id)]
	switch {
	case fhir.External(ref) || local && known && reason == "":
		return ""
	case local && known:
		return string(fhir.MaskedReference)
	}
	return string(fhir.UnknownReference)
}

// EHI-9: for random records, the decisions equal those of the plain review, byte for byte.
func TestEHI9DecisionsAreThoseOfAPlainReview(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		lines := drawRecord(t)
		policy, err := rules.Policy(drawForm(t), ehi.KickOff{})
		if err != nil {
			t.Fatal(err)
		}
		clean, counts := plainPatients(t, policy, lines)
		want, got := newPlain(t, policy, clean), policy.Review()
		observers := [2]*Observer{got.Observer(), got.Observer()}
		dangling := false
		for _, line := range lines {
			err := observers[rapid.IntRange(0, 1).Draw(t, "observer")].Observe([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			dangling = dangling || strings.Contains(line, "Patient/nowhere")
		}
		if !dangling && rapid.Bool().Draw(t, "resolved") {
			got.Resolved()
		}
		if got.Conclude() != nil {
			t.Fatal("it is to be repeated, though nothing comes twice")
		}
		releasers := [2]Releaser{got.Releaser(), got.Releaser()}
		for i, line := range lines {
			out, ok := want.release(clean[i])
			is, goes, err :=
				releasers[rapid.IntRange(0, 1).Draw(t, "releaser")].Release([]byte(line))
			if err != nil || goes != ok || goes && string(is) != out {
				t.Fatalf("%s\nreleased %v: %s\n    want %v: %s\n     err %v", line, goes, is, ok,
					out, err)
			}
		}
		for _, reason := range want.reasons {
			if reason == unusedName {
				reason = referenceOnlyName
			}
			if reason != "" {
				counts[reason]++
			}
		}
		for reason, n := range got.Withheld() {
			if !strings.HasPrefix(reason, presentedReason) && counts[reason] != n {
				t.Fatalf("withheld %v, want %v", got.Withheld(), counts)
			}
		}
	})
}

// plainPatients returns the lines with each Patient as released, which other tests check, and
// how many Patients lose something, by reason.
func plainPatients(
	t *rapid.T, p *Policy, lines []string,
) (clean []string, counts map[string]int64) {
	x, c := p.examiner(), p.cleaner()
	counts = map[string]int64{}
	for _, line := range lines {
		f, err := x.examine([]byte(line))
		if err == nil && p.needsCleaning(f) {
			counts[sensitiveReason+string((f.sensitive&^p.authorised).first())]++
			var left []byte
			left, _, err = c.clean([]byte(line))
			line = string(left)
		}
		if err != nil {
			t.Fatal(err)
		}
		clean = append(clean, line)
	}
	return clean, counts
}

// drawForm draws a patient's form; nil means no form.
func drawForm(t *rapid.T) *ehi.ReleaseForm {
	f := &ehi.ReleaseForm{
		Parameters:     map[ehi.Category]ehi.Choice{},
		Authorizations: map[ehi.Authorization]string{},
	}
	dates := rapid.SampledFrom([]string{"", "2019", "2019-03", "2019-03-02", "2020-02-28"})
	for _, c := range ehi.Categories() {
		if !rapid.Bool().Draw(t, string(c.Key)) {
			continue
		}
		choice := ehi.Choice{From: dates.Draw(t, "from"), To: dates.Draw(t, "to")}
		if _, _, err := choice.Span(); err != nil {
			choice.To = ""
		}
		f.Parameters[c.Key] = choice
	}
	for _, a := range ehi.Authorizations() {
		if rapid.Bool().Draw(t, "a."+string(a.Key)) {
			f.Authorizations[a.Key] = "true"
		}
	}
	return f
}

// drawRecord draws resources that refer to and mention each other in all ways.
func drawRecord(t *rapid.T, more ...string) (lines []string) {
	types := rapid.SampledFrom(append(more, "Patient", "Encounter", "Claim", "Condition",
		"Medication", "MedicationRequest",
		"Provenance", "DocumentManifest", "Practitioner", "Device", "DiagnosticReport",
		"DocumentReference", "Observation", "Observation"))
	ids := rapid.SampledFrom([]string{
		"1",
		"short",
		"claim-0123456789",
		"claim-01234567890",
		"a.b-c-0123456",
		"0123456789ab",
		"abcdefghijklmnopqrst",
		"abcdefghijklmnopqrstu",
		"12345678-1234-4234-8234-123456789012",
		"12345678-1234-4234-8234-123456789013",
		strings.Repeat("x", 64),
	})
	type name struct{ typ, id string }
	var all []name
	seen := map[name]bool{}
	for range rapid.IntRange(1, 12).Draw(t, "resources") {
		if n := (name{types.Draw(t, "type"), ids.Draw(t, "id")}); !seen[n] {
			seen[n], all = true, append(all, n)
		}
	}
	reference := func() string {
		rest := rapid.SampledFrom([]string{"}", "}", "}", `,"display":"x"}`, ` }`}).Draw(t, "rest")
		if rapid.IntRange(0, 30).Draw(t, "dangling") == 0 {
			return `{"reference":"Patient/nowhere"` + rest
		}
		n := rapid.SampledFrom(all).Draw(t, "target")
		slash := rapid.SampledFrom([]string{"/", "/", "/", "/", `\/`, `\u002f`}).Draw(t, "slash")
		return `{"reference":"` + n.typ + slash + n.id + `"` + rest
	}
	text := func() string {
		id := rapid.SampledFrom(all).Draw(t, "mentioned").id
		if rapid.IntRange(0, 3).Draw(t, "coded") == 0 {
			id = fmt.Sprintf(`\u%04x`, id[0]) + id[1:]
		}
		around := rapid.SampledFrom([]string{"", " ", "x", `\n`, `\"`, "-", ".", `\\`, "é", "/"})
		return `"` + around.Draw(t, "before") + id + around.Draw(t, "after") + `"`
	}
	for _, n := range all {
		var b bytes.Buffer
		fields := []string{`"resourceType":"` + n.typ + `"`, `"id":"` + n.id + `"`}
		if rapid.IntRange(0, 4).Draw(t, "turned") == 0 {
			fields[0], fields[1] = fields[1], fields[0]
		}
		for range rapid.IntRange(0, 5).Draw(t, "fields") {
			fields = append(fields, drawField(t, reference, text))
		}
		b.WriteString("{" + strings.Join(fields, ",") + "}")
		lines = append(lines, b.String())
	}
	return lines
}

func drawField(t *rapid.T, reference, text func() string) string {
	switch rapid.IntRange(0, 14).Draw(t, "field") {
	case 0:
		return `"target":[` + reference() + `,` + reference() + `]`
	case 1:
		return `"content":[` + reference() + `]`
	case 2:
		return `"medicationReference":` + reference()
	case 3:
		return `"note":[{"text":` + text() + `}]`
	case 4:
		return `"alias":[` + text() + `,1,true,` + text() + `]`
	case 5:
		return `"period":{"start":"2019-03-01","end":"2019-03-02T10:00:00Z"}`
	case 6:
		return `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode",` +
			`"code":"HIV"}]}`
	case 7:
		return `"category":[{"coding":[{"system":"x","code":"laboratory"}]}]`
	case 8:
		ref := reference()
		return `"extension":[{"url":"http://x","valueUri":` + textOf(ref) + `}]`
	case 9:
		ref := reference()
		return `"presentedForm":[{"url":` + textOf(ref) + `}]`
	case 10:
		return `"presentedForm":[{"title":` + text() + `}]`
	case 11:
		return `"result":[` + reference() + `,` + reference() + `]`
	case 12:
		return `"hasMember":[` + reference() + `,` + reference() + `]`
	}
	if rapid.Bool().Draw(t, "secured") {
		return `"securityContext":` + reference()
	}
	return `"subject":` + reference()
}

// textOf returns the text of a drawn reference, with its quotes.
func textOf(reference string) string { return `"` + strings.Split(reference, `"`)[3] + `"` }

// The counts of a summary for a form equal what a review of the record releases by that form.
func TestSummariesCountWhatReviewsRelease(t *testing.T) {
	rules, err := RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		lines := drawRecord(t, "Binary", "Binary", "Binary")
		asked := ehi.KickOff{}
		if rapid.Bool().Draw(t, "asked") {
			asked = ehi.KickOff{
				Categories: []ehi.Category{ehi.Visits, ehi.MedicalRecord, ehi.Radiology, ehi.Labs},
				From:       "2019-03-01T12:00:00Z",
			}
		}
		selected := rapid.Bool().Draw(t, "selected")
		summary := summarize(t, rules, asked, lines, selected)
		for range 3 {
			form := drawForm(t)
			got, want := counted(t, rules, summary, form),
				countedByReview(t, rules, form, asked, lines, selected)
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("%s\n%s", strings.Join(lines, "\n"), d)
			}
		}
	})
}

// isSelected is an arbitrary selection.
func isSelected(line string) bool { return len(line)%2 == 0 }

func summarize(
	t *rapid.T, rules *Rules, asked ehi.KickOff, lines []string, selected bool,
) *Summary {
	s, err := rules.Summarize(asked)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if err := s.Observe([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Conclude(); err != nil {
		t.Fatal(err)
	}
	if selected {
		s.Narrow()
	}
	for _, line := range lines {
		if selected && isSelected(line) {
			if err := s.Select([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s.Summary()
}

func counted(t *rapid.T, rules *Rules, s *Summary, form *ehi.ReleaseForm) Counts {
	p, err := rules.Policy(form, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Count(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// countedByReview counts what a review releases, line by line.
func countedByReview(
	t *rapid.T, rules *Rules, form *ehi.ReleaseForm, asked ehi.KickOff, lines []string,
	selected bool,
) Counts {
	p, err := rules.Policy(form, asked)
	if err != nil {
		t.Fatal(err)
	}
	only, err := rules.Policy(nil, asked)
	if err != nil {
		t.Fatal(err)
	}
	review, x := Decided(t, p, false, lines...), examiner{policy: p, dated: true}
	releaser := review.Releaser()
	out := Counts{
		Categories:     map[ehi.Category]Tally{},
		Authorizations: map[ehi.Authorization]Tally{},
	}
	for _, line := range lines {
		_, goes, err := releaser.Release([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if selected && !isSelected(line) {
			continue
		}
		f, err := x.examine([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		key := category(f)
		choice, on := form.Parameters[key]
		undated := on && (choice.From != "" || choice.To != "") && key != ehi.MedicalRecord &&
			len(f.happened) == 0 &&
			only.withhold(f) == "" && f.needs()&^p.authorised == 0
		out.All.add(1, goes, undated)
		tally := out.Categories[key]
		tally.add(1, goes, undated)
		out.Categories[key] = tally
		for _, a := range f.needs().list() {
			tally := out.Authorizations[a]
			tally.add(1, goes, undated)
			out.Authorizations[a] = tally
		}
	}
	return out
}

// A walk reports the same values as a fhir.Cursor.
func FuzzWalk(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":"x\"y"},{"b":1.5e3,"c":{"d":null}}],"\u0065":[],"f":{}}`))
	f.Add([]byte(`[[],[1,"two"],{}]`))
	f.Add([]byte(`{"a":1,}`))
	f.Add([]byte(`{"a" : "b" } x`))
	type value struct {
		Kind, Depth, Start, End, Field int
		Path, Text                     string
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var c fhir.Cursor
		var want []value
		for c.Reset(line); c.Next(); {
			start, end := c.Span()
			want = append(want, value{
				int(c.Kind), c.Depth, start, end, c.KeyStart(), string(c.AppendPath(nil)),
				string(c.Text()),
			})
		}
		var w walk
		var got []value
		for w.reset(line); w.next(); {
			v := value{
				int(w.kind), w.depth, w.start, w.end, w.fieldStart(), string(w.appendPath(nil)), "",
			}
			if w.isText {
				v.Text = string(w.text())
			}
			got = append(got, v)
		}
		if c.Err() != nil {
			return // a walk leaves some errors to the source
		}
		if w.err != nil {
			t.Fatalf("%q: %v", line, w.err)
		}
		if bytes.Contains(line, []byte(`\`)) {
			return // a Cursor does not decode names
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%q: %s", line, d)
		}
	})
}

// The fast search for an end finds the same position as a byte-by-byte search.
func FuzzIndexEnd(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Observation","code":"x"}`), byte('d'), byte('p'))
	f.Add([]byte("0123456789abcdde\"0123456789abcdef"), byte('d'), byte('d'))
	f.Add([]byte("eeeeeeeeeeeeeeee\""), byte('e'), byte('p'))
	f.Add([]byte{0xe4, 0x65, 0x22, 0x64, 0x65, 0x21, 0x64, 0x65, 0x22}, byte('d'), byte('p'))
	f.Fuzz(func(t *testing.T, text []byte, letter, other byte) {
		want := -1
		for at := 0; at+2 < len(text) && want < 0; at++ {
			if (text[at]^letter)&^(letter^other) == 0 && string(text[at+1:at+3]) == `e"` {
				want = at
			}
		}
		if got := indexEnd(text, letter, other, 'e'); got != want {
			t.Fatalf("%q or %q in %q: %d, want %d", letter, other, text, got, want)
		}
		if got, want := indexQuoted(text, letter, letter), bytes.Index(text,
			[]byte{letter, '"'}); got != want {
			t.Fatalf("%q and a quote in %q: %d, want %d", letter, text, got, want)
		}
	})
}
