package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// listing is one reading of a documentIndex. What earlier states of the index said of a path counts
// no more once it says something else of it: a document that it listed for another patient is taken
// out of the store. Of a path that it names no more, and of a path of which no row could be used,
// everything stays as it was.
//
// Each row notes its document below the index and the path, with the state of the index that named
// it. When the whole index was read, all notes of older states are behind the times. A process that
// is killed before that leaves documents with both patients; the next import reads the index again.
//
// A nil listing notes nothing.
type listing struct {
	native *native
	index  digest
	name   string // of the index, in problems
	file   string // its absolute path
	mark   []byte // of its present state
	cut    bool   // it could not be read to its end
}

// What a note says of a document, before the mark of the index.
const (
	noteListed = 'l'
	noteBad    = 'b' // its row could not be used, so that it stays as it was
	noteGone   = 'r' // its row says that it was entered in error
)

// newListing starts the reading of an index. It returns nil for an index that was read before in
// the same state, and for the list of an export, which says by their contents which documents it
// means: other exports have files of the same names.
func (n *native) newListing(in Input, x documentReader) (*listing, error) {
	if _, is := x.(*indexReader); !is {
		return nil, nil
	}
	abs, err := filepath.Abs(in.Path)
	if err != nil {
		return nil, err
	}
	l := &listing{native: n, index: digestOf(abs), name: in.Path, file: abs}
	l.mark = fmt.Appendf(nil, "%d %d", in.Info.Size(), in.Info.ModTime().UnixNano())
	seen, err := n.get(key(kFile, abs))
	if err != nil || bytes.Equal(seen, l.mark) {
		return nil, err
	}
	return l, n.delete(key(kFile, abs))
}

// noteKey is the key of a document that an index names. prefix is that of the index and the path.
func noteKey(index, path digest, document string) []byte {
	return append(append(digestKey(kListed, index), path[:]...), document...)
}

// note remembers what the index says of a document.
func (l *listing) note(d *documentLine, says byte) error {
	if l == nil {
		return nil
	}
	k := noteKey(l.index, digestOf(d.path), d.id())
	if says == noteBad {
		if before, err := l.native.get(k); err != nil || before == nil {
			return err
		}
	}
	return errors.Join(l.native.set(k, append([]byte{says}, l.mark...)), l.native.flushFull())
}

// finish takes back what the index says no more. complete means that it had no problems.
func (l *listing) finish(ctx context.Context, complete bool) error {
	if l == nil || l.cut {
		return nil
	}
	info, err := os.Stat(l.file)
	if err != nil || string(l.mark) != fmt.Sprint(info.Size(), info.ModTime().UnixNano()) {
		return l.native.bad(l.name, 1, "changed while it was imported: import it again")
	}
	if err := l.native.flush(); err != nil {
		return err
	}
	path := notesOfPath{listing: l}
	prefix := digestKey(kListed, l.index)
	err = each(l.native.store.db, prefix, func(k, v []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		of := digest(k[len(prefix):])
		if of != path.path {
			if err := path.end(ctx); err != nil {
				return err
			}
			path = notesOfPath{listing: l, path: of}
		}
		path.add(string(k[len(prefix)+len(of):]), v)
		return nil
	})
	if err = errors.Join(err, path.end(ctx)); err != nil || !complete {
		return err
	}
	return l.native.set(key(kFile, l.file), l.mark)
}

// notesOfPath are the notes of one path.
type notesOfPath struct {
	*listing
	path    digest
	current bool     // the present state of the index says something of the path
	stale   []string // documents that older states named
	gone    []string // documents that the present state takes back
}

func (p *notesOfPath) add(document string, note []byte) {
	switch {
	case !bytes.Equal(note[1:], p.mark):
		p.stale = append(p.stale, document)
	case note[0] == noteGone:
		p.current = true
		p.gone = append(p.gone, document)
	case note[0] == noteListed:
		p.current = true
	}
}

// end takes back what is behind the times.
func (p *notesOfPath) end(ctx context.Context) error {
	if !p.current {
		return nil
	}
	for _, document := range append(p.gone, p.stale...) {
		err := p.native.dropDocument(ctx, document)
		err = errors.Join(err, p.native.delete(noteKey(p.index, p.path, document)),
			p.native.flushFull())
		if err != nil {
			return err
		}
	}
	return nil
}

// dropDocument takes a document out of the store for good, if it is there.
func (n *native) dropDocument(ctx context.Context, id string) error {
	if slices.ContainsFunc(n.entries, func(d newDocument) bool { return d.id == id }) {
		if err := n.publish(ctx); err != nil {
			return err
		}
	}
	there, err := n.get(key(kDocuments, id))
	if err != nil || there == nil {
		return err
	}
	n.report.DocumentsRemoved++
	return errors.Join(n.takeDocument(id), n.delete(key(kDocuments, id)))
}
