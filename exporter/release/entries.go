package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// entryPaths are the elements that say something of what they refer to: one that refers to something
// sensitive is left out, not its Reference alone (EHI-9). Of a Claim, lines that name a left-out
// diagnosis, procedure or information by its sequence are left out as well. What stays only because
// its line of the form is not ticked is no secret of that kind: of it the Reference is masked. The
// text of a resource tells of all of its entries: where one is left out, so is the text.
var entryPaths = map[string][]string{
	"AdverseEvent":               {"suspectEntity"},
	"AuditEvent":                 {"entity"},
	"CarePlan":                   {"activity"},
	"Claim":                      {"item", "diagnosis", "procedure", "supportingInfo"},
	"ClinicalImpression":         {"investigation", "finding"},
	"Composition":                {"section"},
	"CoverageEligibilityRequest": {"item"},
	"EpisodeOfCare":              {"diagnosis"},
	"ExplanationOfBenefit":       {"item", "diagnosis", "procedure", "supportingInfo"},
	"ImmunizationRecommendation": {"recommendation"},
	"Invoice":                    {"lineItem"},
	"Linkage":                    {"item"},
	"List":                       {"entry"},
	"Provenance":                 {"entity"},
	"RequestGroup":               {"action"},
}

// sequences are the fields by which a line of a Claim names others of its elements.
var sequences = map[string]string{
	"diagnosisSequence": "diagnosis", "procedureSequence": "procedure", "informationSequence": "supportingInfo",
}

// entry is an element of a top-level array of a resource that has entryPaths.
type entry struct {
	start, end int
	field      string
	sequence   []byte
	names      []named // by sequence
	out        bool
	left       []byte // what takes its place; nil leaves it
}

// named is an element that another one names.
type named struct {
	field    string
	sequence []byte
}

// entryList is a top-level array of entries.
type entryList struct {
	from, to int // the field, with its name
	entries  []entry
}

// pruner leaves entries out of a released line whose References were masked.
type pruner struct {
	walk  walk
	hits  []int // where the line has References to something sensitive, masked
	lists []entryList
	edits []fhir.Edit
	out   []byte
}

// tellingMask masks a Reference to something that stays for more than an unticked line of the form.
// It is told from other masks by where it lies in memory alone: an application sees no difference.
var tellingMask = slices.Clone(fhir.MaskedReference)

// find finds out where the edits of a line put a tellingMask.
func (p *pruner) find(edits []fhir.Edit) (some bool) {
	p.hits = p.hits[:0]
	at, moved := 0, 0
	for _, e := range edits { // as fhir.Apply goes over them
		if e.Start < at {
			continue
		}
		if len(e.With) > 0 && &e.With[0] == &tellingMask[0] {
			p.hits = append(p.hits, e.Start+moved)
		}
		moved += len(e.With) - (e.End - e.Start)
		at = e.End
	}
	return len(p.hits) > 0
}

// hit counts the References to something sensitive in a part of the line.
func (p *pruner) hit(start, end int) (n int) {
	for _, at := range p.hits {
		if at >= start && at < end {
			n++
		}
	}
	return n
}

// prune leaves out the entries of a masked line that refer to something withheld.
func (p *pruner) prune(typ string, line []byte) ([]byte, error) {
	if err := p.gather(entryPaths[typ], line); err != nil {
		return nil, err
	}
	p.follow()
	p.edits = p.edits[:0]
	for _, l := range p.lists {
		if typ == "Composition" {
			if err := p.keepSections(line, l); err != nil {
				return nil, err
			}
		}
		p.cut(line, l)
	}
	if len(p.edits) > 0 {
		p.cutNarrative(line)
	}
	p.join(line)
	p.out = fhir.Apply(p.out[:0], line, p.edits)
	return p.out, nil
}

// cutNarrative cuts the text of a resource of which entries were left out: it tells of all of them.
func (p *pruner) cutNarrative(line []byte) {
	w := &p.walk
	for w.reset(line); w.next(); {
		if w.depth == 1 && w.kind != opened && string(w.key()) == "text" && w.fieldStart() >= 0 {
			p.edits = append(p.edits, fhir.Edit{Start: w.fieldStart(), End: w.end})
		}
	}
	slices.SortFunc(p.edits, func(a, b fhir.Edit) int { return a.Start - b.Start })
}

// keepSections keeps what is left of the sections of which an entry goes: without the others, and without the
// text that tells of all of them.
func (p *pruner) keepSections(line []byte, l entryList) error {
	for i := range l.entries {
		e := &l.entries[i]
		if !e.out {
			continue
		}
		inner := new(pruner)
		for _, at := range p.hits {
			if at >= e.start && at < e.end {
				inner.hits = append(inner.hits, at-e.start)
			}
		}
		left, some, err := inner.section(line[e.start:e.end])
		if err != nil {
			return err
		}
		if some {
			e.out = false
			e.left = left
		}
	}
	return nil
}

// section leaves entries and text out of a section; some is false where nothing of it is left.
func (p *pruner) section(line []byte) (left []byte, some bool, err error) {
	if err := p.gather([]string{"entry"}, line); err != nil {
		return nil, false, err
	}
	w := &p.walk
	for w.reset(line); w.next(); {
		if w.depth == 1 && w.kind == closed && string(w.key()) == "text" {
			p.lists = append(p.lists, entryList{from: w.fieldStart(), to: w.end, entries: []entry{{out: true}}})
		}
	}
	slices.SortFunc(p.lists, func(a, b entryList) int { return a.from - b.from })
	outside := len(p.hits)
	for _, l := range p.lists {
		for _, e := range l.entries {
			outside -= p.hit(e.start, e.end)
		}
		some = some || slices.ContainsFunc(l.entries, func(e entry) bool { return !e.out })
		p.cut(line, l)
	}
	p.join(line)
	left = fhir.Apply(nil, line, p.edits)
	return left, some && outside == 0, nil
}

// gather finds the entries, and which of them refer to something withheld.
func (p *pruner) gather(fields []string, line []byte) error {
	p.lists = p.lists[:0]
	var list *entryList
	w := &p.walk
	for w.reset(line); w.next(); {
		field := string(w.keyAt(1))
		if !slices.Contains(fields, field) {
			continue
		}
		switch {
		case w.depth == 1 && w.kind != closed && (w.kind == scalar || w.src[w.start] != '['):
			list = nil // an element that repeats nothing
		case w.depth == 1 && w.kind == opened:
			p.lists = append(p.lists, entryList{from: w.fieldStart()})
			list = &p.lists[len(p.lists)-1]
		case w.depth == 1 && list != nil:
			list.to = w.end
		case list == nil || w.depth < 2:
		case w.depth == 2 && w.kind == opened:
			list.entries = append(list.entries, entry{field: field})
		case w.depth == 2 && w.kind == closed:
			e := &list.entries[len(list.entries)-1]
			e.start, e.end = w.start, w.end
			e.out = p.hit(w.start, w.end) > 0
		case w.kind == scalar && len(list.entries) > 0:
			list.entries[len(list.entries)-1].note(w)
		}
	}
	return w.err
}

// note keeps a sequence, or one that the entry names.
func (e *entry) note(w *walk) {
	key, value := string(w.key()), w.src[w.start:w.end]
	if key == "sequence" && w.depth == 3 {
		e.sequence = value
	}
	if field, is := sequences[key]; is {
		e.names = append(e.names, named{field, value})
	}
}

// follow leaves out the entries that name one that is left out.
func (p *pruner) follow() {
	gone := map[string]bool{}
	for _, l := range p.lists {
		for _, e := range l.entries {
			if e.out && e.sequence != nil {
				gone[e.field+"|"+string(e.sequence)] = true
			}
		}
	}
	for _, l := range p.lists {
		for i := range l.entries {
			e := &l.entries[i]
			e.out = e.out || slices.ContainsFunc(e.names, func(n named) bool { return gone[n.field+"|"+string(n.sequence)] })
		}
	}
}

// cut makes the edits of one list: its field goes where nothing of it is left.
func (p *pruner) cut(line []byte, l entryList) {
	kept := slices.IndexFunc(l.entries, func(e entry) bool { return !e.out })
	if kept < 0 {
		if len(l.entries) > 0 {
			p.edits = append(p.edits, fhir.Edit{Start: l.from, End: l.to})
		}
		return
	}
	for i, e := range l.entries {
		switch {
		case !e.out && e.left != nil:
			p.edits = append(p.edits, fhir.Edit{Start: e.start, End: e.end, With: e.left})
		case !e.out:
		case i < kept: // up to the next one
			p.edits = append(p.edits, fhir.Edit{Start: e.start, End: l.entries[i+1].start})
		default: // with the comma before it
			p.edits = append(p.edits, fhir.Edit{Start: l.entries[i-1].end, End: e.end})
		}
	}
}

// join widens the edits that take whole fields to the commas between them: of neighbours that all
// go, one comma stays where something is on both sides.
func (p *pruner) join(line []byte) {
	var out []fhir.Edit
	for i := 0; i < len(p.edits); i++ {
		e := p.edits[i]
		if line[e.Start] != '"' {
			out = append(out, e)
			continue
		}
		for i+1 < len(p.edits) && line[p.edits[i+1].Start] == '"' && onlyComma(line[e.End:p.edits[i+1].Start]) {
			e.End = p.edits[i+1].End
			i++
		}
		if after := e.End + spaces(line[e.End:]); after < len(line) && line[after] == ',' {
			e.End = after + 1
		} else if before := bytes.TrimRight(line[:e.Start], " \t\r\n"); bytes.HasSuffix(before, []byte(",")) {
			e.Start = len(before) - 1
		}
		out = append(out, e)
	}
	p.edits = out
}

func onlyComma(between []byte) bool { return string(bytes.TrimSpace(between)) == "," }

func spaces(b []byte) int { return len(b) - len(bytes.TrimLeft(b, " \t\r\n")) }
