package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"ehi-server/shared/bus"
	"ehi-server/shared/files"
)

// contentsFile is an archive's last file: its table of contents, in lines of JSON. The first says which
// form the table has; then comes a line for each file before it, in their order, with its size and
// SHA-256; what was damaged where the backup was taken; how many records of each kind the state has; and
// last the seal, the SHA-256 of all lines before.
//
// So one hash stands for the whole archive: what is cut off, left out, added, moved or changed shows. It
// shows that this is what was written, not who wrote it: whoever can write archives can seal them. Keep
// them where nobody else writes, or the seal (which `backup` and `backup verify` print) somewhere else.
const contentsFile = "contents.ndjson"

// contentsFormat is the form of the table that this build writes.
const contentsFormat = 1

// mostOfTable is the most that a table takes beside its rows of files, and mostOfRow what each of those
// takes, in bytes.
const mostOfTable, mostOfRow = 16 << 20, 8 << 10

// row is a line of the table; each has one of these.
type row struct {
	Format int            `json:"format,omitempty"`
	Made   time.Time      `json:"made,omitzero"` // beside Format
	Name   string         `json:"name,omitempty"`
	Size   int64          `json:"size,omitempty"`   // beside Name, bytes
	SHA256 string         `json:"sha256,omitempty"` // beside Name
	Damage string         `json:"damage,omitempty"`
	Counts map[string]int `json:"counts,omitempty"`
	Seal   string         `json:"seal,omitempty"`
}

// Contents is what a table of contents says of an archive.
type Contents struct {
	// Made is when the archive was begun.
	Made time.Time
	// Files is how many files it has, Bytes how large they are together.
	Files int
	Bytes int64
	// Counts is how many records of each kind it has, by the names of buckets; AuditRecords for the trail.
	Counts map[string]int
	// Damage is what was missing or broken where the backup was taken: it is so in the archive too.
	Damage []string
	// Seal is the hash that stands for all of it, "" for an archive without a table.
	Seal string
}

// Records is how many records there are in all.
func (c Contents) Records() (n int) {
	for _, of := range c.Counts {
		n += of
	}
	return n
}

// table is a table of contents that is being written, or that is made of what is read.
type table struct {
	files []row
	rows  bytes.Buffer // as they are written
}

// add writes a line.
func (t *table) add(r row) {
	line, err := json.Marshal(r)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	t.rows.Write(append(line, '\n'))
}

// file notes a file, from its header, and what hashes its content.
func (t *table) file(name string, size int64, content []byte) {
	t.files = append(t.files, row{Name: name, Size: size, SHA256: hex.EncodeToString(content)})
}

// sealed is the whole table.
func (t *table) sealed(made time.Time, damage []string, counts map[string]int) []byte {
	t.add(row{Format: contentsFormat, Made: made.UTC()})
	for _, f := range t.files {
		t.add(f)
	}
	for _, what := range damage {
		t.add(row{Damage: what})
	}
	t.add(row{Counts: counts})
	t.add(row{Seal: sealOf(t.rows.Bytes())})
	return t.rows.Bytes()
}

func sealOf(rows []byte) string {
	sum := sha256.Sum256(rows)
	return hex.EncodeToString(sum[:])
}

// Errors of reading an archive.
var (
	ErrCutOff  = errors.New("the archive ends before its time: it was not written to its end, or cut off")
	ErrForeign = errors.New("this is no archive of this server")
	ErrChanged = errors.New("the archive is not what was written: it is damaged, or was changed")
	ErrNewer   = errors.New("a later version of this server wrote the archive")
	// ErrUnverified says that all there is was read, and nothing says that this is what was written.
	ErrUnverified = errors.New("the archive has no table of contents: an earlier build wrote it, or it was cut off")
)

// compare holds a table as an archive has it to what was read before it. Errors: ErrChanged, ErrNewer.
func (t *table) compare(text []byte) (c Contents, err error) {
	end := bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n') + 1
	lines, at := json.NewDecoder(bytes.NewReader(text)), 0
	for n := 0; ; n++ {
		var r row
		if err := lines.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return c, fmt.Errorf("%w: its table of contents: %w", ErrChanged, err)
		}
		switch {
		case n == 0 && r.Format > contentsFormat:
			return c, ErrNewer
		case n == 0:
			c.Made = r.Made
		case r.Name != "" && (at >= len(t.files) || t.files[at].Name != r.Name):
			return c, fmt.Errorf("%w: %.200s is missing, or not where it was", ErrChanged, r.Name)
		case r.Name != "" && (t.files[at].Size != r.Size || t.files[at].SHA256 != r.SHA256):
			return c, fmt.Errorf("%w: %.200s has another content", ErrChanged, r.Name)
		case r.Name != "":
			at++
			c.Files, c.Bytes = c.Files+1, c.Bytes+r.Size
		case r.Damage != "":
			c.Damage = append(c.Damage, r.Damage)
		case r.Counts != nil:
			c.Counts = r.Counts
		case r.Seal != "":
			c.Seal = r.Seal
		}
	}
	switch {
	case c.Seal == "" || c.Seal != sealOf(text[:end]):
		return c, fmt.Errorf("%w: its table of contents does not have the seal that it was closed with", ErrChanged)
	case at != len(t.files):
		return c, fmt.Errorf("%w: it has %.200s, which its table of contents does not", ErrChanged, t.files[at].Name)
	}
	return c, nil
}

// errPlace is what is wrong with a file that no backup of this server has.
var errPlace = errors.New("no backup has such a file")

// recordName is how the record store names its files, which lie in one folder.
var recordName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// plain reports whether this is a file that is stored as long as it is. Errors: errPlace.
func plain(h *tar.Header) error {
	if h.Typeflag != tar.TypeReg {
		return errPlace // a link, a folder, a device
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errPlace // a few bytes may stand for an exabyte of zeros
		}
	}
	return nil
}

// known reports whether a backup of this server has such a file beside its table: a plain one with the
// name of a file of its kind. Errors: errPlace, files.ErrName.
func known(h *tar.Header) error {
	if err := plain(h); err != nil {
		return err
	}
	folder, rest, _ := strings.Cut(h.Name, "/")
	switch folder + "/" {
	case exportsFolder:
		job, object, _ := strings.Cut(rest, "/")
		return files.Named(job, object)
	case recordsFolder:
		if recordName.MatchString(rest) {
			return nil
		}
	case filesFolder:
		if slices.Contains(beside, rest) {
			return nil
		}
	}
	if h.Name == stateFile {
		return nil
	}
	return errPlace
}

// read calls put with each file of an archive but its table, in their order and once, and holds what it read
// to the table. A file may be there twice where it is the same.
//
// Whatever put did is to be undone where it fails. Errors: those of put, ErrCutOff, ErrForeign,
// ErrChanged, ErrNewer; ErrUnverified after all else that can be looked at was right.
func read(r io.Reader, put func(h *tar.Header, r io.Reader) error) (c Contents, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return c, err
	}
	defer z.Close()
	archive, found := tar.NewReader(archived{z}), table{}
	has := map[string]int{} // where among the files of the table it is
	for {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return c, found.without(z)
		case errors.Is(err, zstd.ErrMagicMismatch) && len(found.files) == 0, errors.Is(err, tar.ErrHeader) && len(found.files) == 0:
			return c, ErrForeign
		case errors.Is(err, tar.ErrHeader):
			return c, fmt.Errorf("%w: %w", ErrChanged, err)
		case err != nil:
			return c, broken(err)
		}
		if h.Name == contentsFile {
			err = plain(h)
		} else {
			err = known(h)
		}
		if err != nil {
			return c, fmt.Errorf("%w: it holds %.200q: %w", ErrForeign, h.Name, err)
		}
		if h.Name == contentsFile {
			if most := mostOfTable + mostOfRow*int64(len(found.files)); h.Size > most {
				return c, fmt.Errorf("%w: its table of contents has %d bytes", ErrForeign, h.Size)
			}
			text, err := io.ReadAll(archive)
			if err != nil {
				return c, broken(err)
			}
			if c, err = found.compare(text); err != nil {
				return c, err
			}
			return c, ends(archive, z)
		}
		first, repeated := has[h.Name]
		sum := sha256.New()
		content := io.TeeReader(archive, sum)
		if !repeated { // a former build could put the files of an export twice
			if err := put(h, content); err != nil {
				return c, broken(err)
			}
			has[h.Name] = len(found.files)
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return c, broken(err)
		}
		found.file(h.Name, h.Size, sum.Sum(nil))
		if repeated && found.files[first].SHA256 != found.files[len(found.files)-1].SHA256 {
			return c, fmt.Errorf("%w: it holds %.200q twice, with different contents", ErrForeign, h.Name)
		}
	}
}

// without is what an archive without a table is: one of an earlier build ends with its state.
func (t *table) without(z io.Reader) error {
	if len(t.files) == 0 || t.files[len(t.files)-1].Name != stateFile {
		return ErrCutOff
	}
	if err := drained(z); err != nil {
		return err
	}
	return ErrUnverified
}

// archived reads the content of an archive: what fails is the archive, and not where it is put.
type archived struct{ io.Reader }

// Read implements io.Reader. Errors: io.EOF, or those that broken knows.
func (a archived) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, zstd.ErrMagicMismatch) {
		err = broken(err)
		if !errors.Is(err, ErrCutOff) {
			err = fmt.Errorf("%w: %w", ErrChanged, err)
		}
	}
	return n, err
}

// broken says what the unexpected end of an archive is.
func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrCutOff) {
		return fmt.Errorf("%w: %w", ErrCutOff, err)
	}
	return err
}

// ends reads on behind the last file of an archive. What is there is the ends of the formats, with their
// checksums: those of the compression, and of the encryption where there is one.
func ends(archive *tar.Reader, z io.Reader) error {
	switch _, err := archive.Next(); {
	case err == nil:
		return fmt.Errorf("%w: it goes on behind %s", ErrForeign, contentsFile)
	case !errors.Is(err, io.EOF):
		return broken(err)
	}
	return drained(z)
}

// drained reads to an end behind which nothing may be.
func drained(z io.Reader) error {
	n, err := io.Copy(io.Discard, archived{z})
	switch {
	case errors.Is(err, zstd.ErrMagicMismatch), err == nil && n > 0:
		return fmt.Errorf("%w: it goes on behind its end", ErrChanged)
	case err != nil:
		return broken(err)
	}
	return nil
}

// Verify reads a whole archive and holds it to its table of contents. Errors: as those of read.
func Verify(r io.Reader) (Contents, error) {
	var counts map[string]int
	c, err := read(r, func(h *tar.Header, r io.Reader) (err error) {
		if h.Name == stateFile {
			counts, err = count(r, func(bus.Entry) error { return nil })
		}
		return err
	})
	if err == nil {
		err = c.holds(counts)
	}
	return c, err
}

// holds compares the records that were read with those that the table tells.
func (c Contents) holds(counts map[string]int) error {
	if !maps.Equal(c.Counts, counts) {
		return fmt.Errorf("%w: it has the records %v, and its table of contents tells %v", ErrChanged, counts, c.Counts)
	}
	return nil
}

// count counts the records of a state, by their kind, and checks each.
func count(state io.Reader, check func(bus.Entry) error) (map[string]int, error) {
	counts := map[string]int{}
	err := restoreEntries(state, func(e bus.Entry) error { counts[e.Bucket]++; return check(e) })
	if errors.Is(err, errNoEnd) {
		err = nil // the table tells how many there have to be
	}
	return counts, err
}
