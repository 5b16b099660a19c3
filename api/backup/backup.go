// Package backup writes everything that a server keeps into one archive, and puts it back into an empty data folder. It is a tar, compressed by
// Zstandard:
//
//	records/...           a checkpoint of the record store
//	files/<name>          the files beside the folders: the sandbox client's keys
//	exports/<job>/<name>  the files that finished jobs name
//	state.ndjson          jobs, tasks, clients, accounts, keys, grants, the audit trail, a bus.Entry a line;
//	                      its last line says how many there are
//	contents.ndjson       the table of contents with the hashes of all that, sealed (see contentsFile).
//	                      It is the archive's last file, so that one that was cut off has none
//
// Exports that were not finished are kept as requests, and are made when the restored server starts. What
// is missing of finished ones does not keep the rest from being backed up; the table says so.
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
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Parts are what a backup is taken of.
type Parts struct {
	// Data is the data folder.
	Data string
	// Spool is the folder of a file in which the state is gathered: as large as the state, secret, and gone in the end.
	// Default: Data.
	Spool string
	Bus   *bus.Bus
	Files Objects
	// Records is the record store; nil where the server has none of its own.
	Records *dataset.Store
	// Log is told of damage. Default: nobody.
	Log *slog.Logger
}

// Objects is the files of exports, as far as a backup reads them (files.Store).
type Objects interface {
	// OpenObject opens an object whole. parts are what records say lies in it. Errors:
	// fs.ErrNotExist, files.ErrDamaged.
	OpenObject(job, object string, parts []files.Extent) (files.Object, error)
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

// Write writes the archive. It may be called while the server works. After an error the archive has no
// table of contents, and nobody takes it for a whole one.
func Write(ctx context.Context, w io.Writer, p Parts) (err error) {
	z, err := zstd.NewWriter(until{ctx, w}, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	state, remove, err := spool(cmp.Or(p.Spool, p.Data)) // its size has to be known before it is written
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	a := &archive{Parts: p, tar: tar.NewWriter(z), state: state, made: time.Now(), counts: map[string]int{}}
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

// until writes until a context ends.
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

// spool opens a file for what a backup collects: passwords' hashes, keys and the audit trail among it.
// It lies in the data folder, or where the archive will, with mode 0600. Where the system allows it,
// the file has no name while it is open, so that a process that dies leaves nothing; remove does
// the rest.
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

// archive is one backup that is being written.
type archive struct {
	Parts
	tar    *tar.Writer
	state  *os.File
	made   time.Time
	counts map[string]int // what state has
	damage []string
	table  table
}

// line is one of the state: an entry, or its end.
type line struct {
	bus.Entry
	// End is how many entries there are, in the last line; nil in every other.
	End *int `json:"end,omitempty"`
}

// add adds a file with size bytes of r, and notes it in the table of contents.
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

// short says that a file which ends before its size was read is no end of anything.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// damaged notes something that cannot be backed up as it was.
func (a *archive) damaged(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	a.damage = append(a.damage, what)
	a.Log.Error("the backup lacks something that is missing or broken here", "what", what)
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
	return a.add(name, info.Size(), f)
}

// records takes a checkpoint, beside the store so that its files can be linked, reads it whole, and adds its
// files. Where one of them is damaged, that is said, and they are added all the same for what is whole of them.
func (a *archive) records(ctx context.Context) (err error) {
	if a.Records == nil {
		return nil
	}
	dir, remove, err := a.Records.Checkpoint()
	if err != nil {
		return fmt.Errorf("checkpoint of the records: %w", err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := a.Records.Verify(ctx, dir); errors.Is(err, dataset.ErrDamaged) {
		a.damaged("%v", err)
	} else if err != nil {
		return fmt.Errorf("read the checkpoint of the records: %w", err)
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if path != dir { // a store has no folders; it may be a disk of its own, with one of the system's
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
	broken, tasks, err := a.tasks(ctx, j)
	if err != nil {
		return err
	}
	for _, object := range objects(j, tasks) {
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

// tasks are those of a job, and what is missing of them.
func (a *archive) tasks(ctx context.Context, j *ehi.Job) (broken []string, tasks []ehi.Task, err error) {
	for n := range j.Tasks {
		t, there, err := a.Bus.Tasks.Get(ctx, j.ID, n)
		switch {
		case err != nil:
			return nil, nil, err
		case there:
			tasks = append(tasks, t)
		}
		if !there || !t.Committed {
			broken = append(broken, fmt.Sprintf("lacks the record of its part %d", n))
		}
	}
	return broken, tasks, nil
}

// stands reports whether a job is to be backed up, of which something may be missing or broken: a job that
// is being deleted is not, of one that is not finished nothing is missing, and anything else is damage.
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

// restart is a requested job as if nothing had been done of it yet.
func restart(j ehi.Job) ehi.Job {
	if j.Lane == ehi.Bulk {
		j.Tasks = 0
	}
	j.Done, j.Planned, j.Plans, j.Counts, j.Withheld, j.Bytes, j.Stored, j.Errors = nil, 0, 0, nil, nil, 0, 0, 0
	j.TransactionTime = time.Time{}
	return j
}

// stored is a file that a job's records name, with the outputs, or the attachment, that lie in it.
type stored struct {
	name  string
	parts []files.Extent
}

// objects are the files that a job's records name.
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

// object adds a file of a job as it is there, and says what is missing or broken of it. The bytes that
// go into the archive are those that are held to the sums in the records. A file in which something is
// broken is kept for what is whole in it; what is broken is found broken by its sum there too.
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
		broken = append(broken, fmt.Sprintf("has a damaged file: %s at %d is %s", d.Object, d.Offset, d.Kind))
	}
	return broken, nil
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

// contents closes the archive with its table of contents.
func (a *archive) contents(context.Context) error {
	text := a.table.sealed(a.made, a.damage, a.counts)
	return a.add(contentsFile, int64(len(text)), bytes.NewReader(text))
}
