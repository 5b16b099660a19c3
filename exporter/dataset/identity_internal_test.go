package dataset

import (
	"errors"

	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
)

// makeFormer rewrites the documents of a store as an earlier version stored them: with IDs that do
// not depend on the content, and with its notes of an index, or with none.
func makeFormer(t *testing.T, s *Store, index string, noted bool) {
	t.Helper()
	b := s.db.NewBatch()
	err := each(s.db, []byte{kDocument}, func(k, v []byte) error {
		var e documentEntry
		if err := json.Unmarshal(v, &e); err != nil {
			return err
		}
		patient, id := string(split(k)[0]), string(split(k)[1])
		former := formerID(e.Owner, e.Name) // the paths are names here
		blob, err := e.blob()
		if noted {
			of, path := digestOf(index), digestOf(e.Name)
			at := slices.Concat([]byte{kListed}, of[:], path[:], []byte(former))
			err = errors.Join(err, b.Set(at, []byte("l1 2"), nil))
		}
		e.Path = ""
		text, e2 := json.Marshal(e)
		return errors.Join(err, e2, b.Delete(k, nil), b.Delete(key(kDocuments, id), nil),
			b.Delete(blobKey(blob.Name, id), nil), b.Set(key(kDocument, patient, former), text, nil),
			b.Set(key(kDocuments, former), []byte(patient), nil),
			b.Set(blobKey(blob.Name, former), nil, nil))
	})
	err = errors.Join(err, b.DeleteRange([]byte{kIndexed}, []byte{kIndexed + 1}, nil),
		b.Set(key(kVersion), []byte(layoutVersion), nil),
		b.Commit(pebble.NoSync))
	if err != nil {
		t.Fatal(err)
	}
}

// A store that an earlier version filled goes on: its documents are recognized, corrected and
// removed. Only what that version made no notes of is not corrected before it was imported again,
// and the import says so.
func TestDocumentsOfAnEarlierVersionAreRecognized(t *testing.T) {
	for _, noted := range []bool{true, false} {
		s, err := Open(Config{Dir: filepath.Join(t.TempDir(), "records")})
		if err != nil {
			t.Fatal(err)
		}
		from := t.TempDir()
		fill := func(name, text string) {
			err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o600)
			if err != nil {
				t.Fatal(err)
			}
		}
		load := func(rows string) source.Report {
			fill("documents.csv", "patient,path,status\n"+rows)
			rep, err := s.Import(t.Context(), []string{from}, source.ImportOptions{Now: time.Now()})
			if err != nil || rep.Problems > 0 {
				t.Fatal(rep.Bad, err)
			}
			return rep
		}
		held := func(step string, want ...string) {
			t.Helper()
			var got []string
			err := each(s.db, []byte{kDocument}, func(k, v []byte) error {
				var e documentEntry
				got = append(got, string(split(k)[0]))
				err := json.Unmarshal(v, &e)
				got[len(got)-1] += " " + e.Name
				return err
			})
			if slices.Sort(got); err != nil || !slices.Equal(got, want) {
				t.Errorf("noted: %t, %s: %q, want %q, %v", noted, step, got, want, err)
			}
		}
		for _, name := range []string{"x", "y", "z"} {
			fill(name, name)
		}
		load("a,x,\na,y,\na,z,\n")
		index := filepath.Join(from, "documents.csv")
		makeFormer(t, s, index, noted)
		rep := load("b,x,\na,y,\na,z,\n")
		if noted != (rep.DocumentsRemoved == 1 && len(rep.Notes) == 0) {
			t.Errorf("noted: %t, %+v", noted, rep)
		}
		if noted {
			held("corrected", "a y", "a z", "b x")
		} else {
			held("corrected", "a x", "a y", "a z", "b x")
			load("a,x,entered-in-error\nb,x,\na,y,\na,z,\n")
			held("removed", "a y", "a z", "b x")
		}
		load("b,x,\nb,y,\na,z,\n")
		held("corrected again", "a z", "b x", "b y")
		makeFormer(t, s, index, noted)
		load("a,z,entered-in-error\n")
		held("removed", "b x", "b y")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
