package release

import (
	"bytes"
	"strings"

	"ehi-server/shared/fhir"
)

// Review is the decisions about one record. It is for one goroutine.
type Review struct {
	policy    *Policy
	examine   examiner
	decided   map[string]decision // by type/id
	released  map[string]bool     // ids that some released resource has: they are no secret
	withheld  map[string]bool     // ids that only withheld resources have
	secrets   *secrets            // the same, to be found in texts
	onlyRefs  []pointer
	counts    map[string]int64
	edits     []fhir.Edit
	stripped  map[string]bool // type/id whose presentedForm stays
	attached  *attachedTo
	concluded bool
	starts    []frame
}

type decision struct{ reason string }

// sensitive reports whether it is the resource's own content that keeps it.
func (d decision) sensitive() bool { return strings.HasPrefix(d.reason, sensitiveReason) }

// pointer is a resource that says nothing but what it refers to.
type pointer struct {
	self    string
	targets []string
}

// frame is an object that is open during a rewrite.
type frame struct{ mask []byte }

// Review starts the decisions about one record.
func (p *Policy) Review() *Review {
	return &Review{
		policy: p, examine: examiner{policy: p}, decided: map[string]decision{}, released: map[string]bool{},
		withheld: map[string]bool{}, counts: map[string]int64{}, stripped: map[string]bool{}, attached: newAttachedTo(),
	}
}

// Observe takes one resource of the record in. Errors: the line is not JSON.
func (r *Review) Observe(line []byte) error {
	f, err := r.examine.examine(line)
	if err != nil {
		return err
	}
	self := f.typ + "/" + f.id
	reason := r.policy.withhold(&f)
	r.decided[self] = decision{reason}
	r.attached.observe(self, line)
	if reason == "" && len(f.content) > 0 && !f.other {
		r.onlyRefs = append(r.onlyRefs, pointer{self, f.content})
	}
	if reason == "" && f.typ == "DiagnosticReport" && f.attached && !r.policy.allows(f.documentGroup(), &f) {
		r.stripped[self] = true
		r.counts[presentedReason+string(f.documentGroup())]++
	}
	return nil
}

// Conclude ends the first pass: resources whose only content is withheld are withheld too, until nothing changes.
func (r *Review) Conclude() {
	r.withholdPointers()
	r.followDocuments()
	r.withholdPointers() // at a Binary
	for self, d := range r.decided {
		_, id, _ := bytes.Cut([]byte(self), []byte("/"))
		if d.reason == "" {
			r.released[string(id)] = true
			continue
		}
		r.counts[d.reason]++
		r.withheld[string(id)] = true
	}
	for id := range r.released {
		delete(r.withheld, id)
	}
	r.secrets = newSecrets(r.withheld)
	r.concluded = true
}

func (r *Review) withholdPointers() {
	for again := true; again; {
		again = false
		for _, p := range r.onlyRefs {
			if r.decided[p.self].reason == "" && r.allWithheld(p.targets) {
				r.decided[p.self] = decision{referenceOnlyName}
				again = true
			}
		}
	}
}

func (r *Review) allWithheld(targets []string) bool {
	for _, t := range targets {
		if d, known := r.decided[t]; !known || d.reason == "" {
			return false
		}
	}
	return true
}

// Withheld is how many resources stay, by reason; it is complete after Conclude.
func (r *Review) Withheld() map[string]int64 { return r.counts }

// Release appends the line as it may leave to dst. ok is false where the resource stays; dst is unchanged then.
func (r *Review) Release(dst, line []byte) (out []byte, ok bool, err error) {
	if !r.concluded {
		panic("release: Release before Conclude")
	}
	self, err := r.plan(line)
	if err != nil || r.decided[self].reason != "" {
		return dst, false, err
	}
	if len(r.edits) == 0 {
		return append(dst, line...), true, nil
	}
	return fhir.Apply(dst, line, r.edits), true, nil
}

// plan walks the line and gathers the edits that it needs.
func (r *Review) plan(line []byte) (self string, err error) {
	r.edits, r.starts = r.edits[:0], r.starts[:0]
	var typ, id string
	c := &r.examine.cursor
	for c.Reset(line); c.Next(); {
		switch {
		case c.Kind == fhir.Open:
			r.starts = append(r.starts, frame{})
		case c.Kind == fhir.Close:
			r.closeContainer(line, typ+"/"+id)
		case !c.IsString():
		case c.Depth == 1 && string(c.Key()) == "resourceType":
			typ = string(c.Text())
		case c.Depth == 1 && string(c.Key()) == "id":
			id = string(c.Text())
		case string(c.Key()) == "reference":
			r.reference(c.Text())
		default:
			r.scrub()
		}
	}
	return typ + "/" + id, c.Err()
}

// closeContainer masks the Reference that ends here, or cuts a presentedForm out.
func (r *Review) closeContainer(line []byte, self string) {
	c := &r.examine.cursor
	top := r.starts[len(r.starts)-1]
	r.starts = r.starts[:len(r.starts)-1]
	start, end := c.Span()
	switch {
	case top.mask != nil:
		r.replace(start, end, top.mask)
	case c.Depth == 1 && string(c.Key()) == "presentedForm" && r.stripped[self]:
		from, to := fieldSpan(line, c.KeyStart(), end)
		r.replace(from, to, nil)
	}
}

// replace adds an edit for a container; the edits inside it fall away.
func (r *Review) replace(start, end int, with []byte) {
	for len(r.edits) > 0 && r.edits[len(r.edits)-1].Start >= start {
		r.edits = r.edits[:len(r.edits)-1]
	}
	r.edits = append(r.edits, fhir.Edit{Start: start, End: end, With: with})
}

// fieldSpan widens a field to the comma that joins it to its neighbour.
func fieldSpan(line []byte, start, end int) (int, int) {
	if end < len(line) && line[end] == ',' {
		return start, end + 1
	}
	if start > 0 && line[start-1] == ',' {
		return start - 1, end
	}
	return start, end
}

// reference decides about the Reference that is open.
func (r *Review) reference(ref []byte) {
	if fhir.External(ref) {
		return
	}
	top := &r.starts[len(r.starts)-1]
	typ, id, local := fhir.Local(ref)
	if !local {
		top.mask = fhir.UnknownReference
		return
	}
	d, known := r.decided[string(typ)+"/"+string(id)]
	switch {
	case !known:
		top.mask = fhir.UnknownReference
	case d.reason != "":
		top.mask = fhir.MaskedReference
	}
}

// scrub masks a text that holds the id of a withheld resource.
func (r *Review) scrub() {
	c := &r.examine.cursor
	start, end := c.Span()
	if c.Depth == 1 && string(c.Key()) == "id" || !r.secret(c.Text()) && !r.leadsToWithheld() {
		return
	}
	if at := c.KeyStart(); at >= 0 {
		name := append([]byte(`"_`), c.Key()...)
		r.edits = append(r.edits, fhir.Edit{Start: at, End: end, With: append(append(name, `":`...), fhir.MaskedReference...)})
		return
	}
	r.edits = append(r.edits, fhir.Edit{Start: start, End: end, With: []byte(`"masked"`)})
}

// secret reports whether a text holds the id of a withheld resource.
func (r *Review) secret(text []byte) bool { return len(text) >= minSecret && r.secrets.in(text) }

// leadsToWithheld reports whether the current text is a url that leads to a withheld resource, however short its id is.
func (r *Review) leadsToWithheld() bool {
	if !leads(r.examine.cursor.Key()) {
		return false
	}
	typ, id, local := fhir.Local(r.examine.cursor.Text())
	return local && r.decided[string(typ)+"/"+string(id)].reason != ""
}
