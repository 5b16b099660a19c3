package native

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Find returns the line of an index for a name. It reads a few lines of the index, by bisection.
// ok is false if there is none.
func Find(index io.ReadSeeker, size int64, name string) (f ehi.NativeFile, ok bool, err error) {
	low, high := int64(0), size // the line begins at or after low, and before high
	for low < high {
		middle := low + (high-low)/2
		at, line, err := lineFrom(index, middle, low)
		if err != nil {
			return f, false, err
		}
		if at >= high || line == nil {
			high = middle
			continue
		}
		f = ehi.NativeFile{}
		if err := json.Unmarshal(line, &f); err != nil {
			return f, false, fmt.Errorf("index of native files: %w", err)
		}
		switch c := strings.Compare(f.Name, name); {
		case c == 0:
			return f, true, nil
		case c < 0:
			low = at + int64(len(line)) + 1
		default:
			high = middle
		}
	}
	return f, false, nil
}

// lineFrom returns the first line that begins at or after an offset, and where it begins; nil if
// there is none. A line begins at first.
func lineFrom(index io.ReadSeeker, offset, first int64) (at int64, line []byte, err error) {
	at = max(offset-1, first)
	if offset == first {
		at = first
	}
	if _, err := index.Seek(at, io.SeekStart); err != nil {
		return 0, nil, err
	}
	r := bufio.NewReaderSize(index, 1<<10)
	if offset > first { // skip the rest of the line before
		skipped, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return 0, nil, nil
		}
		if err != nil {
			return 0, nil, err
		}
		at += int64(len(skipped))
	}
	line, err = r.ReadBytes('\n')
	if errors.Is(err, io.EOF) && len(line) == 0 {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	return at, bytes.TrimSuffix(line, []byte("\n")), nil
}

// Each calls visit for each line of an index, until it returns an error.
func Each(index io.Reader, visit func(ehi.NativeFile) error) error {
	r := bufio.NewReaderSize(index, 32<<10)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		var f ehi.NativeFile
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("index of native files: %w", err)
		}
		if err := visit(f); err != nil {
			return err
		}
	}
}

// Extent returns where a native file of a task lies in the store. index is the kind of the index
// that names it. ok is false if the task's record contradicts the index.
func Extent(
	t *ehi.Task, index ehi.FileKind, f ehi.NativeFile,
) (e files.Extent, ok bool) {
	if f.Pack < 0 {
		return files.Extent{
			Object: files.LinkName(t.Number, t.Attempt, f.Link), Length: f.Length,
			Sum: files.Sum(f.Sum),
		}, f.Link >= 0 && f.Link < t.Links
	}
	n, of := 0, packsOf[index]
	for _, pack := range t.Files {
		if pack.Kind != of {
			continue
		}
		if n++; n <= f.Pack {
			continue
		}
		return files.Extent{
			Object: pack.Object, Offset: pack.Offset + f.Offset, Length: f.Length,
			Sum: files.Sum(f.Sum),
		}, f.Offset >= 0 && f.Length >= 0 && f.Offset+f.Length <= pack.Length
	}
	return e, false
}

// packsOf has the kind of packs whose files an index of a kind names.
var packsOf = map[ehi.FileKind]ehi.FileKind{
	ehi.Index:           ehi.Pack,
	ehi.HeldIndex:       ehi.HeldPack,
	ehi.HeldBesideIndex: ehi.HeldPack,
	ehi.DataIndex:       ehi.DataPack,
}

// linking are the kinds of indexes that may name objects of their own.
var linking = []ehi.FileKind{ehi.Index, ehi.HeldIndex, ehi.DataIndex}

// IndexOf returns the file of a kind, an index or a list, among the files of a task.
func IndexOf(t *ehi.Task, kind ehi.FileKind) (f ehi.File, ok bool) {
	for _, f := range t.Files {
		if f.Kind == kind {
			return f, true
		}
	}
	return f, false
}

// EachLink calls visit with the place of each document of a task that is an object of its own.
// open opens a file of the task.
func EachLink(
	t *ehi.Task, open func(files.Extent) (files.Reader, error), visit func(files.Extent) error,
) error {
	if t.Links == 0 {
		return nil
	}
	for _, kind := range linking {
		if index, ok := IndexOf(t, kind); ok {
			if err := eachLink(t, index, open, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func eachLink(
	t *ehi.Task, index ehi.File, open func(files.Extent) (files.Reader, error),
	visit func(files.Extent) error,
) (err error) {
	r, err := open(files.Extent{
		Object: index.Object, Offset: index.Offset, Length: index.Length, Sum: files.Sum(index.Sum),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return Each(r, func(f ehi.NativeFile) error {
		e, ok := Extent(t, index.Kind, f)
		if f.Pack >= 0 || !ok {
			return nil
		}
		return visit(e)
	})
}
