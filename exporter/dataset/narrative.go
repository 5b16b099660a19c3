package dataset

import (
	"bytes"
	"html"

	"ehi-server/shared/fhir"
)

// A narrative may show an image that is a Binary, and link documents
// (https://hl7.org/fhir/R4/narrative.html#id). They are of the record as what an attachment's url
// leads to. Nothing else is: what a release form decides about by what refers to it, such as a
// questionnaire, is asked for by elements alone.

var (
	srcName    = []byte("src")
	hrefName   = []byte("href")
	escapedTag = []byte(`\u`)
)

// narrativeAt takes in the narrative where a walk stands.
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
	if bytes.IndexByte(raw, '\\') < 0 { // else lines like this one have the same narrative
		made.event(isNarrative, c, "")
	}
}

// narrative takes in what a narrative, a string that ends at end in the line, shows and links. It
// reports whether some of that is of a store.
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

// attribute is the value of an attribute, behind whose name rest stands.
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

// shows takes in the address of an image or a link.
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
