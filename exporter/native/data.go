package native

import (
	"cmp"
	"context"
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// dataFolder is the folder of the data of attachments in URLs.
const dataFolder = "data/"

// mixed stands for the type of resources in files of several types.
const mixed = "mixed"

// Data is the data of attachments that the source keeps beside its resources (source.Moved), in
// the files of one task. What leaves is decided with the resources: exactly the data whose URL is
// in a file of resources becomes a file.
type Data struct {
	Record source.Native
	Origin string // URL of the server without a path
	Job    string
	Task   int
	Batch  files.Batch
	// Yield and Moved are those of Export.
	Yield func(ctx context.Context) error
	Moved *atomic.Int64
}

// DataFile is the data of an attachment of a resource in a file of Type; "" for a file of several
// types.
type DataFile struct {
	Type string
	source.Moved
}

// URL returns where clients find a file.
func (d *Data) URL(f DataFile) string {
	return d.Origin + "/jobs/" + d.Job + "/download/" + escaped(d.name(&f))
}

// name returns the name of a file in its export. It begins with the type, because a token opens
// the files of some types, and has the task, so that one index is enough to find it.
func (d *Data) name(f *DataFile) string {
	return dataFolder + cmp.Or(f.Type, mixed) + "." + strconv.Itoa(d.Task) + "." + f.Name +
		extension(f.ContentType)
}

// extension returns the extension of file names of a media type; "" if it is unknown.
func extension(contentType string) string {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	for _, f := range formats {
		if slices.Contains(f.Types, t) && len(f.Extensions) > 0 {
			return f.Extensions[0]
		}
	}
	return ""
}

// TaskOfData returns the number of the task that has a data file, by its name within the folder.
func TaskOfData(name string) (task int, ok bool) {
	parts := strings.SplitN(name, ".", 3)
	if len(parts) < 3 {
		return 0, false
	}
	task, err := strconv.Atoi(parts[1])
	return task, err == nil && task >= 0
}

// Write writes the files, which it sorts. Those with one name have one content, and are written
// once. They are durable only after the commit of the batch.
func (d *Data) Write(ctx context.Context, all []DataFile) (Result, error) {
	if len(all) == 0 {
		return Result{}, nil
	}
	slices.SortFunc(all, func(a, b DataFile) int { return strings.Compare(d.name(&a), d.name(&b)) })
	w := dataWriting{
		Data:  d,
		pace:  pace{ctx: ctx, yield: d.Yield, moved: d.Moved},
		room:  room{of: d.Batch, kind: ehi.DataPack},
		index: newLines(d.Batch),
	}
	last := ""
	for i := range all {
		name := d.name(&all[i])
		if name == last {
			continue
		}
		last = name
		if err := w.add(name, &all[i].Moved); err != nil {
			return Result{}, fmt.Errorf("data of an attachment, %s: %w", name, err)
		}
	}
	if err := w.index.w.Flush(); err != nil {
		return Result{}, err
	}
	if err := w.room.end(); err != nil {
		return Result{}, err
	}
	outputs := []Output{{
		Number: w.index.output.Number(), Kind: ehi.DataIndex,
		Count: w.index.n, Bytes: w.index.bytes,
	}}
	return Result{
		Outputs: append(outputs, w.room.outputs()...), Links: w.links,
		LinkBytes: w.room.linkBytes, Written: w.figures,
	}, nil
}

// dataWriting is a Data that is being written.
type dataWriting struct {
	*Data
	pace    pace
	room    room
	index   *lines
	links   int
	figures Figures
}

// add writes a file, and a line of the index.
func (w *dataWriting) add(name string, m *source.Moved) error {
	d, err := w.Record.Moved(m)
	if err != nil {
		return err
	}
	at := ehi.NativeFile{
		Name: name, ContentType: contentType(m.ContentType), Number: int(w.index.n),
	}
	if d.Path != "" && d.Size >= linkBytes && d.Sum != "" {
		err = w.link(d, &at)
	} else {
		err = w.copy(d, &at)
	}
	if err != nil {
		return err
	}
	w.figures.Documents++
	line, err := json.Marshal(at)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	return w.index.add(append(line, '\n'))
}

func (w *dataWriting) link(d *source.Document, at *ehi.NativeFile) error {
	if err := w.room.link(d, at, &w.links, &w.figures); err != nil {
		return err
	}
	return w.pace.pass(0)
}

func (w *dataWriting) copy(d *source.Document, at *ehi.NativeFile) error {
	p, err := w.room.pack()
	if err != nil {
		return err
	}
	m := w.pace.summed(p.w)
	if err := w.pace.copyDocument(m, d); err != nil {
		return err
	}
	w.room.place(m, at)
	w.figures.Bytes += m.size
	return nil
}

// contentType returns the media type of data, in a form that is valid in a header.
func contentType(text string) string {
	t, parameters, err := mime.ParseMediaType(text)
	if err != nil {
		return "application/octet-stream"
	}
	return cmp.Or(mime.FormatMediaType(t, parameters), t)
}
