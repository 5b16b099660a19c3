package reading

import (
	"bytes"
	"strings"
)

// A text can write the same characters in many ways. A view is the text as it is read by somebody
// who resolves one of them: a character set, escapes, or formatting. Views are made of each other:
//
//	the bytes - the character set -+- JSON - JSON - JSON - references -+- all references - ...
//	                               |                                   +- no markup
//	                               |                                   +- attributes with markup
//	                               |                                   +- elements with codes
//	                               +- quoted-printable - JSON - ...
//	                               +- percent-encoding - references - ...
//	                               +- UTF-7 - references - ...
//	                               +- rich text
//	                               +- codes of FHIR, JSON or HL7 v2
//	          - the character set that the text declares - ...
//
// Each view is judged wherever it differs from the one that it is made of, so that nothing is
// hidden by an escape, and nothing either by resolving what is no escape. A text goes through them
// piece by piece.
type view struct {
	step  step // makes this view of the one before; nil for the bytes as they are
	after []*view
	more  func() *view // see then
	// same is the number of bytes since the last difference to the view before.
	same int
	// coded is the number of bytes since the last one that may belong to an element whose codes
	// are judged in no view that is made of this one.
	coded  int
	last   []byte // the end of what was read, in which something may begin that goes on
	window []byte // what is judged, which begins with last
}

// step resolves one way of writing characters. It is for one text.
type step interface {
	// read returns what the next piece of a text stands for, and whether that is another text.
	// It keeps the beginning of what the piece does not end. last means that no piece follows.
	// The result is valid until the next call, or as long as the piece.
	read(piece []byte, last bool) (plain []byte, changed bool)
}

// overlap is longer than any ID or number of a resource, and than an element with a code.
const overlap = 4 << 10

// viewsOf returns the views of a text that has a media type, begins with head, and declares a
// character set.
func viewsOf(contentType string, head []byte, d declared) *view {
	t := strings.ToLower(contentType)
	sets := []*view{newView(charsetOf(head), formsOf(t, head)...)}
	if d.step != nil {
		plain, _ := d.step().read(head, false)
		sets = append(sets, newView(d.step(), formsOf(t, plain)...))
	}
	return newView(nil, sets...)
}

// formsOf returns the views of a text in UTF-8 that begins with head.
func formsOf(contentType string, head []byte) (forms []*view) {
	start := bytes.ReplaceAll(head[:min(len(head), overlap)], []byte{0}, nil)
	rich := strings.Contains(contentType, "rtf")
	if rich || bytes.Contains(start, []byte(`{\rtf`)) {
		forms = append(forms, newView(&richText{}), newView(&richText{visible: true}))
	}
	if rich {
		return forms
	}
	o := entitiesOf(head)
	forms = append(forms, o.json(),
		newView(newEscapes('=', quotedPrintable)).then(o.json),
		newView(newEscapes('%', percentEncoded)).then(o.references),
		newView(newEscapes('+', hiddenUTF7)).then(o.references))
	for _, codes := range codesOf(contentType, head, o) {
		forms = append(forms, newView(codes))
	}
	return forms
}

// json returns the views of a text that may be JSON within JSON within JSON.
func (o entities) json() *view {
	v := o.references()
	for range 3 {
		v = newView(newEscapes('\\', jsonEscape), v)
	}
	return v
}

// references returns the views of a text that may be XML or HTML, also within XML.
func (o entities) references() *view {
	m := &markup{}
	return newView(newEscapes('&', o.resolve(characterReference, false)),
		newView(newEscapes('&', o.resolve(anyReference, true))).then(seen),
		newView(m), newView(&visibleMarkup{of: m}), newView(attributes{m}), newView(&elements{}))
}

// seen returns the views of HTML within XML.
func seen() *view {
	m := &markup{}
	return newView(newEscapes('&', characterReference),
		newView(m), newView(attributes{m}), newView(&elements{}))
}

// then adds views that are made of this one, once it is another text than the one before.
func (v *view) then(more func() *view) *view {
	v.more = more
	return v
}

func newView(s step, after ...*view) *view {
	return &view{step: s, after: after, same: overlap}
}

// read judges the next piece of the view before, in this view and in those that are made of it.
// It returns the first reason that it finds, and whether all elements with codes were judged that
// the piece has as it is.
func (v *view) read(piece []byte, last bool, by Judge) (reason string, coded bool) {
	changed := v.step == nil
	if v.step != nil {
		piece, changed = v.step.read(piece, last)
	}
	judged := changed || v.same < overlap
	if judged {
		v.window = append(append(v.window[:0], v.last...), piece...)
		if reason = by.Text(v.window); reason != "" {
			return reason, false
		}
	}
	if changed && v.more != nil {
		next := v.more()
		v.after, v.more = append(v.after, next), nil
		if reason, coded = next.read(v.last, false, by); reason != "" {
			return reason, false
		}
		if v.coded = 0; coded {
			v.coded = len(v.last)
		}
	}
	v.remember(piece, changed)
	e, coded := v.step.(*elements)
	coded = coded && !e.odd
	for _, next := range v.after {
		reason, all := next.read(piece, last, by)
		if reason != "" {
			return reason, false
		}
		coded = coded || all
	}
	if v.coded += len(piece); !coded {
		v.coded = 0
	}
	if judged && by.Codes != nil && (e != nil || v.coded < len(v.window)) {
		reason = by.Codes(v.window)
	}
	return reason, coded && (e != nil || !changed)
}

// remember notes the end of what was read.
func (v *view) remember(piece []byte, changed bool) {
	if v.same += len(piece); changed {
		v.same = 0
	}
	if len(piece) >= overlap {
		v.last = append(v.last[:0], piece[len(piece)-overlap:]...)
		return
	}
	v.last = append(v.last, piece...)
	v.last = append(v.last[:0], v.last[max(0, len(v.last)-overlap):]...)
}
