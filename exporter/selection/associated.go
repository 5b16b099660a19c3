package selection

import (
	"context"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Query returns what to read of a record for a kick-off. If the Provenance of the exported
// resources is requested, it reads every Provenance; Associated decides about those that are not
// requested by their own type and time.
func Query(k ehi.KickOff) source.Query {
	q := source.Query{Types: k.Types, Since: k.Since, Until: k.Until}
	if k.Provenance && (q.Timed() || !q.Names(provenanceType)) {
		q.Also = provenanceType
	}
	return q
}

// Associated determines which Provenance has an exported target (Bulk Data Access 3.0.0,
// "includeAssociatedData": RelevantProvenanceResources). It is not safe for concurrent use.
type Associated struct {
	record  source.Record
	query   source.Query
	matcher *fhir.Matcher
	cursor  fhir.Cursor
	targets []target
}

type target struct{ typ, id string }

// NewAssociated returns an Associated for an export of a record, or nil if everything that is
// read was requested.
func NewAssociated(k ehi.KickOff, record source.Record) *Associated {
	q := Query(k)
	if q.Also == "" {
		return nil
	}
	q.Also = ""
	return &Associated{record: record, query: q, matcher: fhir.NewMatcher(k.TypeFilters)}
}

// Relevant reports whether a Provenance has an exported target: of a requested type and time,
// matched by a search of its type, and released. released decides about a line; nil releases
// everything.
func (a *Associated) Relevant(
	ctx context.Context, provenance []byte, released func(line []byte) (bool, error),
) (bool, error) {
	if err := a.read(provenance); err != nil {
		return false, err
	}
	for _, t := range a.targets {
		if t.typ == provenanceType || !a.query.Names(t.typ) {
			continue
		}
		line, err := a.record.Find(ctx, a.query, t.typ, t.id)
		if err != nil {
			return false, err
		}
		if line == nil {
			continue
		}
		ok, err := a.matcher.Match(t.typ, line)
		if ok && err == nil && released != nil {
			ok, err = released(line)
		}
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// read reads the targets of a Provenance.
func (a *Associated) read(provenance []byte) error {
	a.targets = a.targets[:0]
	c := &a.cursor
	for c.Reset(provenance); c.Next(); {
		if c.Depth != 3 || !c.IsString() || string(c.Key()) != "reference" ||
			string(c.KeyAt(1)) != "target" {
			continue
		}
		if typ, id, local := fhir.Local(c.Text()); local {
			a.targets = append(a.targets, target{string(typ), string(id)})
		}
	}
	return c.Err()
}
