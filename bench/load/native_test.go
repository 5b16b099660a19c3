package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	synthetic "ehi-server/exporter/synthetic/native"
	"ehi-server/shared/tooltest"
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
	for _, shape := range synthetic.Shapes() {
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
			tooltest.Run(t, "unzip", "-tq", archive)
			tooltest.Run(t, "unzip", "-qq", "-d", out, archive)
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
		tooltest.Lacking(t, "the Python module frictionless")
	}
	said := tooltest.Run(t, with, "-c", `
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

// With --native, documents and tables come as files and as archives, some archives in two parts,
// and populations come, too.
func TestARunWithNativeContentVerifiesIt(t *testing.T) {
	c := parse(t, serveSource(t, "synthetic:patients=3,resources=100,native=mixed"), "--native",
		"--mix=export=60,poll=10,abort=10,population=20", "--duration=4s")
	r := run(t, c)
	if r.Wrong > 0 || len(r.Errors) > 0 {
		t.Errorf("%d wrong, errors %v: %v", r.Wrong, r.Errors, r.Examples)
	}
	n := r.Native
	if r.Flows[exportAll] == 0 || r.Flows[population] == 0 || n.Archives == 0 || n.Resumed == 0 ||
		n.Resumed == n.Archives || n.Documents == 0 || n.Rows == 0 || n.Files <= n.Documents ||
		n.Bytes == 0 || n.Bytes >= r.Bytes {
		t.Errorf("flows %v, %+v", r.Flows, n)
	}
	page := filepath.Join(t.TempDir(), "r.html")
	if err := r.save("", page); err != nil {
		t.Fatal(err)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	r.print(&table)
	files := fmt.Sprintf("ative content: %d files with %d archives, of which %d were resumed; "+
		"%d documents, %d rows", n.Files, n.Archives, n.Resumed, n.Documents, n.Rows)
	for _, text := range []string{string(html), table.String()} {
		if !strings.Contains(text, files) {
			t.Errorf("%q is not in %s", files, text)
		}
	}
}

// What is wrong with native content is counted, and the run fails.
func TestWrongNativeContentFailsARun(t *testing.T) {
	rec := newRecorder(time.Now(), meters{"wrong"})
	rec.failed(native, verify.Wrongf("a row is missing"))
	rec.failed(download, verify.Wrongf("a line is missing"))
	c := &config{Concurrency: 1}
	r := newResult(c, nil, rec, time.Second)
	if r.Wrong != 2 || r.Native.Wrong != 1 || !r.Failed() {
		t.Errorf("%d wrong, %+v, failed %t", r.Wrong, r.Native, r.Failed())
	}
}

// The same seed draws the same flows. A population has one packaging only.
func TestFlowsAreDrawnBySeed(t *testing.T) {
	c := &config{
		Native:     true,
		Mix:        nativeMix,
		KickOff:    "/fhir/Patient/{patient}/$ehi-export?_type=X",
		Population: "/fhir/$ehi-export",
	}
	drawn := map[string]int{}
	a, b := rand.New(rand.NewPCG(1, 0)), rand.New(rand.NewPCG(1, 0))
	for range 1000 {
		o := c.order(a, []string{"1", "2"})
		if again := c.order(b, []string{"1", "2"}); o != again {
			t.Fatalf("%+v and %+v", o, again)
		}
		drawn[c.packaged(o)]++
	}
	for target, least := range map[string]int{
		"/fhir/$ehi-export": 70,
		"/fhir/Patient/1/$ehi-export?_type=X&_package=files": 180,
		"/fhir/Patient/1/$ehi-export?_type=X&_package=zip":   180,
		"/fhir/Patient/2/$ehi-export?_type=X&_package=files": 180,
		"/fhir/Patient/2/$ehi-export?_type=X&_package=zip":   180,
	} {
		if drawn[target] < least {
			t.Errorf("%s was drawn %d times", target, drawn[target])
		}
		delete(drawn, target)
	}
	if len(drawn) > 0 {
		t.Errorf("also %v", drawn)
	}
}
