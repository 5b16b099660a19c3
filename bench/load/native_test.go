package main

import (
	"cmp"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	"ehi-server/exporter/synthetic/native"
)

// exported is an export of all native content of a patient or a population, which was verified.
type exported struct {
	content   verify.Content
	resources verify.Sum
	files     []verify.Listed
}

// exportOf exports a target and verifies all of it.
func exportOf(t *testing.T, c *client.Client, patient, target string) (x exported) {
	t.Helper()
	job, err := c.Start(t.Context(), http.MethodPost, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Wait(t.Context(), job.StatusURL, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := &verify.Native{
		Client: c, Pages: &verify.Pages{}, Patient: patient, Resume: true, Folder: t.TempDir(),
	}
	var whole verify.Tally
	for _, e := range m.Output {
		f, err := n.File(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		whole.Add(f)
	}
	x.resources = whole.Sum
	if x.files, err = n.Files(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range x.files {
		if err := n.Get(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if x.content, err = n.Content(); err != nil {
		t.Fatal(err)
	}
	return x
}

// A patient's export of each shape is right, and holds the same as files and as archives. Tools of
// others read it, too.
func TestNativeContentOfEachShapeIsRightInBothPackagings(t *testing.T) {
	for _, shape := range native.Shapes() {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			open := client.New(serveSource(t, "synthetic:patients=3,seed=5,resources=200,"+
				"documents=14,document-bytes=150k,native="+shape))
			defer open.Close()
			system, err := open.Service(t.Context(), "test_client_secret", serviceScope)
			if err != nil {
				t.Fatal(err)
			}
			patients, err := find(t.Context(), open, &config{
				Auth: "service", Secret: "test_client_secret", Patients: 3,
			})
			if err != nil {
				t.Fatal(err)
			}
			var alone verify.Content
			for _, patient := range patients {
				c, _, err := open.Authorize(t.Context(), patient)
				if err != nil {
					t.Fatal(err)
				}
				target := "/no-form/auto-approve/fhir/Patient/" + patient + "/$ehi-export?_package="
				files := exportOf(t, c, patient, target+"files")
				packed := exportOf(t, c, patient, target+"zip")
				if why := files.content.Difference(packed.content); why != "" ||
					files.resources != packed.resources {
					t.Errorf("files and archives: %s, resources %x and %x", why, files.resources,
						packed.resources)
				}
				if n := packed.content.Archives; n < 3 || n != packed.content.Resumed {
					t.Errorf("%+v", packed.content)
				}
				alone.Documents.Add(packed.content.Documents)
				if patient == patients[0] {
					t.Run("files by others", func(t *testing.T) { files.readByOthers(t, c) })
					t.Run("archives by others", func(t *testing.T) { packed.readByOthers(t, c) })
				}
			}
			all := exportOf(t, system, "", "/auto-approve/fhir/$ehi-export")
			if all.content.Documents != alone.Documents {
				t.Errorf("all patients have %+v, and each alone %+v", all.content.Documents,
					alone.Documents)
			}
		})
	}
}

// readByOthers unpacks the archives of an export with unzip, and reads its tables with the
// standard's own implementation in Python.
func (x exported) readByOthers(t *testing.T, c *client.Client) {
	t.Helper()
	folder := t.TempDir()
	rows := int64(0)
	for _, l := range x.files {
		if l.Format.Code == "zip" {
			archive := save(t, c, l.URL, folder)
			out := filepath.Join(folder, "from-"+filepath.Base(archive))
			tool(t, "unzip", "-tq", archive)
			tool(t, "unzip", "-qq", "-d", out, archive)
			rows += validated(t, filepath.Join(out, "datapackage.json"))
			continue
		}
		file := save(t, c, l.URL, folder)
		if base, table := strings.CutSuffix(l.URL, "/tables/"+filepath.Base(file)); table {
			const descriptor = "/tables/datapackage.json"
			if _, err := os.Stat(filepath.Join(folder, descriptor)); err != nil {
				save(t, c, base+descriptor, folder)
			}
		}
	}
	rows += validated(t, filepath.Join(folder, "tables/datapackage.json"))
	if rows != x.content.Rows() {
		t.Errorf("frictionless reads %d rows, and there are %d", rows, x.content.Rows())
	}
}

// save downloads a file below a folder, as a URL names it.
func save(t *testing.T, c *client.Client, target, folder string) (path string) {
	t.Helper()
	data, err := c.Download(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(target, "/download/")
	if name, err = url.PathUnescape(name); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// validated returns the number of rows of the tables that a descriptor describes, after
// frictionless has found no fault; 0 if there is no descriptor.
func validated(t *testing.T, descriptor string) (rows int64) {
	t.Helper()
	if _, err := os.Stat(descriptor); err != nil {
		return 0
	}
	with := cmp.Or(os.Getenv("EHI_TEST_PYTHON"), "python3")
	if exec.CommandContext(t.Context(), with, "-c", "import frictionless").Run() != nil {
		lacking(t, "the Python module frictionless")
	}
	said := tool(t, with, "-c", `
import sys
from frictionless import Package
report = Package(sys.argv[1]).validate()
if not report.valid:
    sys.exit(str(report.flatten(["name", "rowNumber", "note"])))
print(sum(task.stats["rows"] for task in report.tasks))`, descriptor)
	rows, err := strconv.ParseInt(strings.TrimSpace(said), 10, 64)
	if err != nil {
		t.Fatalf("frictionless says %s", said)
	}
	return rows
}

// tool runs a tool, which the test needs, and returns what it prints.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lacking(t, name)
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%.2000s", name, err, out)
	}
	return string(out)
}

// lacking skips a test for lack of a tool. Where all tools must be there, it fails.
func lacking(t *testing.T, tool string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Getenv("EHI_TEST_TOOLS") != "" {
		t.Fatalf("%s is not installed", tool)
	}
	t.Skipf("%s is not installed", tool)
}
