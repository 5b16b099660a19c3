package files

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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
const DefaultSpillBytes = 1 << 20

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
	if err := os.MkdirAll(c.Root, 0o700); err != nil {
		return nil, fmt.Errorf("make the exports directory: %w", err)
	}
	return &Local{root: c.Root, spill: c.SpillBytes}, nil
}

var (
	jobName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	objectName = regexp.MustCompile(`^(\d+)\.(\d+)\.(seg|\d+\.ndjson)$`)
)

// ErrName is returned for a job or object name that this store never gave out.
var ErrName = errors.New("not a name of this file store")

func (l *Local) jobDir(job string) (string, error) {
	if !jobName.MatchString(job) {
		return "", fmt.Errorf("job %q: %w", job, ErrName)
	}
	return filepath.Join(l.root, job), nil
}

// Open returns a reader over one output, positioned at its start. The caller closes it. A reader stays good while the job is
// deleted under it. Errors: fs.ErrNotExist where the object is gone, ErrName.
func (l *Local) Open(job string, e Extent) (*Reader, error) {
	dir, err := l.jobDir(job)
	if err != nil {
		return nil, err
	}
	if !objectName.MatchString(e.Object) {
		return nil, fmt.Errorf("object %q: %w", e.Object, ErrName)
	}
	return openAt(filepath.Join(dir, e.Object), e.Offset, e.Length)
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
	dir, err := l.jobDir(job)
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Jobs lists the jobs that have a folder: the janitor's view, and nobody else's.
func (l *Local) Jobs() ([]string, error) {
	entries, err := os.ReadDir(l.root)
	if err != nil {
		return nil, err
	}
	var jobs []string
	for _, e := range entries {
		if e.IsDir() && jobName.MatchString(e.Name()) {
			jobs = append(jobs, e.Name())
		}
	}
	return jobs, nil
}

// Stored is one object in a job's folder, as the janitor sees it.
type Stored struct {
	Name string
	// Task and Attempt are what wrote it; both are -1 for an attachment.
	Task, Attempt int
	// Attachment is the name under which it was added, "" for outputs.
	Attachment string
}

// List returns what lies in a job's folder.
func (l *Local) List(job string) ([]Stored, error) {
	dir, err := l.jobDir(job)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Stored
	for _, e := range entries {
		out = append(out, stored(e.Name()))
	}
	return out, nil
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

// RemoveObject deletes one object that List returned.
func (l *Local) RemoveObject(job string, s Stored) error {
	dir, err := l.jobDir(job)
	if err != nil {
		return err
	}
	if s.Name != filepath.Base(s.Name) {
		return fmt.Errorf("object %q: %w", s.Name, ErrName)
	}
	return ignoreAbsent(os.Remove(filepath.Join(dir, s.Name)))
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

// ErrTooLarge is returned by PutAttachment for content over its limit; nothing is kept of it.
var ErrTooLarge = errors.New("the file is larger than its limit")

// PutAttachment streams a document to the disk and makes it durable. name is any text; it never becomes a path. limit is
// in bytes. It returns the size and the SHA-1 of what was stored.
func (l *Local) PutAttachment(job, name string, r io.Reader, limit int64) (size int64, sum []byte, err error) {
	dir, err := l.jobDir(job)
	if err != nil {
		return 0, nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, nil, err
	}
	path := filepath.Join(dir, attachmentObject(name))
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
		err = syncDir(dir)
	}
	if err != nil {
		return 0, nil, errors.Join(err, os.Remove(path))
	}
	return size, h.Sum(nil), nil
}

// OpenAttachment opens a document by the name and size that the job's record lists.
func (l *Local) OpenAttachment(job, name string, size int64) (*Reader, error) {
	dir, err := l.jobDir(job)
	if err != nil {
		return nil, err
	}
	return openAt(filepath.Join(dir, attachmentObject(name)), 0, size)
}

// RemoveAttachment deletes a document; it is no error when it is gone already.
func (l *Local) RemoveAttachment(job, name string) error {
	dir, err := l.jobDir(job)
	if err != nil {
		return err
	}
	return ignoreAbsent(os.Remove(filepath.Join(dir, attachmentObject(name))))
}

// MaxAttachmentName is the longest name of a document, in bytes: its hex form must fit a file name.
const MaxAttachmentName = 100

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
