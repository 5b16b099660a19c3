package local

import (
	"bufio"
	"errors"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
)

// batch implements files.Batch. Commit writes the outputs that are still in memory into one
// segment, syncs it together with the files of the large outputs, and then syncs the folder of
// them all.
type batch struct {
	store *Store
	job   string

	task, attempt int

	mu      sync.Mutex
	outputs []*output
	spilled int
	links   int
	made    bool // whether the batch has written to the disk
}

// NewBatch starts a batch. Nothing touches the disk before the first spill or Commit. Errors:
// ErrName.
func (s *Store) NewBatch(job string, task, attempt int) (files.Batch, error) {
	if err := files.NamedJob(job); err != nil {
		return nil, err
	}
	return &batch{store: s, job: job, task: task, attempt: attempt}, nil
}

// output implements files.Output. It is in memory while it is small, and then moves to a file of
// its own.
type output struct {
	batch  *batch
	number int
	buf    []byte
	file   disk.File
	name   string
	length int64
	begun  int64     // offset up to which write-back has started
	sum    hash.Hash // of the bytes in the file; nil without a file or without checksums
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// Create implements files.Batch.
func (b *batch) Create() files.Output {
	o := &output{batch: b, buf: (*buffers.Get().(*[]byte))[:0]}
	b.mu.Lock()
	defer b.mu.Unlock()
	o.number = len(b.outputs)
	b.outputs = append(b.outputs, o)
	return o
}

// Number implements files.Output.
func (o *output) Number() int { return o.number }

// Write implements files.Output.
func (o *output) Write(p []byte) (int, error) {
	if o.file == nil && len(o.buf)+len(p) <= int(o.batch.store.spill.Load()) {
		o.buf = append(o.buf, p...)
		o.length += int64(len(p))
		return len(p), nil
	}
	if o.file == nil {
		if err := o.spill(); err != nil {
			return 0, err
		}
	}
	n, err := o.file.Write(p)
	o.add(p[:n])
	o.length += int64(n)
	if o.length-o.begun >= writeBackEvery {
		o.file.WriteBack(o.begun, o.length-o.begun)
		o.begun = o.length
	}
	return n, err
}

// writeBackEvery is how many bytes of a file are written before the disk is told to start
// writing them back. The disk then works in parallel, and the final sync is short.
const writeBackEvery = 4 << 20

func (o *output) spill() (err error) {
	if o.name, o.file, err = o.batch.newFile(); err != nil {
		return err
	}
	_, err = o.file.Write(o.buf)
	if !o.batch.store.unsummed {
		o.sum = files.NewHash()
	}
	o.add(o.buf)
	o.release()
	return err
}

// add adds bytes of the file to its checksum.
func (o *output) add(p []byte) {
	if o.sum != nil {
		_, _ = o.sum.Write(p) // hashes never fail
	}
}

// summed returns the checksum of a finished output, or "" if the store takes none.
func (o *output) summed() files.Sum {
	switch {
	case o.batch.store.unsummed:
		return ""
	case o.file != nil:
		return files.SumBy(o.sum)
	}
	return files.SumOf(o.buf)
}

func (o *output) release() {
	if o.buf != nil {
		buf := o.buf[:0]
		o.buf = nil
		buffers.Put(&buf)
	}
}

func (b *batch) newFile() (string, disk.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := files.LargeName(b.task, b.attempt, b.spilled)
	b.spilled++
	f, err := b.open(name)
	return name, f, err
}

// open creates a file. No earlier run of the same attempt can have left one: attempts are
// numbered by compare-and-set.
func (b *batch) open(object string) (disk.File, error) {
	b.made = true
	path, err := b.store.tree.path(b.job, object)
	if err != nil {
		return nil, err
	}
	return b.store.tree.disk.Create(path)
}

// Link implements files.Batch.
func (b *batch) Link(path string) (number int, linked bool, err error) {
	b.mu.Lock()
	number = b.links
	b.links, b.made = b.links+1, true
	b.mu.Unlock()
	to, err := b.store.tree.path(b.job, files.LinkName(b.task, b.attempt, number))
	if err != nil {
		return number, false, err
	}
	d := b.store.tree.disk
	if err = d.Link(path, to); err == nil || !errors.Is(err, disk.ErrNotLinked) {
		return number, err == nil, err
	}
	return number, false, copyFile(d, path, to)
}

// copyFile copies a file, durably but for its name.
func copyFile(d disk.FS, from, to string) (err error) {
	in, err := d.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // read only
	size, err := in.Size()
	if err != nil {
		return err
	}
	out, err := d.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(in, 0, size))
	if err == nil {
		err = timed(syncFile, out.Sync)
	}
	return errors.Join(err, out.Close())
}

// Commit implements files.Batch.
func (b *batch) Commit() ([]files.Extent, error) {
	extents, err := b.place()
	if err != nil {
		return nil, err
	}
	if !b.made {
		return extents, nil
	}
	t := b.store.tree
	return extents, timed(syncFolder, func() error { return t.disk.SyncDir(t.dir(b.job)) })
}

// segmentBuffer is the size of the writes of a segment. A file system takes one write of a
// megabyte in half the time of thirty smaller ones that end within a page.
const segmentBuffer = 1 << 20

var segmentWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, segmentBuffer) }}

func (b *batch) place() ([]files.Extent, error) {
	extents := make([]files.Extent, len(b.outputs))
	var seg disk.File
	var at int64
	segment := files.SegmentName(b.task, b.attempt)
	w := segmentWriters.Get().(*bufio.Writer)
	defer segmentWriters.Put(w)
	for i, o := range b.outputs {
		if o.file != nil {
			extents[i] = files.Extent{Object: o.name, Length: o.length, Sum: o.summed()}
			if err := o.closeFile(); err != nil {
				return nil, err
			}
			continue
		}
		extents[i] = files.Extent{Object: segment, Offset: at, Length: o.length, Sum: o.summed()}
		if seg == nil && o.length > 0 {
			f, err := b.open(segment)
			if err != nil {
				return nil, err
			}
			seg = f
			w.Reset(seg)
			defer f.Close() // the error of Sync below counts
		}
		if o.length > 0 {
			if _, err := w.Write(o.buf); err != nil {
				return nil, err
			}
		}
		o.release()
		at += o.length
	}
	if seg == nil {
		return extents, nil
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return extents, timed(syncSegment, seg.Sync)
}

func (o *output) closeFile() error {
	err := errors.Join(timed(syncFile, o.file.Sync), o.file.Close())
	o.file = nil
	return err
}

// The kinds of syncs: of a large file, of a segment, of the folder that names them.
var (
	syncFile    = telemetry.SyncSeconds.WithLabelValues("file")
	syncSegment = telemetry.SyncSeconds.WithLabelValues("segment")
	syncFolder  = telemetry.SyncSeconds.WithLabelValues("folder")
)

// timed runs f and observes its duration.
func timed(h prometheus.Observer, f func() error) error {
	began := time.Now()
	err := f()
	h.Observe(time.Since(began).Seconds())
	return err
}

// Discard implements files.Batch.
func (b *batch) Discard() error {
	var errs []error
	for _, o := range b.outputs {
		o.release()
		if o.file != nil {
			errs = append(errs, o.file.Close())
		}
	}
	if !b.made {
		return errors.Join(errs...)
	}
	t := b.store.tree
	for i := range b.spilled {
		errs = append(errs, t.RemoveObject(b.job, files.LargeName(b.task, b.attempt, i)))
	}
	for i := range b.links {
		errs = append(errs, t.RemoveObject(b.job, files.LinkName(b.task, b.attempt, i)))
	}
	segment := files.SegmentName(b.task, b.attempt)
	return errors.Join(append(errs, t.RemoveObject(b.job, segment))...)
}
