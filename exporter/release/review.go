package release

import (
	"bytes"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// Review is the decisions about one record. What it keeps of a resource is some 20 bytes. It is for one goroutine.
type Review struct {
	policy    *Policy
	examine   examiner
	index     verdicts // of what stays, or may
	released  released // all other resources
	secrets   secrets
	pointers  pointers
	attached  attachedTo
	reasons   reasons
	counts    map[string]int64
	resolved  bool    // every local reference of the record resolves within it
	strips    int     // resources that lose their presentedForm
	short     bool    // a resource that may be withheld has an id that is not looked for in texts
	ambiguous bool    // a released resource and a withheld one have the same id
	irregular bool    // a resource has its type or id twice
	notable   *filter // the ids of resources that stay, or lose something of their own
	concluded bool

	// of the line at hand
	edits []fhir.Edit
	masks [][]byte // by depth: what takes the place of the object that is open there; nil leaves it
}

// Review starts the decisions about one record.
func (p *Policy) Review() *Review {
	x := verdicts{newIndex[verdict]()}
	return &Review{
		policy: p, examine: p.examiner(), index: x, secrets: secrets{index: x}, counts: map[string]int64{},
		reasons: reasons{names: []string{""}},
	}
}

// Resolved tells that every local reference of the record resolves within it: so says its source, and nothing of it was left out.
// It is called before Conclude; each reference is looked at where it is not.
func (r *Review) Resolved() { r.resolved = true }

// Observe takes one resource of the record in. Errors: the line is not JSON.
func (r *Review) Observe(line []byte) error {
	if typ, id, ok := r.examine.quick(line); ok {
		r.released.add(r.index.resource(typ, id))
		return nil
	}
	f, err := r.examine.examine(line)
	if err != nil {
		return err
	}
	if typ, id, ok := identify(line); ok && !(bytes.Equal(typ, f.typ) && bytes.Equal(id, f.id)) {
		r.irregular = true
	}
	self, reason := r.index.resource(f.typ, f.id), r.policy.withhold(f)
	pointer := reason == "" && len(f.content) > 0 && !f.other
	if pointer {
		r.point(self, f.content)
	}
	if binary := string(f.typ) == "Binary"; reason != "" || pointer || binary {
		r.secrets.consider(f.id)
		r.short = r.short || len(f.id) < minSecret
	}
	r.attach(self, f)
	v := r.reasons.verdict(reason)
	if reason == "" && f.presents && string(f.typ) == "DiagnosticReport" && !r.policy.allows(f.documentGroup(), f) {
		v |= stripped
		r.strips++
		r.counts[presentedReason+string(f.documentGroup())]++
	}
	if v == 0 && !pointer && string(f.typ) != "Binary" {
		r.released.add(self)
		return nil
	}
	r.index.put(self, v)
	return nil
}

// point keeps what a resource refers to that says nothing else.
func (r *Review) point(self resource, targets []target) {
	r.pointers.begin(self)
	for _, t := range targets {
		r.pointers.add(r.index.resource(t.typ, t.id))
	}
}

// reasons are the reasons for which resources stay, by number; 0 is none.
type reasons struct{ names []string }

func (r *reasons) verdict(name string) verdict {
	at := slices.Index(r.names, name)
	if at < 0 {
		at = len(r.names)
		r.names = append(r.names, name)
	}
	if strings.HasPrefix(name, sensitiveReason) {
		return verdict(at) | sensitive
	}
	return verdict(at)
}

// pointers are resources that say nothing but what they refer to.
type pointers struct {
	selves  []resource
	ends    []int // of each one's targets
	targets []resource
}

func (p *pointers) begin(self resource) {
	p.selves, p.ends = append(p.selves, self), append(p.ends, len(p.targets))
}

func (p *pointers) add(target resource) {
	p.targets = append(p.targets, target)
	p.ends[len(p.ends)-1] = len(p.targets)
}

// of is the targets of pointer i.
func (p *pointers) of(i int) []resource {
	from := 0
	if i > 0 {
		from = p.ends[i-1]
	}
	return p.targets[from:p.ends[i]]
}

// Conclude ends the first pass: resources whose only content is withheld are withheld too, until nothing changes.
func (r *Review) Conclude() {
	r.withholdPointers()
	r.followDocuments()
	r.withholdPointers() // at a Binary
	r.pointers, r.attached = pointers{}, attachedTo{}
	r.conclude()
	r.concluded = true
}

// conclude counts what stays, and prepares for the look-ups of the second pass.
func (r *Review) conclude() {
	withheld := 0
	r.index.each(func(h idHash, v verdict) {
		if !v.withheld() {
			return
		}
		withheld++
		r.counts[r.reasons.names[v.reason()]]++
		if released, _ := r.index.of(h); released {
			r.ambiguous = true
		}
	})
	r.notable = newFilter(withheld + r.strips)
	r.index.each(func(h idHash, v verdict) {
		if v.withheld() || v&stripped != 0 {
			r.notable.add(h.high)
		}
	})
	r.secrets.conclude(r.notable)
	r.released.each(func(goes resource) {
		if !r.resolved || r.notable.has(goes.id.high) {
			r.known(goes)
		}
	})
	r.released = released{}
}

// known puts a released resource into the index: it is looked for by every reference where not all of them resolve, and what it is called is
// no secret.
func (r *Review) known(goes resource) {
	r.index.put(goes, 0)
	if released, withheld := r.index.of(goes.id); released && withheld {
		r.ambiguous = true
	}
}

func (r *Review) withholdPointers() {
	for again := true; again; {
		again = r.withholdSomePointers()
	}
}

// withholdSomePointers goes over the pointers, forth and back: a chain of them falls in one go, whichever way it leads.
func (r *Review) withholdSomePointers() (again bool) {
	n := len(r.pointers.selves)
	for i := range 2 * n {
		if i >= n {
			i = 2*n - 1 - i
		}
		self := r.pointers.selves[i]
		if v, _ := r.index.at(self); v.withheld() || !r.allWithheld(r.pointers.of(i)) {
			continue
		}
		r.index.set(self, r.reasons.verdict(referenceOnlyName))
		again = true
	}
	return again
}

func (r *Review) allWithheld(targets []resource) bool {
	for _, t := range targets {
		if v, known := r.index.at(t); !known || !v.withheld() {
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
	v, known, err := r.verdict(line)
	if err != nil || !known || v.withheld() {
		return dst, false, err
	}
	if v&stripped == 0 && r.clean(line) {
		return append(dst, line...), true, nil
	}
	if err := r.plan(line, v); err != nil {
		return dst, false, err
	}
	return fhir.Apply(dst, line, r.edits), true, nil
}

// verdict is what was decided about a line.
func (r *Review) verdict(line []byte) (v verdict, known bool, err error) {
	typ, id, ok := identify(line)
	if !ok || r.irregular {
		if typ, id, err = r.examine.walk.identify(line); err != nil {
			return 0, false, err
		}
	}
	n, h := r.index.known(typ), r.index.hash(id)
	if n != 0 && !r.notable.has(h.high) {
		return 0, true, nil
	}
	v, known = r.index.at(resource{n, h})
	return v, known || r.resolved, nil
}

// identify reads type and id of a resource that begins with them, as most do.
func identify(line []byte) (typ, id []byte, ok bool) {
	const first, second = `{"` + resourceType + `":"`, `","id":"`
	if !bytes.HasPrefix(line, []byte(first)) {
		return nil, nil, false
	}
	rest := line[len(first):]
	end := bytes.IndexByte(rest, '"')
	if end < 0 || !bytes.HasPrefix(rest[end:], []byte(second)) {
		return nil, nil, false
	}
	typ, rest = rest[:end], rest[end+len(second):]
	if end = bytes.IndexByte(rest, '"'); end < 0 {
		return nil, nil, false
	}
	id = rest[:end]
	return typ, id, bytes.IndexByte(typ, '\\') < 0 && bytes.IndexByte(id, '\\') < 0
}

// clean reports whether a released line certainly holds nothing that has to be masked, by a fraction of what a walk takes.
func (r *Review) clean(line []byte) bool {
	if hasCodedEscapes(line) || r.secrets.suspects(line) {
		return false
	}
	return r.resolved && !r.short && !r.ambiguous || r.referencesGo(line)
}

// hasCodedEscapes reports whether some character may be written as \u and its number.
func hasCodedEscapes(line []byte) bool {
	for {
		at := bytes.IndexByte(line, '\\')
		if at < 0 || at+1 == len(line) {
			return false
		}
		if line[at+1] == 'u' {
			return true
		}
		line = line[at+2:]
	}
}

// referencesGo reports whether every text of the line that may lead to a resource leads to something released, or outside.
func (r *Review) referencesGo(line []byte) bool {
	for _, name := range leading {
		for rest := line; ; {
			text, after, found := textBehind(rest, name)
			if !found {
				break
			}
			rest = after
			if text == nil {
				continue
			}
			if bytes.IndexByte(text, '\\') >= 0 || r.withheldBehind(text) || &name[0] == &leading[0][0] && r.mask(text) != nil {
				return false
			}
		}
	}
	return true
}

// leading are the ends of the names of fields that may lead to a resource, see leads; that of references first.
var leading = [][]byte{[]byte(`reference"`), []byte(`rl"`), []byte(`Uri"`), []byte(`Canonical"`)}

// textBehind finds the next field whose name ends so, and its text as it is spelled; nil where it has none.
func textBehind(line, name []byte) (text, rest []byte, found bool) {
	at := bytes.Index(line, name)
	if at < 0 {
		return nil, nil, false
	}
	line = bytes.TrimLeft(line[at+len(name):], " \t:")
	if len(line) == 0 || line[0] != '"' {
		return nil, line, true
	}
	end, _ := textEnd(line, 0)
	if end < 0 {
		return nil, nil, false
	}
	return line[1 : end-1], line[end:], true
}

// plan walks the line and gathers the edits that it needs.
func (r *Review) plan(line []byte, v verdict) error {
	r.edits, r.masks = r.edits[:0], r.masks[:0]
	w := &r.examine.walk
	for w.reset(line); w.next(); {
		switch {
		case w.kind == opened:
			r.masks = append(r.masks, nil)
		case w.kind == closed:
			r.closeContainer(v)
		case !w.isText:
		case string(w.key()) == "reference":
			if m := r.mask(w.text()); m != nil {
				r.masks[len(r.masks)-1] = m
			}
		default:
			r.scrub()
		}
	}
	return w.err
}

// closeContainer masks the Reference that ends here, or cuts a presentedForm out.
func (r *Review) closeContainer(v verdict) {
	w := &r.examine.walk
	top := r.masks[len(r.masks)-1]
	r.masks = r.masks[:len(r.masks)-1]
	switch {
	case top != nil:
		r.replace(w.start, w.end, top)
	case v&stripped != 0 && w.depth == 1 && string(w.key()) == "presentedForm":
		from, to := fieldSpan(w.src, w.fieldStart(), w.end)
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

// mask decides what takes the place of a Reference by its reference; nil where it may go.
func (r *Review) mask(ref []byte) []byte {
	if fhir.External(ref) {
		return nil
	}
	typ, id, local := fhir.Local(ref)
	if !local {
		return fhir.UnknownReference
	}
	v, known := r.index.find(typ, id)
	switch {
	case !known && r.resolved:
		return nil
	case !known:
		return fhir.UnknownReference
	case v.withheld():
		return fhir.MaskedReference
	}
	return nil
}

// scrub masks a text that holds the id of a withheld resource, or leads to one.
func (r *Review) scrub() {
	w := &r.examine.walk
	if w.depth == 1 && string(w.key()) == "id" || !r.secret(w.text()) && !(leads(w.key()) && r.withheldBehind(w.text())) {
		return
	}
	at := w.fieldStart()
	if at < 0 {
		r.edits = append(r.edits, fhir.Edit{Start: w.start, End: w.end, With: []byte(`"masked"`)})
		return
	}
	end, _ := textEnd(w.src, at) // of the name, as it is spelled
	with := append([]byte(`"_`), w.src[at+1:end]...)
	with = append(append(with, ':'), fhir.MaskedReference...)
	r.edits = append(r.edits, fhir.Edit{Start: at, End: w.end, With: with})
}

// secret reports whether a text holds the id of a withheld resource.
func (r *Review) secret(text []byte) bool { return len(text) >= minSecret && r.secrets.in(text) }

// withheldBehind reports whether a text leads to a withheld resource, however short its id is.
func (r *Review) withheldBehind(text []byte) bool {
	typ, id, local := fhir.Local(text)
	if !local {
		return false
	}
	v, _ := r.index.find(typ, id)
	return v.withheld()
}
