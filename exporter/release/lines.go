package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// The answer to a bill names the bill's lines by number. The second pass may remove a line after
// it has released the answer. So the first pass records what each bill's lines refer to, and
// Conclude determines which lines are removed. An answer that names its bill other than by type
// and id, or whose bill is not in the record, may answer any bill that loses lines.

// answerPaths are the elements by which answers name their bill.
var answerPaths = map[string]string{
	"ClaimResponse":               "request",
	"CoverageEligibilityResponse": "request",
}

// isBill are the types of bills.
var isBill = typeSet("Claim", "CoverageEligibilityRequest")

// lines records what the lines of bills refer to.
type lines struct {
	bills list // those that may be released
	// of holds pairs: the bill, and what the line refers to. The second is zero for a Reference
	// with only a display.
	of      list
	number  []uint32
	numbers []string          // indexed by number
	known   map[string]uint32 // the index of each in numbers
}

// add records that a line of a bill refers to something.
func (l *lines) add(of resource, number string, to resource) {
	n, known := l.known[number]
	if !known {
		if l.known == nil {
			l.known = map[string]uint32{}
		}
		n = uint32(len(l.numbers))
		l.numbers, l.known[number] = append(l.numbers, number), n
	}
	l.of.add(of)
	l.of.add(to)
	l.number = append(l.number, n)
}

// goneLines are the numbers of the removed lines of a bill.
type goneLines map[string]bool

// beginLine begins the entry that a skim has reached.
func (x *examiner) beginLine() {
	if name := string(x.skimmed.names[2]); slices.Contains(x.entryFields, name) {
		x.insides = append(x.insides, inside{entry: entry{field: name}})
	}
}

// line returns the entry that a skim is in, or nil.
func (x *examiner) line() *inside {
	if len(x.insides) == 0 || !x.inEntry() {
		return nil
	}
	return &x.insides[len(x.insides)-1]
}

func (x *examiner) lineRefers(to target) {
	if e := x.line(); e != nil && to.typ != nil {
		e.targets = append(e.targets, to)
	}
}

// lineNumbers adds the numbers in the field that a skim has reached. ok is false if they are
// texts, which need a walk.
func (x *examiner) lineNumbers(name []byte) (ok bool) {
	s, e := &x.skimmed, x.line()
	if e == nil {
		return true
	}
	isOwn := s.depth == 3 && string(name) == "sequence"
	list, is := []byte(nil), false
	if !isOwn {
		if list, is = bytes.CutSuffix(name, []byte("Sequence")); !is || len(list) == 0 {
			return true
		}
	}
	end := bytes.IndexAny(s.line[s.at:], "]}{")
	if end < 0 {
		return true
	}
	text := s.line[s.at : s.at+end]
	if !bytes.HasPrefix(text, []byte("[")) {
		text, _, _ = bytes.Cut(text, []byte(","))
	}
	if bytes.IndexByte(text, '"') >= 0 {
		return false
	}
	for _, n := range bytes.FieldsFunc(text,
		func(c rune) bool { return c == '[' || c == ',' || c <= ' ' }) {
		value := n
		if plain := plainNumber(n); plain != nil {
			value = plain
		} else if string(n) == "null" {
			value = nil
		}
		if isOwn {
			e.sequence = string(value)
			continue
		}
		named, _ := named(string(name))
		e.names = append(e.names, number{named, string(value)})
	}
	return true
}

// bill records what the lines of a bill refer to that is, or may be, released.
func (o *Observer) bill(self resource) {
	o.lines.bills.add(self)
	x := &o.examine
	for i := range x.insides {
		e := &x.insides[i]
		if e.field != "item" {
			continue
		}
		o.line(self, e.sequence, e)
		for _, other := range x.namedBy(i) {
			o.line(self, e.sequence, other)
		}
	}
}

func (o *Observer) line(self resource, number string, e *inside) {
	for i, t := range e.targets {
		if !o.settled(e.targets[i : i+1]) {
			o.lines.add(self, number, o.resource(t))
		}
	}
	if len(e.shown) > 0 {
		o.lines.add(self, number, resource{})
	}
}

// answered returns the numbers of the bill lines that entry i answers.
func (x *examiner) answered(f *facts, i int) (numbers []string) {
	if answerPaths[string(f.typ)] == "" {
		return nil
	}
	for _, n := range x.insides[i].names {
		if n.list == "item" {
			numbers = append(numbers, n.value)
		}
	}
	return numbers
}

// answeredBill returns the bill that a resource answers.
func (o *Observer) answeredBill(f *facts) resource {
	where := aboutPlaces[string(f.typ)][answerPaths[string(f.typ)]]
	for _, p := range f.content {
		if p.at == where && p.to.typ != nil {
			return o.resource(p.to)
		}
	}
	return resource{typ: nameType}
}

// lineOf is a line of a bill, or of any bill if bill is zero.
type lineOf struct {
	bill   resource
	number string
}

// losesLine reports whether an entry answers a bill line that is removed, as far as is known. If
// the bill is not in the record, it may be any bill.
func (r *Review) losesLine(k taker) bool {
	if len(k.answers) == 0 {
		return false
	}
	if r.billLines == nil {
		r.billLines = map[lineOf][]resource{}
		for _, o := range r.observers {
			o.lines.bills.each(func(bill resource) { r.billLines[lineOf{bill: bill}] = nil })
			for i, n := range o.lines.number {
				of, to, number := o.lines.of.at(2*i), o.lines.of.at(2*i+1), o.lines.numbers[n]
				for _, line := range []lineOf{{of, number}, {number: number}} {
					r.billLines[line] = append(r.billLines[line], to)
				}
			}
		}
	}
	bill := k.bill
	if _, known := r.billLines[lineOf{bill: bill}]; !known {
		bill = resource{}
	}
	return slices.ContainsFunc(k.answers, func(number string) bool {
		return slices.ContainsFunc(r.billLines[lineOf{bill, number}], func(to resource) bool {
			return r.tellsOf(to) || to == resource{} && (r.mayHide("") || len(r.hidden) > 0)
		})
	})
}

// concludeLines determines which lines of bills are removed.
func (r *Review) concludeLines() {
	for _, o := range r.observers {
		l := &o.lines
		for i, n := range l.number {
			of, to, number := l.of.at(2*i), l.of.at(2*i+1), l.numbers[n]
			if !r.tellsOf(to) &&
				!(to == resource{} && len(r.hidden) > 0 && r.hiding != (bitmap{})) {
				continue
			}
			if r.gone == nil {
				r.gone, r.anyGone = map[resource]goneLines{}, goneLines{}
			}
			if r.gone[of] == nil {
				r.gone[of] = goneLines{}
			}
			r.gone[of][number], r.anyGone[number] = true, true
		}
	}
	for _, o := range r.observers {
		if r.gone != nil {
			if r.bills == nil {
				r.bills = map[resource]bool{}
			}
			o.lines.bills.each(func(bill resource) { r.bills[bill] = true })
		}
		o.lines = lines{}
	}
}

// answers returns the removed lines of the bill that a resource answers.
func (r *reviewed) answers(typ, line []byte) (goneLines, error) {
	path := answerPaths[string(typ)]
	if path == "" {
		return nil, nil
	}
	gone := r.anyGone
	w := &r.walk
	for w.reset(line); w.next(); {
		if !w.isText || w.depth != 2 || string(w.key()) != "reference" ||
			string(w.keyAt(1)) != path {
			continue
		}
		if typ, id, ok := follow(w.text()); ok {
			bill := r.index.resource(typ, id)
			_, known := r.decided(typ, id)
			_, _, local := fhir.Local(w.text())
			if known || r.bills[bill] || r.resolved && (local || !isBill[fhir.TypeNumber(typ)]) {
				gone = r.gone[bill]
			}
		}
	}
	return gone, w.err
}

var eligibility = fhir.TypeNumber([]byte("CoverageEligibilityResponse"))

// answer removes what an answer says about removed lines of its bill. The answer to an
// eligibility request names no lines, so all its entries are removed.
func (p *pruner) answer(typ string) {
	p.each(func(e *entry) {
		named := slices.ContainsFunc(e.names, func(n number) bool {
			return n.list == "item" && p.gone[n.value]
		})
		e.out = e.out || named ||
			len(p.gone) > 0 && fhir.TypeNumber([]byte(typ)) == eligibility && e.field != contained
	})
}
