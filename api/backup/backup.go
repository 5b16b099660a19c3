// Package backup writes everything that a server keeps into one archive, and puts it back into an empty data folder. It is a tar, compressed by
// Zstandard:
//
//	records/...           a checkpoint of the record store
//	files/<name>          the files beside the folders: the sandbox client's keys
//	exports/<job>/<name>  the files that finished jobs name
//	state.ndjson          jobs, tasks, clients, accounts, keys, grants, the audit trail, a bus.Entry a line;
//	                      its last line says how many there are. It is the archive's last file, so that
//	                      one that was cut off has none
//
// Exports that were not finished are kept as requests, and are made when the restored server starts.
package backup

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"ehi-server/exporter/dataset"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Parts are what a backup is taken of.
type Parts struct {
	// Data is the data folder.
	Data  string
	Bus   *bus.Bus
	Files *files.Local
	// Records is the record store; nil where the server has none of its own.
	Records *dataset.Store
}

const (
	recordsFolder = "records/"
	filesFolder   = "files/"
	exportsFolder = "exports/"
	stateFile     = "state.ndjson"
)

// SandboxKeys is the file in a data folder that holds the keys of the sandbox's client.
const SandboxKeys = "test_client_keys.json"

// beside are the files of a data folder, beside its folders, that are kept where they are there. An
// archive holds no others.
var beside = []string{SandboxKeys}

// Write writes the archive. It may be called while the server works.
func Write(ctx context.Context, w io.Writer, p Parts) (err error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	state, remove, err := spool(p.Data) // its size has to be known before it is written
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	a := &archive{Parts: p, tar: tar.NewWriter(z), state: state}
	for _, step := range []func(context.Context) error{a.records, a.beside, a.jobs, a.grants, a.trail, a.finish} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return errors.Join(a.tar.Close(), z.Close())
}

// spool opens a file for what a backup collects: passwords' hashes, keys and the audit trail among it.
// It lies in the data folder, which nobody else reads, with mode 0600. Where the system allows it,
// the file has no name while it is open, so that a process that dies leaves nothing; remove does
// the rest.
func spool(data string) (f *os.File, remove func() error, err error) {
	if f, err = os.CreateTemp(data, ".backup-*"); err != nil {
		return nil, nil, err
	}
	unnamed := os.Remove(f.Name()) == nil
	return f, func() error {
		err := f.Close()
		if !unnamed {
			err = errors.Join(err, os.Remove(f.Name()))
		}
		return err
	}, nil
}

// archive is one backup that is being written.
type archive struct {
	Parts
	tar     *tar.Writer
	state   *os.File
	entries int // that state has
}

// line is one of the state: an entry, or its end.
type line struct {
	bus.Entry
	// End is how many entries there are, in the last line; nil in every other.
	End *int `json:"end,omitempty"`
}

func (a *archive) header(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: time.Now(), Typeflag: tar.TypeReg})
}

// copy adds a file of the disk.
func (a *archive) copy(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := a.header(name, info.Size()); err != nil {
		return err
	}
	_, err = io.CopyN(a.tar, f, info.Size())
	return err
}

// records takes a checkpoint, beside the store so that its files can be linked, and adds its files.
func (a *archive) records(context.Context) (err error) {
	if a.Records == nil {
		return nil
	}
	dir, remove, err := a.Records.Checkpoint()
	if err != nil {
		return fmt.Errorf("checkpoint of the records: %w", err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return a.copy(recordsFolder+filepath.ToSlash(rel), path)
	})
}

func (a *archive) beside(context.Context) error {
	for _, name := range beside {
		err := a.copy(filesFolder+name, filepath.Join(a.Data, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// jobs adds the jobs, their tasks and the files that those name.
func (a *archive) jobs(ctx context.Context) error {
	return a.Bus.Entries(ctx, bus.JobRecords, func(e bus.Entry) error {
		j, err := a.Bus.Jobs.Get(ctx, e.Key)
		if ehi.CodeOf(err) == ehi.NotFound {
			return nil // deleted, or about to be
		}
		if err != nil {
			return err
		}
		return a.job(ctx, j)
	})
}

func (a *archive) job(ctx context.Context, j *ehi.Job) error {
	if j.Status == ehi.Requested {
		restarted := restart(*j)
		return a.note(bus.JobRecords, j.ID, restarted)
	}
	var tasks []ehi.Task
	for n := range j.Tasks {
		t, there, err := a.Bus.Tasks.Get(ctx, j.ID, n)
		if err != nil {
			return err
		}
		if there {
			tasks = append(tasks, t)
		}
	}
	for _, object := range objects(j, tasks) {
		if err := a.object(j.ID, object); errors.Is(err, fs.ErrNotExist) {
			return nil // the job is being deleted
		} else if err != nil {
			return err
		}
	}
	for _, t := range tasks {
		if err := a.note(bus.TaskRecords, fmt.Sprintf("%s.%d", j.ID, t.Number), t); err != nil {
			return err
		}
	}
	return a.note(bus.JobRecords, j.ID, j)
}

// restart is a requested job as if nothing had been done of it yet.
func restart(j ehi.Job) ehi.Job {
	if j.Lane == ehi.Bulk {
		j.Tasks = 0
	}
	j.Done, j.Planned, j.Plans, j.Counts, j.Withheld, j.Bytes, j.Stored, j.Errors = nil, 0, 0, nil, nil, 0, 0, 0
	j.TransactionTime = time.Time{}
	return j
}

// objects are the files that a job's records name.
func objects(j *ehi.Job, tasks []ehi.Task) (names []string) {
	seen := map[string]bool{}
	for _, t := range tasks {
		for _, f := range t.Files {
			if !seen[f.Object] && f.Length > 0 {
				seen[f.Object] = true
				names = append(names, f.Object)
			}
		}
	}
	for _, d := range j.Attachments {
		names = append(names, d.Object)
	}
	return names
}

func (a *archive) object(job, name string) error {
	r, err := a.Files.OpenObject(job, name)
	if err != nil {
		return err
	}
	defer r.Close() // read only
	if err := a.header(exportsFolder+job+"/"+name, r.Size()); err != nil {
		return err
	}
	_, err = io.Copy(a.tar, r)
	return err
}

// note keeps a record for the end.
func (a *archive) note(bucket, key string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return a.keep(bus.Entry{Bucket: bucket, Key: key, Value: value})
}

func (a *archive) keep(e bus.Entry) error {
	a.entries++
	return json.NewEncoder(a.state).Encode(e)
}

func (a *archive) grants(ctx context.Context) error {
	return a.Bus.Entries(ctx, bus.AuthRecords, a.keep)
}

func (a *archive) trail(ctx context.Context) error {
	return a.Bus.AuditEntries(ctx, a.keep)
}

func (a *archive) finish(context.Context) error {
	if err := json.NewEncoder(a.state).Encode(line{End: &a.entries}); err != nil {
		return err
	}
	size, err := a.state.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := a.header(stateFile, size); err != nil {
		return err
	}
	_, err = io.Copy(a.tar, io.NewSectionReader(a.state, 0, size))
	return err
}

// Errors of Restore.
var (
	ErrNotEmpty = errors.New("there is something already: a backup is restored where nothing is")
	ErrCutOff   = errors.New("the archive ends before its time: it was not written to its end, or cut off")
	ErrForeign  = errors.New("this is no archive of this server")
	// ErrNoEnd says that all there is was restored, and nothing says that this is all there was.
	ErrNoEnd = errors.New("the state of the archive has no end: it was cut off, or an earlier build wrote it")
)

// Restore puts an archive into a data folder that has nothing in it yet, and its state into the NATS at a
// URL, which knows no job yet, or where that is "" into the folder too. It succeeds only where it has read
// the archive to its end, with as many records as were written. After an error neither folder nor NATS is
// to be used, but for ErrNoEnd by who knows better. Errors: ErrNotEmpty, ErrCutOff, ErrForeign, ErrNoEnd.
func Restore(ctx context.Context, r io.Reader, data, nats string, access bus.Access) error {
	entries, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s", ErrNotEmpty, data)
	}
	to, err := newTarget(data)
	if err != nil {
		return err
	}
	defer to.root.Close() // nothing is written through it any more
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	archive := tar.NewReader(z)
	for {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return ErrCutOff // before the state
		case errors.Is(err, zstd.ErrMagicMismatch), errors.Is(err, tar.ErrHeader):
			return ErrForeign
		case err != nil:
			return err
		}
		if h.Name == stateFile {
			state := restoreState(ctx, archive, data, to.store, nats, access)
			if state != nil && !errors.Is(state, ErrNoEnd) {
				return state
			}
			return cmp.Or(ends(archive, z, r), state)
		}
		if err := to.put(h, archive); errors.Is(err, io.ErrUnexpectedEOF) {
			return ErrCutOff
		} else if err != nil {
			return err
		}
	}
}

// ends reads on behind the last file of an archive. What is there is the ends of the formats, with their
// checksums: those of the compression, and of the encryption where there is one.
func ends(archive *tar.Reader, z, r io.Reader) error {
	switch _, err := archive.Next(); {
	case err == nil:
		return fmt.Errorf("%w: it goes on behind %s", ErrForeign, stateFile)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ErrCutOff
	case !errors.Is(err, io.EOF):
		return err
	}
	for _, rest := range []io.Reader{z, r} {
		if _, err := io.Copy(io.Discard, rest); errors.Is(err, io.ErrUnexpectedEOF) {
			return ErrCutOff
		} else if err != nil {
			return err
		}
	}
	return nil
}

// target is the data folder that an archive is put into. Every file is made through root, which no
// name of an archive leads out of.
type target struct {
	root  *os.Root
	store *files.Local
}

func newTarget(data string) (target, error) {
	store, err := files.NewLocal(files.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		return target{}, err
	}
	root, err := os.OpenRoot(data)
	return target{root, store}, err
}

// put makes one file of an archive, durably. Errors: ErrForeign.
func (t target) put(h *tar.Header, r io.Reader) error {
	name, err := t.place(h)
	if err != nil {
		return fmt.Errorf("%w: it holds %.200q: %w", ErrForeign, h.Name, err)
	}
	folder := filepath.Dir(name)
	if err := t.root.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	f, err := t.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close(), t.syncFolder(folder))
}

// errPlace is what is wrong with a name that no backup of this server has.
var errPlace = errors.New("no backup has such a file")

// place is where a file of an archive goes in the data folder: a path without detours, to where this
// server keeps files of that kind. Errors: errPlace, files.ErrName.
func (t target) place(h *tar.Header) (string, error) {
	name, err := filepath.Localize(h.Name)
	if err != nil || h.Typeflag != tar.TypeReg {
		return "", errPlace
	}
	folder, rest, _ := strings.Cut(filepath.ToSlash(name), "/")
	switch folder + "/" {
	case exportsFolder:
		job, object, _ := strings.Cut(rest, "/")
		place, err := t.store.Place(job, object)
		return filepath.Join(files.Folder, place), err
	case recordsFolder:
		if rest != "" {
			return filepath.Join(dataset.Folder, filepath.FromSlash(rest)), nil
		}
	case filesFolder:
		if slices.Contains(beside, rest) {
			return rest, nil
		}
	}
	return "", errPlace
}

// syncFolder makes the names in a folder durable.
func (t target) syncFolder(name string) error {
	d, err := t.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// NATSFolder is where the embedded NATS lives in a data folder.
const NATSFolder = "nats"

func restoreState(ctx context.Context, r io.Reader, data string, exports *files.Local, nats string, access bus.Access) error {
	b, err := bus.Open(ctx, bus.Config{URL: nats, Replicas: bus.KeepReplicas, Access: access, StoreDir: filepath.Join(data, NATSFolder), Audit: &bus.AuditConfig{}, Files: exports, AcceptLoss: true})
	if err != nil {
		return err
	}
	defer b.Close()
	if jobs := b.Jobs.List(func(bus.Summary) bool { return true }); len(jobs) > 0 {
		return fmt.Errorf("%w: the NATS at %s knows %d jobs", ErrNotEmpty, nats, len(jobs))
	}
	now := time.Now()
	return restoreEntries(r, func(e bus.Entry) error { return b.Restore(ctx, e, now) })
}

// restoreEntries calls store with each entry of a state. Errors: ErrCutOff, ErrForeign, ErrNoEnd.
func restoreEntries(r io.Reader, store func(bus.Entry) error) error {
	lines := json.NewDecoder(r)
	for n := 0; ; n++ {
		var l line
		switch err := lines.Decode(&l); {
		case errors.Is(err, io.EOF):
			return ErrNoEnd
		case errors.Is(err, io.ErrUnexpectedEOF):
			return ErrCutOff
		case err != nil:
			return fmt.Errorf("%w: %w", ErrForeign, err)
		}
		if l.End == nil {
			if err := store(l.Entry); err != nil {
				return err
			}
			continue
		}
		switch {
		case *l.End > n:
			return ErrCutOff
		case *l.End < n || lines.More():
			return fmt.Errorf("%w: its state has more than %d records", ErrForeign, *l.End)
		}
		return nil
	}
}
