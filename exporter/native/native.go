package native

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Export is the native content of one task.
type Export struct {
	Record source.Native
	Query  source.Query
	// Packaging is how it is written. A population has only ehi.PackageZIP.
	Packaging ehi.Packaging
	// Origin is the URL of the server without a path. The lists name files and documentation
	// below it.
	Origin string
	Job    string
	Task   int
	// Patient is the only patient; "" for a population.
	Patient string
	// ByPatient means that a population has no part for what belongs to no patient: look-up rows
	// go with the patients whose rows refer to them.
	ByPatient bool
	// TakenAt is the instant of the record.
	TakenAt time.Time
	// Holds reports whether the record of a patient has a resource: lists name no other. nil means
	// that it has every one.
	Holds func(patient, typ, id string) (bool, error)
	// Decide decides what leaves; nil releases everything.
	Decide Decider
	// ArchiveBytes is the size at which an archive ends and the next one begins, in bytes. A
	// larger document makes a larger archive. Default DefaultArchiveBytes.
	ArchiveBytes int64
	// Compression other than ehi.Identity compresses what is in an archive. It does not apply to
	// PackageFiles.
	Compression ehi.Compression
	Batch       files.Batch
	// Yield, if not nil, is called before each 256 KiB. It blocks while other work has priority.
	Yield func(ctx context.Context) error
	// Moved, if not nil, counts bytes written. Others may read it while the export runs.
	Moved *atomic.Int64
}

// DefaultArchiveBytes is the default of Export.ArchiveBytes.
const DefaultArchiveBytes = 2 << 30

// Verdict is a decision about native content.
type Verdict int

const (
	// Leaves means that it is part of the export.
	Leaves Verdict = iota
	// Stays means that it is not.
	Stays
	// Waits means that it is not, unless an administrator releases it (NAT-4).
	Waits
)

// Decider decides what may leave. It is called by one goroutine.
type Decider interface {
	// Document decides about a document. strays means that the patient's record does not have
	// each resource that it belongs to.
	Document(d *source.Document, strays bool) (Verdict, error)
	// Table decides about a table. If rows of it may leave or wait, each says whether Row
	// decides about each one.
	Table(r *datapackage.Resource) (v Verdict, each bool, err error)
	// Of says whose rows of the last Table follow.
	Of(patient string)
	// Row reports whether a row of the last Table follows the decision about the table. If not,
	// it stays. The values are those of the row, in the order of the fields, and raw is the row
	// as it is in the file. telling means that it refers to a look-up row for which Lookup said
	// no.
	Row(values [][]byte, raw []byte, telling bool) (bool, error)
	// Again is called after each pass over the rows of one patient. It reports whether another
	// one is needed before any of them is written: a row stays, and rows that were decided before
	// it may refer to it.
	Again() bool
	// Lookup reports whether rows that refer to a row of a look-up table may leave.
	Lookup(r *datapackage.Resource, values [][]byte, raw []byte) (bool, error)
}

// Result is what an Export has written.
type Result struct {
	Outputs []Output
	// Links is the number of documents that are objects of their own (files.Batch.Link).
	Links int
	// LinkBytes is the size of those of these that leave, in bytes.
	LinkBytes int64
	// Withheld counts documents and rows that stay or wait, by reason.
	Withheld map[string]int64
	// Written are the figures of what clients get.
	Written Figures
}

// Figures count native content.
type Figures struct {
	Documents, Tables, Rows int64
	Bytes                   int64 // of documents and tables
	Linked                  int64 // of these, the bytes that were shared and not copied
}

// Output is an output of the batch.
type Output struct {
	Number int // in the batch
	Type   string
	Kind   ehi.FileKind
	Count  int64 // lines of a list, files of an archive
	Bytes  int64
}

// sink takes the files of an export, one after the other.
type sink interface {
	// document stores a document and adds it to the list.
	document(d *source.Document) error
	// table begins a table. The writer takes whole rows.
	table(r *datapackage.Resource, header []byte) (rowWriter, error)
	// end stores what is left to store.
	end() error
	// stop ends what works beside the caller, if an error keeps end from it.
	stop()
	// outputs returns what was written, in the order of the job's table of files.
	outputs() []Output
}

// rowWriter takes the rows of a table.
type rowWriter interface {
	// Write appends whole rows.
	Write(rows []byte) (int, error)
	// Close ends the table and adds it to the list.
	Close() error
}

// Write writes the documents and the tables. They are durable only after the commit of the batch.
func (e *Export) Write(ctx context.Context) (Result, error) {
	e.ArchiveBytes = cmp.Or(e.ArchiveBytes, DefaultArchiveBytes)
	w := writing{Export: e, pace: pace{ctx: ctx, yield: e.Yield, moved: e.Moved}}
	w.held = newLoose(&w, ehi.HeldDocuments, ehi.HeldIndex, ehi.HeldPack)
	var loose *loose
	if e.Packaging == ehi.PackageFiles {
		loose = newLoose(&w, ehi.Documents, ehi.Index, ehi.Pack)
		w.to = loose
	} else {
		w.to = &archives{writing: &w}
	}
	defer w.to.stop()
	for _, step := range []func(context.Context) error{w.documents, w.tables, w.end} {
		if err := step(ctx); err != nil {
			return Result{}, err
		}
	}
	res := Result{
		Outputs: append(w.to.outputs(), w.held.outputs()...),
		Links:   w.links, Written: w.figures,
	}
	if loose != nil {
		res.LinkBytes = loose.room.linkBytes
	}
	return res, nil
}

// writing is an Export that is being written.
type writing struct {
	*Export
	to      sink
	held    *loose // for what waits
	links   int    // see Result.Links
	pace    pace
	figures Figures
	dry     bool // rows are decided and not written
	line    line
	claims  *claims
	related []string // the resources of the current document that its list may name
}

func (w *writing) end(context.Context) error {
	return errors.Join(w.to.end(), w.held.end())
}

func (w *writing) documents(ctx context.Context) error {
	return w.Record.Documents(ctx, w.Query, func(d *source.Document) error {
		to := w.to
		strays, err := w.relate(d)
		if err != nil {
			return fmt.Errorf("document %s: %w", d.ID, err)
		}
		if w.Decide != nil {
			switch v, err := w.Decide.Document(d, strays); {
			case err != nil:
				return fmt.Errorf("document %s: %w", d.ID, err)
			case v == Stays, v == Waits && w.Patient == "":
				return nil
			case v == Waits:
				to = w.held
			}
		}
		if err := to.document(d); err != nil {
			return fmt.Errorf("document %s: %w", d.ID, err)
		}
		if to == w.to {
			w.figures.Documents++
		}
		return nil
	})
}

// relate finds the resources of a document that its list may name. It reports whether there are
// others.
func (w *writing) relate(d *source.Document) (strays bool, err error) {
	w.related = w.related[:0]
	for resource := range d.Resources() {
		typ, id, _ := strings.Cut(resource, "/")
		holds := true
		if w.Holds != nil {
			holds, err = w.Holds(d.Patient, typ, id)
		}
		switch {
		case err != nil:
			return false, err
		case holds:
			w.related = append(w.related, resource)
		default:
			strays = true
		}
	}
	return strays, nil
}

// tables writes the tables: first those of patients, then the rows of look-up tables that they
// refer to.
func (w *writing) tables(ctx context.Context) error {
	p := w.Record.Tables()
	if p == nil {
		return nil
	}
	// a row that refers to one that stays, stays: it is best decided after that one
	names, err := p.Order()
	if err != nil {
		return err
	}
	begin := func() *lookups { return newLookups(p, w) }
	w.claims = newClaims(p, w.Patient == "" && !w.ByPatient)
	if whole := w.Patient == "" && !w.ByPatient; whole {
		begin = func() *lookups { return nil }
		if !forward(p, names) { // one pass is enough, and a population is large
			return w.each(ctx, p, names, nil)
		}
	}
	if w.Decide != nil {
		w.dry = true
		for again := true; again; again = w.Decide.Again() {
			if err := w.each(ctx, p, names, begin()); err != nil {
				return err
			}
		}
		w.dry = false
	}
	l := begin()
	if err := w.each(ctx, p, names, l); err != nil || l == nil {
		return err
	}
	return l.write()
}

// forward reports whether a row may refer to one that comes after it: in its own table, or in a
// circle of tables.
func forward(p *datapackage.Package, names []string) bool {
	for at, name := range names {
		for _, k := range p.Table(name).Fields.ForeignKeys {
			to := cmp.Or(k.Reference.Resource, name)
			if slices.Index(names, to) >= at && !p.Table(to).Lookup {
				return true
			}
		}
	}
	return false
}

// each writes the tables of patients, and of a population the look-up tables too.
func (w *writing) each(
	ctx context.Context, p *datapackage.Package, names []string, l *lookups,
) error {
	for _, name := range names {
		if r := p.Table(name); l == nil || !r.Lookup {
			if err := w.table(ctx, r, l); err != nil {
				return fmt.Errorf("table %s: %w", name, err)
			}
		}
	}
	return nil
}

// table writes the rows of one table that may leave.
func (w *writing) table(ctx context.Context, r *datapackage.Resource, needed *lookups) error {
	t, err := w.begin(r, needed)
	if err != nil || t == nil {
		return err
	}
	err = w.Record.Rows(ctx, r.Name, t.take(ctx))
	if err = errors.Join(err, t.end(err == nil)); err != nil || t.out == nil || t.to == w.to {
		return err
	}
	return w.held.complete(t)
}
