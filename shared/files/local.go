package files

import (
	"crypto/rand"
	"crypto/sha1"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ehi-server/shared/disk"
)

// Extent says where the store keeps one output: Length bytes at Offset of Object, which have the Sum.
type Extent struct {
	Object string
	Offset int64
	Length int64
	Sum    Sum
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
	// Disk is the file system. Default: the operating system's.
	Disk disk.FS
	// Log tells of files that are found damaged. Default: nobody is told.
	Log *slog.Logger
	// Unsummed writes files without checksums, so that no damage to them is noticed: benchmarks measure by it
	// what checksums cost. No setting of a program leads here.
	Unsummed bool
}

// Local is the file store on a local disk. It is safe for use by many goroutines, and by many processes on one disk.
type Local struct {
	root    string
	spill   atomic.Int64
	disk    disk.FS
	log     *slog.Logger
	damages damages

	unsummed bool
}

// NewLocal opens the store.
func NewLocal(c Config) (*Local, error) {
	if c.SpillBytes <= 0 {
		c.SpillBytes = DefaultSpillBytes
	}
	if c.Disk == nil {
		c.Disk = disk.OS()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for shard := range shards {
		if err := c.Disk.MkdirAll(filepath.Join(c.Root, shardName(shard))); err != nil {
			return nil, fmt.Errorf("make the exports directory: %w", err)
		}
	}
	if err := c.Disk.SyncDir(c.Root); err != nil {
		return nil, fmt.Errorf("sync the exports directory: %w", err)
	}
	l := &Local{root: c.Root, disk: c.Disk, log: c.Log, unsummed: c.Unsummed}
	l.SetSpillBytes(c.SpillBytes)
	return l, c.Disk.SyncDir(filepath.Dir(filepath.Clean(c.Root)))
}

// identityFile says of which state the files are: the records that name them.
const identityFile = ".identity"

// Identity is that of the state to which the files belong, "" where none was set. Errors: ErrIdentity.
func (l *Local) Identity() (string, error) {
	name := filepath.Join(l.root, identityFile)
	text, err := l.small(name)
	if err != nil || len(text) < minIdentity {
		return "", err // a shorter one was being written when the process died
	}
	identity, sum, summed := strings.Cut(text, " ")
	if !identityText.MatchString(identity) || summed && sum != sumOf(identity) {
		return "", fmt.Errorf("%w: %s", ErrIdentity, name)
	}
	return identity, nil
}

// ErrIdentity is returned where the file is damaged that says to which state the exports belong.
var ErrIdentity = errors.New("the file is damaged that says to which state the exports belong")

// minIdentity is the length of the shortest identity, in bytes.
const minIdentity = 26

// identityText is what an identity consists of, see rand.Text.
var identityText = regexp.MustCompile(`^[A-Z2-7]+$`)

// sumOf is written behind an identity: of a bit that flips in it, another one would come.
func sumOf(identity string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(identity))) }

// recallsFolder holds the jobs that have to be gone, since their clients were told that they were not made.
const recallsFolder = ".recalls"

// NoteRecall keeps, over the end of the process, that a job has to be gone. Errors: ErrName.
func (l *Local) NoteRecall(job string) error {
	if !jobName.MatchString(job) {
		return fmt.Errorf("job %q: %w", job, ErrName)
	}
	name := filepath.Join(l.root, recallsFolder, job)
	if err := l.disk.MkdirAll(filepath.Dir(name)); err != nil {
		return err
	}
	if err := l.keep(name, ""); !errors.Is(err, fs.ErrExist) {
		return errors.Join(err, l.disk.SyncDir(l.root))
	}
	return nil
}

// Recalls are the jobs that NoteRecall knows.
func (l *Local) Recalls() ([]string, error) { return l.noted(recallsFolder) }

// ForgetRecall forgets a job that is gone. Errors: ErrName.
func (l *Local) ForgetRecall(job string) error { return l.forget(recallsFolder, job) }

// orphansFolder holds, by the job, since when files were seen that no record names.
const orphansFolder = ".orphans"

// OrphanSince is since when it is known that a job has files and no record: now, where it was not known before. Errors: ErrName.
func (l *Local) OrphanSince(job string, now time.Time) (time.Time, error) {
	if !jobName.MatchString(job) {
		return now, fmt.Errorf("job %q: %w", job, ErrName)
	}
	name := filepath.Join(l.root, orphansFolder, job)
	text, err := l.small(name)
	if since, e := time.Parse(time.RFC3339, text); e == nil && err == nil {
		return since, nil
	}
	if err == nil {
		err = errors.Join(l.disk.MkdirAll(filepath.Dir(name)), ignoreAbsent(l.disk.Remove(name)))
	}
	if err != nil {
		return now, err
	}
	return now, l.keep(name, now.UTC().Format(time.RFC3339))
}

// Orphans are the jobs that OrphanSince knows.
func (l *Local) Orphans() ([]string, error) { return l.noted(orphansFolder) }

// Adopted forgets that a job had no record.
func (l *Local) Adopted(job string) error { return l.forget(orphansFolder, job) }

// noted are the jobs that have a file in a folder of notes.
func (l *Local) noted(folder string) ([]string, error) {
	names, err := l.disk.ReadDir(filepath.Join(l.root, folder))
	isNoJob := func(name string) bool { return !jobName.MatchString(name) }
	return slices.DeleteFunc(names, isNoJob), ignoreAbsent(err)
}

// forget removes the file of a job from a folder of notes. Errors: ErrName.
func (l *Local) forget(folder, job string) error {
	if !jobName.MatchString(job) {
		return fmt.Errorf("job %q: %w", job, ErrName)
	}
	return ignoreAbsent(l.disk.Remove(filepath.Join(l.root, folder, job)))
}

// keep makes a small file, durably. Errors: fs.ErrExist.
func (l *Local) keep(name, text string) error {
	f, err := l.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Sync(), f.Close(), l.disk.SyncDir(filepath.Dir(name)))
}

// small reads a small file, "" where there is none.
func (l *Local) small(name string) (string, error) {
	f, err := l.disk.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	size, err := f.Size()
	text := make([]byte, min(size, maxSmall))
	if err == nil && size > 0 {
		_, err = f.ReadAt(text, 0)
	}
	return string(text), errors.Join(err, f.Close())
}

// maxSmall bounds what is read of a small file, in bytes.
const maxSmall = 96

// errFound ends a walk.
var errFound = errors.New("there is one")

// Empty reports whether the store holds no file of any job.
func (l *Local) Empty() (bool, error) {
	err := l.Walk(func(string, []Stored) error { return errFound })
	if errors.Is(err, errFound) {
		return false, nil
	}
	return err == nil, err
}

// SetIdentity keeps it, durably, also in place of one that is damaged.
func (l *Local) SetIdentity(identity string) error {
	if was, err := l.Identity(); err != nil && !errors.Is(err, ErrIdentity) || was == identity {
		return err
	}
	name := filepath.Join(l.root, identityFile)
	if err := ignoreAbsent(l.disk.Remove(name)); err != nil {
		return err
	}
	return l.keep(name, identity+" "+sumOf(identity))
}

// reachedFile says how far the state had come to which the files belong.
const reachedFile = ".reached"

// Reached is what SetReached was told last; nil where nothing is known.
func (l *Local) Reached() ([]uint64, error) {
	text, err := l.small(filepath.Join(l.root, reachedFile))
	if err != nil {
		return nil, err
	}
	numbers, sum, _ := strings.Cut(text, " ")
	if sum != sumOf(numbers) { // it was being written when the process died, or is damaged
		return nil, nil
	}
	var reached []uint64
	for n := range strings.SplitSeq(numbers, ",") {
		v, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return nil, nil
		}
		reached = append(reached, v)
	}
	return reached, nil
}

// SetReached keeps how far the state has come, in up to three numbers that never get less unless it has lost something.
func (l *Local) SetReached(reached []uint64) error {
	numbers := make([]string, len(reached))
	for i, v := range reached {
		numbers[i] = strconv.FormatUint(v, 10)
	}
	return l.note(reachedFile, strings.Join(numbers, ","))
}

// servedFile says when a server ran last that keeps these files.
const servedFile = ".served"

// Served is what SetServed was told last; the zero time where nothing is known.
func (l *Local) Served() (time.Time, error) {
	text, err := l.small(filepath.Join(l.root, servedFile))
	if err != nil {
		return time.Time{}, err
	}
	at, sum, _ := strings.Cut(text, " ")
	served, err := time.Parse(time.RFC3339, at)
	if err != nil || sum != sumOf(at) { // it was being written when the process died, or is damaged
		return time.Time{}, nil
	}
	return served, nil
}

// SetServed keeps, to the second, that a server runs that keeps these files.
func (l *Local) SetServed(at time.Time) error {
	return l.note(servedFile, at.UTC().Format(time.RFC3339))
}

// note writes a small file anew, with its sum. Where two processes do that at once, one of them has.
func (l *Local) note(file, text string) error {
	name := filepath.Join(l.root, file)
	if err := ignoreAbsent(l.disk.Remove(name)); err != nil {
		return err
	}
	if err := l.keep(name, text+" "+sumOf(text)); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
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

// Open returns a reader over one output or attachment, positioned at its start. The caller closes it. A reader stays good while the job is
// deleted under it. Errors: fs.ErrNotExist where the object is gone, ErrDamaged, ErrName.
func (l *Local) Open(job string, e Extent) (*Reader, error) {
	path, err := l.object(job, e.Object)
	if err != nil {
		return nil, err
	}
	if err := l.known(job, path, e); err != nil {
		return nil, err
	}
	return l.openAt(job, path, e)
}

// Place is where an object lies below the store's root, for a restore, which writes nowhere else.
// Errors: ErrName.
func (l *Local) Place(job, object string) (string, error) {
	path, err := l.object(job, object)
	if err != nil {
		return "", err
	}
	return filepath.Rel(l.root, path)
}

// Named reports whether this is how a store names a job and an object of it. Errors: ErrName.
func Named(job, object string) error {
	if !jobName.MatchString(job) {
		return fmt.Errorf("job %q: %w", job, ErrName)
	}
	if !objectName.MatchString(object) && !attachmentName.MatchString(object) {
		return fmt.Errorf("object %q: %w", object, ErrName)
	}
	return nil
}

// object is where an output or attachment lies. Errors: ErrName.
func (l *Local) object(job, object string) (string, error) {
	if err := Named(job, object); err != nil {
		return "", err
	}
	return l.path(job, object)
}

// Attempts is the highest attempt at a task of the job that has left a file; 0 where none has.
func (l *Local) Attempts(job string) (highest int, err error) {
	dir, err := l.dir(job)
	if err != nil {
		return 0, err
	}
	names, err := l.disk.ReadDir(dir)
	for _, name := range names {
		if object, is := strings.CutPrefix(name, job+"."); is {
			highest = max(highest, stored(object).Attempt)
		}
	}
	return highest, err
}

// Remove deletes everything of a job. It is no error when there is nothing.
func (l *Local) Remove(job string) error {
	dir, err := l.dir(job)
	if err != nil {
		return err
	}
	names, err := l.disk.ReadDir(dir)
	for _, name := range names {
		if strings.HasPrefix(name, job+".") {
			err = errors.Join(err, ignoreAbsent(l.disk.Remove(filepath.Join(dir, name))))
		}
	}
	return errors.Join(err, l.Forget(job))
}

// Walk calls f for each job that has files, with all of them: the janitor's view, and nobody else's. Each shard is listed before f is
// called for its jobs.
func (l *Local) Walk(f func(job string, stored []Stored) error) error {
	for shard := range shards {
		names, err := l.disk.ReadDir(filepath.Join(l.root, shardName(shard)))
		if err != nil {
			return err
		}
		byJob := map[string][]Stored{}
		for _, name := range names {
			if job, object, ok := strings.Cut(name, "."); ok && jobName.MatchString(job) {
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
}

func stored(name string) Stored {
	s := Stored{Name: name, Task: -1, Attempt: -1}
	if m := objectName.FindStringSubmatch(name); m != nil {
		s.Task, _ = strconv.Atoi(m[1]) // the pattern admits digits only
		s.Attempt, _ = strconv.Atoi(m[2])
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
	return ignoreAbsent(l.disk.Remove(path))
}

// Check writes, syncs and removes a small file, so that a full or read-only disk shows itself.
func (l *Local) Check() error {
	name := filepath.Join(l.root, ".check-"+rand.Text())
	f, err := l.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, "ok")
	return errors.Join(err, f.Sync(), f.Close(), l.disk.Remove(name))
}

// Free is how many bytes the disk of the exports can still take.
func (l *Local) Free() (int64, error) { return l.disk.Free(l.root) }

// ErrTooLarge is returned by PutAttachment for content over its limit; nothing is kept of it.
var ErrTooLarge = errors.New("the file is larger than its limit")

// PutAttachment streams a document to the disk and makes it durable. limit is in bytes. It returns the object under which the document
// is kept, which nothing else is ever called, its size and its SHA-1.
func (l *Local) PutAttachment(job string, r io.Reader, limit int64) (object string, size int64, sum []byte, err error) {
	object = attachmentPrefix + strings.ToLower(rand.Text())
	path, err := l.path(job, object)
	if err != nil {
		return "", 0, nil, err
	}
	f, err := l.disk.Create(path)
	if err != nil {
		return "", 0, nil, err
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
		err = l.disk.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return "", 0, nil, errors.Join(err, l.disk.Remove(path))
	}
	return object, size, h.Sum(nil), nil
}

const attachmentPrefix = "a."

// attachmentName also admits the objects of older builds, which were the document's name in hex.
var attachmentName = regexp.MustCompile(`^a\.[0-9a-z]+$`)

// IsAttachment tells the objects of attachments from those of outputs.
func IsAttachment(object string) bool { return attachmentName.MatchString(object) }

// RemoveAttachment deletes a document; it is no error when it is gone already.
func (l *Local) RemoveAttachment(job, object string) error {
	if _, err := l.attachment(job, object); err != nil {
		return err
	}
	return errors.Join(l.remove(job, object), l.forgive(Damage{Job: job, Object: object}))
}

func (l *Local) attachment(job, object string) (string, error) {
	if !attachmentName.MatchString(object) {
		return "", fmt.Errorf("attachment %q: %w", object, ErrName)
	}
	return l.path(job, object)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
