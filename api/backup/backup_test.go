package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"ehi-server/shared/bus"
	"ehi-server/shared/files"
)

// hostile are names of files that no backup has, and that lead elsewhere if they are joined to a folder.
var hostile = []string{
	"files/../../outside", "files/../outside", "files/../.ssh/authorized_keys", "files/./" + SandboxKeys,
	"files/x/../../../outside", "files//outside", "files/", "files", "files/nats", "files/other.json",
	"files/" + SandboxKeys + "/x", "records/../outside", "records/../../outside", "records/", "records",
	"records/./x", "records//x", "records/a/../../../outside", "/outside", "../outside", "./outside",
	"exports/../outside", "exports/../../outside/x", "exports/job/../../../outside", "exports/job",
	"exports/job/a.x/y", "exports//a.x", "exports/jo/b/a.x", "exports/job/a.x/../../../../outside",
	"nats/jetstream/x", "outside", ".", "..", "", "files/\x00", "Files/" + SandboxKeys, `files\..\outside`,
}

// archiveOf is an archive with one file.
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
		t.Skip(err) // tar cannot say it
	}
	if _, err := io.WriteString(w, "evil"[:h.Size]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// filesBelow are the regular files below a folder, in order.
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

// The names of an archive lead nowhere but to where a backup's files lie.
func TestARestoreWritesNothingElsewhere(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"files/../outside", "records/../outside", "exports/job/../../outside"} {
		data := filepath.Join(dir, "a", string(rune('a'+i)))
		archive := bytes.NewReader(archiveOf(t, tar.Header{Name: name, Typeflag: tar.TypeReg}))
		if err := Restore(t.Context(), archive, data, "", bus.Access{}); !errors.Is(err, ErrForeign) {
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

// Links, folders and devices are in no backup: what follows them would be written where they lead.
func TestARestoreTakesPlainFilesOnly(t *testing.T) {
	dir := t.TempDir()
	for i, kind := range []byte{tar.TypeSymlink, tar.TypeDir} {
		h := tar.Header{Name: "records/x", Linkname: "/etc/passwd", Typeflag: kind}
		data := filepath.Join(dir, string(rune('a'+i)))
		err := Restore(t.Context(), bytes.NewReader(archiveOf(t, h)), data, "", bus.Access{})
		if !errors.Is(err, ErrForeign) {
			t.Errorf("type %q: %v", kind, err)
		}
	}
	if got := filesBelow(t, dir); len(got) > 0 {
		t.Errorf("it wrote %q", got)
	}
}

// Whatever an archive is made of, it is put into the data folder or refused.
func FuzzARestoreStaysInItsFolder(f *testing.F) {
	for _, name := range append(hostile, "files/"+SandboxKeys, "records/MANIFEST-1", "exports/job/0.1.seg", "exports/job/a.x") {
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
			kept := slices.ContainsFunc([]string{"records/", "exports/", SandboxKeys}, func(folder string) bool {
				return strings.HasPrefix(got, "a/b/data/"+folder)
			})
			if !kept {
				t.Errorf("%q wrote %q", name, got)
			}
		}
	})
}

// What a backup collects on its way holds keys and passwords' hashes: it stays in the data folder,
// readable for its owner only, and does not stay.
func TestABackupCollectsInTheDataFolder(t *testing.T) {
	data := t.TempDir()
	f, remove, err := spool(data)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 || filepath.Dir(f.Name()) != data {
		t.Errorf("%s, %v, %v", f.Name(), info, err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if got := filesBelow(t, data); len(got) > 0 {
		t.Errorf("%q is left", got)
	}

	t.Setenv("TMPDIR", filepath.Join(data, "absent")) // whoever wants the system's folder fails
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: t.TempDir(), Audit: &bus.AuditConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	store, err := files.NewLocal(files.Config{Root: filepath.Join(data, files.Folder)})
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
	if got := filesBelow(t, data); !slices.Equal(got, []string{SandboxKeys}) {
		t.Errorf("%q is left", got)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	if err := Restore(t.Context(), &archive, restored, "", bus.Access{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(restored, SandboxKeys)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
