package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"ehi-server/shared/telemetry"
)

// fileList describes the files of the embedded NATS after its last orderly stop. It is stored
// beside the folder and deleted before NATS opens the folder. While the list exists nobody has
// written, so every difference is damage, whether or not the record would expire.
//
//	stop: NATS ends -> files are synced -> list is written
//	start: list is compared, nothing is touched -> list is removed -> NATS opens the folder
type fileList struct {
	Stopped time.Time `json:"stopped"`
	// Files holds the files of streams by their slash-separated paths relative to the folder.
	Files map[string]fileState `json:"files"`
}

// fileState describes a file.
type fileState struct {
	Size int64 `json:"size"`
	// Sum is the XXH3 of the content in hex; "" if there was no time to read the file.
	Sum string `json:"sum,omitempty"`
}

// streamsFolder is the folder of the streams within the folder of the embedded NATS.
const streamsFolder = "jetstream/$G/streams"

// listPath returns the path of the list for a folder of the embedded NATS.
func listPath(storeDir string) string { return filepath.Clean(storeDir) + ".files.json" }

// readFileList reads a list. It returns nil if there is none.
func readFileList(storeDir string) (*fileList, error) {
	data, err := readWhole(listPath(storeDir))
	if err != nil || data == nil {
		return nil, err
	}
	l := &fileList{}
	if err := json.Unmarshal(data, l); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", listPath(storeDir), err)
	}
	return l, nil
}

// write stores the list atomically.
func (l *fileList) write(storeDir string) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return writeWhole(listPath(storeDir), data)
}

// removeFileList deletes the list durably, even on a full disk.
func removeFileList(storeDir string) error {
	err := os.Remove(listPath(storeDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncAt(filepath.Dir(listPath(storeDir)))
}

// streamOf returns the stream of a path relative to the folder, or "".
func streamOf(name string) string {
	below, ok := strings.CutPrefix(name, streamsFolder+"/")
	if !ok {
		return ""
	}
	stream, _, _ := strings.Cut(below, "/")
	return stream
}

// isIndex reports whether NATS rebuilds a file from a stream's messages.
func isIndex(name string) bool {
	switch path.Base(name) {
	case "index.db", "thw.db", "sched.db", "sources.db":
		return true
	}
	return false
}

// isKept reports whether the list includes a file: messages, stream settings and the state of
// durable consumers.
func isKept(name string) bool {
	return streamOf(name) != "" && isOurs(streamOf(name)) && !strings.HasSuffix(name, ".tmp")
}

// findFiles finds all files of streams below a folder.
func findFiles(storeDir string) (map[string]fs.FileInfo, error) {
	found := map[string]fs.FileInfo{}
	root := filepath.Join(storeDir, filepath.FromSlash(streamsFolder))
	err := filepath.WalkDir(root, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		below, err := filepath.Rel(storeDir, at)
		if name := filepath.ToSlash(below); err == nil && isKept(name) {
			found[name], err = e.Info()
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return found, err
}

// sums computes checksums of files and reuses those of files that have not changed.
type sums struct {
	mu   sync.Mutex
	seen map[string]seenFile
}

type seenFile struct {
	size int64
	at   time.Time // modification time of the file
	sum  string
}

// settled is how old a modification time must be to prove that a file is unchanged: the
// timestamps of file systems have a resolution of milliseconds, of some of two seconds.
const settled = 3 * time.Second

// of returns the checksum of a file.
func (s *sums) of(ctx context.Context, file string, is fs.FileInfo) (string, error) {
	s.mu.Lock()
	was, ok := s.seen[file]
	s.mu.Unlock()
	if ok && was.size == is.Size() && was.at.Equal(is.ModTime()) {
		return was.sum, nil
	}
	begun := time.Now()
	sum, err := sumOf(ctx, file)
	if err == nil && begun.Sub(is.ModTime()) > settled {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.seen == nil {
			s.seen = map[string]seenFile{}
		}
		s.seen[file] = seenFile{is.Size(), is.ModTime(), sum}
	}
	return sum, err
}

// buffers are what files are read by: a start and a stop read each file of the folder.
var buffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

// sumOf reads a file. Errors: ctx's, too.
func sumOf(ctx context.Context, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() // nothing was written to it
	buf := buffers.Get().(*[1 << 20]byte)
	defer buffers.Put(buf)
	h := xxh3.New()
	for ctx.Err() == nil {
		n, err := f.Read(buf[:])
		_, _ = h.Write(buf[:n]) // never fails
		if errors.Is(err, io.EOF) {
			return fmt.Sprintf("%016x", h.Sum64()), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", ctx.Err()
}

// readers is how many files are read in parallel.
const readers = 4

// list lists a folder that nobody writes to. When ctx ends, it records only the sizes of the
// remaining files.
func (s *sums) list(ctx context.Context, storeDir string) (*fileList, error) {
	found, err := findFiles(storeDir)
	if err != nil {
		return nil, err
	}
	l := &fileList{Stopped: time.Now().UTC(), Files: map[string]fileState{}}
	var group errgroup.Group
	group.SetLimit(readers)
	var mu sync.Mutex
	for name, is := range found {
		group.Go(func() error {
			sum, err := s.of(ctx, filepath.Join(storeDir, filepath.FromSlash(name)), is)
			if err != nil && ctx.Err() == nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			l.Files[name] = fileState{is.Size(), sum}
			return nil
		})
	}
	return l, group.Wait()
}

// damagedFile is a file that differs from the list.
type damagedFile struct{ path, how string }

// unread is the prefix for a file that exists but that the disk fails to read.
const unread = "cannot be read"

// isUnread reports whether the file merely could not be read: it may be intact.
func (d damagedFile) isUnread() bool { return strings.HasPrefix(d.how, unread) }

// compare returns the files of a folder that differ from the list, by stream.
func (l *fileList) compare(
	ctx context.Context, s *sums, storeDir string,
) (map[string][]damagedFile, error) {
	found, err := findFiles(storeDir)
	if err != nil {
		return nil, err
	}
	damaged := map[string][]damagedFile{}
	var mu sync.Mutex
	tell := func(name, how string) {
		mu.Lock()
		defer mu.Unlock()
		stream, path := streamOf(name), filepath.Join(storeDir, filepath.FromSlash(name))
		damaged[stream] = append(damaged[stream], damagedFile{path, how})
	}
	var group errgroup.Group
	group.SetLimit(readers)
	for name, was := range l.Files {
		group.Go(func() error {
			is, there := found[name]
			how := ""
			if there {
				how = s.differs(ctx, filepath.Join(storeDir, filepath.FromSlash(name)), was, is)
			} else {
				how = "is gone"
			}
			if how != "" {
				tell(name, how)
			}
			return ctx.Err()
		})
	}
	for name := range found {
		if _, listed := l.Files[name]; !listed && path.Ext(name) == ".blk" {
			tell(name, "was not there")
		}
	}
	err = group.Wait()
	for _, of := range damaged {
		slices.SortFunc(of, func(a, b damagedFile) int { return strings.Compare(a.path, b.path) })
	}
	return damaged, err
}

// differs returns how a file differs from the list, or "".
func (s *sums) differs(ctx context.Context, file string, was fileState, is fs.FileInfo) string {
	switch {
	case !is.Mode().IsRegular():
		return "is no file any more"
	case is.Size() != was.Size:
		return fmt.Sprintf("has %d bytes instead of %d", is.Size(), was.Size)
	case was.Sum == "":
		return ""
	}
	switch sum, err := s.of(ctx, file, is); {
	case err != nil:
		return fmt.Sprintf("%s (%v)", unread, err)
	case sum != was.Sum:
		return "has other bytes"
	}
	return ""
}

// checkFiles compares the folder of the embedded NATS with its list before NATS opens it. It
// changes nothing unless the server may start, so that restoring a file repairs the state.
// Errors: ErrLost and ErrUnread, with the names of the files.
func (b *Bus) checkFiles(ctx context.Context) error {
	list, err := readFileList(b.cfg.StoreDir)
	if err != nil {
		b.cfg.Log.Error("the list of the state's files is damaged: what was lost since the last "+
			"stop is not known",
			"err", err)
	}
	if list == nil {
		return removeFileList(b.cfg.StoreDir)
	}
	damaged, err := list.compare(ctx, &b.sums, b.cfg.StoreDir)
	if err != nil {
		return err
	}
	lost := b.lostFiles(damaged)
	if err := b.acceptable(lost); err != nil {
		return err
	}
	if err := b.clear(damaged); err != nil {
		return err
	}
	if b.compared = lost == nil; !b.compared {
		// Keep the list until the server has started, so that what was accepted is not forgotten
		// earlier.
		return nil
	}
	return removeFileList(b.cfg.StoreDir)
}

// lostFiles returns ErrLost if some files are damaged for good, and ErrUnread if all of them may
// be intact.
func (b *Bus) lostFiles(damaged map[string][]damagedFile) error {
	var lost []string
	certain := false
	for _, stream := range slices.Sorted(maps.Keys(damaged)) {
		of := slices.DeleteFunc(slices.Clone(damaged[stream]), func(d damagedFile) bool {
			return mayGoFile(d.path)
		})
		if mayGo(stream) || len(of) == 0 {
			continue
		}
		said := told(of)
		lost = append(lost, called(stream)+": "+said)
		if !slices.ContainsFunc(of, func(d damagedFile) bool { return !d.isUnread() }) {
			b.cfg.Log.Error("a part of the state cannot be read", "of", called(stream), "files",
				said)
			continue
		}
		certain = true
		telemetry.StateLost.Inc()
		b.cfg.Log.Error("a part of the state is lost", "lost", called(stream), "files", said)
	}
	if len(lost) == 0 {
		return nil
	}
	if !certain {
		return unreadError(lost, b.cfg.StoreDir)
	}
	return fmt.Errorf("%w since the server was stopped: %s. Nothing was changed."+
		" Put what is named back as it was and start again, or restore a backup,"+
		" or keep a copy of %s and %s: what cannot be read is gone then",
		ErrLost, strings.Join(lost, "; "), b.cfg.StoreDir, acceptLoss)
}

// mayGoFile reports whether a stream is complete without a file: NATS rebuilds indexes, and
// consumers of the audit trail and of buckets hold nothing permanent.
func mayGoFile(name string) bool {
	return isIndex(name) || strings.Contains(filepath.ToSlash(name), "/obs/")
}

// mostNamed is how many files of a stream a message names.
const mostNamed = 3

// told lists files for a message.
func told(files []damagedFile) string {
	var all []string
	for _, d := range files[:min(mostNamed, len(files))] {
		all = append(all, d.path+" "+d.how)
	}
	if more := len(files) - mostNamed; more > 0 {
		all = append(all, fmt.Sprintf("and %d more files", more))
	}
	return strings.Join(all, ", ")
}

// called returns a name of a stream for people.
func called(stream string) string {
	if stream == auditStream {
		return "the audit trail"
	}
	return "bucket " + strings.TrimPrefix(stream, "KV_")
}

// clear removes files that NATS would trust or fail on: indexes, which it rebuilds. It sets
// aside streams that are created again, see mayGo.
func (b *Bus) clear(damaged map[string][]damagedFile) error {
	for stream, of := range damaged {
		whole := !slices.ContainsFunc(of, func(d damagedFile) bool { return !isIndex(d.path) })
		if mayGo(stream) && !whole {
			to := b.aside(stream)
			err := os.Rename(b.folderOf(stream), to)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("set a damaged stream aside: %w", err)
			}
			b.cfg.Log.Warn("a part of the state is lost, and is created again",
				"lost", called(stream), "files", told(of), "in", to)
			continue
		}
		b.cfg.Log.Warn("NATS creates the indexes of a part of the state again",
			"of", called(stream), "because", told(of))
		if err := removeIndexes(filepath.Join(b.folderOf(stream), "msgs")); err != nil {
			return err
		}
	}
	return nil
}

// removeIndexes deletes the files that NATS rebuilds from the messages in a folder.
func removeIndexes(dir string) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range names {
		if err == nil && isIndex(e.Name()) {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	return err
}

// listTime bounds the reading of files at a stop. For files that are not read in time only the
// size is recorded.
const listTime = 3 * time.Second

// listFiles writes the list for a folder after an orderly stop of NATS.
func (b *Bus) listFiles() error {
	ctx, cancel := context.WithTimeout(context.Background(), listTime)
	defer cancel()
	l, err := b.sums.list(ctx, b.cfg.StoreDir)
	if err != nil {
		return err
	}
	return l.write(b.cfg.StoreDir)
}
