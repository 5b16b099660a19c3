package native

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"slices"

	"ehi-server/exporter/synthetic/media"
	"ehi-server/shared/ehi"
)

// ndjsonShape is datasets as documents, with files of other formats beside them.
func ndjsonShape() shape {
	s := shape{name: "ndjson-files", datasets: newDatasets}
	for _, d := range []struct {
		table string
		of    ehi.Category
	}{
		{"visit", ehi.Visits},
		{"vital_sign", ehi.Visits},
		{"lab_result", ehi.Labs},
		{"prescription", ehi.MedicalRecord},
		{"claim", ehi.Billing},
		{"access_log", ""}, // nobody has classified it, on purpose
	} {
		s.once = append(s.once, dataset(d.table, d.of))
	}
	s.once = append(s.once, summary, photograph, scan, operation)
	return s
}

// newDatasets returns the tables that the datasets are made of.
func newDatasets(ids *sharedIDs) *schema {
	s := newTSV(ids)
	s.json = true
	return s
}

// datasetBytes bounds a dataset, which is made in memory. A patient with more visits than fit has
// the first ones in it.
const datasetBytes = 4 << 20

// dataset is the rows of a table as objects of JSON.
func dataset(table string, of ehi.Category) kind {
	return kind{
		name:     "dataset-" + table,
		title:    "Dataset of objects: " + table,
		category: of,
		write: func(s *sheet) *media.File {
			return media.NDJSON(s.reader.objects(s.patient, table), s.size)
		},
	}
}

// objects returns rows of a patient as objects of JSON.
func (r *Reader) objects(p *patient, name string) (lines []byte) {
	i := slices.IndexFunc(r.datasets.tables, func(t table) bool { return t.name == name })
	w := r.writer(r.datasets, &r.datasets.tables[i], p, func(data []byte, _ int64) error {
		if len(lines)+len(data) > datasetBytes {
			return errLarge
		}
		lines = append(lines, data...)
		return nil
	})
	w.write(context.Background(), r.outlines)
	return lines
}

var errLarge = ehi.Errorf(ehi.TooCostly, "the dataset is large enough")

// object appends a row as an object of JSON.
func (t *table) object(dst []byte, r *row) []byte {
	separator := byte('{')
	for i, cell := range t.cells {
		dst = append(append(append(dst, separator, '"'), t.columns[i].name...), `":`...)
		separator = ','
		dst = t.columns[i].member(dst, cell, r)
	}
	return append(dst, "}\n"...)
}

// member appends the value of a cell in JSON.
func (c *column) member(dst []byte, cell put, r *row) []byte {
	empty, quote := len(dst), ""
	switch c.typ {
	case "", "string", "date", "datetime":
		quote = `"`
	}
	dst = append(dst, quote...)
	begin := len(dst)
	if dst = cell(dst, r); len(dst) == begin {
		return append(dst[:empty], "null"...)
	}
	return append(dst, quote...)
}

// jsonText escapes a text for the inside of a string of JSON.
func jsonText(text string) string {
	out, err := json.Marshal(text)
	if err != nil { // a string has a form in JSON
		panic(err)
	}
	return string(out[1 : len(out)-1])
}

// operation is a report in an XML format of our own.
var operation = kind{
	name:     "operation",
	title:    "Operation report",
	category: ehi.Operative,
	typ:      ofLOINC("11504-8", "Surgical operation note"),
	belongs:  itsDocument(1),
	write: func(s *sheet) *media.File {
		out := []byte(xml.Header + `<operationReport xmlns="urn:synthetic:operation">`)
		for _, e := range [][2]string{
			{"patient", s.about()}, {"date", s.date()}, {"findings", s.sentence(1)},
			{"plan", s.sentence(2)},
		} {
			out = append(out, "<"+e[0]+">"...)
			out = append(media.AppendXML(out, e[1]), "</"+e[0]+">"...)
		}
		return media.XML(append(out, "</operationReport>\n"...), s.size)
	},
}
