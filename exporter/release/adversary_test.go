package release_test

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

var adversaryRecords = flag.Int("adversary.records", 1000, "how many adversarial records are made and released")

// made is a resource of an adversarial record, before it is spelled.
type made struct {
	typ, id, marker string
	label           string // "" for none
	category        ehi.Category
	supporting      bool // it goes with what refers to it
	about           string
	refs            []ref
}

// ref is a Reference. Its display has a token of its own and the marker of its target.
type ref struct {
	to    int
	field string
	shape string
	token string
}

// madeTypes are the types of which records are made: how they are released, the field that says what
// they are about, and fields for other References.
var madeTypes = []struct {
	typ, about string
	category   ehi.Category
	supporting bool
	fields     []string
}{
	{"Condition", "", ehi.MedicalRecord, false, []string{"evidence/detail", "recorder", "extension/valueReference"}},
	{"Observation", "", "", false, []string{"hasMember[]", "device", "performer[]", "focus[]"}},
	{"Encounter", "", ehi.Visits, false, []string{"reasonReference[]", "serviceProvider"}},
	{"Claim", "", ehi.Billing, false, []string{"provider", "related/claim"}},
	{"MedicationRequest", "medicationReference", ehi.MedicalRecord, false, []string{"requester", "reasonReference[]"}},
	{"Task", "focus", ehi.MedicalRecord, false, []string{"owner", "partOf[]"}},
	{"Provenance", "target[]", ehi.MedicalRecord, false, []string{"agent/who"}},
	{"DetectedIssue", "implicated[]", ehi.MedicalRecord, false, []string{"author"}},
	{"Communication", "about[]", ehi.MedicalRecord, false, []string{"sender", "contained/subject"}},
	{"Medication", "", "", true, []string{"manufacturer", "ingredient/itemReference"}},
	{"Practitioner", "", "", true, []string{"qualification/issuer"}},
	{"Organization", "", "", true, []string{"partOf", "endpoint[]"}},
}

// actorFields are those of them that lead to persons, places and things alone.
var actorFields = []string{
	"recorder", "device", "performer[]", "serviceProvider", "provider", "requester", "owner", "agent/who", "author", "sender",
	"manufacturer", "qualification/issuer", "partOf", "endpoint[]", "medicationReference", "ingredient/itemReference",
}

var shapes = []string{"relative", "versioned", "absolute", "identifier", "display", "conditional", "urn"}

var labels = []string{
	`{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}`, `{"code":"42CFRPart2"}`, `{"code":"psy","system":"http://hl7.org/fhir/v3/ActCode"}`,
	`{"system":"urn:oid:2.16.840.1.113883.5.25","code":"V"}`, `{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality|1","code":"R"}`,
}

// drawAdversary draws a record whose resources each have a marker that stands nowhere else.
func drawAdversary(t *rapid.T) (all []made) {
	n := rapid.IntRange(2, 9).Draw(t, "resources")
	for i := range n {
		k := rapid.SampledFrom(madeTypes).Draw(t, "type")
		m := made{typ: k.typ, marker: fmt.Sprintf("Mark%dEr", i), category: k.category, supporting: k.supporting, about: k.about}
		m.id = m.marker + strings.Repeat("-0", rapid.SampledFrom([]int{0, 4, 9}).Draw(t, "length"))
		if rapid.IntRange(0, 2).Draw(t, "labelled") == 0 {
			m.label = rapid.SampledFrom(labels).Draw(t, "label")
		}
		fields := k.fields
		if k.about != "" {
			fields = append([]string{k.about, k.about}, fields...)
		}
		for r := range rapid.IntRange(0, 4).Draw(t, "references") {
			m.refs = append(m.refs, ref{
				to: rapid.IntRange(0, n-1).Draw(t, "to"), field: rapid.SampledFrom(fields).Draw(t, "field"),
				shape: rapid.SampledFrom(shapes).Draw(t, "shape"), token: fmt.Sprintf("Tok%dx%dEn", i, r),
			})
		}
		m.refs = slices.CompactFunc(sortRefs(m.refs), func(a, b ref) bool { return a.field == b.field && !strings.HasSuffix(a.field, "[]") })
		all = append(all, m)
	}
	return all
}

func sortRefs(refs []ref) []ref {
	slices.SortStableFunc(refs, func(a, b ref) int { return strings.Compare(a.field, b.field) })
	return refs
}

// reference spells a Reference.
func reference(t *rapid.T, all []made, r ref) string {
	to := all[r.to]
	marker := to.marker
	name := strings.TrimSuffix(r.field[strings.IndexByte(r.field, '/')+1:], "[]")
	targets := fhir.ReferenceFields()[name]
	possible := slices.Contains(targets, "*") || slices.Contains(targets, to.typ)
	if r.shape == "display" && !possible && (to.supporting || slices.Contains(actorFields, r.field)) {
		marker = "" // R4 lets such a field lead to no such target
	}
	fields := []string{`"display":"` + r.token + " " + marker + `"`}
	add := func(text string) { fields = append(fields, `"reference":"`+text+`"`) }
	switch r.shape {
	case "relative":
		add(to.typ + "/" + to.id)
	case "versioned":
		add(to.typ + `\/` + to.id + "/_history/2")
	case "absolute":
		add("https://ehr.example.org/r4/" + to.typ + "/" + to.id)
	case "identifier":
		fields = append(fields, `"identifier":{"system":"urn:x","value":"ident-`+to.marker+`"}`)
	case "conditional":
		add(to.typ + "?identifier=urn:x|ident-" + to.marker)
	case "urn":
		add("urn:uuid:" + to.id)
	}
	return object(t, fields)
}

// object spells an object: its fields in any order, one of their names escaped.
func object(t *rapid.T, fields []string) string {
	fields = rapid.Permutation(fields).Draw(t, "order")
	if rapid.IntRange(0, 3).Draw(t, "escape") == 0 {
		f := &fields[rapid.IntRange(0, len(fields)-1).Draw(t, "escaped")]
		*f = fmt.Sprintf(`"\u%04x`, (*f)[1]) + (*f)[2:]
	}
	return "{" + strings.Join(fields, rapid.SampledFrom([]string{",", ",", " , "}).Draw(t, "comma")) + "}"
}

// spell makes the line of a resource.
func (m made) spell(t *rapid.T, all []made) string {
	fields := []string{
		`"resourceType":"` + m.typ + `"`, `"id":"` + m.id + `"`, `"identifier":[{"value":"ident-` + m.marker + `","system":"urn:x"}]`,
		`"text":{"div":"<div>` + m.marker + `</div>"}`, `"note":[{"text":"own ` + m.marker + `"}]`,
		`"photo":[{"title":"` + m.marker + `","data":"` + base64.StdEncoding.EncodeToString([]byte(m.marker)) + `"}]`,
		`"method":{"coding":[{"system":"urn:own","code":"code-` + m.marker + `","display":"` + m.marker + `"}]}`,
	}
	if m.label != "" {
		fields = append(fields, `"meta":{"security":[`+m.label+`]}`)
	}
	byField := map[string][]string{}
	for _, r := range m.refs {
		byField[r.field] = append(byField[r.field], reference(t, all, r))
	}
	for _, name := range slices.Sorted(mapKeys(byField)) {
		value := strings.Join(byField[name], ",")
		outer, inner, nested := strings.Cut(strings.TrimSuffix(name, "[]"), "/")
		switch {
		case outer == "contained":
			fields = append(fields, `"contained":[{"resourceType":"Basic","id":"k","`+inner+`":`+value+`}]`)
		case nested:
			fields = append(fields, `"`+outer+`":[{"`+inner+`":`+value+`}]`)
		case strings.HasSuffix(name, "[]"):
			fields = append(fields, `"`+outer+`":[`+value+`]`)
		default:
			fields = append(fields, `"`+outer+`":`+value)
		}
	}
	return object(t, fields)
}

func mapKeys(m map[string][]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// follows reports whether a shape names its target by type and id.
func (r ref) follows() bool {
	return r.shape == "relative" || r.shape == "versioned" || r.shape == "absolute"
}

// oracle says which resources go: it begins with all that may, and takes away until nothing changes.
func oracle(all []made, ticked map[ehi.Category]bool) []bool {
	goes := make([]bool, len(all))
	for i, m := range all {
		goes[i] = m.label == "" && (m.category == "" || ticked[m.category])
	}
	for before := []bool(nil); !slices.Equal(before, goes); {
		before = slices.Clone(goes)
		for i, m := range all {
			known, withheld, others := 0, 0, 0
			for _, r := range m.refs {
				switch {
				case r.field != m.about || r.shape == "identifier" || r.shape == "display":
				case !r.follows():
					others++
				case !goes[r.to]:
					withheld++
				default:
					known++
				}
			}
			goes[i] = goes[i] && (withheld == 0 || known+others > 0)
		}
		reached := make([]bool, len(all))
		for range all {
			for i, m := range all {
				for _, r := range m.refs {
					tells := r.field == m.about && m.typ != "MedicationRequest"
					if goes[i] && (!m.supporting || reached[i]) && r.follows() && !tells {
						reached[r.to] = true
					}
				}
			}
		}
		for i, m := range all {
			goes[i] = goes[i] && (!m.supporting || reached[i])
		}
	}
	return goes
}

// EHI-9: whatever a record looks like, no marker of a withheld resource leaves, and nothing that was
// released is missing: neither a resource nor a Reference to one.
func TestEHI9NoMarkerOfTheWithheldLeavesAnAdversarialRecord(t *testing.T) {
	records, lines, markers := 0, 0, 0
	for records < *adversaryRecords {
		rapid.Check(t, func(t *rapid.T) {
			all := drawAdversary(t)
			ticked, f := map[ehi.Category]bool{}, form()
			for _, c := range []ehi.Category{ehi.MedicalRecord, ehi.Visits, ehi.Billing} {
				if rapid.IntRange(0, 3).Draw(t, string(c)) > 0 {
					ticked[c], f.Parameters[c] = true, ehi.Choice{}
				}
			}
			var spelled []string
			for _, m := range all {
				spelled = append(spelled, m.spell(t, all))
			}
			review := adversaryReview(t, f, rapid.Bool().Draw(t, "resolved"), spelled)
			m := checkAdversary(t, all, oracle(all, ticked), spelled, review)
			records, lines, markers = records+1, lines+len(all), markers+m
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d records, %d resources, %d markers: none leaked, nothing missing", records, lines, markers)
}

func adversaryReview(t *rapid.T, f *ehi.ReleaseForm, resolved bool, lines []string) []string {
	rules, err := shippedRules()
	if err != nil {
		t.Fatal(err)
	}
	p, err := rules.Policy(f, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	r := p.Review()
	observer := r.Observer()
	for _, l := range lines {
		if err := observer.Observe([]byte(l)); err != nil {
			t.Fatal(err)
		}
	}
	if resolved {
		r.Resolved()
	}
	r.Conclude()
	out, x := make([]string, len(lines)), r.Releaser()
	for i, l := range lines {
		line, ok, err := x.Release([]byte(l))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			out[i] = string(line)
		}
	}
	return out
}

// checkAdversary compares what left with what the oracle says, and counts the markers it looked for.
func checkAdversary(t *rapid.T, all []made, goes []bool, spelled, out []string) (markers int) {
	text := strings.Join(out, "\n")
	report := func(format string, args ...any) {
		t.Fatalf("%s\nof\n%s\nleft\n%s", fmt.Sprintf(format, args...), strings.Join(spelled, "\n"), text)
	}
	for i, m := range all {
		if (out[i] != "") != goes[i] {
			report("%s/%s went: %v, want %v", m.typ, m.id, out[i] != "", goes[i])
		}
		if !goes[i] {
			markers++
			for _, secret := range []string{m.marker, base64.StdEncoding.EncodeToString([]byte(m.marker))} {
				if strings.Contains(text, secret) {
					report("%s of %s/%s leaked", secret, m.typ, m.id)
				}
			}
			continue
		}
		if !json.Valid([]byte(out[i])) {
			report("%s is no JSON", out[i])
		}
		if strings.Count(out[i], m.marker) < 7 {
			report("something of %s/%s itself is missing", m.typ, m.id)
		}
		for _, r := range m.refs {
			named := r.follows() || r.shape == "identifier"
			if has := strings.Contains(out[i], r.token); named && has != goes[r.to] {
				report("the Reference %s went: %v, want %v", r.token, has, goes[r.to])
			}
		}
	}
	return markers
}
