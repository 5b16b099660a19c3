package fhir

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// dateField is what a date of a resource says about when the event happened.
type dateField struct {
	role role
	part part
}

// role ranks dates. The first role for which a resource has dates says when the event happened.
// See generate/dates.go.
type role uint8

const (
	done role = iota
	initiated
	planned
	searched
	recorded
	other
	roles
)

var roleNames = [roles]string{"done", "init", "planned", "searched", "recorded", "other"}

// part is which part of its element a date is.
type part uint8

const (
	whole part = iota
	start      // of a Period
	end
)

// dateFields holds the generated date fields by type and dotted path.
var dateFields = sync.OnceValue(func() map[string]map[string]dateField {
	m := map[string]map[string]dateField{}
	for typ, entries := range table(dateTable)() {
		m[typ] = map[string]dateField{}
		for _, entry := range entries {
			name, paths, _ := strings.Cut(entry, ":")
			r := role(slices.Index(roleNames[:], name))
			for _, path := range strings.Split(paths, ",") {
				addDateField(m[typ], path, r)
			}
		}
	}
	return m
})

// addDateField adds a date field, or the two of a Period, whose path ends in a slash.
func addDateField(m map[string]dateField, path string, r role) {
	period, isPeriod := strings.CutSuffix(path, "/")
	if !isPeriod {
		m[path] = dateField{r, whole}
		return
	}
	if period != "" {
		period += "."
	}
	m[period+"start"], m[period+"end"] = dateField{r, start}, dateField{r, end}
}

// Dates determines, during a walk over a resource, when the event happened, from the elements
// that R4 maps to the five Ws (http://hl7.org/fhir/fivews). It is not safe for concurrent use.
//
//	d.Reset()
//	for c.Reset(line); c.Next(); {
//		d.See(&c)
//	}
//	spans := d.Spans()
type Dates struct {
	typ   string
	known map[string]dateField // of typ; nil until the type is read
	found []foundDate
	early []earlyDate
	root  int // the index in found of a Period of the resource itself, from 1; 0 for none
	path  []byte
}

// foundDate is a date, or a Period as far as it has been read.
type foundDate struct {
	dateField
	// The offset of the enclosing object, 0 for the resource. It joins the start and end of a
	// Period.
	object int
	span   Span
	wrong  bool
}

// earlyDate is a date before the resource's type.
type earlyDate struct {
	path string
	foundDate
}

// Reset starts a new resource.
func (d *Dates) Reset() {
	d.typ, d.known, d.found, d.early, d.root = "", nil, d.found[:0], d.early[:0], 0
}

// Begin starts a new resource of a known type, for walks without a Cursor:
//
//	d.Begin(typ)
//	for each text { d.Take(path, raw, object) }
//	spans := d.Spans()
func (d *Dates) Begin(typ []byte) {
	d.Reset()
	d.typ, d.known = string(typ), dateFields()[string(typ)]
}

// Take processes a JSON string: its dotted path, the quoted string, and the offset of the
// enclosing object, 0 for the resource.
func (d *Dates) Take(path, raw []byte, object int) {
	field, isKnown := d.known[string(path)]
	if isKnown && looksLikeDate(raw) {
		d.add(foundAt(field, Unquote(raw), object))
	}
}

func foundAt(field dateField, text []byte, object int) foundDate {
	span, err := ParseSpan(string(text))
	return foundDate{dateField: field, object: object, span: span, wrong: err != nil}
}

// See processes the cursor's current token.
func (d *Dates) See(c *Cursor) {
	if c.Depth == 0 || !c.IsString() {
		return
	}
	if c.Depth == 1 && string(c.Key()) == "resourceType" {
		d.typ = string(c.Text())
		d.known = dateFields()[d.typ]
		return
	}
	if looksLikeDate(c.Raw()) {
		d.date(c)
	}
}

func (d *Dates) date(c *Cursor) {
	d.path = c.AppendPath(d.path[:0])
	field, isKnown := d.known[string(d.path)]
	if d.typ != "" && !isKnown {
		return
	}
	object := 0
	if c.Depth > 1 {
		object = c.ParentStart()
	}
	found := foundAt(field, c.Text(), object)
	if d.typ == "" {
		d.early = append(d.early, earlyDate{string(d.path), found})
		return
	}
	d.add(found)
}

// add keeps a date. The two dates of a Period become one entry. They are adjacent, except for
// the Period of the resource itself (Appointment.start and end).
func (d *Dates) add(f foundDate) {
	if f.part == whole {
		d.found = append(d.found, f)
		return
	}
	at := len(d.found) - 1
	if f.object == 0 {
		at = d.root - 1
	}
	if at < 0 || d.found[at].part == whole || d.found[at].object != f.object {
		at = len(d.found)
		period := f
		period.span, period.wrong = Span{beginningOfTime, endOfTime}, false
		d.found = append(d.found, period)
		if f.object == 0 {
			d.root = at + 1
		}
	}
	p := &d.found[at]
	p.wrong = p.wrong || f.wrong
	if f.part == start {
		p.span.Start = f.span.Start
	} else {
		p.span.End = f.span.End
	}
}

// looksLikeDate reports cheaply whether a JSON string may be a date.
func looksLikeDate(raw []byte) bool {
	if len(raw) < len(`"2006"`) || len(raw) > 64 {
		return false
	}
	for _, b := range raw[1:5] {
		if b < '0' || b > '9' {
			return false
		}
	}
	return raw[5] == '-' || raw[5] == '"'
}

// Spans returns when the event happened: usually one span, several if the resource has several
// dates (Timing.event, the dates of a claim's items), none if it has no date. A Period without
// an end never ends, and one without a start has no beginning. Invalid dates are ignored.
func (d *Dates) Spans() Spans {
	for _, e := range d.early {
		if field, ok := d.known[e.path]; ok {
			e.dateField = field
			d.add(e.foundDate)
		}
	}
	d.early = d.early[:0]
	doneAt, begun := d.of(done), d.of(initiated)
	if len(doneAt) > 0 && len(begun) > 0 {
		return Spans{append(begun, doneAt...).hull()}
	}
	for r := done; r < roles; r++ {
		if s := d.of(r); len(s) > 0 {
			return s
		}
	}
	return nil
}

// of returns the spans of a role.
func (d *Dates) of(r role) (out Spans) {
	for _, f := range d.found {
		if f.role == r && !f.wrong {
			out = append(out, f.span)
		}
	}
	return out
}

// Spans holds the times of an event that happened more than once.
type Spans []Span

// Overlap reports whether one of the spans overlaps [from, to). A zero time means no bound.
func (s Spans) Overlap(from, to time.Time) bool {
	return slices.ContainsFunc(s, func(one Span) bool { return one.Overlaps(from, to) })
}

// hull returns the span from the first start to the last end.
func (s Spans) hull() Span {
	h := s[0]
	for _, one := range s[1:] {
		if one.Start.Before(h.Start) {
			h.Start = one.Start
		}
		if one.End.After(h.End) {
			h.End = one.End
		}
	}
	return h
}
