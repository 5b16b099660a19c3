package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// document imports a JSON file: a resource, a Bundle, or an array of them. What follows is read
// as NDJSON, because some systems write NDJSON under the name of a document.
func (im *importer) document(ctx context.Context, in input) error {
	typ, of, err := im.kind(in)
	if _, broken := errors.AsType[errSyntax](err); err != nil && (!broken || typ != "Bundle") {
		return im.problem(in, err)
	}
	if typ == "Bundle" {
		b, behind := im.bundleOf(in, of)
		if err := im.bundle(ctx, b); err != nil {
			return im.problem(in, err)
		}
		return im.behind(ctx, in, *behind)
	}
	s, file, err := im.scanner(in, true)
	if err != nil {
		return im.problem(in, err)
	}
	defer file.Close() // read only
	return im.single(ctx, in, s)
}

// single imports a resource, or an array of them, and what follows.
func (im *importer) single(ctx context.Context, in input, s *scanner) error {
	first, err := s.begin()
	if err == nil && first == '[' {
		err = s.elements(func() error { return im.element(ctx, in, s) })
	} else if err == nil {
		err = im.resource(in, s)
	}
	if err != nil {
		return im.problem(in, err)
	}
	return im.following(ctx, in, s)
}

// following imports what follows a document: more multi-line documents, or NDJSON.
func (im *importer) following(ctx context.Context, in input, s *scanner) error {
	for {
		if _, err := s.peek(); err != nil {
			return im.problem(in, err)
		}
		if !s.opens() {
			return im.lines(ctx, in.name, s.line, s.rest())
		}
		if err := im.element(ctx, in, s); err != nil {
			return im.problem(in, err)
		}
	}
}

// resource imports the next resource.
func (im *importer) resource(in input, s *scanner) error {
	raw, line, err := s.value(im.o.MaxResource, false)
	if errors.Is(err, errTooLarge) {
		return im.bad(in.name, line, tooLarge(im.o.MaxResource).Error())
	}
	if err != nil {
		return err
	}
	return im.put(in.name, line, im.prepared(raw))
}

// element imports the next element: a resource, a Bundle, or an array of them.
func (im *importer) element(ctx context.Context, in input, s *scanner) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	raw, line, err := s.value(im.o.MaxResource, false)
	switch {
	case errors.Is(err, errTooLarge):
		return im.bad(in.name, line, tooLarge(im.o.MaxResource).Error())
	case err != nil:
		return err
	}
	it := im.item(&im.w.examiner, line, raw)
	if it.bundle != nil {
		return im.document(ctx, input{name: in.name, line: line, text: raw})
	}
	return im.put(in.name, line, it.prepared)
}

// prepared examines a resource from the input.
func (im *importer) prepared(raw []byte) prepared {
	text, err := im.charset.line(raw)
	if err != nil {
		return prepared{err: err}
	}
	return im.w.prepare(text)
}

// place is a position in an input.
type place struct {
	offset int64
	line   int
}

// behind imports the lines after a bundle, if place has an offset.
func (im *importer) behind(ctx context.Context, in input, at place) error {
	if at.offset == 0 {
		return nil
	}
	if in.text != nil {
		rest := in.text[at.offset:]
		return im.following(ctx, in, &scanner{
			buf:  rest,
			end:  len(rest),
			line: at.line,
			err:  io.EOF,
		})
	}
	s, file, err := im.scanner(in, false)
	if err != nil {
		return err
	}
	defer file.Close() // read only
	if _, err := io.CopyN(io.Discard, s.r, at.offset); err != nil {
		return err
	}
	s.line = at.line
	return im.following(ctx, in, s)
}

// problem reports a problem of a whole input, and returns other errors.
func (im *importer) problem(in input, err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	if syntax, ok := errors.AsType[errSyntax](err); ok {
		return im.bad(in.name, syntax.line, syntax.Error())
	}
	if left, ok := errors.AsType[errIgnored](err); ok {
		im.left = true
		im.leaves(in.name, left)
		return nil
	}
	if unfit, ok := errors.AsType[errInput](err); ok {
		return im.bad(in.name, in.line, unfit.Error())
	}
	return err
}

// kind reads resourceType and type of a document, and no more than necessary.
func (im *importer) kind(in input) (typ, of string, err error) {
	s, file, err := im.scanner(in, false)
	if err != nil {
		return "", "", err
	}
	defer file.Close() // read only
	if b, err := s.begin(); err != nil || b != '{' {
		return "", "", err
	}
	err = s.fields(func(name string) (err error) {
		switch name {
		case "resourceType":
			typ, err = s.text()
		case "type":
			of, err = s.text()
		default:
			_, _, err = s.value(0, true)
		}
		if err == nil && typ != "" && (typ != "Bundle" || of != "") {
			return errEnough
		}
		return err
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return typ, of, err
}

// bundle is a Bundle that is read entry by entry, repeatedly if necessary, and never held in
// memory as a whole.
type bundle struct {
	name string // of its file
	line int    // first line in the file
	typ  string // Bundle.type
	// each visits the entries in order. An unreadable entry has an error. It stops at the first
	// error of visit. Its own errors are about the bundle.
	each func(visit func(entry) error) error
}

// entry is one entry of a Bundle, valid during the visit only.
type entry struct {
	FullURL  string          `json:"fullUrl"`
	Resource json.RawMessage `json:"resource"`
	Request  struct {
		Method      string `json:"method"`
		URL         string `json:"url"`
		IfNoneExist string `json:"ifNoneExist"`
	} `json:"request"`
	Response struct {
		Location     string `json:"location"`
		ETag         string `json:"etag"`
		LastModified string `json:"lastModified"`
	} `json:"response"`
	Search struct {
		Mode string `json:"mode"`
	} `json:"search"`
	line int   // first line of the resource in its file
	err  error // errResource: why the entry is unreadable
}

// bundleOf returns the bundle of an input. After a visit of the entries, behind is the position
// of what follows the bundle.
func (im *importer) bundleOf(in input, typ string) (b bundle, behind *place) {
	b, behind = bundle{name: in.name, line: in.line, typ: typ}, &place{}
	first := true
	b.each = func(visit func(entry) error) error {
		s, file, err := im.scanner(in, first)
		first = false
		if err != nil {
			return err
		}
		defer file.Close() // read only
		if err := im.entries(s, visit); err != nil {
			return err
		}
		if _, err := s.peek(); err == nil {
			*behind = place{s.taken, s.line}
		}
		return nil
	}
	return b, behind
}

// entries visits the entries of the bundle at the scanner's position.
func (im *importer) entries(s *scanner, visit func(entry) error) error {
	if _, err := s.begin(); err != nil {
		return err
	}
	var seen []string
	return s.fields(func(name string) error {
		switch name {
		case "resourceType", "type", "entry": // the fields that are read of a Bundle itself
			if slices.Contains(seen, name) {
				return errInput{fhir.ErrRepeated{Name: name}.Error()}
			}
			seen = append(seen, name)
		}
		b, err := s.peek()
		if err == nil && name == "entry" && b != '[' && b != 'n' { // null counts as absent
			return errInput{"not a valid Bundle: its entry is no array"}
		}
		if err != nil || b != '[' || name != "entry" {
			_, _, err = s.value(0, true)
			return err
		}
		return s.elements(func() error {
			raw, line, err := s.value(im.o.MaxResource+entryBytes, false)
			switch {
			case errors.Is(err, errTooLarge):
				return visit(entry{line: line, err: tooLarge(im.o.MaxResource)})
			case err != nil:
				return err
			}
			text, err := im.charset.line(raw)
			if err != nil {
				return visit(entry{line: line, err: err})
			}
			return visit(im.entry(text, line))
		})
	})
}

// entryBytes is how much an entry may hold besides its resource.
const entryBytes = 64 << 10

// entry parses one entry that starts in the given line.
func (im *importer) entry(raw []byte, line int) entry {
	e := entry{}
	// The resource remains a slice of raw, so that its line can be determined.
	_, err := json.Parse(raw, &e, json.DontCopyRawMessage|json.DontMatchCaseInsensitiveStructFields)
	at := offset(raw, e.Resource)
	e.line = line + bytes.Count(raw[:at], []byte{'\n'})
	switch {
	case err != nil:
		e.err = errResource{fmt.Sprintf("not a valid entry: %v", err)}
	case im.repeats(raw, at, len(e.Resource)):
		e.err = unfit(raw, im.around.Err())
	case int64(len(e.Resource)) > im.o.MaxResource:
		e.err = tooLarge(im.o.MaxResource)
	}
	return e
}

// repeats reports whether an entry, apart from its resource, has an object with a repeated
// field. im.around says which.
func (im *importer) repeats(raw []byte, at, size int) bool {
	doc := append(append(append([]byte{}, raw[:at]...), "null"...), raw[at+size:]...)
	if size == 0 {
		doc = raw
	}
	c := &im.around
	c.Unique = true
	for c.Reset(doc); c.Next(); {
	}
	_, repeated := errors.AsType[fhir.ErrRepeated](c.Err())
	return repeated
}

// tooLarge returns why a resource is skipped.
func tooLarge(limit int64) error {
	return errResource{fmt.Sprintf("larger than %d bytes, the limit of a resource", limit)}
}

// offset returns the offset of part, a slice of data, or 0 if it is not one.
func offset(data, part []byte) int {
	at := cap(data) - cap(part)
	if len(part) > 0 && at >= 0 && at < len(data) && data[at] == part[0] {
		return at
	}
	return 0
}
