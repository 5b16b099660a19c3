package native

import (
	"context"
	"errors"

	"ehi-server/exporter/source"
)

const (
	// sampledPatients is how many patients an estimate looks at.
	sampledPatients = 4
	// sampledResources bounds the resources of a sampled patient.
	sampledResources = 1000
	// sampledDocuments is how many documents of a patient an estimate looks at.
	sampledDocuments = 100
)

// Estimate returns about how many bytes the rows and the documents of one of so many patients
// have.
func (n *Content) Estimate(patients int) int64 {
	c := n.cfg
	c.Resources = min(c.Resources, sampledResources)
	sample, rows, documents := New(c).NewReader(), int64(0), int64(0)
	some := min(sampledPatients, patients)
	for k := range some {
		rows += sample.rowBytes(uint64(k))
		documents += sample.documentBytes(uint64(k))
	}
	rows, documents = rows/int64(some), documents/int64(some)
	if c.Resources > 0 { // rows grow with the visits, and documents too if nobody counts them
		rows = rows * int64(n.cfg.Resources) / int64(c.Resources)
		if c.Documents == 0 {
			documents = documents * int64(n.cfg.Resources) / int64(c.Resources)
		}
	}
	return rows + documents
}

// rowBytes returns the size of a patient's rows.
func (r *Reader) rowBytes(k uint64) (size int64) {
	if r.schema == nil {
		return 0
	}
	for i := range r.schema.tables {
		w := r.writer(r.schema, &r.schema.tables[i], r.outlines.of(k),
			func(data []byte, _ int64) error { size += int64(len(data)); return nil })
		w.write(context.Background(), r.outlines)
	}
	return size
}

// documentBytes returns about the size of a patient's documents.
func (r *Reader) documentBytes(k uint64) int64 {
	var size, count int64
	err := r.Documents(context.Background(), k, source.Query{}, func(d *source.Document) error {
		size += d.Size
		if count++; count == sampledDocuments {
			return errSampled
		}
		return nil
	})
	if errors.Is(err, errSampled) && r.cfg.Documents > 0 {
		return size / count * int64(r.cfg.Documents)
	}
	return size
}

var errSampled = errors.New("enough documents were looked at")
