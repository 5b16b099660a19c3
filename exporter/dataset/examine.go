package dataset

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	stdjson "encoding/json"

	"ehi-server/shared/fhir"
)

// facts is what one walk over a resource finds out.
type facts struct {
	typ, id     string
	refs        []refAt
	indirect    bool     // some reference is neither local nor external: resolving may change it
	owners      []string // patients whose compartment it is in
	anchors     []refAt  // what it is about, where that is no patient: its owner is theirs
	identifiers []string // system|value of identifier[]
	name        []string // of the first name: given names, then the family name
}

// refAt is one reference string and where its JSON stands in the line.
type refAt struct {
	start, end int
	text       string
	typ, id    string // what a local reference leads to; empty for any other
}

func (r refAt) local() bool { return r.typ != "" }

// errResource says what is wrong with a resource; the rest of its file is fine.
type errResource struct{ why string }

func (e errResource) Error() string { return e.why }

// examiner reads resources. It is for one goroutine.
type examiner struct {
	cursor fhir.Cursor
	path   []byte
	buf    bytes.Buffer
	words  map[string]string // types and paths, each made a string once

	// of the resource at hand
	refs     []refAt
	subjects []subject
}

// wordsKept bounds what an examiner remembers.
const wordsKept = 10_000

func (x *examiner) word(b []byte) string {
	if w, ok := x.words[string(b)]; ok {
		return w
	}
	if x.words == nil || len(x.words) >= wordsKept {
		x.words = map[string]string{}
	}
	w := string(b)
	x.words[w] = w
	return w
}

// compact gives a resource as one line of JSON without needless space, and what is found out about it. The line is the argument where it
// is one already.
func (x *examiner) compact(resource []byte) ([]byte, facts, error) {
	f, err := x.examine(resource)
	switch {
	case x.cursor.Err() != nil:
		return nil, f, notJSON(resource, x.cursor.Err())
	case !x.cursor.Spaced():
		return resource, f, err
	}
	x.buf.Reset()
	if err := stdjson.Compact(&x.buf, resource); err != nil {
		return nil, f, notJSON(resource, err)
	}
	line := bytes.Clone(x.buf.Bytes())
	f, err = x.examine(line)
	return line, f, err
}

// notJSON tells what is wrong in the words of the standard library, which name the place.
func notJSON(resource []byte, err error) error {
	var any stdjson.RawMessage
	if e := stdjson.Unmarshal(resource, &any); e != nil {
		err = e
	}
	return errResource{fmt.Sprintf("not valid JSON: %v", err)}
}

// endOfString finds how far behind its opening quote a string's closing quote stands, counted from the opening one; -1 where there
// is none.
func endOfString(s []byte) int {
	for at := 0; ; {
		n := bytes.IndexByte(s[at:], '"')
		if n < 0 {
			return -1
		}
		at += n
		escapes := 0
		for at-escapes > 0 && s[at-escapes-1] == '\\' {
			escapes++
		}
		if at++; escapes%2 == 0 {
			return at
		}
	}
}

// examine walks a resource once. The places of references are those in what it is given.
func (x *examiner) examine(line []byte) (facts, error) {
	var f facts
	var system, value, family string
	x.refs, x.subjects = x.refs[:0], x.subjects[:0]
	named := false
	c := &x.cursor
	for c.Reset(line); c.Next(); {
		if c.Kind == fhir.Close && c.Depth == 2 && string(c.KeyAt(1)) == "identifier" {
			if value != "" {
				f.identifiers = append(f.identifiers, system+"|"+value)
			}
			system, value = "", ""
		}
		if c.Kind == fhir.Close && c.Depth == 2 && string(c.KeyAt(1)) == "name" && !named {
			f.name, named = append(f.name, family), true
		}
		if !c.IsString() {
			continue
		}
		switch k := c.Key(); {
		case c.Depth == 1 && string(k) == "resourceType":
			f.typ = x.word(c.Text())
		case c.Depth == 1 && string(k) == "id":
			f.id = string(c.Text())
		case string(k) == "reference":
			start, end := c.Span()
			text := c.Text()
			r := refAt{start: start, end: end, text: string(text)}
			if typ, _, ok := fhir.Local(text); ok {
				r.typ = x.word(typ)
				r.id, _, _ = strings.Cut(r.text[len(typ)+1:], "/")
				x.path = c.AppendPath(x.path[:0])
				x.subjects = append(x.subjects, subject{x.word(bytes.TrimSuffix(x.path, []byte(".reference"))), len(x.refs)})
			} else {
				f.indirect = f.indirect || !fhir.External(text)
			}
			x.refs = append(x.refs, r)
		case c.Depth == 3 && string(c.KeyAt(1)) == "identifier":
			switch string(k) {
			case "system":
				system = string(c.Text())
			case "value":
				value = string(c.Text())
			}
		case named || c.Depth < 3 || string(c.KeyAt(1)) != "name":
		case string(k) == "family":
			family = string(c.Text())
		case string(k) == "given":
			f.name = append(f.name, string(c.Text()))
		}
	}
	if !fhir.KnownType(f.typ) {
		return f, errResource{fmt.Sprintf("resourceType %q is no type of FHIR R4", f.typ)}
	}
	if !fhir.ValidID(f.id) {
		return f, errResource{fmt.Sprintf("%s has no valid id: %q", f.typ, f.id)}
	}
	f.refs = slices.Clone(x.refs)
	f.place(x.subjects)
	return f, nil
}

// subject is the path of a local reference's field, and its place in the list.
type subject struct {
	path string
	ref  int
}

// place finds what decides about the owner among a resource's references.
func (f *facts) place(subjects []subject) {
	if f.typ == "Patient" {
		f.owners = []string{f.id}
		return
	}
	paths := fhir.CompartmentPaths(f.typ)
	for _, s := range subjects {
		about, r := slices.Contains(paths, s.path), f.refs[s.ref]
		switch {
		case about && r.typ == "Patient":
			if !slices.Contains(f.owners, r.id) {
				f.owners = append(f.owners, r.id)
			}
		case paths != nil && (about || s.path == "encounter" || s.path == "context"):
			f.anchors = append(f.anchors, r)
		}
	}
}

// references calls visit for each reference string of a compact resource, in a fraction of the time that a walk over all of it takes. It
// looks for the field's name: within a string the quotes around it would be escaped.
func references(line []byte, visit func(text []byte)) {
	field := []byte(`"reference":"`)
	for {
		at := bytes.Index(line, field)
		if at < 0 {
			return
		}
		rest := line[at+len(field):]
		end := endOfString(rest)
		if end < 0 {
			return
		}
		if at == 0 || line[at-1] != '\\' {
			visit(rest[:end-1])
		}
		line = rest[end:]
	}
}
