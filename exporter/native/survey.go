package native

import (
	"context"
	"errors"
	"strings"

	"ehi-server/exporter/reading"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
)

// Facts notes what decisions about documents and rows depend on (release.NativeFacts). Its rules
// withhold nothing. Each document or row ends with Count.
type Facts interface {
	Rules
	// Count adds the document or row that the rules were asked about, many times.
	Count(times int64, kind Kind) error
}

// Kind says what a decision about native content depends on that a Survey does not find out.
type Kind struct {
	Waits  bool // it falls under no line of the form (NAT-4)
	Unread bool // it is a text that was not read
	Refers bool // it is a row that stays with the row that it refers to
	Looks  bool // it is a row that stays with what it refers to in a look-up table
}

// mostRead is the size of the texts that a Survey reads, in bytes: of each, and of all.
const (
	mostRead    = 256 << 10
	mostReadAll = 8 << 20
)

// Survey goes through the native content of a patient's record, and shows its facts. It holds
// nothing of it. pause is called after some bytes.
func Survey(
	ctx context.Context, record source.Record, q source.Query, facts Facts,
	pause func(bytes int) error,
) error {
	s := survey{
		record: record, facts: facts, release: NewRelease(facts, record.Tables()), pause: pause,
	}
	if err := record.Documents(ctx, q, s.document); err != nil {
		return err
	}
	if record.Tables() == nil {
		return nil
	}
	for i := range record.Tables().Resources {
		if t := &record.Tables().Resources[i]; !t.Lookup {
			if err := s.table(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

type survey struct {
	record  source.Record
	facts   Facts
	release *Release
	pause   func(bytes int) error
	read    int64 // of texts
	values  [][]byte
}

// documentBytes is what a document costs whose content is not read.
const documentBytes = 4 << 10

func (s *survey) document(d *source.Document) error {
	kind := Kind{Waits: s.release.document(d) == Unclassified}
	for resource := range d.Resources() {
		typ, id, _ := strings.Cut(resource, "/")
		holds, err := s.record.Has(d.Patient, typ, id)
		if err != nil {
			return err
		}
		kind.Waits = kind.Waits || !holds
	}
	cost, err := s.content(d, &kind)
	if err == nil {
		err = s.facts.Count(1, kind)
	}
	if err != nil {
		return err
	}
	return s.pause(cost)
}

// content reads a document that is a text, if it is not too large.
func (s *survey) content(d *source.Document, kind *Kind) (cost int, err error) {
	in, err := d.Open()
	if err != nil {
		return 0, err
	}
	is, err := reading.IsText(in, d.ContentType)
	if err = errors.Join(err, in.Close()); err != nil || !is {
		return documentBytes, err
	}
	if d.Size == 0 || d.Size > mostRead || s.read+d.Size > mostReadAll {
		kind.Unread = true
		return documentBytes, nil
	}
	s.read += d.Size
	reason, err := s.release.content(d)
	kind.Waits = kind.Waits || reason == Unclassified
	return int(d.Size), err
}

func (s *survey) table(ctx context.Context, of *datapackage.Resource) error {
	codec, err := datapackage.NewCodec(of)
	if err != nil {
		return err
	}
	t := s.release.facts(of)
	kind := Kind{Waits: t.waits, Refers: len(t.parents) > 0}
	kind.Looks = len(of.Fields.ForeignKeys) > len(t.parents)
	return s.record.Rows(ctx, of.Name, func(rows source.Rows) error {
		s.release.Of(rows.Patient)
		for raw := range codec.Rows(rows.Data) {
			if s.values, err = codec.Fields(raw, s.values[:0]); err != nil {
				return err
			}
			s.release.row(t, s.values, raw)
			if err := s.facts.Count(1, kind); err != nil {
				return err
			}
		}
		return s.pause(len(rows.Data))
	})
}
