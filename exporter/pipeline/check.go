package pipeline

import (
	"bytes"
	"fmt"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// header returns the header line of a patient's block (Bulk Data Access 3.0.0, "Bulk Data Output
// File Organization").
func header(patient string) []byte {
	return []byte(`{"resourceType":"Parameters","parameter":[{"name":"header",` +
		`"valueReference":{"reference":"Patient/` + patient + `"}}]}`)
}

// wellFormed reports whether an unchecked resource is one line of JSON of its type.
func wellFormed(r source.Resource) bool {
	if bytes.IndexByte(r.Line, '\n') >= 0 || fhir.CheckDepth(r.Line) != nil || !json.Valid(r.Line) {
		return false
	}
	var c fhir.Cursor
	typ, id, err := c.Identify(r.Line)
	return err == nil && typ == r.Type && fhir.ValidID(id)
}

// malformed returns the entry of the error file for a malformed resource (BULK-6). In a filtered
// export it omits the type: an unreadable resource may be one that was withheld (EHI-9).
func malformed(r source.Resource, everything bool) []byte {
	what := "resource"
	if everything {
		what = r.Type
	}
	whose := "nobody in particular"
	if r.Patient != "" {
		whose = "Patient/" + r.Patient
	}
	o := fhir.Outcome("error", "structure",
		fmt.Sprintf("A %s of %s was left out: it is malformed", what, whose))
	return bytes.TrimSuffix(o.Line(), []byte{'\n'})
}

// loose repairs references that lead out of a population's export.
type loose struct {
	cursor fhir.Cursor
	starts []bool // by depth: whether the open object must be replaced
	edits  []fhir.Edit
	fixed  []byte
}

// fix replaces each Reference without a target in the export by one that says so, because every
// reference in a full export resolves inside it. In an unfiltered export the display and
// identifier of the Reference stay. The result is valid until the next call.
func (l *loose) fix(record source.Record, line []byte, everything bool) ([]byte, error) {
	l.edits, l.starts = l.edits[:0], l.starts[:0]
	c := &l.cursor
	for c.Reset(line); c.Next(); {
		switch {
		case c.Kind == fhir.Open:
			l.starts = append(l.starts, false)
		case c.Kind == fhir.Close:
			start, end := c.Span()
			if l.starts[len(l.starts)-1] {
				// The replacement includes the edits inside the object.
				for len(l.edits) > 0 && l.edits[len(l.edits)-1].Start > start {
					l.edits = l.edits[:len(l.edits)-1]
				}
				l.edits = append(l.edits, fhir.Edit{
					Start: start,
					End:   end,
					With:  fhir.UnknownReference,
				})
			}
			l.starts = l.starts[:len(l.starts)-1]
		case c.IsString() && string(c.Key()) == "reference" && !fhir.External(c.Text()):
			ok, err := resolves(record, c.Text())
			if err != nil {
				return nil, err
			}
			if ok {
				continue
			}
			_, end := c.Span()
			if e, rest := fhir.LoseReference(line, c.KeyStart(), end); everything && rest {
				l.edits = append(l.edits, e)
			} else {
				l.starts[len(l.starts)-1] = true
			}
		}
	}
	if len(l.edits) == 0 || c.Err() != nil {
		return line, c.Err()
	}
	l.fixed = fhir.Apply(l.fixed[:0], line, l.edits)
	return l.fixed, nil
}

func resolves(record source.Record, ref []byte) (bool, error) {
	typ, id, local := fhir.Local(ref)
	if !local {
		return false, nil
	}
	return record.Resolves(string(typ), string(id))
}
