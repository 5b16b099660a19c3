package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"ehi-server/shared/files"
	"ehi-server/shared/files/filestest"
	"ehi-server/shared/files/local"
)

// ledger is the records that name files: in a server they are in JetStream, written after the files
// and before a client hears of them.
type ledger struct {
	outputs     map[string][]named // job -> its committed outputs
	attachments map[string]map[string]string
}

// blob is a document of the record store, which batches link.
var blob = []byte("a document of the record store")

type named struct {
	extent  files.Extent
	content []byte
}

// life does some of everything, and notes in the ledger what a record would say; the power may go
// at any point.
func life(s *local.Store, l *ledger) error {
	for n := range 3 {
		job := fmt.Sprintf("job%d", n)
		for attempt := 1; attempt <= 2; attempt++ {
			b, err := s.NewBatch(job, 0, attempt)
			if err != nil {
				return err
			}
			contents := [][]byte{
				[]byte("small of " + job),
				bytes.Repeat([]byte(job+" large "), 40),
				{},
				[]byte("another"),
			}
			for _, c := range contents {
				o := b.Create()
				for len(c) > 0 {
					chunk := c[:min(50, len(c))]
					if _, err := o.Write(chunk); err != nil {
						return err
					}
					c = c[len(chunk):]
				}
			}
			if attempt == 1 { // a worker that was superseded
				if err := b.Discard(); err != nil {
					return err
				}
				continue
			}
			if _, _, err := b.Link("/data/blob"); err != nil {
				return err
			}
			extents, err := b.Commit()
			if err != nil {
				return err
			}
			l.outputs[job] = append(l.outputs[job], named{files.Extent{
				Object: files.LinkName(0, attempt, 0), Length: int64(len(blob)),
			}, blob})
			for i, e := range extents {
				l.outputs[job] = append(l.outputs[job], named{e, contents[i]})
			}
		}
		object, _, _, err := s.PutAttachment(job, strings.NewReader("document of "+job), 100)
		if err != nil {
			return err
		}
		l.attachments[job] = map[string]string{object: "document of " + job}
	}
	// A deletion: the record goes first.
	delete(l.outputs, "job0")
	delete(l.attachments, "job0")
	if err := s.Remove("job0"); err != nil {
		return err
	}
	for object := range l.attachments["job1"] {
		delete(l.attachments["job1"], object)
		if err := s.RemoveAttachment("job1", object); err != nil {
			return err
		}
	}
	return nil
}

// check holds a store to its ledger: what is named reads as it was written, and what is not can be
// swept away.
func check(s *local.Store, l *ledger) error {
	keep := map[string]bool{}
	for job, outputs := range l.outputs {
		for _, o := range outputs {
			if o.extent.Length == 0 {
				continue
			}
			keep[job+"."+o.extent.Object] = true
			r, err := s.Open(job, o.extent)
			if err := same(r, err, o.content); err != nil {
				return fmt.Errorf("%s %+v: %w", job, o.extent, err)
			}
		}
	}
	for job, documents := range l.attachments {
		for object, content := range documents {
			keep[job+"."+object] = true
			r, err := s.Open(job, files.Extent{Object: object, Length: int64(len(content))})
			if err := same(r, err, []byte(content)); err != nil {
				return fmt.Errorf("%s %s: %w", job, object, err)
			}
		}
	}
	err := s.Walk(func(job string, stored []files.Stored) error {
		for _, o := range stored {
			if !keep[job+"."+o.Name] {
				if err := s.RemoveObject(job, o); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	left := 0
	err = s.Walk(func(_ string, stored []files.Stored) error { left += len(stored); return nil })
	if left != len(keep) {
		err = errors.Join(err, fmt.Errorf("%d files are left, %d are named", left, len(keep)))
	}
	return err
}

func same(r files.Reader, err error, want []byte) error {
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("reads %.60q, was %.60q", got, want)
	}
	return errors.Join(err, r.Close())
}

// Whatever a record names is on the disk, wherever the power goes. Each operation
// in turn is the last one, and each time the disk that is found afterwards is drawn several times.
func TestWhatARecordNamesSurvivesAPowerLossAtAnyPoint(t *testing.T) {
	open := func(disk *filestest.Volatile) (*local.Store, error) {
		// the administrator's
		if err := errors.Join(disk.MkdirAll("/data"), disk.SyncDir("/")); err != nil {
			return nil, err
		}
		disk.Change("/data/blob", func([]byte) []byte { return blob })
		return local.Open(local.Config{Root: "/data/exports", SpillBytes: 100, Disk: disk})
	}
	whole := filestest.NewVolatile()
	s, err := open(whole)
	if err != nil {
		t.Fatal(err)
	}
	begun := whole.Steps()
	if err := life(s, &ledger{map[string][]named{}, map[string]map[string]string{}}); err != nil {
		t.Fatal(err)
	}
	total := whole.Steps() - begun
	if total < 60 {
		t.Fatalf("only %d operations", total)
	}
	for cut := range total + 1 {
		disk := filestest.NewVolatile()
		s, err := open(disk)
		if err != nil {
			t.Fatal(err)
		}
		disk.CutAfter(cut)
		l := &ledger{map[string][]named{}, map[string]map[string]string{}}
		if err := life(s, l); cut < total != errors.Is(err, filestest.ErrOff) {
			t.Fatalf("cut after %d operations: %v", cut, err)
		}
		for seed := range uint64(20) {
			found, err := open(disk.Survivor(rand.New(rand.NewPCG(seed, uint64(cut)))))
			if err != nil {
				t.Fatal(err)
			}
			if err := check(found, l); err != nil {
				t.Fatalf("cut after %d operations, seed %d: %v", cut, seed, err)
			}
			if cut < total {
				continue
			}
			err = life(found, &ledger{map[string][]named{}, map[string]map[string]string{}})
			if err == nil {
				t.Fatal("attempts that were made before were made again")
			}
		}
	}
}
