package e2e

import (
	"archive/zip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// NAT-2: what a patient downloads as one archive can be imported as it is: each resource, each
// document and table, and what an administrator attached. Of archives in it, all but their content
// is.
func TestNAT2ThePatientsArchiveIsImportedAsItIs(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Source.Spec = "synthetic:patients=2,resources=100,native=mixed"
	w := start(t, t.TempDir(), cfg, node.Options{})
	p, _, pat, _ := w.two()
	b := newBrowser(t)
	for _, packaging := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
		j := w.kickOff(pat, "/no-form", p, kickOffWith(packaging))
		w.wait(j.ID, ehi.Retrieved)
		if _, err := w.admin.AddFiles(t.Context(), j.ID,
			client.File{Name: "letter & map.txt", Data: []byte("a letter")}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
			t.Fatal(err)
		}
		b.visit(w.node.URL + "/my/requests/" + j.ID)
		if strings.Contains(b.page, "Sign in") {
			b.submit("patient", p, "password", "any")
		}
		b.visit(w.node.URL + "/my/requests/" + j.ID + "/archive")
		b.sees(200, "")
		folder := unpacked(t, b.page)
		documents, tables, resources := contentsIn(t, folder)
		if packaging == ehi.PackageFiles && (documents < 2 || tables < 2) || resources < 100 {
			t.Errorf("%s: %d documents, %d tables, %d resources", packaging, documents, tables,
				resources)
		}
		s, err := dataset.Open(dataset.Config{Dir: filepath.Join(t.TempDir(), dataset.Folder)})
		if err != nil {
			t.Fatal(err)
		}
		rep, err := s.Import(t.Context(), []string{folder}, source.ImportOptions{Now: time.Now()})
		if err = errors.Join(err, s.Close()); err != nil || rep.Problems > 0 {
			t.Fatalf("%v, %+v", err, rep)
		}
		got := int64(0)
		for _, n := range rep.Counts {
			got += n
		}
		if rep.Documents != documents || len(rep.Rows) != tables || got != resources {
			t.Errorf("%s: imported %d of %d documents, %d of %d tables, %d of %d resources: %+v",
				packaging, rep.Documents, documents, len(rep.Rows), tables, got, resources, rep)
		}
	}
}

// unpacked unpacks an archive into a folder.
func unpacked(t *testing.T, archive string) (folder string) {
	t.Helper()
	z, err := zip.NewReader(strings.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	folder = t.TempDir()
	for _, f := range z.File {
		to := filepath.Join(folder, filepath.FromSlash(f.Name))
		err := os.MkdirAll(filepath.Dir(to), 0o700)
		if err == nil {
			err = os.WriteFile(to, []byte(contentsOf(t, f)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// contentsIn counts the documents, the tables, and the resources in files of resources.
func contentsIn(t *testing.T, folder string) (documents int64, tables int, resources int64) {
	t.Helper()
	glob := func(pattern string) []string {
		out, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, file := range glob("*.ndjson") {
		if filepath.Base(file) == "document_reference.ndjson" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		resources += int64(strings.Count(string(data), "\n"))
	}
	return int64(len(glob("documents/*"))), len(glob("tables/*.[tc]sv")), resources
}
