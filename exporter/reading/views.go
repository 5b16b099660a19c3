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
//	                               +- percent-encoding - JSON - ...
//	                               +- UTF-7 - JSON - ...
//	                               +- quoted-printable - JSON, percent-encoding, UTF-7 - ...
//	                               +- quotes of CSV - JSON - ...
//	                               +- rich text - JSON, percent-encoding, UTF-7 - ...
//	                               +- codes of FHIR, JSON or HL7 v2
//	          - the character set that the text declares - ...
//
// Each view is judged wherever it differs from the one that it is made of, so that nothing is
// hidden by an escape, and nothing either by resolving what is no escape. Codes of FHIR, JSON and
// HL7 v2 are searched in every one of them (see form). A text goes through them piece by piece.
type view struct {
	step   step // makes this view of the one before; nil for the bytes as they are
	after  []*view
	more   func() []*view // see then
	search *codeSearch    // for what follows from a change; nil for a view without it
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
	o := origin{entities: entitiesOf(head), json: BeginsJSON(start)}
	rich := strings.Contains(contentType, "rtf")
	if rich || bytes.Contains(start, []byte(`{\rtf`)) {
		forms = append(forms, o.form(&richText{}, inAnother).then(o.forms),
			o.form(&richText{visible: true}, inAnother).then(o.forms))
	}
	if rich {
		return forms
	}
	forms = append(append(forms, o.forms()...),
		o.form(newEscapes('=', quotedPrintable), inAnother).then(o.forms))
	if text := bytes.TrimLeft(start, " \t\r\n"); !o.json && !bytes.HasPrefix(text, []byte("<")) {
		forms = append(forms, o.form(newDoubled(), inAnother).then(o.escapes))
	}
	for _, codes := range codesOf(contentType, head, o.entities) {
		forms = append(forms, newView(codes))
	}
	return forms
}

// origin is what is known of a text by its beginning.
type origin struct {
	entities
	json bool // it is JSON, of which jsonCodes reads all strings
}

// form returns a view in which codes are searched as in a text of its own.
func (o origin) form(s step, in writing, after ...*view) *view {
	v := newView(s, after...)
	v.search = &codeSearch{of: o, in: in}
	return v
}

// forms returns the views of a text with escapes.
func (o origin) forms() []*view {
	return []*view{
		o.escaped(),
		o.form(newEscapes('%', percentEncoded), inAnother).then(o.escapes),
		o.form(newEscapes('+', hiddenUTF7), inAnother).then(o.escapes),
	}
}

func (o origin) escapes() []*view { return []*view{o.escaped()} }

// escaped returns the views of a text that may be JSON within JSON within JSON.
func (o origin) escaped() *view {
	v := o.references()
	for range 3 {
		v = o.form(newEscapes('\\', jsonEscape), inJSON, v)
	}
	return v
}

// references returns the views of a text that may be XML or HTML, also within XML.
func (o origin) references() *view {
	m := &markup{}
	return o.form(newEscapes('&', o.resolve(characterReference, false)), inMarkup,
		o.form(newEscapes('&', o.resolve(anyReference, true)), inMarkup).then(o.seen),
		o.form(m, inMarkup), o.form(&visibleMarkup{of: m}, inMarkup),
		newView(attributes{m}), newView(&elements{}))
}

// seen returns the views of HTML within XML.
func (o origin) seen() []*view {
	m := &markup{}
	return []*view{o.form(newEscapes('&', characterReference), inMarkup,
		o.form(m, inMarkup), newView(attributes{m}), newView(&elements{}))}
}

// then adds views that are made of this one, once it is another text than the one before.
func (v *view) then(more func() []*view) *view {
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
	before, changed := piece, v.step == nil
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
	if changed {
		if reason = v.grow(before, piece, by); reason != "" {
			return reason, false
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

// grow adds the views that are made of this one only if it is another text than the one before,
// and those for the codes in it, once it may have any. It returns the first reason that they find
// in the text before the piece.
func (v *view) grow(before, piece []byte, by Judge) (reason string) {
	var all []*view
	if v.more != nil {
		all, v.more = v.more(), nil
	}
	if v.search != nil && by.Codes != nil {
		for _, codes := range v.search.begin(before, piece) {
			all = append(all, newView(codes))
		}
	}
	for _, next := range all {
		reason, coded := next.read(v.last, false, by)
		if reason != "" {
			return reason
		}
		if coded {
			v.coded = len(v.last)
		}
	}
	v.after = append(v.after, all...)
	return ""
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
