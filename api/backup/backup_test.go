package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"ehi-server/shared/bus"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// hostile are file names that no backup contains, and that lead out of a folder if they are
// joined to it.
var hostile = []string{
	"files/../../outside",
	"files/../outside",
	"files/../.ssh/authorized_keys",
	"files/./" + SandboxKeys,
	"files/x/../../../outside",
	"files//outside",
	"files/",
	"files",
	"files/nats",
	"files/other.json",
	"files/" + SandboxKeys + "/x",
	"records/../outside",
	"records/../../outside",
	"records/",
	"records",
	"records/./x",
	"records//x",
	"records/a/../../../outside",
	"/outside",
	"../outside",
	"./outside",
	"exports/../outside", "exports/../../outside/x", "exports/job/../../../outside", "exports/job",
	"exports/job/a.x/y", "exports//a.x", "exports/jo/b/a.x", "exports/job/a.x/../../../../outside",
	"nats/jetstream/x",
	"outside",
	".",
	"..",
	"",
	"files/\x00",
	"Files/" + SandboxKeys,
	`files\..\outside`,
}

// archiveOf returns an archive with one file.
func archiveOf(t testing.TB, h tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	h.Mode, h.Size = 0o600, 0
	if h.Typeflag == tar.TypeReg {
		h.Size = 4
	}
	if err := w.WriteHeader(&h); err != nil {
		t.Skip(err) // tar cannot express it
	}
	if _, err := io.WriteString(w, "evil"[:h.Size]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// reading reads an archive from memory.
func reading(archive []byte) Reading {
	return func(f func(r io.Reader) error) error { return f(bytes.NewReader(archive)) }
}

// restoreInto restores an archive into a folder.
func restoreInto(t testing.TB, archive io.Reader, data string) error {
	t.Helper()
	text, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	_, err = Restore(t.Context(), reading(text), To{Data: data})
	return err
}

// filesBelow lists the regular files below a folder, in order.
func filesBelow(t testing.TB, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			out = append(out, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Names in an archive lead only to the places where a backup's files are stored.
func TestARestoreWritesNothingElsewhere(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{
		"files/../outside", "records/../outside", "exports/job/../../outside",
	} {
		data := filepath.Join(dir, "a", string(rune('a'+i)))
		archive := bytes.NewReader(archiveOf(t, tar.Header{Name: name, Typeflag: tar.TypeReg}))
		if err := restoreInto(t, archive, data); !errors.Is(err, ErrForeign) {
			t.Errorf("%q: %v", name, err)
		}
	}
	to, err := newTarget(filepath.Join(dir, "a", "data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = to.root.Close() })
	for _, name := range hostile {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg}
		if err := to.put(h, strings.NewReader("evil")); !errors.Is(err, ErrForeign) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if got := filesBelow(t, dir); len(got) > 0 {
		t.Errorf("it wrote %q", got)
	}
}

// No backup contains links, folders or devices. A restore that followed a link would write files
// elsewhere.
func TestARestoreTakesPlainFilesOnly(t *testing.T) {
	dir := t.TempDir()
	for i, kind := range []byte{tar.TypeSymlink, tar.TypeDir} {
		h := tar.Header{Name: "records/x", Linkname: "/etc/passwd", Typeflag: kind}
		data := filepath.Join(dir, string(rune('a'+i)))
		err := restoreInto(t, bytes.NewReader(archiveOf(t, h)), data)
		if !errors.Is(err, ErrForeign) {
			t.Errorf("type %q: %v", kind, err)
		}
	}
	if got := filesBelow(t, dir); len(got) > 0 {
		t.Errorf("it wrote %q", got)
	}
}

// sparse returns an archive of a kilobyte with one file that, according to its header, is an
// exabyte of zeros.
func sparse(t *testing.T, name string) []byte {
	t.Helper()
	var extended string
	for _, r := range []string{
		"GNU.sparse.major=1",
		"GNU.sparse.minor=0",
		"GNU.sparse.name=" + name,
		"GNU.sparse.realsize=1000000000000000000",
	} {
		// its length has two digits; the space and the newline count too
		extended += fmt.Sprintf("%d %s\n", len(r)+4, r)
	}
	stored := "1\n0\n0\n" + strings.Repeat("\x00", 506)
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		ustar("x", 'x', len(extended)),
		extended + strings.Repeat("\x00", 512-len(extended)),
		ustar(name, '0', len(stored)),
		stored,
		strings.Repeat("\x00", 1024),
	} {
		if _, err := io.WriteString(z, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// ustar returns the header of a file (POSIX.1-1988).
func ustar(name string, kind byte, size int) string {
	head := fmt.Appendf(nil, "%-100s%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00%8s%c", "", 0o600, 0,
		0, size, 0, "", kind)
	copy(head, name+"\x00")
	head = append(append(head, make([]byte, 100)...), "ustar\x0000"...)
	head = append(head, make([]byte, 512-len(head))...)
	sum := 0
	for _, b := range head {
		sum += int(b)
	}
	copy(head[148:], fmt.Sprintf("%06o\x00 ", sum))
	return string(head)
}

// verify refuses what a restore refuses: links, folders, devices and names that no backup
// contains. It does not read an exabyte of zeros that are not stored.
func TestVerifyRefusesWhatARestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	refused := func(what string, archive func(t *testing.T) []byte) {
		t.Run(what, func(t *testing.T) {
			made := archive(t)
			if _, err := Verify(bytes.NewReader(made)); !errors.Is(err, errPlace) &&
				!errors.Is(err, files.ErrName) {
				t.Errorf("verified: %v", err)
			}
			err := restoreInto(t, bytes.NewReader(made), filepath.Join(dir, "data"))
			if !errors.Is(err, errPlace) && !errors.Is(err, files.ErrName) {
				t.Errorf("restored: %v", err)
			}
		})
	}
	for _, name := range []string{"records/x", stateFile, contentsFile} {
		refused("sparse "+name, func(t *testing.T) []byte { return sparse(t, name) })
	}
	more := []string{
		"records/a/b",
		"records/a\nb",
		"records/.x",
		"records/a:b",
		"records/" + strings.Repeat("a", 200),
	}
	for _, name := range append(more, hostile...) {
		h := tar.Header{Name: name, Typeflag: tar.TypeReg}
		refused("name "+name, func(t *testing.T) []byte { return archiveOf(t, h) })
	}
	for _, kind := range []byte{
		tar.TypeSymlink, tar.TypeLink, tar.TypeDir, tar.TypeFifo, tar.TypeChar, tar.TypeBlock,
	} {
		h := tar.Header{Name: "records/x", Linkname: "records/y", Typeflag: kind}
		refused("kind "+string(kind), func(t *testing.T) []byte { return archiveOf(t, h) })
	}
	if got := filesBelow(t, dir); len(got) > 0 {
		t.Errorf("it wrote %q", got)
	}
}

// Whatever an archive contains, it is restored into the data folder or refused.
func FuzzARestoreStaysInItsFolder(f *testing.F) {
	for _, name := range append(hostile, "files/"+SandboxKeys, "records/MANIFEST-1",
		"exports/job/0.1.seg", "exports/job/a.x") {
		f.Add(name)
	}
	dir := f.TempDir()
	to, err := newTarget(filepath.Join(dir, "a", "b", "data"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = to.root.Close() })
	f.Fuzz(func(t *testing.T, name string) {
		_ = to.put(&tar.Header{Name: name, Typeflag: tar.TypeReg}, strings.NewReader("evil"))
		for _, got := range filesBelow(t, dir) {
			kept := slices.ContainsFunc([]string{"records/", "exports/", SandboxKeys, stateFile},
				func(folder string) bool {
					return strings.HasPrefix(got, "a/b/data/"+folder)
				})
			if !kept {
				t.Errorf("%q wrote %q", name, got)
			}
		}
	})
}

// backupOf returns a backup of a data folder with a file in it, and of a NATS with a record.
func backupOf(t *testing.T, data string) []byte {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: t.TempDir(), Audit: &bus.AuditConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	key := bus.Entry{Bucket: bus.AuthRecords, Key: "account.admin.x", Value: []byte("{}")}
	if err := b.Restore(t.Context(), key, time.Now()); err != nil {
		t.Fatal(err)
	}
	store, err := local.Open(local.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, SandboxKeys), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := Write(t.Context(), &archive, Parts{Data: data, Bus: b, Files: store}); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// repacked returns an archive with another state followed by empty files. It has no table of
// contents, like an archive of an earlier build.
func repacked(
	t *testing.T, archive []byte, change func(state string) string, behind ...string,
) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var out bytes.Buffer
	packed, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	from, to := tar.NewReader(z), tar.NewWriter(packed)
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		body, e := io.ReadAll(from)
		if err := errors.Join(err, e); err != nil {
			t.Fatal(err)
		}
		if h.Name == contentsFile {
			continue
		}
		if h.Name == stateFile {
			body = []byte(change(string(body)))
		}
		h.Size = int64(len(body))
		if err := to.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range behind {
		err := to.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(to.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A restore succeeds only with a whole backup. An archive that was cut off anywhere is refused,
// and so is one whose state has fewer or more records than were written.
func TestARestoreTakesWholeBackupsOnly(t *testing.T) {
	archive := backupOf(t, t.TempDir())
	restore := func(archive []byte) error {
		return restoreInto(t, bytes.NewReader(archive), filepath.Join(t.TempDir(), "restored"))
	}
	if err := restore(archive); err != nil {
		t.Fatal(err)
	}
	cuts := []int{len(archive) - 1, len(archive) - 2, len(archive) - 4, len(archive) - 8}
	for i := range 24 {
		cuts = append(cuts, len(archive)*i/24)
	}
	for _, at := range cuts {
		if err := restore(archive[:at]); err == nil {
			t.Errorf("%d bytes of %d are restored", at, len(archive))
		}
	}
	same := func(state string) string { return state }
	if err := restore(repacked(t, archive, same)); !errors.Is(err, ErrUnverified) {
		t.Errorf("without a table of contents: %v", err)
	}
	if err := restore(repacked(t, archive, same, "records/behind")); !errors.Is(err, ErrCutOff) {
		t.Errorf("with a file behind the state: %v", err)
	}
	restore = func(archive []byte) error {
		to := To{Data: filepath.Join(t.TempDir(), "restored"), Unverified: true}
		_, err := Restore(t.Context(), reading(archive), to)
		return err
	}
	withoutLast := func(state string) string {
		return state[:strings.LastIndex(strings.TrimSuffix(state, "\n"), "\n")+1]
	}
	first := func(state string) string { return state[:strings.Index(state, "\n")+1] }
	for _, c := range []struct {
		name   string
		change func(state string) string
		want   error
	}{
		{"as it is", same, nil},
		{"empty", func(string) string { return "" }, nil},
		{"without its end", withoutLast, nil},
		{"cut within a line", func(state string) string { return state[:len(state)-3] }, ErrCutOff},
		{
			"without a record",
			func(state string) string { return strings.TrimPrefix(state, first(state)) },
			ErrCutOff,
		},
		{
			"with a record twice",
			func(state string) string { return first(state) + state },
			ErrForeign,
		},
		{
			"going on behind its end",
			func(state string) string { return state + first(state) },
			ErrForeign,
		},
		{"no JSON", func(string) string { return "x" }, ErrForeign},
	} {
		if err := restore(repacked(t, archive, c.change)); !errors.Is(err, c.want) {
			t.Errorf("a state %s: %v, want %v", c.name, err, c.want)
		}
	}
}

// The temporary file of a backup contains keys and password hashes. It is in the data folder,
// only its owner can read it, and it is removed.
func TestABackupCollectsInTheDataFolder(t *testing.T) {
	data := t.TempDir()
	f, remove, err := spool(data)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil || info.Mode().Perm() != 0o600 || filepath.Dir(f.Name()) != data {
		t.Errorf("%s, %v, %v", f.Name(), info, err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if got := filesBelow(t, data); len(got) > 0 {
		t.Errorf("%q is left", got)
	}

	// opening a file in the system's temporary folder fails
	t.Setenv("TMPDIR", filepath.Join(data, "absent"))
	archive := bytes.NewReader(backupOf(t, data))
	if got := filesBelow(t, data); !slices.Equal(got, []string{SandboxKeys}) {
		t.Errorf("%q is left", got)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	if err := restoreInto(t, archive, restored); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(restored, SandboxKeys)); err != nil ||
		info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// An archive of an earlier build may contain a file twice. It is restored once if both are the
// same. If they differ, nobody can tell which one is right. The archive of this test also lacks
// a table of contents.
func TestAFileTwiceInAnArchiveIsRestoredOnce(t *testing.T) {
	for second, want := range map[string]error{"text": ErrCutOff, "xxxx": ErrForeign} {
		var out bytes.Buffer
		z, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(z)
		for _, content := range []string{"text", second} {
			h := tar.Header{
				Name:     "exports/JOB/0.1.seg",
				Typeflag: tar.TypeReg,
				Mode:     0o600,
				Size:     4,
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Close(), z.Close()); err != nil {
			t.Fatal(err)
		}
		put := 0
		_, err = read(&out, func(*tar.Header, io.Reader) error { put++; return nil })
		if !errors.Is(err, want) || put != 1 {
			t.Errorf("%s: put %d times, %v, want %v", second, put, err, want)
		}
	}
}

// Exports that another process uses are not replaced, even if there are neither records nor a
// state next to them. A server with synthetic records and an external NATS has only exports.
func TestExportsThatAreHeldAreNotReplaced(t *testing.T) {
	archive, data := backupOf(t, t.TempDir()), t.TempDir()
	store, err := local.Open(local.Config{Root: filepath.Join(data, files.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	var held []io.Closer
	for range 2 { // processes that share the folder
		one, err := store.Hold()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, one)
	}
	restore := func() error {
		_, err := Restore(t.Context(), reading(archive), To{Data: data, Replace: true})
		return err
	}
	for i, one := range held {
		if err := restore(); !errors.Is(err, files.ErrHeld) {
			t.Errorf("beside %d processes: %v", len(held)-i, err)
		}
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := restore(); err != nil {
		t.Errorf("beside none: %v", err)
	}
}
