package backup

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ehi-server/auth"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/dataset/blobs"
	"ehi-server/shared/bus"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// Errors of Restore, besides those of reading an archive.
var (
	ErrNotEmpty = errors.New("the place to restore to is not empty")
	// ErrNoRoom means that the disk has less room than the archive needs.
	ErrNoRoom = errors.New("there is not enough room on the disk")
	errNoEnd  = errors.New("the state in the archive has no end")
)

// To describes where and how to restore a backup.
type To struct {
	// Data is the data folder; it is created if it does not exist.
	Data string
	// NATS is the URL of an external NATS that receives the state. It must be empty or contain
	// part of an unfinished restore. "" stands for the embedded NATS, whose files lie in Data.
	NATS   string
	Access bus.Access
	// Replace allows a restore into a Data folder that is not empty. What it contained is kept
	// in a folder inside it.
	Replace bool
	// Unverified accepts an archive without a table of contents too.
	Unverified bool
}

// Reading calls f with an archive, from its beginning each time.
type Reading func(f func(r io.Reader) error) error

// Restore restores an archive into a data folder, and its state into NATS.
//
// It reads the archive twice. The first time it writes nothing: it compares the whole archive
// with its table of contents and checks that the disk has enough room. The second time it never
// writes more than that. Everything goes into a stage first (see stage), is compared with the
// table again and synced. Only then does the stage become the data folder.
//
// So if a restore ends early, by an error or a kill, the data folder is either unchanged or
// complete. Until it is complete, Unfinished reports that the folder must not be used, and
// bus.ErrUnfinished that an external NATS must not be used. Errors: ErrNotEmpty, ErrRestoring,
// bus.ErrRestoring, ErrNoRoom, and those of read.
func Restore(ctx context.Context, archive Reading, to To) (c Contents, err error) {
	if to.NATS != "" {
		release, err := bus.RestoreAlone(ctx, to.NATS, to.Access)
		if err != nil {
			return c, err
		}
		defer release()
	}
	s, err := newStage(to.Data, to.Replace)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if c, err = s.unpack(archive, to.Unverified); err != nil {
		return c, err
	}
	if err := s.loadState(ctx, to); err != nil {
		return c, err
	}
	if err := s.commit(); err != nil {
		return c, err
	}
	return c, to.end(ctx)
}

// unpack unpacks an archive into the stage. The state goes into a file until it is verified.
func (s *stage) unpack(archive Reading, unverified bool) (c Contents, err error) {
	to, err := newTarget(s.dir)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, to.root.Close()) }()
	passed := func(err error) error {
		if errors.Is(err, ErrUnverified) && unverified {
			return nil
		}
		return err
	}
	promised, err := to.survey(archive)
	if err = passed(err); err != nil {
		return c, err
	}
	to.left = promised.Bytes
	err = archive(func(r io.Reader) (err error) {
		c, err = read(r, to.put)
		return err
	})
	if err = passed(err); err == nil && c.Seal != promised.Seal {
		err = fmt.Errorf("%w while it was restored", ErrChanged)
	}
	if err != nil {
		return c, err
	}
	state, err := to.root.Open(stateFile)
	if err != nil {
		return c, fmt.Errorf("%w: it has no state", ErrForeign)
	}
	defer state.Close() // read only
	counts, err := count(state, readable(len(c.Damage) > 0))
	if err == nil && c.Seal != "" {
		err = c.holds(counts)
	}
	c.Counts = counts
	return c, err
}

// loadState loads the state into NATS.
func (s *stage) loadState(ctx context.Context, to To) error {
	store, err := openFiles(s.dir)
	if err != nil {
		return err
	}
	state, err := os.Open(filepath.Join(s.dir, stateFile))
	if err != nil {
		return err
	}
	b, err := bus.Open(ctx, bus.Config{
		Flags: bus.Flags{
			URL:        to.NATS,
			Replicas:   bus.KeepReplicas,
			Dial:       bus.Dial{Access: to.Access},
			AcceptLoss: true,
		},
		StoreDir: filepath.Join(s.dir, NATSFolder),
		Audit:    &bus.AuditConfig{},
		Files:    store,
		Restore:  to.NATS != "",
	})
	if errors.Is(err, bus.ErrHolds) {
		err = fmt.Errorf("%w: %w", ErrNotEmpty, err)
	}
	if err != nil {
		return errors.Join(err, state.Close())
	}
	err = load(ctx, b, state)
	b.Close()
	return errors.Join(err, state.Close(), os.Remove(state.Name()))
}

func load(ctx context.Context, b *bus.Bus, state io.Reader) error {
	now := time.Now()
	err := restoreEntries(state, func(e bus.Entry) error { return b.Restore(ctx, e, now) })
	if errors.Is(err, errNoEnd) {
		err = nil // the archive was accepted without a table of contents
	}
	if err != nil {
		return err
	}
	return b.Restored(ctx)
}

// end opens an external NATS together with the data folder that is now in place, which completes
// the restore. A server does the same when it starts.
func (to To) end(ctx context.Context) error {
	if to.NATS == "" {
		return nil
	}
	store, err := openFiles(to.Data)
	if err != nil {
		return err
	}
	b, err := bus.Open(ctx, bus.Config{
		Flags: bus.Flags{
			URL:      to.NATS,
			Replicas: bus.KeepReplicas,
			Dial:     bus.Dial{Access: to.Access},
		},
		Audit: &bus.AuditConfig{},
		Files: store,
	})
	if err != nil {
		return fmt.Errorf("everything is restored, but NATS may not have recorded that; start "+
			"the server: %w", err)
	}
	b.Close()
	return nil
}

// openFiles opens the export files of a data folder. They are on a disk, because a restore does not
// write them through a files.Store: that gives objects names of its own and syncs each, but a
// restore keeps their names, syncs all files together, and moves the whole folder into place.
func openFiles(data string) (files.Store, error) {
	return local.Open(local.Config{Root: filepath.Join(data, files.Folder)})
}

// room tells how many bytes can still be written (files.Store).
type room interface {
	Free() (int64, error)
}

// target is the data folder into which an archive is restored. All files are created through
// root, so no name in an archive leads out of it.
type target struct {
	root *os.Root
	room room
	left int64 // how many more bytes may be written
}

func newTarget(data string) (*target, error) {
	store, err := openFiles(data)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(data)
	return &target{root: root, room: store}, err
}

// survey reads a whole archive and writes nothing. The state counts twice, as a file and in
// NATS. Errors: ErrNoRoom as soon as the room cannot suffice; those of read.
func (t *target) survey(archive Reading) (c Contents, err error) {
	free, err := t.room.Free()
	if err != nil {
		return c, err
	}
	bytes, needed := int64(0), int64(0)
	err = archive(func(r io.Reader) (err error) {
		c, err = read(r, func(h *tar.Header, _ io.Reader) error {
			if _, err := t.place(h); err != nil {
				return fmt.Errorf("%w: it contains %.200q: %w", ErrForeign, h.Name, err)
			}
			bytes, needed = bytes+h.Size, needed+h.Size
			if h.Name == stateFile {
				needed += h.Size
			}
			if needed > free {
				return fmt.Errorf("%w: %d bytes are free, and the archive needs at least %d",
					ErrNoRoom, free, needed)
			}
			return nil
		})
		return err
	})
	c.Bytes = bytes
	return c, err
}

// put writes one file of an archive. Errors: ErrForeign.
func (t *target) put(h *tar.Header, r io.Reader) error {
	name, err := t.place(h)
	if err != nil {
		return fmt.Errorf("%w: it contains %.200q: %w", ErrForeign, h.Name, err)
	}
	if t.left -= h.Size; t.left < 0 {
		return fmt.Errorf("%w: it has more data than when it was checked", ErrChanged)
	}
	folder := filepath.Dir(name)
	if err := t.root.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	mode := fs.FileMode(0o600)
	if strings.HasPrefix(h.Name, blobsFolder) {
		mode = blobs.Mode
	}
	f, err := t.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// place returns the path of a file of an archive in the data folder: a clean path to where this
// server keeps files of that kind. Errors: errPlace, files.ErrName.
func (t *target) place(h *tar.Header) (string, error) {
	name, err := filepath.Localize(h.Name)
	if err != nil {
		return "", errPlace
	}
	if err := known(h); err != nil {
		return "", err
	}
	folder, rest, _ := strings.Cut(h.Name, "/")
	switch folder + "/" {
	case exportsFolder:
		job, object, _ := strings.Cut(rest, "/")
		place, err := local.Place(job, object)
		return filepath.Join(files.Folder, place), err
	case recordsFolder:
		return filepath.Join(dataset.Folder, rest), nil
	case blobsFolder:
		blob, err := blobs.ParseName(rest)
		return blobs.In(dataset.BlobFolder).Path(blob), err
	case filesFolder:
		return rest, nil
	}
	return name, nil // the state, which a restore removes once it has been read
}

// NATSFolder is the folder of the embedded NATS in a data folder.
const NATSFolder = "nats"

// mostOfEntry is the size limit of an entry of a state, in bytes: that of one NATS message, as
// JSON.
const mostOfEntry = 32 << 20

// readable returns a check that this build can read an entry. If the archive has damage,
// unreadable entries are accepted, because they may be the damaged ones.
func readable(broken bool) func(e bus.Entry) error {
	return func(e bus.Entry) error {
		if broken {
			return nil
		}
		err := e.Check()
		if e.Bucket == bus.AuthRecords {
			err = auth.CheckRecord(e.Key, e.Value)
		}
		if err != nil {
			return fmt.Errorf("%w: it contains an unreadable record: %w", ErrForeign, err)
		}
		return nil
	}
}

// restoreEntries calls store with each entry of a state. Errors: ErrCutOff, ErrForeign, errNoEnd.
func restoreEntries(r io.Reader, store func(bus.Entry) error) error {
	bound := &io.LimitedReader{R: r}
	lines := json.NewDecoder(bound)
	for n := 0; ; n++ {
		bound.N = mostOfEntry
		var l line
		switch err := lines.Decode(&l); {
		case errors.Is(err, io.EOF):
			return errNoEnd
		case errors.Is(err, io.ErrUnexpectedEOF) && bound.N <= 0:
			return fmt.Errorf("%w: a record has more than %d bytes", ErrForeign, mostOfEntry)
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
