// Package nativetest has native content in memory, and exports it as a worker does, for tests of
// what happens to it afterwards.
package nativetest

import (
	"bytes"
	"context"
	"crypto/sha1"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/native"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// tables describe visits, which fall under a line of the form, and oddities, which do not.
const tables = `{"name":"clinic","resources":[
 {"name":"visit","path":"visit.csv",
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"ward"}],"primaryKey":"id",
   "foreignKeys":[{"fields":"ward","reference":{"resource":"ward","fields":"code"}}]},
  "ehi:patient":["patient"],"ehi:category":"visits"},
 {"name":"oddity","path":"oddity.csv",
  "schema":{"fields":[{"name":"patient"},{"name":"what"}]},"ehi:patient":["patient"]},
 {"name":"ward","path":"ward.csv",
  "schema":{"fields":[{"name":"code"},{"name":"name"}],"primaryKey":"code"},"ehi:lookup":true}]}`

// Rows are the rows of each table of a Record.
var Rows = map[string]string{
	"visit":  "v1,p,W1\r\nv2,p,W1\r\n",
	"oddity": "p,<script>alert(1)</script>\r\n",
	"ward":   "W1,East\r\n",
}

// Record is native content in memory.
type Record struct {
	source.NoNative // no moved data
	Files           []*source.Document
	tables          *datapackage.Package
}

// NewRecord returns a record with the tables of Rows and some documents.
func NewRecord(t testing.TB, documents ...*source.Document) *Record {
	t.Helper()
	p, err := datapackage.Parse([]byte(tables))
	if err != nil {
		t.Fatal(err)
	}
	return &Record{Files: documents, tables: p}
}

// Document returns a document. It lies in a file of a folder if dir is not "", so that it can be
// linked.
func Document(
	t testing.TB, dir, name string, category ehi.Category, content []byte,
) *source.Document {
	t.Helper()
	digest := sha1.Sum(content)
	d := &source.Document{
		ID: "d-" + name, Patient: "p", Name: name, ContentType: "application/pdf",
		Title: "About " + name, Created: time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC),
		Category: category, Size: int64(len(content)), SHA1: digest[:],
		Sum:  string(files.SumOf(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
	if dir != "" {
		d.Path = filepath.Join(dir, name)
		if err := os.WriteFile(d.Path, content, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// Tables implements source.Native.
func (r *Record) Tables() *datapackage.Package { return r.tables }

// Documents implements source.Native.
func (r *Record) Documents(
	_ context.Context, _ source.Query, visit func(*source.Document) error,
) error {
	for _, d := range r.Files {
		if err := visit(d); err != nil {
			return err
		}
	}
	return nil
}

// Rows implements source.Native.
func (r *Record) Rows(_ context.Context, table string, visit func(source.Rows) error) error {
	if r.tables.Table(table).Lookup {
		return nil
	}
	return visit(rowsOf(table, "p"))
}

// Lookup implements source.Native.
func (r *Record) Lookup(
	_ context.Context, table string, _, values []string, visit func(source.Rows) error,
) error {
	if table != "ward" || values[0] != "W1" {
		return nil
	}
	return visit(rowsOf(table, ""))
}

func rowsOf(table, patient string) source.Rows {
	text := Rows[table]
	return source.Rows{
		Patient: patient, Data: []byte(text), Count: int64(strings.Count(text, "\n")),
	}
}

// Source is a source of records that have native content as well.
type Source struct {
	source.Source
	Native source.Native
}

// Open implements source.Source.
func (s Source) Open(ctx context.Context, patient string) (source.Record, error) {
	r, err := s.Source.Open(ctx, patient)
	if err != nil {
		return nil, err
	}
	return record{r, s.Native}, nil
}

// Tables implements source.Source.
func (s Source) Tables(context.Context) (*datapackage.Package, error) {
	return s.Native.Tables(), nil
}

// record is a record with other native content.
type record struct {
	source.Record
	native source.Native
}

func (r record) Tables() *datapackage.Package { return r.native.Tables() }

func (r record) Documents(
	ctx context.Context, q source.Query, visit func(*source.Document) error,
) error {
	return r.native.Documents(ctx, q, visit)
}

func (r record) Rows(ctx context.Context, table string, visit func(source.Rows) error) error {
	return r.native.Rows(ctx, table, visit)
}

func (r record) Lookup(
	ctx context.Context, table string, fields, values []string, visit func(source.Rows) error,
) error {
	return r.native.Lookup(ctx, table, fields, values, visit)
}

// byCategory releases what has a line of the form. Everything else waits.
type byCategory struct{}

func (byCategory) Document(d *source.Document, _ bool) (native.Verdict, error) {
	if d.Category == "" {
		return native.Waits, nil
	}
	return native.Leaves, nil
}

func (byCategory) Table(r *datapackage.Resource) (v native.Verdict, each bool, err error) {
	if r.Category == "" && !r.Lookup {
		return native.Waits, false, nil
	}
	return native.Leaves, false, nil
}

func (byCategory) Row([][]byte, []byte, bool) (bool, error) { return true, nil }

// Export exports native content for a requested job of one patient, as a worker does: the task is
// committed, and the job moves on. What has no category waits.
func Export(
	t testing.TB, b *bus.Bus, store files.Store, j *ehi.Job, content source.Native,
) *ehi.Job {
	t.Helper()
	at := time.Now().UTC()
	task, err := b.Tasks.Take(t.Context(), j.ID, 0, 0, "a test", at)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := store.NewBatch(j.ID, 0, task.Attempt)
	if err != nil {
		t.Fatal(err)
	}
	e := native.Export{
		Record: content, Packaging: j.Packaging(), Origin: j.Origin(), Job: j.ID,
		Patient: j.Patient.ID, TakenAt: at, Decide: byCategory{}, Batch: batch,
	}
	res, err := e.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	extents, err := batch.Commit()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range res.Outputs {
		at := extents[o.Number]
		task.Files = append(task.Files, ehi.File{
			Type: o.Type, Kind: o.Kind, Count: o.Count, Bytes: o.Bytes,
			Object: at.Object, Offset: at.Offset, Length: at.Length, Sum: string(at.Sum),
		})
	}
	task.Links, task.LinkBytes, task.TransactionTime = res.Links, res.LinkBytes, at
	if err := b.Tasks.Commit(t.Context(), task, at); err != nil {
		t.Fatal(err)
	}
	done, err := b.Jobs.Update(t.Context(), j.ID, func(j *ehi.Job) error {
		return j.Complete(task.Task, at, time.Hour)
	})
	if err != nil {
		t.Fatal(fmt.Errorf("count the task: %w", err))
	}
	return done
}

func (byCategory) Of(string) {}

func (byCategory) Again() bool { return false }

func (byCategory) Lookup(*datapackage.Resource, [][]byte, []byte) (bool, error) {
	return true, nil
}
