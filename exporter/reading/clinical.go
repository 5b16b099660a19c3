package reading

import (
	"bytes"
	"cmp"
	"iter"
)

// Codes decides about the codes in elements of CDA. It is used by one goroutine.
type Codes struct {
	decide       func(system string, code []byte) (reason string)
	oids, spoken systemNames
	codes        [][]byte
	systems      []string
}

// NewCodes returns Codes that decide returns reasons for.
func NewCodes(decide func(system string, code []byte) (reason string)) *Codes {
	return &Codes{decide: decide, oids: systemNames{}, spoken: systemNames{}}
}

// In decides about a piece of a text by its elements with codes.
func (c *Codes) In(piece []byte) (reason string) {
	for element := range clinicalCodes(piece) {
		codes, systems := c.codes[:0], c.systems[:0]
		for name, value := range codedAttributes(element) {
			switch name {
			case "code":
				codes = append(codes, value)
			case "codeSystem":
				systems = append(systems, c.oids.of("urn:oid:", value))
			default:
				systems = append(systems, c.spoken.of("", value))
			}
		}
		c.codes, c.systems = codes, systems
		for _, code := range codes {
			for _, system := range systems {
				reason = cmp.Or(reason, c.decide(system, code))
			}
		}
	}
	return reason
}

// systemNames are names of code systems by the values of attributes, of which documents have few.
type systemNames map[string]string

// of returns the name of a system, which is a value behind a prefix.
func (s systemNames) of(prefix string, value []byte) string {
	if name, known := s[string(value)]; known {
		return name
	}
	name := prefix + string(value)
	if len(s) < maxNames && len(value) <= maxCode {
		s[string(value)] = name
	}
	return name
}

// maxNames is the number of names of code systems that are kept.
const maxNames = 256

// clinicalCodes yields the elements of CDA with a code's system (HL7 V3 CD), each with the text
// behind it.
func clinicalCodes(piece []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			at := bytes.Index(piece, []byte("codeSystem"))
			if at < 0 {
				return
			}
			end := bytes.IndexByte(piece[at:], '<')
			if end < 0 {
				end = len(piece) - at
			}
			begin := bytes.LastIndexByte(piece[:at], '<')
			if begin >= 0 && !yield(piece[begin:at+end]) {
				return
			}
			piece = piece[at+end:]
		}
	}
}

// codedAttributes yields the attributes of an element of CDA that have a code or its system: code,
// codeSystem and codeSystemName.
func codedAttributes(element []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for i := 0; ; {
			equals := bytes.IndexByte(element[i:], '=')
			if equals < 0 {
				return
			}
			name := codeAttributeAt(element[:i+equals])
			if i += equals + 1; name == "" {
				continue
			}
			for i < len(element) && spaces[element[i]] {
				i++
			}
			if i == len(element) || element[i] != '"' && element[i] != '\'' {
				continue
			}
			value := element[i+1:]
			end := bytes.IndexByte(value, element[i])
			if end < 0 || bytes.IndexByte(value[:end], '<') >= 0 {
				continue
			}
			if !yield(name, value[:end]) {
				return
			}
			i += end + 2
		}
	}
}

// codeAttributeAt returns the name of an attribute with a code or its system, if a text ends with
// one and spaces.
func codeAttributeAt(text []byte) (name string) {
	for len(text) > 0 && spaces[text[len(text)-1]] {
		text = text[:len(text)-1]
	}
	switch {
	case bytes.HasSuffix(text, []byte("code")):
		name = "code"
	case bytes.HasSuffix(text, []byte("codeSystem")):
		name = "codeSystem"
	case bytes.HasSuffix(text, []byte("codeSystemName")):
		name = "codeSystemName"
	}
	if before := len(text) - len(name); before > 0 && isWord(text[before-1]) {
		return ""
	}
	return name
}

// isWord reports whether a name may go on behind c.
func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}
