package dataset_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A pipe in the place of a descriptor or an index is not waited for, and an index that is a link
// out of its folder is not read: both are named in the report.
func TestSpecialFilesAreNoDescriptionsOfNativeContent(t *testing.T) {
	for _, name := range []string{"datapackage.json", "documents.csv", "document_reference.ndjson"} {
		for kind, place := range map[string]func(path string) error{
			"pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"link": func(path string) error {
				other := filepath.Join(t.TempDir(), "other")
				return errors.Join(os.WriteFile(other, []byte("patient,path\np,x.txt\n"), 0o600),
					os.Symlink(other, path))
			},
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				folder := t.TempDir()
				write(t, folder, "p.ndjson", `{"resourceType":"Patient","id":"p"}`)
				if err := place(filepath.Join(folder, name)); err != nil {
					t.Fatal(err)
				}
				report := load(t, openStore(t, t.TempDir()), folder)
				if report.Counts["Patient"] != 1 {
					t.Fatalf("%+v", report)
				}
				told := false
				for _, left := range report.Ignored {
					told = told || strings.HasSuffix(left.File, name)
				}
				for _, bad := range report.Bad {
					told = told || strings.HasSuffix(bad.File, name)
				}
				if !told {
					t.Errorf("%s is not named: %+v", name, report)
				}
			})
		}
	}
}
