package release

import (
	"fmt"
	"os"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Policy is what one job's form and kick-off allow. It is read-only and may be shared.
type Policy struct {
	everything bool
	narrow     []choices // each must allow a resource
	authorised authorizations
	sensitive  *Table
	documents  *Table
}

// choices are enabled categories with their date limits.
type choices map[ehi.Category]limits

type limits struct{ from, to time.Time }

// Rules makes policies. It holds the tables.
type Rules struct {
	sensitive, documents *Table
	digest               string
}

// NewRules makes the rules with a table of sensitive codes, see SensitiveTable.
func NewRules(sensitive *Table) *Rules {
	return &Rules{sensitive: sensitive, documents: documentTable(), digest: sensitive.digest}
}

// Digest stands for the configured part of the rules: two with equal digests decide alike in one
// build.
func (r *Rules) Digest() string { return r.digest }

// RulesFromFile makes the rules with the table of sensitive codes in a file; "" is the shipped one.
func RulesFromFile(path string) (*Rules, error) {
	if path == "" {
		table, err := SensitiveTable(nil)
		return NewRules(table), err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	table, err := SensitiveTable(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return NewRules(table), nil
}

// Policy turns what a job's patient and application chose into a policy. Without a form and
// without categories everything goes.
func (r *Rules) Policy(form *ehi.ReleaseForm, kickOff ehi.KickOff) (*Policy, error) {
	p := &Policy{everything: form == nil, sensitive: r.sensitive, documents: r.documents}
	if form != nil {
		c, err := fromForm(form.Parameters)
		if err != nil {
			return nil, err
		}
		p.narrow = append(p.narrow, c)
		for _, a := range ehi.Authorizations() {
			if form.Authorizes(a.Key) {
				p.authorised |= authorizationBits[string(a.Key)]
			}
		}
	} else {
		p.authorised = ^authorizations(0)
	}
	if len(kickOff.Categories) > 0 || kickOff.From != "" || kickOff.To != "" {
		c, err := fromForm(asked(kickOff))
		if err != nil {
			return nil, err
		}
		p.narrow, p.everything = append(p.narrow, c), false
	}
	return p, nil
}

// asked turns the categories and dates of a kick-off (EHI-6) into lines of the form; no category
// means all of them.
func asked(k ehi.KickOff) map[ehi.Category]ehi.Choice {
	keys := k.Categories
	if len(keys) == 0 {
		for _, c := range ehi.Categories() {
			keys = append(keys, c.Key)
		}
	}
	m := map[ehi.Category]ehi.Choice{}
	for _, key := range keys {
		m[key] = ehi.Choice{From: k.From, To: k.To}
	}
	return m
}

func fromForm(parameters map[ehi.Category]ehi.Choice) (choices, error) {
	out := choices{}
	for key, c := range parameters {
		from, to, err := c.Span()
		if err != nil {
			return nil, err
		}
		if key == ehi.MedicalRecord { // takes no dates (EHI-8)
			from, to = time.Time{}, time.Time{}
		}
		out[key] = limits{from, to}
	}
	return out, nil
}

// examiner makes one that derives what the policy's decisions need.
func (p *Policy) examiner() examiner {
	n := len(fhir.Types()) + 1
	return examiner{
		policy: p,
		dated:  p.dated(),
		traits: make([]trait, n),
		moulds: make([]moulds, n),
	}
}

// dated reports whether a decision may depend on when something happened.
func (p *Policy) dated() bool {
	for _, c := range p.narrow {
		for _, l := range c {
			if !l.from.IsZero() || !l.to.IsZero() {
				return true
			}
		}
	}
	return false
}

// Everything reports whether the policy withholds nothing, so that a complete record can pass
// unread.
func (p *Policy) Everything() bool { return p.everything }

// allows reports whether a resource's category and date are released.
func (p *Policy) allows(key ehi.Category, f *facts) bool {
	for _, c := range p.narrow {
		l, on := c[key]
		if !on {
			return false
		}
		if l.from.IsZero() && l.to.IsZero() {
			continue
		}
		// What does not say when it was cannot be shown to lie within the limits: it stays.
		if !f.happened.Overlap(l.from, l.to) {
			return false
		}
	}
	return true
}

// category is the line of the form that a resource falls under; "" for what is always released
// (EHI-8).
func category(f *facts) ehi.Category {
	switch string(f.typ) {
	case "Patient":
		return ""
	case "Encounter", "Procedure":
		return ehi.Visits
	case "Observation", "DiagnosticReport":
		if f.laboratory {
			return ehi.Labs
		}
		return ""
	case "Claim", "ExplanationOfBenefit", "Coverage", "Account":
		return ehi.Billing
	case "DocumentReference", "Media", "ImagingStudy":
		return f.documentGroup()
	}
	if isThing(f.typ) {
		return ""
	}
	return ehi.MedicalRecord
}

// Reasons under which withheld resources are counted, besides the keys of categories and
// authorizations.
const (
	categoryReason    = "category."
	sensitiveReason   = "sensitive."
	presentedReason   = "document."
	referenceOnlyName = "reference-only"
	unusedName        = "unused" // counted as reference-only
)

// withhold says why a resource stays; "" where it may go.
func (p *Policy) withhold(f *facts) (reason string) {
	if missing := f.needs() &^ p.authorised; missing != 0 {
		return sensitiveReason + string(missing.first())
	}
	if key := category(f); key != "" && !p.allows(key, f) {
		return categoryReason + string(key)
	}
	return ""
}

// needs is the authorizations without which a resource stays. The Patient always goes (EHI-8).
func (f *facts) needs() authorizations {
	if string(f.typ) == "Patient" {
		return 0
	}
	return f.sensitive
}

// Filter decides about the resources of a population one at a time. References stay as they are:
// what was not asked for is not withheld from anybody.
type Filter struct {
	policy *Policy
	parts  []*filtered
}

// filtered is a Releaser by a Filter.
type filtered struct {
	examine examiner
	counts  map[string]int64
}

// Filter starts the decisions about a population's resources.
func (p *Policy) Filter() *Filter { return &Filter{policy: p} }

// Releaser makes one; all are made before the first is used.
func (f *Filter) Releaser() Releaser {
	part := &filtered{f.policy.examiner(), map[string]int64{}}
	part.examine.alone = true
	f.parts = append(f.parts, part)
	return part
}

// Withheld is how many resources stayed, by reason; it is called when the releasers are through.
func (f *Filter) Withheld() map[string]int64 {
	all := map[string]int64{}
	for _, part := range f.parts {
		for reason, n := range part.counts {
			all[reason] += n
		}
	}
	return all
}

// Release implements Releaser.
func (f *filtered) Release(line []byte) (out []byte, ok bool, err error) {
	if q, ok := f.examine.quick(line); ok {
		if q.verdict != 0 {
			f.counts[reasons[q.verdict.reason()]]++
		}
		return line, q.verdict == 0, nil
	}
	found, err := f.examine.examine(line)
	if err != nil {
		return nil, false, err
	}
	if reason := f.examine.policy.withhold(found); reason != "" {
		f.counts[reason]++
		return nil, false, nil
	}
	return line, true, nil
}
