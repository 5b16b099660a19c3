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

// fileList says what the files of the embedded NATS were when it was stopped in good order. It
// lies beside the folder, and is removed before NATS opens the folder: while there is one,
// nobody has written since, so that whatever differs from it is damage, be it to a record that
// expires or to one that lasts.
//
//	stop: NATS ends -> files are synced -> list is written
//	start: list is compared, nothing is touched -> list is removed -> NATS opens the folder
type fileList struct {
	Stopped time.Time `json:"stopped"`
	// Files are the files of streams, by their paths below the folder, with slashes.
	Files map[string]fileState `json:"files"`
}

// fileState is what a file was.
type fileState struct {
	Size int64 `json:"size"`
	// Sum is the XXH3 of its bytes in hex; "" where there was no time to read it.
	Sum string `json:"sum,omitempty"`
}

// streamsFolder is where the embedded NATS keeps its streams, below its folder.
const streamsFolder = "jetstream/$G/streams"

// listPath is where the list of a folder of the embedded NATS is.
func listPath(storeDir string) string { return filepath.Clean(storeDir) + ".files.json" }

// readFileList reads a list; nil where there is none.
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

// write stores the list whole.
func (l *fileList) write(storeDir string) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return writeWhole(listPath(storeDir), data)
}

// removeFileList removes the list for good, which a full disk does not prevent.
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

// streamOf is the stream whose file a path below the folder is; "" for none.
func streamOf(name string) string {
	below, ok := strings.CutPrefix(name, streamsFolder+"/")
	if !ok {
		return ""
	}
	stream, _, _ := strings.Cut(below, "/")
	return stream
}

// isIndex tells the files that NATS makes anew of a stream's messages.
func isIndex(name string) bool {
	switch path.Base(name) {
	case "index.db", "thw.db", "sched.db", "sources.db":
		return true
	}
	return false
}

// isKept tells the files of which a list is made: those of messages, of what a stream is, and of
// what its durable consumers have seen.
func isKept(name string) bool {
	return streamOf(name) != "" && isOurs(streamOf(name)) && !strings.HasSuffix(name, ".tmp")
}

// findFiles is all files of streams below a folder.
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

// sums reads files, and knows those again that have not changed since.
type sums struct {
	mu   sync.Mutex
	seen map[string]seenFile
}

type seenFile struct {
	size int64
	at   time.Time // when the file was changed last
	sum  string
}

// settled is how long a file has to be unchanged for its time to tell that it still is: the
// clocks of file systems tick every few milliseconds, some every two seconds.
const settled = 3 * time.Second

// of is the sum of a file.
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

// readers is how many files are read at once.
const readers = 4

// list makes the list of a folder that nobody writes to. Of what ctx leaves no time to read it
// has the sizes.
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

// damagedFile is a file that is not as it was left.
type damagedFile struct{ path, how string }

// unread begins how a file is that is there, and that the disk does not give.
const unread = "cannot be read"

// isUnread reports whether that is all that is known of a file: it may be whole.
func (d damagedFile) isUnread() bool { return strings.HasPrefix(d.how, unread) }

// compare says which files of a folder are not as they were left, by their streams.
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

// differs says how a file is not as it was left; "" where it is.
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

// checkFiles compares the folder of the embedded NATS with its list before NATS opens it, and
// touches nothing until it knows that the server may start: a file that is given back makes the
// state whole again. Errors: ErrLost and ErrUnread, naming the files.
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
		// the list stays until the server has started: what was accepted is not forgotten before
		return nil
	}
	return removeFileList(b.cfg.StoreDir)
}

// lostFiles is ErrLost where files are damaged that nothing mends, and ErrUnread where none is
// known to be.
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

// mayGoFile tells the files of a stream without which it is whole: NATS makes its indexes anew,
// and readers of the audit trail and of records keep nothing that lasts.
func mayGoFile(name string) bool {
	return isIndex(name) || strings.Contains(filepath.ToSlash(name), "/obs/")
}

// mostNamed is how many files of a stream a message names.
const mostNamed = 3

// told is files for people.
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

// called is a stream for people.
func called(stream string) string {
	if stream == auditStream {
		return "the audit trail"
	}
	return "bucket " + strings.TrimPrefix(stream, "KV_")
}

// clear takes out of NATS' way what it would trust or stumble over. Its indexes are made anew. A
// stream that makes itself anew, as mayGo says, is set aside.
func (b *Bus) clear(damaged map[string][]damagedFile) error {
	for stream, of := range damaged {
		whole := !slices.ContainsFunc(of, func(d damagedFile) bool { return !isIndex(d.path) })
		if mayGo(stream) && !whole {
			to := b.aside(stream)
			err := os.Rename(b.folderOf(stream), to)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("set a damaged stream aside: %w", err)
			}
			b.cfg.Log.Warn("a part of the state is lost that is made anew by itself",
				"lost", called(stream), "files", told(of), "in", to)
			continue
		}
		b.cfg.Log.Warn("NATS makes the indexes of a part of the state anew", "of", called(stream),
			"because", told(of))
		if err := removeIndexes(filepath.Join(b.folderOf(stream), "msgs")); err != nil {
			return err
		}
	}
	return nil
}

// removeIndexes removes what NATS makes anew of the messages in a folder.
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

// listTime bounds how long a stop reads files. Of what it has not read then only the size is known.
const listTime = 3 * time.Second

// listFiles writes the list of a folder that NATS has left in good order.
func (b *Bus) listFiles() error {
	ctx, cancel := context.WithTimeout(context.Background(), listTime)
	defer cancel()
	l, err := b.sums.list(ctx, b.cfg.StoreDir)
	if err != nil {
		return err
	}
	return l.write(b.cfg.StoreDir)
}
