package release

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// entryPaths are the elements that say something about their target. An element that refers to
// something sensitive is left out as a whole; masking its Reference is not enough (EHI-9). In a
// bill, and in the answer to one, everything that names a left-out element by its number is left
// out as well. If the target is withheld only because its form line is not ticked, only the
// Reference is masked.
var entryPaths = map[string][]string{
	"AdverseEvent": {"suspectEntity"},
	"AuditEvent":   {"entity"},
	"CarePlan":     {"activity"},
	"Claim": {
		"item", "diagnosis", "procedure", "supportingInfo", careTeam, "related",
	},
	"ClaimResponse":               {"item", "addItem", "error", processNote},
	"ClinicalImpression":          {"investigation", "finding"},
	"Composition":                 {"section", "event"},
	"Contract":                    {"term", "friendly", "legal", "rule"},
	"CoverageEligibilityRequest":  {"item", "supportingInfo"},
	"CoverageEligibilityResponse": {"insurance", "error"},
	"DetectedIssue":               {"evidence"},
	"DiagnosticReport":            {"media"},
	"Encounter":                   {"diagnosis"},
	"EpisodeOfCare":               {"diagnosis"},
	"ExplanationOfBenefit": {
		"item", "diagnosis", "procedure", "supportingInfo", careTeam, "addItem", "related",
		processNote,
	},
	"ImmunizationRecommendation": {"recommendation"},
	"Invoice":                    {"lineItem"},
	"Linkage":                    {"item"},
	"Parameters":                 {"parameter"},
	"List":                       {"entry"},
	"Provenance":                 {"entity"},
	"QuestionnaireResponse":      {"item"},
	"RequestGroup":               {"action"},
	"Task":                       {"input", "output"},
}

// wholeTexts are the elements, besides text, that describe a resource as a whole. They are left
// out if any part of the resource is.
var wholeTexts = map[string][]string{
	"Appointment":                 {"description", "comment", "patientInstruction"},
	"AppointmentResponse":         {"comment"},
	"ClaimResponse":               {"disposition"},
	"Communication":               {"reasonCode", "statusReason", "topic"},
	"CommunicationRequest":        {"reasonCode", "statusReason"},
	"CoverageEligibilityResponse": {"disposition"},
	"DetectedIssue":               {"detail"},
	"ClinicalImpression":          {"summary"},
	"DiagnosticReport":            {"conclusion", "conclusionCode"},
	"ExplanationOfBenefit":        {"disposition"},
	"MessageHeader":               {"reason"},
	"Provenance":                  {"reason", "activity"},
}

// besideMasked are the elements of a list that describe the target of a Reference beside them.
// They are left out if the Reference is masked for a reason other than an unticked form line.
// The other elements of the entry remain: each bill has an insurance.
var besideMasked = map[string][]string{
	"insurance": {"preAuthRef", "businessArrangement", "identifier"},
}

// worded are types of wholeTexts whose texts describe their References. The texts are left out
// as soon as one Reference is masked.
var worded = typeSet("Appointment", "AppointmentResponse", "Communication", "MessageHeader",
	"CommunicationRequest", "DetectedIssue", "Provenance")

// processNote holds the notes of a bill on the lines that name them by number.
const processNote = "processNote"

// careTeam lists who provided the billed services. Lines name its members by number.
const careTeam = "careTeam"

// subordinate are the lists of a bill whose entries serve the lines that name them. An entry is
// left out with the last of these lines. An entry that no line names belongs to the whole bill.
var subordinate = map[string]bool{
	"diagnosis":      true,
	"procedure":      true,
	"supportingInfo": true,
	careTeam:         true,
}

// contained is the field of resources inside another one. Each is treated like its container.
const contained = "contained"

// named reports whether a field names an element by its number, and returns the list of that
// element. R4 names such fields after the list: diagnosisSequence.
func named(field string) (list string, is bool) {
	if field == "noteNumber" {
		return processNote, true
	}
	list, is = strings.CutSuffix(field, "Sequence")
	if list == "information" {
		list = "supportingInfo"
	}
	return list, is
}

// entry is an element of a top-level array of a resource that has entryPaths.
type entry struct {
	start, end int
	field      string
	sequence   string   // its own number; "" if it has none
	names      []number // the entries that it names
	out        bool
	left       []byte // its replacement; nil if unchanged
}

// number identifies an element of a list.
type number struct{ list, value string }

// entryList is a top-level array of entries.
type entryList struct {
	from, to int // the span of the field, including its name
	entries  []entry
}

// pruner removes entries from a released line whose References were masked.
type pruner struct {
	walk   walk
	hits   []int // positions of masked References to something sensitive
	masked []int // those of hits, and of masked References to something unticked
	partials
	lists  []entryList
	edits  []fhir.Edit
	out    []byte
	fallen containedOut
	gone   goneLines // of the bill that the line answers
	lost   bool      // an entry is left out, or a reference to a part is masked
	inside bool      // the line is a contained resource
}

// tellingMask masks a Reference to something withheld for a reason other than an unticked form
// line. It differs from other masks only by its address, so applications see no difference.
var tellingMask = slices.Clone(fhir.MaskedReference)

// unusedMask masks a Reference to something that nothing uses, which reveals nothing.
var unusedMask = slices.Clone(fhir.MaskedReference)

// find locates the edits that inserted a tellingMask or another mask.
func (p *pruner) find(edits []fhir.Edit) (some bool) {
	p.hits, p.masked = p.hits[:0], p.masked[:0]
	at, moved := 0, 0
	for _, e := range edits { // in the order of fhir.Apply
		if e.Start < at {
			continue
		}
		if isTelling(e.With) {
			p.hits = append(p.hits, e.Start+moved)
			p.masked = append(p.masked, e.Start+moved)
		} else if len(e.With) > 0 && &e.With[0] == &fhir.MaskedReference[0] {
			p.masked = append(p.masked, e.Start+moved)
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

// prune removes the entries of a masked line that refer to something withheld.
func (p *pruner) prune(typ string, line []byte) ([]byte, error) {
	fields := append([]string{contained}, entryPaths[typ]...)
	if err := p.gather(fields, line); err != nil {
		return nil, err
	}
	p.edits = p.edits[:0]
	changed, err := p.pruneContained(line)
	if err != nil {
		return nil, err
	}
	p.answer(typ)
	p.lost = p.follow() || changed || p.loses(typ, line) || p.told
	for _, l := range p.lists {
		if part := partsOf[typ]; part != "" && len(l.entries) > 0 && l.entries[0].field == part {
			if err := p.keepParts(line, l, parts[part]); err != nil {
				return nil, err
			}
		}
		p.cut(line, l)
	}
	switch {
	case p.lost:
		p.cutTexts(typ, line)
	case len(p.hits) > 0: // the text repeats what the Reference says
		p.cutTexts("", line)
	}
	p.cutBeside(line)
	p.join(line)
	p.out = fhir.Apply(p.out[:0], line, p.edits)
	return p.out, p.walk.err
}

// loses reports whether a reference to a part of the resource is masked, see sums.
func (p *pruner) loses(typ string, line []byte) bool {
	w, number := &p.walk, fhir.TypeNumber([]byte(typ))
	switch {
	case worded[number] && len(p.hits) > 0:
		return true
	case !sums[number]:
		return false
	}
	for w.reset(line); w.next(); {
		if w.kind == opened && slices.Contains(p.hits, w.start) {
			if _, is := aboutPlaces[typ][string(w.appendPath(nil))]; is {
				return true
			}
		}
	}
	return false
}

// cutTexts removes the text and the wholeTexts of a resource that lost a part, because they
// describe all of it. So does the presentedForm of a report. That of a report of its own follows
// its verdict.
func (p *pruner) cutTexts(typ string, line []byte) {
	w := &p.walk
	for w.reset(line); w.next(); {
		if w.depth != 1 || w.kind == opened || w.fieldStart() < 0 {
			continue
		}
		key := strings.TrimPrefix(string(w.key()), "_")
		isForm := p.inside && typ != "" && key == presentedForm
		if key == "text" || isForm || slices.Contains(wholeTexts[typ], key) {
			p.edits = append(p.edits, fhir.Edit{Start: w.fieldStart(), End: w.end})
		}
	}
	slices.SortFunc(p.edits, func(a, b fhir.Edit) int { return a.Start - b.Start })
}

// cutBeside removes the elements of besideMasked that describe a masked Reference.
func (p *pruner) cutBeside(line []byte) {
	w := &p.walk
	var fields []fhir.Edit
	for w.reset(line); w.next(); {
		names := besideMasked[string(w.keyAt(1))]
		switch {
		case names == nil || w.depth < 2:
		case w.depth == 2 && w.kind == opened:
			fields = fields[:0]
		case w.depth == 2 && w.kind == closed:
			if p.hit(w.start, w.end) > 0 {
				p.edits = append(p.edits, fields...)
			}
		case w.depth == 3 && w.kind != opened && w.fieldStart() >= 0 &&
			slices.Contains(names, strings.TrimPrefix(string(w.key()), "_")):
			fields = append(fields, fhir.Edit{Start: w.fieldStart(), End: w.end})
		}
	}
	slices.SortStableFunc(p.edits, func(a, b fhir.Edit) int { return a.Start - b.Start })
}

// within returns a pruner for a part of the line.
func (p *pruner) within(start, end int) *pruner {
	inner := new(pruner)
	for _, at := range p.hits {
		if at >= start && at < end {
			inner.hits = append(inner.hits, at-start)
		}
	}
	for _, at := range p.masked {
		if at >= start && at < end {
			inner.masked = append(inner.masked, at-start)
		}
	}
	for _, at := range p.entries {
		if at >= start && at < end {
			inner.entries = append(inner.entries, at-start)
		}
	}
	return inner
}

// partsOf are the nested lists of a type whose entries may be removed in part: a section of a
// document and a question of a form contain others.
var partsOf = map[string]string{"Composition": "section", "QuestionnaireResponse": "item"}

// partForm describes the content of such an entry.
type partForm struct {
	// by name, the kind of part of its entries; "" if they are removed as a whole
	lists map[string]string
	text  bool // its text describes all of it
	value bool // it has content besides these lists
}

// parts describes each kind of part. A section is removed with its last entry, and a question
// with its last answer. An answer is removed with its value.
var parts = map[string]partForm{
	"section": {lists: map[string]string{"entry": "", "section": "section"}, text: true},
	"item":    {lists: map[string]string{"answer": "answer", "item": "item"}},
	"answer":  {lists: map[string]string{"item": "item"}, value: true},
}

// keepParts keeps the remaining content of entries that lose only a part. A section with an entry
// that refers to a partial resource loses its text.
func (p *pruner) keepParts(line []byte, l entryList, of partForm) error {
	for i := range l.entries {
		e := &l.entries[i]
		if !e.out && !(of.text && p.tells(e.start, e.end)) {
			continue
		}
		left, some, err := p.within(e.start, e.end).part(line[e.start:e.end], of)
		if err != nil {
			return err
		}
		if some || !e.out {
			e.out = false
			e.left = left
		}
	}
	return nil
}

// part removes entries and text from a part. some is false if nothing remains.
func (p *pruner) part(line []byte, of partForm) (left []byte, some bool, err error) {
	if err := p.gather(slices.Collect(maps.Keys(of.lists)), line); err != nil {
		return nil, false, err
	}
	for _, l := range p.lists {
		if len(l.entries) == 0 {
			continue
		}
		if inner := of.lists[l.entries[0].field]; inner != "" {
			if err := p.keepParts(line, l, parts[inner]); err != nil {
				return nil, false, err
			}
		}
	}
	w := &p.walk
	for w.reset(line); of.text && w.next(); {
		if w.depth == 1 && w.kind == closed && string(w.key()) == "text" {
			p.lists = append(p.lists, entryList{
				from:    w.fieldStart(),
				to:      w.end,
				entries: []entry{{out: true}},
			})
		}
	}
	slices.SortFunc(p.lists, func(a, b entryList) int { return a.from - b.from })
	outside := len(p.hits)
	some = of.value
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

// gather finds the entries and marks those that refer to something withheld.
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
			list = nil // not an array
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
		case w.kind == scalar && len(list.entries) > 0 && field != contained:
			list.entries[len(list.entries)-1].note(w)
		}
	}
	return w.err
}

// note records the entry's own number, or a number that it refers to.
func (e *entry) note(w *walk) {
	key := string(w.key())
	if w.depth == 3 && (key == "sequence" || key == "number" && e.field == processNote) {
		e.sequence = w.number()
	}
	if list, is := named(key); is {
		e.names = append(e.names, number{list, w.number()})
	}
}

// number returns the current number in a normal form.
func (w *walk) number() string {
	if n := plainNumber(w.content()); n != nil {
		return string(n)
	}
	return string(w.content())
}

// follow removes everything that names a removed element, until nothing changes, and then the
// notes about removed elements. It reports whether anything is removed.
func (p *pruner) follow() (some bool) {
	gone := map[number]bool{}
	for again := true; again; {
		again = false
		p.each(func(e *entry) {
			if e.field == processNote {
				return
			}
			if !e.out &&
				slices.ContainsFunc(e.names,
					func(n number) bool { return gone[n] && n.list != processNote }) {
				e.out = true
			}
			if n := (number{e.field, e.sequence}); e.out && !gone[n] {
				again, gone[n] = true, true
			}
		})
	}
	if len(gone) == 0 {
		return false
	}
	p.followNamed()
	p.followNotes()
	return true
}

// followNamed removes the entries of subordinate lists that only removed entries name.
func (p *pruner) followNamed() {
	named, kept := map[number]bool{}, map[number]bool{}
	p.each(func(e *entry) {
		for _, n := range e.names {
			named[n] = true
			kept[n] = kept[n] || !e.out
		}
	})
	p.each(func(e *entry) {
		n := number{e.field, e.sequence}
		e.out = e.out || subordinate[e.field] && named[n] && !kept[n]
	})
}

// followNotes removes the notes that a removed entry names, and those that no entry names,
// because these describe the whole bill.
func (p *pruner) followNotes() {
	told, goes := map[string]bool{}, map[string]bool{}
	p.each(func(e *entry) {
		for _, n := range e.names {
			if n.list == processNote {
				told[n.value] = told[n.value] || e.out
				goes[n.value] = true
			}
		}
	})
	p.each(func(e *entry) {
		if e.field == processNote {
			e.out = told[e.sequence] || !goes[e.sequence]
		}
	})
}

// each visits all entries.
func (p *pruner) each(visit func(e *entry)) {
	for _, l := range p.lists {
		for i := range l.entries {
			visit(&l.entries[i])
		}
	}
}

// cut makes the edits for one list. It removes the field if no entry remains.
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
		case i < kept: // together with the comma after it
			p.edits = append(p.edits, fhir.Edit{Start: e.start, End: l.entries[i+1].start})
		default: // together with the comma before it
			p.edits = append(p.edits, fhir.Edit{Start: l.entries[i-1].end, End: e.end})
		}
	}
}

// join extends the edits that remove whole fields to the commas between them. If fields remain
// on both sides of removed neighbours, one comma remains.
func (p *pruner) join(line []byte) {
	var out []fhir.Edit
	for i := 0; i < len(p.edits); i++ {
		e := p.edits[i]
		if line[e.Start] != '"' {
			out = append(out, e)
			continue
		}
		for i+1 < len(p.edits) && line[p.edits[i+1].Start] == '"' &&
			onlyComma(line[e.End:p.edits[i+1].Start]) {
			e.End = p.edits[i+1].End
			i++
		}
		if after := e.End + spaces(line[e.End:]); after < len(line) && line[after] == ',' {
			e.End = after + 1
		} else if before := bytes.TrimRight(line[:e.Start], " \t\r\n"); bytes.HasSuffix(before,
			[]byte(",")) {
			e.Start = len(before) - 1
		}
		out = append(out, e)
	}
	p.edits = out
}

func onlyComma(between []byte) bool { return string(bytes.TrimSpace(between)) == "," }

func spaces(b []byte) int { return len(b) - len(bytes.TrimLeft(b, " \t\r\n")) }
