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

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/shared/bus"
	"ehi-server/shared/files"
)

// contentsFile is the last file of an archive: its table of contents, as lines of JSON. The
// first line has the format of the table. A line follows for each file before it, in order, with
// its size and SHA-256. Then come the damage that was found during the backup, and the number of
// records of each kind in the state. The last line is the seal: the SHA-256 of all lines before
// it.
//
// So one hash covers the whole archive and reveals anything that is cut off, left out, added,
// moved or changed. It proves that the archive is unchanged, not who wrote it: anyone who can
// write archives can seal them. Keep archives where nobody else can write, or keep the seal
// (which `backup` and `backup verify` print) elsewhere.
const contentsFile = "contents.ndjson"

// contentsFormat is the format of the table that this build writes.
const contentsFormat = 1

// mostOfTable is the size limit of a table without its rows of files, and mostOfRow that of each
// row, in bytes.
const mostOfTable, mostOfRow = 16 << 20, 8 << 10

// row is a line of the table. Each line has one of these fields.
type row struct {
	Format int            `json:"format,omitempty"`
	Made   time.Time      `json:"made,omitzero"` // with Format
	Name   string         `json:"name,omitempty"`
	Size   int64          `json:"size,omitempty"`   // with Name, in bytes
	SHA256 string         `json:"sha256,omitempty"` // with Name
	Damage string         `json:"damage,omitempty"`
	Counts map[string]int `json:"counts,omitempty"`
	Seal   string         `json:"seal,omitempty"`
}

// Contents describes an archive, according to its table of contents.
type Contents struct {
	// Made is when the backup started.
	Made time.Time
	// Files is the number of files, Bytes their total size.
	Files int
	Bytes int64
	// Counts is the number of records of each kind, by the name of their bucket; AuditRecords is
	// the kind of the audit trail.
	Counts map[string]int
	// Damage lists what was missing or broken when the backup was made. It is missing or broken
	// in the archive too.
	Damage []string
	// Seal is the hash that covers the whole archive; "" for an archive without a table of
	// contents.
	Seal string
}

// Records returns the total number of records.
func (c Contents) Records() (n int) {
	for _, of := range c.Counts {
		n += of
	}
	return n
}

// table is a table of contents that is being written, or rebuilt from an archive that is being
// read.
type table struct {
	files []row
	rows  bytes.Buffer // as written
}

// add writes a line.
func (t *table) add(r row) {
	line, err := json.Marshal(r)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	t.rows.Write(append(line, '\n'))
}

// file adds a row for a file, from its header and the hash of its content.
func (t *table) file(name string, size int64, content []byte) {
	t.files = append(t.files, row{Name: name, Size: size, SHA256: hex.EncodeToString(content)})
}

// sealed returns the whole table.
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
	ErrCutOff = errors.New(
		"the archive is incomplete: it was cut off, or its backup did not finish")
	ErrForeign = errors.New("this is not an archive of this server")
	ErrChanged = errors.New("the archive was damaged or changed after it was written")
	ErrNewer   = errors.New("the archive was written by a later version of this server")
	// ErrUnverified means that the whole archive was read, but nothing proves that it is what
	// was written.
	ErrUnverified = errors.New(
		"the archive has no table of contents: an earlier build wrote it, or it was cut off")
)

// compare compares the table in an archive with the files that were read before it. Errors:
// ErrChanged, ErrNewer.
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
			return c, fmt.Errorf("%w: %.200s is missing or in another place", ErrChanged, r.Name)
		case r.Name != "" && (t.files[at].Size != r.Size || t.files[at].SHA256 != r.SHA256):
			return c, fmt.Errorf("%w: the content of %.200s differs", ErrChanged, r.Name)
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
		return c, fmt.Errorf("%w: the seal of its table of contents does not match", ErrChanged)
	case at != len(t.files):
		return c,
			fmt.Errorf("%w: its table of contents does not list %.200s", ErrChanged,
				t.files[at].Name)
	}
	return c, nil
}

// errPlace means that a file does not belong in a backup of this server.
var errPlace = errors.New("backups do not contain such a file")

// recordName matches the names of the record store's files, which lie in one folder.
var recordName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// plain checks that a file is a regular one that is stored in full. Errors: errPlace.
func plain(h *tar.Header) error {
	if h.Typeflag != tar.TypeReg {
		return errPlace // a link, a folder or a device
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errPlace // a few bytes could stand for an exabyte of zeros
		}
	}
	return nil
}

// known checks that a file can occur in a backup of this server, apart from the table of
// contents: a regular file with a name that its kind allows. Errors: errPlace, files.ErrName.
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
	case blobsFolder:
		if _, err := blobs.ParseName(rest); err == nil {
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

// read calls put once with each file of an archive except its table of contents, in order, and
// compares what it read with the table. A file may occur twice with the same content.
//
// If read fails, the caller must undo what put did. Errors: those of put, ErrCutOff, ErrForeign,
// ErrChanged, ErrNewer; ErrUnverified if all other checks passed.
func read(r io.Reader, put func(h *tar.Header, r io.Reader) error) (c Contents, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return c, err
	}
	defer z.Close()
	archive, found := tar.NewReader(archived{z}), table{}
	has := map[string]int{} // index of each file in the table
	for {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return c, found.without(z)
		case errors.Is(err, zstd.ErrMagicMismatch) &&
			len(found.files) == 0, errors.Is(err, tar.ErrHeader) && len(found.files) == 0:
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
			return c, fmt.Errorf("%w: it contains %.200q: %w", ErrForeign, h.Name, err)
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
		if !repeated { // an earlier build could store the files of an export twice
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
			return c,
				fmt.Errorf("%w: it contains %.200q twice, with different content", ErrForeign,
					h.Name)
		}
	}
}

// without checks an archive without a table of contents: one of an earlier build, which ends
// with its state.
func (t *table) without(z io.Reader) error {
	if len(t.files) == 0 || t.files[len(t.files)-1].Name != stateFile {
		return ErrCutOff
	}
	if err := drained(z); err != nil {
		return err
	}
	return ErrUnverified
}

// archived reads an archive. Its errors are faults of the archive, not of the place it is
// restored to.
type archived struct{ io.Reader }

// Read implements io.Reader. Errors: io.EOF and those of broken.
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

// broken names the error of an archive that ends unexpectedly.
func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrCutOff) {
		return fmt.Errorf("%w: %w", ErrCutOff, err)
	}
	return err
}

// ends reads the rest of an archive behind its last file. Only the ends of the formats may
// follow, with their checksums: of the compression, and of the encryption if there is one.
func ends(archive *tar.Reader, z io.Reader) error {
	switch _, err := archive.Next(); {
	case err == nil:
		return fmt.Errorf("%w: data follows %s", ErrForeign, contentsFile)
	case !errors.Is(err, io.EOF):
		return broken(err)
	}
	return drained(z)
}

// drained checks that nothing follows.
func drained(z io.Reader) error {
	n, err := io.Copy(io.Discard, archived{z})
	switch {
	case errors.Is(err, zstd.ErrMagicMismatch), err == nil && n > 0:
		return fmt.Errorf("%w: data follows its end", ErrChanged)
	case err != nil:
		return broken(err)
	}
	return nil
}

// Verify reads a whole archive and compares it with its table of contents. Errors: as for read.
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

// holds compares the number of records that were read with the number in the table.
func (c Contents) holds(counts map[string]int) error {
	if !maps.Equal(c.Counts, counts) {
		return fmt.Errorf("%w: it has the records %v, but its table of contents lists %v",
			ErrChanged, counts, c.Counts)
	}
	return nil
}

// count counts the records of a state by kind, and checks each.
func count(state io.Reader, check func(bus.Entry) error) (map[string]int, error) {
	counts := map[string]int{}
	err := restoreEntries(state, func(e bus.Entry) error { counts[e.Bucket]++; return check(e) })
	if errors.Is(err, errNoEnd) {
		err = nil // the table has the number of records
	}
	return counts, err
}
