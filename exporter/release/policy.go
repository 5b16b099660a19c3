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
	narrow     []choices // a resource must pass each of them
	authorised authorizations
	sensitive  *Table
	documents  *Table
}

// choices are enabled categories with their date limits.
type choices map[ehi.Category]limits

type limits struct{ from, to time.Time }

// Rules creates policies. It holds the code tables.
type Rules struct {
	sensitive, documents *Table
	digest               string
}

// NewRules returns the rules with a table of sensitive codes, see SensitiveTable.
func NewRules(sensitive *Table) *Rules {
	return &Rules{sensitive: sensitive, documents: shippedDocumentTable(), digest: sensitive.digest}
}

// Digest identifies the configured part of the rules. In one build, two Rules with equal digests
// make the same decisions.
func (r *Rules) Digest() string { return r.digest }

// Flags are the settings of the release rules.
type Flags struct {
	// Table is a file with the table of sensitive codes. "": the built-in table.
	Table string `name:"sensitive-table" help:"CSV file of sensitive codes (system,code,authorization) that replaces the built-in table." type:"existingfile" env:"EHI_SENSITIVE_TABLE"`
}

// Rules returns the rules with the table that the flags name.
func (f Flags) Rules() (*Rules, error) { return RulesFromFile(f.Table) }

// RulesFromFile returns the rules with the table of sensitive codes in a file. For "" it uses
// the built-in table.
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

// Policy returns the policy for the choices of a job's patient and application. Without a form
// and without categories, everything is released.
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

// asked converts the categories and dates of a kick-off (EHI-6) to form lines. No category means
// all of them.
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
	for _, c := range ehi.Categories() {
		choice, on := parameters[c.Key]
		if !on {
			continue
		}
		from, to, err := choice.Span()
		if err != nil {
			return nil, err
		}
		if !c.Dated { // EHI-8
			from, to = time.Time{}, time.Time{}
		}
		out[c.Key] = limits{from, to}
	}
	return out, nil
}

// examiner returns an examiner that derives the facts that the policy depends on.
func (p *Policy) examiner() examiner {
	n := len(fhir.Types()) + 1
	return examiner{
		policy: p,
		dated:  p.dated(),
		traits: make([]trait, n),
		moulds: make([]moulds, n),
	}
}

// dated reports whether a decision may depend on a date.
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

// Everything reports whether the policy withholds nothing, so that a complete record can be
// copied unread.
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
		// A resource without a date is withheld, because it may be outside the limits.
		if !f.happened.Overlap(l.from, l.to) {
			return false
		}
	}
	return true
}

// category returns the form line of a resource; "" for one that is always released (EHI-8).
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

// Reasons under which withheld resources are counted, in addition to the keys of categories and
// authorizations.
const (
	categoryReason    = "category."
	sensitiveReason   = "sensitive."
	presentedReason   = "document."
	referenceOnlyName = "reference-only"
	unusedName        = "unused" // counted as reference-only
)

// withhold returns the reason why a resource is withheld by itself; "" if there is none.
func (p *Policy) withhold(f *facts) (reason string) {
	if missing := f.needs() &^ p.authorised; missing != 0 {
		return sensitiveReason + string(missing.first())
	}
	if key := category(f); key != "" && !p.allows(key, f) {
		return categoryReason + string(key)
	}
	return ""
}

// needs returns the authorizations without which a resource is withheld. The Patient is always
// released (EHI-8).
func (f *facts) needs() authorizations {
	if string(f.typ) == "Patient" {
		return 0
	}
	return f.sensitive
}

// Filter decides about the resources of a population one at a time. It leaves References
// unchanged, because resources that the application did not request are not secret.
type Filter struct {
	policy *Policy
	parts  []*filtered
}

// filtered is a Releaser of a Filter.
type filtered struct {
	examine examiner
	counts  map[string]int64
}

// Filter returns a new Filter for a population's resources.
func (p *Policy) Filter() *Filter { return &Filter{policy: p} }

// Releaser returns a new Releaser. Create all of them before you use the first.
func (f *Filter) Releaser() Releaser {
	part := &filtered{f.policy.examiner(), map[string]int64{}}
	part.examine.alone = true
	f.parts = append(f.parts, part)
	return part
}

// Withheld returns the number of withheld resources by reason. Call it after the releasers are
// done.
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
