package reading

import (
	"bytes"
	"encoding/hex"
)

// messageCodes is a step that leaves only the codes of messages of HL7 v2, with their systems: of
// each field the first component with the third one, the fourth with the sixth, and so on (CE and
// CWE, HL7 v2.9 2A.3), without escapes.
type messageCodes struct {
	codings
	separators
	header  int      // the number of the next separator, in a header segment; 0 for none
	segment string   // the name of the current segment
	number  int      // of the current field; 0 for the name
	part    []byte   // of the field, up to a little more than maxCode
	parts   [][]byte // the components before it
	subs    [][]byte // the subcomponents before it
	method  []byte   // the system that a field says for the codes of the next ones
	escaped []byte   // what is behind the begin of an escape, up to maxCode
	escapes bool     // an escape goes on
}

// separators stand between fields, components, repetitions and subcomponents (HL7 v2.9 2.5.4).
type separators struct{ field, component, repetition, escape, sub byte }

func newMessageCodes() *messageCodes {
	return &messageCodes{separators: separators{'|', '^', '~', '\\', '&'}}
}

// escapedBy returns the separator that an escape stands for; 0 for another escape.
func (s separators) escapedBy(escape string) byte {
	switch escape {
	case "F":
		return s.field
	case "S":
		return s.component
	case "T":
		return s.sub
	case "R":
		return s.repetition
	case "E":
		return s.escape
	case "P":
		return '#'
	}
	return 0
}

// isMessage reports whether a text begins as a message of HL7 v2, or a batch of them.
func isMessage(head []byte) bool {
	return len(head) > len("MSH|^~\\&") && isHeader(string(head[:3])) && !isWord(head[3])
}

func isHeader(segment string) bool {
	return segment == "MSH" || segment == "FHS" || segment == "BHS"
}

// methods are the fields that say the system of the field behind them, by segment.
var methods = map[string]int{"DG1": 2, "PR1": 2}

// labels are the systems of fields that have a security label without a system, by segment and
// number (HL7 tables 0272 and 0177).
var labels = map[string]map[int]string{
	"TXA": {18: "urn:oid:2.16.840.1.113883.5.25"},
	"ORC": {28: "urn:oid:2.16.840.1.113883.12.177"},
}

// read implements step.
func (m *messageCodes) read(piece []byte, last bool) (plain []byte, changed bool) {
	m.plain = m.plain[:0]
	for _, c := range piece {
		m.take(c)
	}
	if last {
		m.ends()
		m.fieldEnds()
	}
	return m.plain, len(m.plain) > 0
}

func (m *messageCodes) take(c byte) {
	if m.escapes && m.escaping(c) {
		return
	}
	switch {
	case c == '\r' || c == '\n' || c == '\x0b' || c == '\x1c':
		m.fieldEnds()
		m.segment, m.number, m.header, m.method = "", 0, 0, m.method[:0]
	case m.header > 0 && m.separate(c):
	case c == m.field:
		m.fieldEnds()
		m.number++
	case m.number == 0:
		m.keep(c)
		if len(m.part) == 3 && isHeader(string(m.part)) {
			m.header = 1
		}
	case c == m.repetition:
		m.repetitionEnds()
	case c == m.component:
		m.componentEnds()
	case c == m.sub:
		m.subs, m.part = appendPart(m.subs, m.part), m.part[:0]
	case c == m.escape:
		m.escapes, m.escaped = true, m.escaped[:0]
	default:
		m.keep(c)
	}
}

// escaping takes a byte behind the begin of an escape. It reports false if the escape does not
// have the byte: then it is none, and stands for itself.
func (m *messageCodes) escaping(c byte) (taken bool) {
	switch {
	case c == m.escape:
		m.escapes = false
		m.resolve(m.escaped)
		return true
	case len(m.escaped) < maxCode && c >= ' ' && c != m.field && c != m.component &&
		c != m.repetition && c != m.sub:
		m.escaped = append(m.escaped, c)
		return true
	}
	m.ends()
	return false
}

// ends takes an escape that has no end, as it is.
func (m *messageCodes) ends() {
	if !m.escapes {
		return
	}
	m.escapes = false
	m.keep(m.escape)
	for _, c := range m.escaped {
		m.keep(c)
	}
}

// resolve takes an escape by what is between its borders (HL7 v2.9 2.7).
func (m *messageCodes) resolve(escape []byte) {
	if len(escape) == 0 {
		return
	}
	if c := m.escapedBy(string(escape)); c != 0 {
		m.keep(c)
		return
	}
	switch escape[0] {
	case 'X':
		text, _ := hex.DecodeString(string(escape[1:]))
		for _, c := range text {
			m.keep(c)
		}
	case '.': // a command for lines and spaces
		m.keep(' ')
	case 'H', 'N', 'C', 'M', 'Z': // highlighting, character sets, and what sites define
	default:
		m.keep(m.escape)
		for _, c := range escape {
			m.keep(c)
		}
		m.keep(m.escape)
	}
}

func (m *messageCodes) keep(c byte) {
	if len(m.part) <= maxCode {
		m.part = append(m.part, c)
	}
}

// separate takes the separators that a header segment declares. It reports whether c is one.
func (m *messageCodes) separate(c byte) bool {
	of := []*byte{&m.field, &m.component, &m.repetition, &m.escape, &m.sub}
	if m.header > len(of) || m.header > 1 && c == m.field {
		m.header = 0
		return false
	}
	*of[m.header-1] = c
	m.header++
	return true
}

// maxParts is the number of components of a field that are kept.
const maxParts = 64

// appendPart appends a copy of a part, in the memory of an earlier one.
func appendPart(to [][]byte, part []byte) [][]byte {
	switch n := len(to); {
	case n == maxParts:
		return to
	case n < cap(to):
		to = to[:n+1]
		to[n] = append(to[n][:0], part...)
		return to
	}
	return append(to, bytes.Clone(part))
}

func (m *messageCodes) fieldEnds() {
	if m.number == 0 {
		m.segment, m.part = string(m.part), m.part[:0]
		return
	}
	m.repetitionEnds()
}

func (m *messageCodes) componentEnds() {
	if m.subs = appendPart(m.subs, m.part); len(m.subs) > 1 {
		m.coded(m.subs)
	}
	m.parts = appendPart(m.parts, m.subs[0])
	m.subs, m.part = m.subs[:0], m.part[:0]
}

func (m *messageCodes) repetitionEnds() {
	m.componentEnds()
	m.coded(m.parts)
	first := m.parts[0]
	if system := labels[m.segment][m.number]; system != "" {
		m.code([]byte(system), first)
	}
	switch at := methods[m.segment]; m.number {
	case at:
		m.method = append(m.method[:0], first...)
	case at + 1:
		if at > 0 {
			m.code(m.method, first)
		}
	}
	m.parts = m.parts[:0]
}

// coded takes components, or subcomponents, of which some are codes.
func (m *messageCodes) coded(parts [][]byte) {
	for at := 0; at+2 < len(parts); at += 3 {
		if len(parts[at+2]) > 0 {
			m.code(parts[at+2], parts[at])
		}
	}
}

// code appends a code. Without a system it counts as one of every system.
func (m *messageCodes) code(system, code []byte) {
	if len(code) > 0 {
		m.add(appendValue(nil, system), appendValue(nil, code))
	}
}
