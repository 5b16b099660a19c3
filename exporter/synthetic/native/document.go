package native

import (
	"context"
	"strconv"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic/media"
	"ehi-server/exporter/synthetic/outline"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// kind defines a kind of documents.
type kind struct {
	name, title string
	// category is the line of the release form; "" if nobody has classified the documents.
	category ehi.Category
	typ      fhir.Coding
	labels   []fhir.Coding
	// belongs is the resource that a document belongs to; nil for none.
	belongs func(s *sheet) (typ string, n uint32)
	// named is the file's name without extension; nil for name and a number.
	named func(s *sheet) string
	// instead decides which kind a document is of, if it can be of several; nil for this one.
	instead func(s *sheet) *kind
	// needsVisit means that a patient without visits has no such document.
	needsVisit bool
	write      func(s *sheet) *media.File
}

// sheet is what a document is made of.
type sheet struct {
	*patient
	reader *Reader
	visit  *outline.Visit // for a document of no visit, the patient's first one, or nil
	i      int            // the number of the document among the patient's
	n      int            // the number of the document among those of visits, or of a series
	at     int64          // Unix time
	size   int64          // to pad to
}

// about is what a document's head says.
func (s *sheet) about() string {
	return s.Given + " " + s.Family + ", MRN" +
		strconv.FormatUint(outline.FirstNumber+s.K, 10) + ", document " + strconv.Itoa(s.i+1)
}

func (s *sheet) date() string { return time.Unix(s.at, 0).UTC().Format(time.DateOnly) }

// sentence returns a sentence of a document.
func (s *sheet) sentence(n uint64) string {
	return sentences[s.draw(n)%uint64(len(sentences))]
}

// draw returns a random number of a document.
func (s *sheet) draw(n uint64) uint64 {
	return outline.Mix(outline.Mix(s.reader.cfg.Seed^s.K<<20^uint64(s.i)) + n)
}

// Documents calls visit for each document of patient k whose Updated the query admits. A
// document's content is generated while it is read.
func (r *Reader) Documents(
	ctx context.Context, k uint64, q source.Query, visit func(*source.Document) error,
) error {
	d := documents{
		reader: r,
		query:  q,
		visit:  visit,
		sheet:  sheet{patient: r.outlines.of(k), reader: r, size: r.cfg.DocumentBytes},
		wanted: r.cfg.Documents,
	}
	d.once()
	for d.ofVisits(ctx) {
	}
	return d.err
}

// documents visits the documents of a patient.
type documents struct {
	reader *Reader
	query  source.Query
	visit  func(*source.Document) error
	sheet  sheet
	wanted int // as Config.Documents
	err    error
}

// full reports whether the patient has all documents.
func (d *documents) full() bool {
	return d.err != nil || !d.reader.cfg.has(d.sheet.i)
}

// once visits the documents that belong to no visit.
func (d *documents) once() {
	shape, s := &d.reader.shape, &d.sheet
	for more := true; more && !d.full(); more = d.wanted > 0 && len(shape.everyVisit) == 0 {
		s.at = s.Start.Unix() + 800*day
		if s.visit = nil; len(s.visits) > 0 {
			s.visit = &s.visits[0].Visit
		}
		for i := range shape.once {
			if k := &shape.once[i]; !d.full() && (s.visit != nil || !k.needsVisit) {
				d.put(k)
			}
		}
		s.n++
	}
	s.n = 0
}

// ofVisits visits the documents of visits, and reports whether more are wanted.
func (d *documents) ofVisits(ctx context.Context) (more bool) {
	shape, s, before := &d.reader.shape, &d.sheet, d.sheet.i
	if len(shape.everyVisit) == 0 || d.full() {
		return false
	}
	d.reader.outlines.each(s.patient, func(v *visit) bool {
		if d.err = ctx.Err(); d.full() {
			return false
		}
		s.visit, s.at = &v.Visit, v.End
		for i := range shape.everyVisit {
			if !d.full() {
				d.put(&shape.everyVisit[i])
			}
		}
		s.n++
		return true
	})
	return d.wanted > 0 && !d.full() && s.i > before
}

// put visits a document.
func (d *documents) put(k *kind) {
	s := &d.sheet
	if created := time.Unix(s.at, 0).UTC(); !d.query.Timed() || d.query.AdmitsTime(created) {
		d.err = d.visit(k.document(s))
	}
	s.i++
}

// document returns the document of a sheet.
func (k *kind) document(s *sheet) *source.Document {
	if k.instead != nil {
		k = k.instead(s)
	}
	created, file := time.Unix(s.at, 0).UTC(), k.write(s)
	name := k.name + "-" + strconv.Itoa(s.i+1)
	if k.named != nil {
		name = k.named(s)
	}
	patient := string(s.ID[:])
	doc := &source.Document{
		ID:          patient + ".d" + strconv.Itoa(s.i),
		Patient:     patient,
		Name:        name + "." + file.Extension,
		ContentType: file.ContentType,
		Title:       k.title,
		Created:     created,
		Updated:     created,
		Type:        k.typ,
		Category:    k.category,
		Labels:      k.labels,
		Size:        file.Size(),
		Open:        file.Open,
	}
	if k.belongs == nil {
		return doc
	}
	if typ, n := k.belongs(s); n < s.limit {
		id := s.ID
		id.Number(n)
		doc.Resource = typ + "/" + string(id[:])
	}
	return doc
}
