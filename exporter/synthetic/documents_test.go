package synthetic_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic/native"
	"ehi-server/shared/tooltest"
)

// documentsOf returns the documents of a record.
func documentsOf(t testing.TB, r source.Record, q source.Query) (out []source.Document) {
	t.Helper()
	err := r.Documents(t.Context(), q, func(d *source.Document) error {
		out = append(out, *d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// content reads a document.
func content(t testing.TB, d *source.Document) []byte {
	t.Helper()
	r, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != d.Size {
		t.Fatalf("%s has %d bytes, and says %d", d.Name, len(data), d.Size)
	}
	return data
}

func TestDocumentsBelongToResourcesOfTheRecord(t *testing.T) {
	for _, shape := range native.Shapes() {
		for _, settings := range append(settingsOf(shape), "documents=70,native="+shape) {
			s, c := nativeSource(t, settings)
			ids := map[string]bool{}
			for k := range few(c) {
				types := typesByID(t, c, k)
				held := 0
				for _, d := range documentsOf(t, open(t, s, c, k), source.Query{}) {
					if !validID.MatchString(d.ID) || ids[d.ID] || d.Patient != c.PatientID(k) {
						t.Fatalf("%s: the document %q of %q", settings, d.ID, d.Patient)
					}
					ids[d.ID] = true
					typ, id, _ := strings.Cut(d.Resource, "/")
					if types[id] != typ {
						t.Fatalf("%s: %s belongs to %s, which is a %q", settings, d.Name,
							d.Resource, types[id])
					}
					if d.Category == "" {
						held++
					}
				}
				if all := c.Native == "mixed"; all != (held == 0) && c.Resources == 0 {
					t.Errorf("%s: %d documents are not classified", settings, held)
				}
			}
		}
	}
}

var validID = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

func TestDocumentsHaveTheNumberAndTheSizeAskedFor(t *testing.T) {
	for _, shape := range native.Shapes() {
		for _, size := range []int{1, 50_001, 120_007, 1 << 20} {
			s, c := nativeSource(t,
				fmt.Sprintf("native=%s,documents=9,document-bytes=%d", shape, size))
			all := documentsOf(t, open(t, s, c, 2), source.Query{})
			if len(all) != 9 {
				t.Errorf("%s has %d documents", shape, len(all))
			}
			for _, d := range all {
				// A filling has a frame of at most 15 bytes.
				if lacks := int64(size) - d.Size; lacks > 15 || lacks < 0 && size > 50_000 {
					t.Errorf("%s has %d bytes, want %d", d.Name, d.Size, size)
				}
			}
		}
	}
}

func TestAQueryNarrowsDocuments(t *testing.T) {
	s, c := nativeSource(t, "native=tsv-tables")
	r := open(t, s, c, 1)
	all := documentsOf(t, r, source.Query{})
	middle := all[len(all)/2].Updated
	early := documentsOf(t, r, source.Query{Until: middle})
	late := documentsOf(t, r, source.Query{Since: middle, Types: []string{"DocumentReference"}})
	if len(early) == 0 || len(late) == 0 || len(early)+len(late) != len(all) {
		t.Errorf("%d documents are early and %d late, of %d", len(early), len(late), len(all))
	}
	if n := len(documentsOf(t, r, source.Query{Types: []string{"Patient"}})); n > 0 {
		t.Errorf("a query for Patients admits %d documents", n)
	}
}

func TestADocumentOf4GiBIsGeneratedWhileItIsRead(t *testing.T) {
	s, c := nativeSource(t, "native=ndjson-files,documents=9,document-bytes=4G")
	for _, d := range documentsOf(t, open(t, s, c, 0), source.Query{}) {
		if 4<<30-d.Size > 15 {
			t.Errorf("%s has %d bytes", d.Name, d.Size)
		}
		if d.ContentType != "application/pdf" {
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := d.Open()
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 1<<20))
		runtime.ReadMemStats(&after)
		if n != d.Size || err != nil {
			t.Errorf("%s: %d bytes were read, %v", d.Name, n, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
			t.Errorf("reading took %d bytes of memory", used)
		}
	}
}

func TestDocumentsOpenInTheFieldsOwnTools(t *testing.T) {
	for _, shape := range native.Shapes() {
		for _, size := range []string{"0", "300001"} {
			t.Run(shape+"/"+size, func(t *testing.T) {
				s, c := nativeSource(t, "native="+shape+",document-bytes="+size)
				for k := range 2 {
					dir, byType := t.TempDir(), map[string][]string{}
					for _, d := range documentsOf(t, open(t, s, c, k), source.Query{}) {
						path := filepath.Join(dir, d.ID+filepath.Ext(d.Name))
						if err := os.WriteFile(path, content(t, &d), 0o600); err != nil {
							t.Fatal(err)
						}
						byType[d.ContentType] = append(byType[d.ContentType], path)
					}
					for typ, paths := range byType {
						t.Run(strings.ReplaceAll(typ, "/", "-"), func(t *testing.T) {
							judge := judges[typ]
							if judge == nil {
								t.Fatal("nothing checks the type")
							}
							judge(t, paths)
						})
					}
				}
			})
		}
	}
}

// judges checks files by media type.
var judges = map[string]func(t *testing.T, paths []string){
	"application/rtf":        checkRTF,
	"application/pdf":        checkPDF,
	"application/x-ndjson":   checkNDJSON,
	"image/jpeg":             checkImages,
	"image/png":              checkImages,
	"image/tiff":             checkTIFF,
	"application/dicom":      checkDICOM,
	"application/xml":        checkXML,
	"application/hl7-v3+xml": checkCDA,
}

// python runs a program with a module, which the test needs.
func python(t *testing.T, module, program string, args ...string) string {
	t.Helper()
	with := os.Getenv("EHI_TEST_PYTHON")
	if with == "" {
		with = "python3"
	}
	if exec.CommandContext(t.Context(), with, "-c", "import "+module).Run() != nil {
		tooltest.Lacking(t, "the Python module "+module)
	}
	return tooltest.Run(t, with, append([]string{"-c", program}, args...)...)
}

func checkRTF(t *testing.T, paths []string) {
	for _, path := range paths {
		data := read(t, path)
		plain := strings.NewReplacer(`\\`, "", `\{`, "", `\}`, "").Replace(string(data))
		if !strings.HasPrefix(plain, `{\rtf1\ansi`) ||
			strings.Count(plain, "{") != strings.Count(plain, "}") {
			t.Errorf("%s is no RTF", path)
		}
		for _, c := range data {
			if c > 0x7e {
				t.Fatalf("%s has bytes beyond ASCII", path)
			}
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func checkPDF(t *testing.T, paths []string) {
	for _, path := range paths {
		info := tooltest.Run(t, "pdfinfo", path)
		if !strings.Contains(info, "Pages:           1") || strings.Contains(info, "rror") {
			t.Errorf("pdfinfo says %s", info)
		}
		if text := tooltest.Run(t, "pdftotext", path, "-"); !strings.Contains(text, ", MRN") ||
			strings.Contains(text, "rror") {
			t.Errorf("pdftotext says %s", text)
		}
	}
}

func checkNDJSON(t *testing.T, paths []string) {
	for _, path := range paths {
		for line := range bytes.Lines(read(t, path)) {
			var object map[string]any
			if err := json.Unmarshal(line, &object); err != nil || line[len(line)-1] != '\n' {
				t.Fatalf("%s: %v in %.200s", path, err, line)
			}
		}
	}
}

func checkImages(t *testing.T, paths []string) {
	for _, path := range paths {
		decode := jpeg.Decode
		if filepath.Ext(path) == ".png" {
			decode = png.Decode
		}
		if m, err := decode(bytes.NewReader(read(t, path))); err != nil || m.Bounds().Dx() != 96 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func checkTIFF(t *testing.T, paths []string) {
	for _, path := range paths {
		if out := tooltest.Run(t, "tiffinfo", "-D", path); !strings.Contains(out, "Image Width: 96") ||
			strings.Contains(out, "Warning") {
			t.Errorf("tiffinfo says %s", out)
		}
	}
}

func checkDICOM(t *testing.T, paths []string) {
	for _, path := range paths {
		if out := tooltest.Run(t, "dcmftest", path); !strings.HasPrefix(out, "yes:") {
			t.Errorf("dcmftest says %s", out)
		}
		if out := tooltest.Run(t, "dcmdump", "-q", path); !strings.Contains(out, "SOPInstanceUID") {
			t.Errorf("dcmdump says %s", out)
		}
	}
	out := python(t, "pydicom", `
import sys, pydicom
for path in sys.argv[1:]:
    d = pydicom.dcmread(path)
    assert len(d.PixelData) == d.Rows * d.Columns, path
    print(d.SeriesInstanceUID, d.InstanceNumber)
`, paths...)
	if n := strings.Count(out, "\n"); n != len(paths) {
		t.Errorf("pydicom read %d of %d files", n, len(paths))
	}
}

func checkXML(t *testing.T, paths []string) {
	tooltest.Run(t, "xmllint", append([]string{"--noout"}, paths...)...)
}

// checkCDA holds documents to the schema of CDA R2, and to what C-CDA R2.1 demands of each section
// beyond it.
func checkCDA(t *testing.T, paths []string) {
	checkXML(t, paths)
	for _, path := range paths {
		checkSections(t, read(t, path))
	}
	schemas := os.Getenv("EHI_TEST_CDA_SCHEMA")
	if schemas == "" {
		tooltest.Lacking(t, "the schema of CDA (EHI_TEST_CDA_SCHEMA, see .ci/judges)")
	}
	tooltest.Run(t, "xmllint", append([]string{"--noout", "--schema",
		filepath.Join(schemas, "CDA.xsd")}, paths...)...)
}

// schematron prints the rules that documents break, a line each: the number of the document, and
// the rule. It takes the folder of the rules, an empty folder, and the documents. Of the value
// sets, which have 65 MB, it keeps those that rules name.
const schematron = `
import os, re, sys
from lxml import etree, isoschematron
folder, work = sys.argv[1:3]
with open(os.path.join(folder, "Consolidation.sch")) as f:
    rules = f.read()
named = set(re.findall("@valueSetOid='([^']+)'", rules))
codes = etree.parse(os.path.join(folder, "voc.xml"))
for s in codes.getroot().xpath("*[@valueSetOid]"):
    if s.get("valueSetOid") not in named:
        s.getparent().remove(s)
codes.write(os.path.join(work, "voc.xml"))
rules = rules.replace("'voc.xml'", "'file://%s/voc.xml'" % os.path.abspath(work)).encode()
judge = isoschematron.Schematron(etree.fromstring(rules), phase="errors", store_report=True,
    validate_schema=False, error_finder=isoschematron.Schematron.ASSERTS_ONLY)
svrl = "{http://purl.oclc.org/dsdl/svrl}"
for n, path in enumerate(sys.argv[3:]):
    judge.validate(etree.parse(path))
    if len(judge.validation_report.findall(".//" + svrl + "fired-rule")) < 30:
        print(n, "hardly any rule applies")
    for broken in judge.validation_report.iter(svrl + "failed-assert"):
        print(n, " ".join("".join(broken.itertext()).split()))
`

// C-CDAs keep the rules of C-CDA R2.1 that HL7 published as Schematron: what each of their
// templates demands. The rules find what is wrong with a document.
func TestCCDAsKeepThePublishedRules(t *testing.T) {
	rules := os.Getenv("EHI_TEST_CCDA_RULES")
	if rules == "" {
		tooltest.Lacking(t, "the Schematron of C-CDA (EHI_TEST_CCDA_RULES, see .ci/judges)")
	}
	dir := t.TempDir()
	var paths []string
	write := func(text []byte) {
		path := filepath.Join(dir, fmt.Sprintf("%d.xml", len(paths)))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for _, of := range []struct {
		settings        string
		patients, limit int // limit is how many documents of a patient are judged
	}{
		{"native=ccda", 2, 9}, {"native=ccda,document-bytes=300001", 1, 4}, {"native=mixed", 3, 1},
	} {
		s, c := nativeSource(t, of.settings)
		for k := range of.patients {
			left := of.limit
			for _, d := range documentsOf(t, open(t, s, c, k), source.Query{}) {
				if d.ContentType == "application/hl7-v3+xml" && left > 0 {
					write(content(t, &d))
					left--
				}
			}
			if left > 0 {
				t.Errorf("%s: patient %d has %d C-CDAs too few", of.settings, k, left)
			}
		}
	}
	good, valid := len(paths), read(t, paths[0])
	for _, change := range [][2]string{
		{`<realmCode code="US"/>`, ""},
		{`<statusCode code="completed"/>`, `<statusCode code="over"/>`},
	} {
		write(bytes.ReplaceAll(valid, []byte(change[0]), []byte(change[1])))
	}
	found := map[string][]string{}
	for line := range strings.Lines(python(t, "lxml", schematron, append([]string{rules,
		t.TempDir()}, paths...)...)) {
		n, rule, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[n] = append(found[n], rule)
	}
	for n := range paths {
		broken := found[strconv.Itoa(n)]
		if n < good && len(broken) > 0 {
			t.Errorf("document %d breaks %q", n, broken)
		}
		if n >= good && len(broken) == 0 {
			t.Errorf("the rules find nothing wrong with change %d", n-good)
		}
	}
	t.Logf("%d documents were judged", good)
}

// section is what a test looks at in a section of a C-CDA.
type section struct {
	NullFlavor string `xml:"nullFlavor,attr"`
	Templates  []struct {
		Root      string `xml:"root,attr"`
		Extension string `xml:"extension,attr"`
	} `xml:"templateId"`
	Code struct {
		Code string `xml:"code,attr"`
	} `xml:"code"`
	Items []struct {
		ID string `xml:"ID,attr"`
	} `xml:"text>list>item"`
	Entries []struct {
		Content []byte `xml:",innerxml"`
	} `xml:"entry"`
}

// Each section that a Continuity of Care Document must have is there, with its template, and has
// entries or says that nothing is known. References lead to the text.
func checkSections(t *testing.T, document []byte) {
	t.Helper()
	var d struct {
		Sections []section `xml:"component>structuredBody>component>section"`
	}
	if err := xml.Unmarshal(document, &d); err != nil {
		t.Fatal(err)
	}
	templates := map[string]string{
		"48765-2": "2.6.1", "10160-0": "2.1.1", "11450-4": "2.5.1", "30954-2": "2.3.1",
		"29762-2": "2.17", "8716-3": "2.4.1", "46240-8": "2.22.1",
	}
	for _, s := range d.Sections {
		want := "2.16.840.1.113883.10.20.22." + templates[s.Code.Code]
		delete(templates, s.Code.Code)
		if len(s.Templates) != 2 || s.Templates[0].Root != want || s.Templates[0].Extension == "" {
			t.Errorf("section %s has the templates %v", s.Code.Code, s.Templates)
		}
		if (s.NullFlavor == "NI") != (len(s.Entries) == 0) {
			t.Errorf("section %s has %d entries and the null flavor %q", s.Code.Code,
				len(s.Entries), s.NullFlavor)
		}
		var entries bytes.Buffer
		for _, e := range s.Entries {
			entries.Write(e.Content)
		}
		for _, item := range s.Items {
			if !bytes.Contains(entries.Bytes(), []byte(`"#`+item.ID+`"`)) {
				t.Errorf("section %s: no entry refers to %s", s.Code.Code, item.ID)
			}
		}
	}
	if len(templates) > 0 {
		t.Errorf("sections are missing: %v", templates)
	}
}

// Tables name the files that a patient has, and no others. A note is of the same kind in the table
// as its file is.
func TestTablesNameTheFilesThatAreThere(t *testing.T) {
	names := map[string]string{"tsv-tables": "note", "csv-zip": "images"}
	for _, shape := range native.Shapes() {
		for _, count := range []string{"", ",documents=0", ",documents=3"} {
			s, c := nativeSource(t, "patients=3,native="+shape+count)
			for k := range 3 {
				r := open(t, s, c, k)
				titles := map[string]string{}
				for _, d := range documentsOf(t, r, source.Query{}) {
					titles[d.Name] = d.Title
				}
				if count != "" && "documents="+strconv.Itoa(len(titles)) != count[1:] {
					t.Errorf("%s%s: there are %d documents", shape, count, len(titles))
				}
				if names[shape] != "" {
					checkNames(t, r, names[shape], titles)
				}
			}
		}
	}
}

// checkNames checks the names of files in a table, given the titles of the files that are there.
func checkNames(t *testing.T, r source.Record, table string, titles map[string]string) {
	t.Helper()
	of := r.Tables().Table(table)
	at := of.Fields.Field
	kinds := map[string]string{"PROG": "Progress note", "PHON": "Telephone note"}
	named := 0
	for _, row := range cells(t, of, rowsOf(t, r, table)) {
		if table == "note" && row[at("title")] != kinds[row[at("note_kind_code")]] {
			t.Errorf("a note is %q", row)
		}
		file := row[at("file_name")]
		if file == "" {
			continue
		}
		named++
		title, there := titles[file]
		if !there || table == "note" && title != row[at("title")] {
			t.Errorf("the row %q names a file with the title %q", row, title)
		}
	}
	if table == "note" && named != max(len(titles)-1, 0) { // but for a letter
		t.Errorf("%d of %d files are named", named, len(titles))
	}
}

// The images of a series belong to the patient's ImagingStudy by its UIDs.
func TestTheSeriesHasTheUIDsOfTheImagingStudy(t *testing.T) {
	s, c := nativeSource(t, "native=csv-zip")
	r := open(t, s, c, 3)
	var study struct {
		Series []struct {
			UID      string
			Instance []struct{ UID string }
		}
	}
	err := r.Scan(t.Context(), source.Query{Types: []string{"ImagingStudy"}},
		func(res source.Resource) error { return json.Unmarshal(res.Line, &study) })
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, d := range documentsOf(t, r, source.Query{}) {
		if d.ContentType != "application/dicom" {
			continue
		}
		data := content(t, &d)
		for _, uid := range []string{study.Series[0].UID, study.Series[0].Instance[0].UID} {
			if !bytes.Contains(data, []byte(uid)) {
				t.Errorf("%s lacks the UID %s", d.Name, uid)
			}
		}
		found++
	}
	if found != 3 {
		t.Errorf("the series has %d images", found)
	}
}
