// Package blobs keeps the contents of documents in a folder. A content is stored once, however
// many documents have it, in a file that is named after its SHA-256 and never changes, so that
// exports can hard-link it:
//
//	<folder>/ab/ab34...   a blob, mode 0400; ab is the beginning of its name
//	<folder>/new/...      one that is being written
//
// A blob is on the disk before Batch.Publish returns, so that a record which is written
// afterwards never names a blob that a crash took away. The package does not know who refers to a
// blob. The record store is its only user.
package blobs

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
)

// ErrDamaged means that a blob is missing, or differs from what was stored.
var ErrDamaged = errors.New("the content of a document is damaged; restore a backup, or import " +
	"the document again")

// Name is the SHA-256 of a content.
type Name [sha256.Size]byte

// Mode is the mode of a blob's file.
const Mode fs.FileMode = 0o400

// String returns the name in hex.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// ParseName parses the result of Name.String.
func ParseName(text string) (n Name, err error) {
	if hex.DecodedLen(len(text)) != len(n) {
		return n, fmt.Errorf("%q is no name of a blob", text)
	}
	if _, err := hex.Decode(n[:], []byte(text)); err != nil || n.String() != text {
		return n, fmt.Errorf("%q is no name of a blob", text)
	}
	return n, nil
}

// Blob describes a stored content.
type Blob struct {
	Name Name
	Size int64 // in bytes
	SHA1 []byte
	Sum  files.Sum
}

// Of describes a content that may not be stored.
func Of(content []byte) Blob {
	name, sha, sum := sha256.Sum256(content), sha1.Sum(content), files.NewHash()
	_, _ = sum.Write(content) // a hash accepts everything
	return Blob{
		Name: name, Size: int64(len(content)), SHA1: sha[:], Sum: files.SumBy(sum),
	}
}

// Folder is a folder of blobs. It is safe for concurrent use.
type Folder struct{ dir string }

// In returns the folder at a path. The first Publish creates it.
func In(dir string) *Folder { return &Folder{dir} }

// Dir returns the path of the folder.
func (f *Folder) Dir() string { return f.dir }

// Exists reports whether the folder has been created.
func (f *Folder) Exists() (bool, error) {
	_, err := os.Stat(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

const written = "new"

// shard returns the folder of a blob.
func (f *Folder) shard(n Name) string { return filepath.Join(f.dir, hex.EncodeToString(n[:1])) }

// Path returns the path of a blob's file.
func (f *Folder) Path(n Name) string { return filepath.Join(f.shard(n), n.String()) }

// Clear removes what a process that died was writing. Nobody may be writing.
func (f *Folder) Clear() error { return os.RemoveAll(filepath.Join(f.dir, written)) }

// Remove deletes a blob. It succeeds if there is none.
func (f *Folder) Remove(n Name) error {
	err := os.Remove(f.Path(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Each calls visit with the name of each blob, in any order, until it returns an error. It passes
// over files that are no blobs.
func (f *Folder) Each(visit func(Name) error) error {
	shards, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, shard := range shards {
		if err := eachIn(filepath.Join(f.dir, shard.Name()), visit); err != nil {
			return err
		}
	}
	return nil
}

func eachIn(shard string, visit func(Name) error) error {
	all, err := os.ReadDir(shard)
	if err != nil {
		return err
	}
	for _, file := range all {
		name, err := ParseName(file.Name())
		if err != nil {
			continue
		}
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

// Check compares a blob's file with its size, without reading it. Errors: ErrDamaged.
func (f *Folder) Check(n Name, size int64) error {
	info, err := os.Stat(f.Path(n))
	switch {
	case err != nil:
		return damaged(f.Path(n), err)
	case info.Size() != size:
		return fmt.Errorf("%w: %s has %d bytes, and had %d when it was stored", ErrDamaged,
			f.Path(n), info.Size(), size)
	}
	return nil
}

// damaged names an error of reading a blob.
func damaged(path string, err error) error {
	if of, ok := errors.AsType[*fs.PathError](err); ok {
		err = of.Err
	}
	return fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
}

// Open opens a blob. Whoever reads all of it, from its beginning, gets an error in place of its
// last bytes if the content differs from the blob that was stored. Parts are not checked. Errors,
// also of Read: ErrDamaged.
func (f *Folder) Open(b Blob) (io.ReadSeekCloser, error) {
	if err := f.Check(b.Name, b.Size); err != nil {
		return nil, err
	}
	file, err := os.Open(f.Path(b.Name))
	if err != nil {
		return nil, damaged(f.Path(b.Name), err)
	}
	return &checked{file: file, sum: files.NewHash(), want: b}, nil
}

// checked reads a blob and compares it with its checksum.
type checked struct {
	file *os.File
	sum  hash.Hash
	read int64
	part bool // only a part is read
	want Blob
}

// Seek implements io.Seeker.
func (c *checked) Seek(offset int64, whence int) (int64, error) {
	at, err := c.file.Seek(offset, whence)
	c.part = c.part || at != c.read
	return at, err
}

// Read implements io.Reader. Errors: ErrDamaged.
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.file.Read(p)
	_, _ = c.sum.Write(p[:n]) // a hash accepts everything
	c.read += int64(n)
	ends := errors.Is(err, io.EOF) || c.read >= c.want.Size
	switch {
	case !c.part && ends && (c.read != c.want.Size || files.SumBy(c.sum) != c.want.Sum):
		return 0, fmt.Errorf("%w: %s has changed since it was stored", ErrDamaged, c.file.Name())
	case err != nil && !errors.Is(err, io.EOF):
		return n, damaged(c.file.Name(), err)
	}
	return n, err
}

// Close implements io.Closer.
func (c *checked) Close() error { return c.file.Close() }

// Batch stores several blobs together, which costs less than one after the other. It is not safe
// for concurrent use.
type Batch struct {
	folder *Folder
	added  []added
	bytes  int64
	held   int64 // of the contents in memory
}

// added is a content that waits for Publish, in a file or in memory.
type added struct {
	file    *os.File // nil for one in memory
	content []byte
	Blob
}

const (
	// shortContent is the size in bytes up to which a content waits in memory. A file is made only
	// if the folder lacks the content.
	shortContent = 64 << 10
	// heldBytes is how many bytes of contents wait in memory, but for the last one.
	heldBytes = 8 << 20
)

// Batch starts a batch. The caller ends it with Publish or Drop.
func (f *Folder) Batch() *Batch { return &Batch{folder: f} }

// Len returns how many blobs wait for Publish.
func (b *Batch) Len() int { return len(b.added) }

// Bytes returns the size of the blobs that wait for Publish.
func (b *Batch) Bytes() int64 { return b.bytes }

// Add reads a content to its end. Publish stores it.
func (b *Batch) Add(r io.Reader) (Blob, error) {
	name, sha, sum := sha256.New(), sha1.New(), files.NewHash()
	to, err := b.take(io.TeeReader(r, io.MultiWriter(name, sha, sum)))
	if err != nil {
		return Blob{}, errors.Join(err, to.drop())
	}
	to.Name, to.SHA1, to.Sum = Name(name.Sum(nil)), sha.Sum(nil), files.SumBy(sum)
	b.added = append(b.added, to)
	b.bytes, b.held = b.bytes+to.Size, b.held+int64(len(to.content))
	return to.Blob, nil
}

// take reads a content into memory, or into a file.
func (b *Batch) take(r io.Reader) (to added, err error) {
	if b.held < heldBytes {
		to.content, err = io.ReadAll(io.LimitReader(r, shortContent+1))
		to.Size = int64(len(to.content))
		if err != nil || to.Size <= shortContent {
			return to, err
		}
		r, to.content = io.MultiReader(bytes.NewReader(to.content), r), nil
	}
	if to.file, err = b.folder.create(); err != nil {
		return to, err
	}
	to.Size, err = io.Copy(to.file, r)
	return to, err
}

// create creates a file for a content.
func (f *Folder) create() (*os.File, error) {
	dir := filepath.Join(f.dir, written)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, "")
}

func (a *added) drop() error {
	if a.file == nil {
		return nil
	}
	return errors.Join(a.file.Close(), os.Remove(a.file.Name()))
}

// Names returns the names of the blobs that wait for Publish.
func (b *Batch) Names() []Name {
	out := make([]Name, len(b.added))
	for i, a := range b.added {
		out[i] = a.Name
	}
	return out
}

// Undo takes back the latest Add.
func (b *Batch) Undo() error {
	last := b.added[len(b.added)-1]
	b.added[len(b.added)-1] = added{}
	b.added = b.added[:len(b.added)-1]
	b.bytes, b.held = b.bytes-last.Size, b.held-int64(len(last.content))
	return last.drop()
}

// Drop ends the batch without storing anything.
func (b *Batch) Drop() (err error) {
	for i := range b.added {
		err = errors.Join(err, b.added[i].drop())
	}
	b.added, b.bytes, b.held = nil, 0, 0
	return err
}

// syncsAtOnce is how many files are synced at a time: a journal writes them together.
const syncsAtOnce = 16

// Publish makes the blobs durable, and gives them their names. The batch is empty afterwards, and
// may go on.
func (b *Batch) Publish() error {
	shards, lacking := map[string]bool{}, map[Name]*added{}
	var group errgroup.Group
	group.SetLimit(syncsAtOnce)
	for i := range b.added {
		a := &b.added[i]
		shards[b.folder.shard(a.Name)] = true
		if lacking[a.Name] != nil || b.folder.Check(a.Name, a.Size) == nil {
			continue // as durable as its folder, which is synced below
		}
		lacking[a.Name] = a
		group.Go(func() error { return b.folder.harden(a) })
	}
	err := errors.Join(group.Wait(), b.folder.make(shards))
	if err != nil {
		return errors.Join(err, b.Drop())
	}
	for i := range b.added {
		a := &b.added[i]
		end := a.drop
		if lacking[a.Name] == a {
			end = func() error { return b.folder.name(a) }
		}
		if err := end(); err != nil {
			b.added = b.added[i:]
			return errors.Join(err, b.Drop())
		}
	}
	b.added, b.bytes, b.held = nil, 0, 0
	return b.folder.sync(shards)
}

// harden makes a content durable.
func (f *Folder) harden(a *added) (err error) {
	if a.file == nil {
		if a.file, err = f.create(); err != nil {
			return err
		}
		if _, err := a.file.Write(a.content); err != nil {
			return err
		}
	}
	return errors.Join(a.file.Sync(), a.file.Chmod(Mode))
}

// make creates the folders of blobs.
func (f *Folder) make(shards map[string]bool) error {
	made := false
	for dir := range shards {
		switch err := os.Mkdir(dir, 0o700); {
		case err == nil:
			made = true
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	if !made {
		return nil
	}
	return errors.Join(disk.OS().SyncDir(f.dir), disk.OS().SyncDir(filepath.Dir(f.dir)))
}

// name moves a new blob to its place.
func (f *Folder) name(a *added) error {
	return errors.Join(a.file.Close(), os.Rename(a.file.Name(), f.Path(a.Name)))
}

// sync makes the names in folders durable.
func (f *Folder) sync(shards map[string]bool) error {
	var group errgroup.Group
	group.SetLimit(syncsAtOnce)
	for dir := range shards {
		group.Go(func() error { return disk.OS().SyncDir(dir) })
	}
	return group.Wait()
}

// Pins keep blobs from being removed while somebody who is not in the records needs them.
type Pins struct {
	mu   sync.Mutex
	held int
}

// Pin keeps all blobs until release is called, once.
func (p *Pins) Pin() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.held--
	}
}

// Unpinned calls f while nobody holds a pin, and keeps everybody from taking one meanwhile. It
// does not call f while somebody does.
func (p *Pins) Unpinned(f func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held > 0 {
		return nil
	}
	return f()
}
