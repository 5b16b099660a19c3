package files

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// Extent says where the store keeps one output: Length bytes at Offset of Object.
type Extent struct {
	Object string
	Offset int64
	Length int64
}

// Folder is the store's name in a data folder.
const Folder = "exports"

// DefaultSpillBytes is the size from which an output gets a file of its own.
const DefaultSpillBytes = 512 << 10

// Config sets up a Local store.
type Config struct {
	// Root is the directory of all exports; it is made with mode 0700 where it is absent.
	Root string
	// SpillBytes is how large an output may grow in memory before it gets a file of its own. Default DefaultSpillBytes.
	SpillBytes int
}

// Local is the file store on a local disk. It is safe for use by many goroutines, and by many processes on one disk.
type Local struct {
	root  string
	spill int
}

// NewLocal opens the store.
func NewLocal(c Config) (*Local, error) {
	if c.SpillBytes <= 0 {
		c.SpillBytes = DefaultSpillBytes
	}
	for shard := range shards {
		if err := os.MkdirAll(filepath.Join(c.Root, shardName(shard)), 0o700); err != nil {
			return nil, fmt.Errorf("make the exports directory: %w", err)
		}
	}
	return &Local{root: c.Root, spill: c.SpillBytes}, syncDir(c.Root)
}

// shards is how many folders the files are spread over.
const shards = 256

func shardName(n int) string { return fmt.Sprintf("%02x", n) }

var (
	jobName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	objectName = regexp.MustCompile(`^(\d+)\.(\d+)\.(seg|\d+\.ndjson)$`)
)

// ErrName is returned for a job or object name that this store never gave out.
var ErrName = errors.New("not a name of this file store")

// dir is the shard of a job. Errors: ErrName.
func (l *Local) dir(job string) (string, error) {
	if !jobName.MatchString(job) {
		return "", fmt.Errorf("job %q: %w", job, ErrName)
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(job)) // never fails
	return filepath.Join(l.root, shardName(int(h.Sum32()%shards))), nil
}

// path is where an object of a job lies.
func (l *Local) path(job, object string) (string, error) {
	dir, err := l.dir(job)
	if err != nil {
		return "", err
	}
	if object != filepath.Base(object) {
		return "", fmt.Errorf("object %q: %w", object, ErrName)
	}
	return filepath.Join(dir, job+"."+object), nil
}

// Open returns a reader over one output, positioned at its start. The caller closes it. A reader stays good while the job is
// deleted under it. Errors: fs.ErrNotExist where the object is gone, ErrName.
func (l *Local) Open(job string, e Extent) (*Reader, error) {
	if !objectName.MatchString(e.Object) {
		return nil, fmt.Errorf("object %q: %w", e.Object, ErrName)
	}
	path, err := l.path(job, e.Object)
	if err != nil {
		return nil, err
	}
	return openAt(path, e.Offset, e.Length)
}

// Reader reads one output or attachment: the bytes of an extent and no others.
type Reader struct {
	*io.SectionReader
	f *os.File
}

func openAt(path string, offset, length int64) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < offset+length {
		err = fmt.Errorf("%s is %d bytes long, %d expected: %w", filepath.Base(path), info.Size(), offset+length, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Reader{io.NewSectionReader(f, offset, length), f}, nil
}

// Close releases the file.
func (r *Reader) Close() error { return r.f.Close() }

// Remove deletes everything of a job. It is no error when there is nothing.
func (l *Local) Remove(job string) error {
	dir, err := l.dir(job)
	if err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	for _, e := range names {
		if strings.HasPrefix(e.Name(), job+".") {
			err = errors.Join(err, ignoreAbsent(os.Remove(filepath.Join(dir, e.Name()))))
		}
	}
	return err
}

// Walk calls f for each job that has files, with all of them: the janitor's view, and nobody else's. Each shard is listed before f is
// called for its jobs.
func (l *Local) Walk(f func(job string, stored []Stored) error) error {
	for shard := range shards {
		entries, err := os.ReadDir(filepath.Join(l.root, shardName(shard)))
		if err != nil {
			return err
		}
		byJob := map[string][]Stored{}
		for _, e := range entries {
			if job, object, ok := strings.Cut(e.Name(), "."); ok && jobName.MatchString(job) {
				byJob[job] = append(byJob[job], stored(object))
			}
		}
		for job, list := range byJob {
			if err := f(job, list); err != nil {
				return err
			}
		}
	}
	return nil
}

// Stored is one object of a job, as the janitor sees it.
type Stored struct {
	Name string
	// Task and Attempt are what wrote it; both are -1 for an attachment.
	Task, Attempt int
	// Attachment is the name under which it was added, "" for outputs.
	Attachment string
}

func stored(name string) Stored {
	s := Stored{Name: name, Task: -1, Attempt: -1}
	if m := objectName.FindStringSubmatch(name); m != nil {
		s.Task, _ = strconv.Atoi(m[1]) // the pattern admits digits only
		s.Attempt, _ = strconv.Atoi(m[2])
		return s
	}
	if b, err := hex.DecodeString(strings.TrimPrefix(name, "a.")); err == nil && strings.HasPrefix(name, "a.") {
		s.Attachment = string(b)
	}
	return s
}

// RemoveObject deletes one object that Walk showed.
func (l *Local) RemoveObject(job string, s Stored) error { return l.remove(job, s.Name) }

// remove deletes an object; it is no error when it is gone already.
func (l *Local) remove(job, object string) error {
	path, err := l.path(job, object)
	if err != nil {
		return err
	}
	return ignoreAbsent(os.Remove(path))
}

// Check writes, syncs and removes a small file, so that a full or read-only disk shows itself.
func (l *Local) Check() error {
	f, err := os.CreateTemp(l.root, ".check-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("ok")
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

// IsFull tells an error that is due to a full disk, or a quota, from others.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// ErrTooLarge is returned by PutAttachment for content over its limit; nothing is kept of it.
var ErrTooLarge = errors.New("the file is larger than its limit")

// PutAttachment streams a document to the disk and makes it durable. name is any text; it never becomes a path. limit is
// in bytes. It returns the size and the SHA-1 of what was stored.
func (l *Local) PutAttachment(job, name string, r io.Reader, limit int64) (size int64, sum []byte, err error) {
	path, err := l.path(job, attachmentObject(name))
	if err != nil {
		return 0, nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, nil, err
	}
	h := sha1.New() // the hash that FHIR R4 prescribes for Attachment.hash; it protects nothing
	size, err = io.Copy(io.MultiWriter(f, h), io.LimitReader(r, limit+1))
	if err == nil && size > limit {
		err = ErrTooLarge
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return 0, nil, errors.Join(err, os.Remove(path))
	}
	return size, h.Sum(nil), nil
}

// OpenAttachment opens a document by the name and size that the job's record lists.
func (l *Local) OpenAttachment(job, name string, size int64) (*Reader, error) {
	path, err := l.path(job, attachmentObject(name))
	if err != nil {
		return nil, err
	}
	return openAt(path, 0, size)
}

// RemoveAttachment deletes a document; it is no error when it is gone already.
func (l *Local) RemoveAttachment(job, name string) error {
	return l.remove(job, attachmentObject(name))
}

// MaxAttachmentName is the longest name of a document, in bytes: its hex form must fit a file name beside the job's id.
const MaxAttachmentName = 90

func attachmentObject(name string) string { return "a." + hex.EncodeToString([]byte(name)) }

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
