package release

import (
	"bytes"

	"ehi-server/shared/fhir"
)

// Releaser decides about resources one at a time. It is for one goroutine; several may share a record out among themselves.
type Releaser interface {
	// Release gives a resource as it may leave: the line itself where nothing has to be changed, else what is valid until the next call. ok
	// is false where the resource stays. Errors: the line is not JSON.
	Release(line []byte) (out []byte, ok bool, err error)
}

// reviewed is a Releaser by a Review.
type reviewed struct {
	*Review
	walk  walk
	edits []fhir.Edit
	masks [][]byte // by depth: what takes the place of the object that is open there; nil leaves it
	out   []byte   // the last line that was changed
}

// mostKept is how large a buffer may be that waits for the next line: what one huge resource took is given back.
const mostKept = 1 << 20

// Releaser makes one for the second pass.
func (r *Review) Releaser() Releaser {
	if !r.concluded {
		panic("release: Releaser before Conclude")
	}
	return &reviewed{Review: r}
}

// Release implements Releaser.
func (r *reviewed) Release(line []byte) (out []byte, ok bool, err error) {
	v, known, err := r.verdict(line)
	if err != nil || !known || v.withheld() {
		return nil, false, err
	}
	if v&stripped == 0 && r.clean(line) {
		return line, true, nil
	}
	if err := r.plan(line, v); err != nil {
		return nil, false, err
	}
	if len(r.edits) == 0 {
		return line, true, nil
	}
	if cap(r.out) > mostKept {
		r.out = nil
	}
	r.out = fhir.Apply(r.out[:0], line, r.edits)
	return r.out, true, nil
}

// verdict is what was decided about a line.
func (r *reviewed) verdict(line []byte) (v verdict, known bool, err error) {
	typ, id, ok := identify(line)
	if !ok || r.irregular {
		if typ, id, err = r.walk.identify(line); err != nil {
			return 0, false, err
		}
	}
	h := r.index.hash(id)
	if !r.notable.has(h.high) {
		return 0, true, nil
	}
	v, known = r.index.at(resource{r.index.number(typ), h})
	return v, known || r.resolved, nil
}

// clean reports whether a released line certainly holds nothing that has to be masked, by a fraction of what a walk takes.
func (r *reviewed) clean(line []byte) bool {
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
func (r *reviewed) referencesGo(line []byte) bool {
	for _, name := range leading {
		for rest := line; ; {
			at := bytes.Index(rest, name)
			if at < 0 {
				break
			}
			text, after, ok := textBehind(rest[at+len(name):])
			if !ok {
				return false
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

// plan walks the line and gathers the edits that it needs.
func (r *reviewed) plan(line []byte, v verdict) error {
	r.edits, r.masks = r.edits[:0], r.masks[:0]
	w := &r.walk
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
func (r *reviewed) closeContainer(v verdict) {
	w := &r.walk
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
func (r *reviewed) replace(start, end int, with []byte) {
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
func (r *reviewed) mask(ref []byte) []byte {
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
func (r *reviewed) scrub() {
	w := &r.walk
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
func (r *reviewed) secret(text []byte) bool { return len(text) >= minSecret && r.secrets.in(text) }

// withheldBehind reports whether a text leads to a withheld resource, however short its id is.
func (r *reviewed) withheldBehind(text []byte) bool {
	typ, id, local := fhir.Local(text)
	if !local {
		return false
	}
	v, _ := r.index.find(typ, id)
	return v.withheld()
}
