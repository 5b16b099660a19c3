package filestest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ehi-server/shared/files"
)

// RunMarks tests the marks of a kind of store. open returns a store without marks.
func RunMarks(t *testing.T, open func(t *testing.T) files.Marks) {
	t.Run("a mark is made once, until it is removed", func(t *testing.T) { marked(t, open(t)) })
	t.Run("of many who make a mark one has made it", func(t *testing.T) { markedOnce(t, open(t)) })
}

func marked(t *testing.T, m files.Marks) {
	long := strings.Repeat("x", files.MaxMark)
	texts := map[files.Mark]string{
		{Kind: "alone"}: "alone", {Kind: "empty", Name: "x"}: "", {Kind: "long", Name: "x"}: long,
		{Kind: "some", Name: "x"}: "one", {Kind: "some", Name: "y"}: "two",
	}
	for mark := range texts {
		if text, err := m.MarkText(mark); err != nil || text != "" {
			t.Errorf("%v is %q before it is made, %v", mark, text, err)
		}
		if err := m.RemoveMark(mark); err != nil {
			t.Errorf("%v is removed before it is made: %v", mark, err)
		}
	}
	for mark, text := range texts {
		if err := m.PutMark(mark, text); err != nil {
			t.Fatal(err)
		}
		if err := m.PutMark(mark, "other"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%v is made twice: %v", mark, err)
		}
	}
	for mark, want := range texts {
		if text, err := m.MarkText(mark); err != nil || text != want {
			t.Errorf("%v is %q, %v; want %q", mark, text, err, want)
		}
	}
	wantMarks(t, m, "none")
	wantMarks(t, m, "some", "x", "y")
	if err := m.RemoveMark(files.Mark{Kind: "some", Name: "x"}); err != nil {
		t.Error(err)
	}
	wantMarks(t, m, "some", "y")
	wantMarks(t, m, "long", "x")
}

func wantMarks(t *testing.T, m files.Marks, kind string, want ...string) {
	t.Helper()
	names, err := m.MarksOf(kind)
	if slices.Sort(names); err != nil || !slices.Equal(names, want) {
		t.Errorf("marks of kind %s: %q, %v; want %q", kind, names, err, want)
	}
}

func markedOnce(t *testing.T, m files.Marks) {
	for n := range 20 {
		mark := files.Mark{Kind: "some", Name: fmt.Sprint("x", n)}
		var made atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				switch err := m.PutMark(mark, "text"); {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, fs.ErrExist):
					t.Error(err)
				}
			})
		}
		if all.Wait(); made.Load() != 1 {
			t.Errorf("%d have made it", made.Load())
		}
	}
}
