package dataset

import (
	"bytes"
	"html"

	"ehi-server/shared/fhir"
)

// A narrative may show an image that is a Binary, and link documents
// (https://hl7.org/fhir/R4/narrative.html#id). They belong to the record, like the target of an
// attachment's url. Other targets do not: a release form decides about a resource such as a
// questionnaire by the elements that reference it.

var (
	srcName    = []byte("src")
	hrefName   = []byte("href")
	escapedTag = []byte(`\u`)
)

// narrativeAt processes the current narrative.
func (x *examiner) narrativeAt(made *making) {
	c := &x.cursor
	raw := c.Raw()
	if bytes.Contains(raw, srcName) || bytes.Contains(raw, hrefName) ||
		bytes.Contains(raw, escapedTag) {
		_, end := c.Span()
		if x.narrative(c.Text(), end) && bytes.IndexByte(raw, '\\') >= 0 {
			made.fails()
		}
	}
	if bytes.IndexByte(raw, '\\') < 0 { // otherwise lines like this one have the same narrative
		made.event(isNarrative, c, "")
	}
}

// narrative processes what a narrative shows and links. end is its end in the line. It reports
// whether the store may have some of it.
func (x *examiner) narrative(text []byte, end int) (some bool) {
	for _, name := range [][]byte{srcName, hrefName} {
		for rest := text; ; {
			at := bytes.Index(rest, name)
			if at < 0 {
				break
			}
			isName := at > 0 && isSpace(rest[at-1])
			rest = rest[at+len(name):]
			if value, ok := attribute(rest); ok && isName {
				some = x.shows(value, end) || some
			}
		}
	}
	return some
}

// attribute returns the value of an attribute; rest follows its name.
func attribute(rest []byte) (value []byte, ok bool) {
	rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte("="))
	if rest = bytes.TrimLeft(rest, " \t\r\n"); !ok || len(rest) == 0 ||
		rest[0] != '"' && rest[0] != '\'' {
		return nil, false
	}
	n := bytes.IndexByte(rest[1:], rest[0])
	if n < 0 {
		return nil, false
	}
	return rest[1 : 1+n], true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// shows processes the address of an image or a link.
func (x *examiner) shows(address []byte, end int) bool {
	if len(address) > longestReference {
		return false
	}
	url := []byte(html.UnescapeString(string(address)))
	m := x.scope.read(url)
	if m.text != "" {
		url = []byte(m.text)
	}
	typ, id, ok := fhir.Local(url)
	document := string(typ) == "Binary" || string(typ) == "DocumentReference"
	if !ok || !document || m.kind != refLocal || m.external {
		return false
	}
	at := end + x.shift
	target := []byte(string(typ) + "/" + string(id))
	x.refs = x.refs.append(x.last, ref{start: at, end: at, kind: refShown, original: target})
	x.last = at
	return true
}
