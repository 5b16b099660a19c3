// Package backup writes everything that a server stores into one archive, and restores the
// archive into an empty data folder. An archive is a tar file, compressed with Zstandard:
//
//	records/...           a checkpoint of the record store
//	blobs/<name>          the contents of documents that it names
//	files/<name>          files in the data folder itself: the sandbox client's keys
//	exports/<job>/<name>  the files that finished jobs name
//	state.ndjson          jobs, tasks, clients, accounts, keys, grants and the audit trail: one
//	                      bus.Entry per line; the last line has their number
//	contents.ndjson       the sealed table of contents with all hashes (see contentsFile).
//	                      It is the last file, so an archive that was cut off has none
//
// Unfinished exports are kept as requests; they run when the restored server starts. A backup
// does not fail because something is missing from a finished export. The table of contents lists
// what is missing.
package backup

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/native"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Parts are the sources of a backup.
type Parts struct {
	// Data is the data folder.
	Data string
	// Spool is the folder for the temporary file that collects the state. The file is as large
	// as the state and secret, and is removed at the end. Default: Data.
	Spool string
	Bus   *bus.Bus
	Files Objects
	// Records is the record store; nil if the server has none of its own.
	Records *dataset.Store
	// Log receives reports of damage. Default: none.
	Log *slog.Logger
}

// Objects reads the files of exports (files.Store).
type Objects interface {
	// Open opens an output. Errors: fs.ErrNotExist, files.ErrDamaged.
	Open(job string, e files.Extent) (files.Reader, error)
	// OpenObject opens a whole object. parts are the extents that the records say it contains.
	// Errors: fs.ErrNotExist, files.ErrDamaged.
	OpenObject(job, object string, parts []files.Extent) (files.Object, error)
}

const (
	recordsFolder = "records/"
	blobsFolder   = "blobs/"
	filesFolder   = "files/"
	exportsFolder = "exports/"
	stateFile     = "state.ndjson"
)

// SandboxKeys is the file in a data folder that contains the keys of the sandbox's client.
const SandboxKeys = "test_client_keys.json"

// beside lists the files directly in a data folder that a backup includes if they exist. An
// archive contains no others.
var beside = []string{SandboxKeys}

// Write writes the archive. It may run while the server works. After an error the archive has no
// table of contents, so it does not pass for a complete one.
func Write(ctx context.Context, w io.Writer, p Parts) (err error) {
	z, err := zstd.NewWriter(until{ctx, w}, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	// its size must be known before it is written
	state, remove, err := spool(cmp.Or(p.Spool, p.Data))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	a := &archive{
		Parts:  p,
		tar:    tar.NewWriter(z),
		state:  state,
		made:   time.Now(),
		counts: map[string]int{},
	}
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	for _, step := range []func(context.Context) error{
		a.records, a.beside, a.jobs, a.grants, a.trail, a.finish, a.contents,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := a.tar.Close(); err != nil {
		return err
	}
	return z.Close()
}

// until is a writer that fails once its context has ended.
type until struct {
	ctx context.Context //nolint:containedctx // of one call of Write
	to  io.Writer
}

// Write implements io.Writer.
func (u until) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.to.Write(p)
}

// spool opens a file for what a backup collects, including password hashes, keys and the audit
// trail. The file lies in the data folder or next to the archive, with mode 0600. If the system
// allows it, the file has no name while it is open, so that nothing is left if the process dies;
// otherwise remove removes it.
func spool(folder string) (f *os.File, remove func() error, err error) {
	if f, err = os.CreateTemp(folder, ".backup-*"); err != nil {
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

// archive is a backup that is being written.
type archive struct {
	Parts
	tar    *tar.Writer
	state  *os.File
	made   time.Time
	counts map[string]int // what the state contains
	damage []string
	table  table
}

// line is one line of the state: an entry, or the end.
type line struct {
	bus.Entry
	// End is the number of entries. Only the last line has it; it is nil in all others.
	End *int `json:"end,omitempty"`
}

// add adds a file with size bytes of r and lists it in the table of contents.
func (a *archive) add(name string, size int64, r io.Reader) error {
	h := tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: time.Now(), Typeflag: tar.TypeReg}
	if err := a.tar.WriteHeader(&h); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(a.tar, sum), r, size); err != nil {
		return fmt.Errorf("%s: %w", name, short(err))
	}
	a.table.file(name, size, sum.Sum(nil))
	return nil
}

// short turns an io.EOF into io.ErrUnexpectedEOF, because the file ended before its size was
// read.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// damaged records something that cannot be backed up as it was.
func (a *archive) damaged(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	a.damage = append(a.damage, what)
	a.Log.Error("something is missing or damaged; the backup lacks it", "what", what)
}

// copy adds a file from the disk.
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
	return a.add(name, info.Size(), f)
}

// records adds a checkpoint of the record store. It creates the checkpoint next to the store, so
// that its files can be linked, and reads all of it. If a file is damaged, it reports that, and
// still adds the files for the sake of the parts that are whole.
func (a *archive) records(ctx context.Context) (err error) {
	if a.Records == nil {
		return nil
	}
	dir, remove, err := a.Records.Checkpoint()
	if err != nil {
		return fmt.Errorf("checkpoint the record store: %w", err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := a.Records.Verify(ctx, dir); errors.Is(err, dataset.ErrDamaged) {
		a.damaged("%v", err)
	} else if err != nil {
		return fmt.Errorf("read the checkpoint of the record store: %w", err)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			// a store has no folders; it may be a separate disk, with a folder of the system
			if path != dir {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return a.copy(recordsFolder+filepath.ToSlash(rel), path)
	})
	return errors.Join(err, a.blobs(dir))
}

// blobs adds the contents of the documents in a checkpoint. A content whose hash differs from its
// name is damaged.
func (a *archive) blobs(dir string) error {
	err := a.Records.Blobs(dir, func(name, path string) error {
		err := a.copy(blobsFolder+name, path)
		if errors.Is(err, fs.ErrNotExist) {
			a.damaged("the content of a document is missing: %s", path)
			return nil
		}
		if err == nil && a.table.files[len(a.table.files)-1].SHA256 != name {
			a.damaged("the content of a document has changed: %s", path)
		}
		return err
	})
	if errors.Is(err, dataset.ErrDamaged) {
		a.damaged("%v", err)
		return nil
	}
	return err
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
			return nil // deleted, or about to be deleted
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
	broken, tasks, err := a.tasks(ctx, j)
	if err != nil {
		return err
	}
	all := objects(j, tasks)
	for i := range tasks {
		more, err := a.links(j, &tasks[i])
		if all = append(all, more...); err != nil {
			broken = append(broken, "lacks its index of documents")
		}
	}
	for _, object := range all {
		what, err := a.object(j.ID, object)
		if err != nil {
			return err
		}
		broken = append(broken, what...)
	}
	if there, err := a.stands(ctx, j, broken); err != nil || !there {
		return err
	}
	for _, t := range tasks {
		if err := a.note(bus.TaskRecords, fmt.Sprintf("%s.%d", j.ID, t.Number), t); err != nil {
			return err
		}
	}
	return a.note(bus.JobRecords, j.ID, j)
}

// tasks returns the tasks of a job and what is missing from them.
func (a *archive) tasks(
	ctx context.Context, j *ehi.Job,
) (broken []string, tasks []ehi.Task, err error) {
	for n := range j.Tasks {
		t, there, err := a.Bus.Tasks.Get(ctx, j.ID, n)
		switch {
		case err != nil:
			return nil, nil, err
		case there:
			tasks = append(tasks, t)
		}
		if !there || !t.Committed {
			broken = append(broken, fmt.Sprintf("lacks the record of part %d", n))
		}
	}
	return broken, tasks, nil
}

// stands reports whether to back up a job of which something may be missing or broken. A job
// that is being deleted is not backed up. If a job is unfinished, nothing counts as missing.
// Anything else is damage.
func (a *archive) stands(ctx context.Context, j *ehi.Job, broken []string) (bool, error) {
	if len(broken) == 0 || j.Status != ehi.Retrieved && j.Status != ehi.Approved {
		return true, nil
	}
	_, err := a.Bus.Jobs.Get(ctx, j.ID)
	if ehi.CodeOf(err) == ehi.NotFound {
		return false, nil
	}
	if err == nil {
		for _, what := range broken {
			a.damaged("export %s %s", j.ID, what)
		}
	}
	return true, err
}

// restart returns a requested job as if no work had been done on it.
func restart(j ehi.Job) ehi.Job {
	if j.Lane == ehi.Bulk {
		j.Tasks = 0
	}
	j.Done, j.Planned, j.Plans, j.Counts, j.Withheld, j.Bytes, j.Stored, j.Errors =
		nil, 0, 0, nil, nil, 0, 0, 0
	j.TransactionTime, j.Files, j.Documents, j.Held = time.Time{}, 0, 0, 0
	return j
}

// stored is a file that a job's records name, with the outputs or the attachment that it
// contains.
type stored struct {
	name  string
	parts []files.Extent
}

// objects returns the files that a job's records name.
func objects(j *ehi.Job, tasks []ehi.Task) (out []stored) {
	at := map[string]int{}
	for _, t := range tasks {
		for _, f := range t.Files {
			if f.Length == 0 {
				continue
			}
			n, seen := at[f.Object]
			if !seen {
				n = len(out)
				at[f.Object], out = n, append(out, stored{name: f.Object})
			}
			out[n].parts = append(out[n].parts, files.Extent{
				Object: f.Object, Offset: f.Offset, Length: f.Length, Sum: files.Sum(f.Sum),
			})
		}
	}
	for _, d := range j.Attachments {
		e := files.Extent{Object: d.Object, Length: d.Size, Sum: files.SHA1Sum(d.SHA1)}
		out = append(out, stored{d.Object, []files.Extent{e}})
	}
	return out
}

// links returns the documents of a task that are files of their own. If the task's index cannot be
// read, they are returned without their checksums, with an error.
func (a *archive) links(j *ehi.Job, t *ehi.Task) (out []stored, err error) {
	open := func(e files.Extent) (files.Reader, error) { return a.Files.Open(j.ID, e) }
	err = native.EachLink(t, open, func(e files.Extent) error {
		out = append(out, stored{e.Object, []files.Extent{e}})
		return nil
	})
	if err == nil {
		return out, nil
	}
	out = nil
	for n := range t.Links {
		out = append(out, stored{name: files.LinkName(t.Number, t.Attempt, n)})
	}
	return out, err
}

// object adds a file of a job in its current state, and reports what is missing or broken. It
// compares exactly the bytes that go into the archive with the checksums in the records. A
// partly broken file is kept for its intact parts; its checksum shows after a restore too which
// parts are broken.
func (a *archive) object(job string, o stored) (broken []string, err error) {
	r, err := a.Files.OpenObject(job, o.name, o.parts)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{"lacks its file " + o.name}, nil
	}
	if errors.Is(err, files.ErrDamaged) {
		return []string{"lacks its file " + o.name + ", which cannot be read"}, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close() // read only
	if err := a.add(exportsFolder+job+"/"+o.name, r.Size(), r); err != nil {
		return nil, err
	}
	for _, d := range r.Damaged() {
		broken = append(broken,
			fmt.Sprintf("has a damaged file: %s at %d is %s", d.Object, d.Offset, d.Kind))
	}
	return broken, nil
}

// note keeps a record for the state, which is added at the end.
func (a *archive) note(bucket, key string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return a.keep(bus.Entry{Bucket: bucket, Key: key, Value: value})
}

func (a *archive) keep(e bus.Entry) error {
	a.counts[e.Bucket]++
	return json.NewEncoder(a.state).Encode(e)
}

func (a *archive) grants(ctx context.Context) error {
	return a.Bus.Entries(ctx, bus.AuthRecords, a.keep)
}

func (a *archive) trail(ctx context.Context) error {
	return a.Bus.AuditEntries(ctx, a.keep)
}

func (a *archive) finish(context.Context) error {
	end := Contents{Counts: a.counts}.Records()
	if err := json.NewEncoder(a.state).Encode(line{End: &end}); err != nil {
		return err
	}
	size, err := a.state.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	return a.add(stateFile, size, io.NewSectionReader(a.state, 0, size))
}

// contents ends the archive with its table of contents.
func (a *archive) contents(context.Context) error {
	text := a.table.sealed(a.made, a.damage, a.counts)
	return a.add(contentsFile, int64(len(text)), bytes.NewReader(text))
}
