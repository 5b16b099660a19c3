package release

import (
	"slices"
	"strings"
)

// The Patient is always released (EHI-8), but without the parts that need a missing
// authorization: entries of its lists (extensions, contacts, contained resources), other
// elements, and security labels. Each part with such a code is removed as a whole, and the text
// is removed with it. Both passes clean the Patient first, so that all decisions are based on
// the released form.

// cleaner removes sensitive parts of Patients. It is for one goroutine.
type cleaner struct {
	policy  *Policy
	examine examiner
	pruner  pruner
	one     []byte // a Patient with one element
	place   int    // the index of the current contained resource
}

func (p *Policy) cleaner() *cleaner {
	c := &cleaner{policy: p, examine: p.examiner()}
	c.examine.alone = true
	return c
}

// needsCleaning reports whether a resource is a Patient that is released without some parts.
func (p *Policy) needsCleaning(f *facts) bool {
	return f.number == patientNumber && f.sensitive&^p.authorised != 0
}

// piece is a field of an object.
type piece struct {
	name       string
	from       int // where its name begins
	start, end int // of its value
	list       bool
	entries    []span // of a list
}

type span struct{ start, end int }

// clean returns a Patient without the parts that need a missing authorization, and the ids of
// the removed contained resources. Errors: the line is not JSON.
func (c *cleaner) clean(line []byte) (left []byte, fallen map[string]bool, err error) {
	p := &c.pruner
	p.fallen = containedOut{}
	for {
		c.place = -1
		if left, err = c.object(line, `{"resourceType":"Patient",`, `}`); err != nil {
			return nil, nil, err
		}
		p.fallen.more = false
		if err := p.orphan(line, left); err != nil {
			return nil, nil, err
		}
		if !p.fallen.more {
			break
		}
	}
	is, err := c.sensitive(left)
	if err == nil && is { // by a combination of fields; R4 has no such case
		left, err = c.bare(line)
	}
	return left, p.fallen.ids, err
}

// sensitive reports whether a Patient needs a missing authorization.
func (c *cleaner) sensitive(line []byte) (bool, error) {
	f, err := c.examine.examine(line)
	return err == nil && f.sensitive&^c.policy.authorised != 0, err
}

// object returns an object without its sensitive fields and entries. before and after turn one
// field into a Patient.
func (c *cleaner) object(object []byte, before, after string) ([]byte, error) {
	parts, err := c.parts(object)
	if err != nil {
		return nil, err
	}
	out, some := [][]byte{}, false
	for _, p := range parts {
		head, value := object[p.from:p.start], object[p.start:p.end]
		var kept []byte
		switch {
		case p.list:
			kept, err = c.list(p, object, before, after)
		case p.name == "meta" && value[0] == '{':
			kept, err = c.object(value, before+`"meta":{`, `}`+after)
		default:
			kept, err = c.whole(head, value, before, after)
		}
		switch {
		case err != nil:
			return nil, err
		case kept != nil:
			out = append(out, slices.Concat(head, kept))
		}
		some = some || len(kept) != len(value)
	}
	if !some {
		return object, nil
	}
	if out = slices.DeleteFunc(out, isText); len(out) == 0 {
		return nil, nil
	}
	return joined("{", out, "}"), nil
}

// isText reports whether a field is the text of a resource.
func isText(field []byte) bool {
	var w walk
	for w.reset(joined("{", [][]byte{field}, "}")); w.next(); {
		if w.depth == 1 {
			return strings.TrimPrefix(string(w.key()), "_") == "text"
		}
	}
	return false
}

// whole returns the value of a field that is released or removed as a whole; nil if it is
// removed.
func (c *cleaner) whole(head, value []byte, before, after string) ([]byte, error) {
	is, err := c.isSensitive([]byte(before), head, value, []byte(after))
	if is || err != nil {
		return nil, err
	}
	return value, nil
}

// list returns a list without its sensitive entries; nil if none remain.
func (c *cleaner) list(p piece, object []byte, before, after string) ([]byte, error) {
	var kept [][]byte
	for _, e := range p.entries {
		entry := object[e.start:e.end]
		is, err := c.isSensitive([]byte(before), object[p.from:p.start], []byte("["), entry,
			[]byte("]"+after))
		if err != nil {
			return nil, err
		}
		if p.name == contained {
			c.place++
			if is {
				_, id, _ := c.pruner.walk.identify(entry)
				c.pruner.fallen.add(c.place, id)
			}
			is = c.pruner.fallen.places[c.place]
		}
		if !is {
			kept = append(kept, entry)
		}
	}
	switch len(kept) {
	case len(p.entries):
		return object[p.start:p.end], nil
	case 0:
		return nil, nil
	}
	return joined("[", kept, "]"), nil
}

// isSensitive reports whether the Patient that consists of these pieces is sensitive.
func (c *cleaner) isSensitive(pieces ...[]byte) (bool, error) {
	c.one = c.one[:0]
	for _, piece := range pieces {
		c.one = append(c.one, piece...)
	}
	return c.sensitive(c.one)
}

// parts returns the fields of an object.
func (c *cleaner) parts(object []byte) (parts []piece, err error) {
	w := &c.pruner.walk
	for w.reset(object); w.next(); {
		switch {
		case w.depth == 1 && w.kind != closed:
			list := w.kind == opened && object[w.start] == '['
			parts = append(parts, piece{
				name:  string(w.key()),
				from:  w.fieldStart(),
				start: w.start,
				end:   w.end,
				list:  list,
			})
		case w.depth == 1:
			parts[len(parts)-1].end = w.end
		case w.depth == 2 && parts[len(parts)-1].list:
			p := &parts[len(parts)-1]
			if w.kind != closed {
				p.entries = append(p.entries, span{start: w.start})
			}
			p.entries[len(p.entries)-1].end = w.end
		}
	}
	return parts, w.err
}

// bare returns a Patient with only its type and id.
func (c *cleaner) bare(line []byte) ([]byte, error) {
	parts, err := c.parts(line)
	var out [][]byte
	for _, p := range parts {
		if p.name == resourceType || p.name == "id" {
			out = append(out, line[p.from:p.end])
		}
	}
	return joined("{", out, "}"), err
}

// joined joins the fields of an object, or the entries of a list.
func joined(before string, some [][]byte, after string) []byte {
	out := []byte(before)
	for i, s := range some {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, s...)
	}
	return append(out, after...)
}
