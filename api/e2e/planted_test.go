package e2e

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
)

// fate says which exports a planted word leaves with. An export of everything has all of them.
type fate struct {
	name   string
	form   bool // the patient's export by a form
	freed  bool // the same, once an administrator has released what is named "freed"
	narrow bool // a population's export of some lines and dates
}

var (
	shared   = fate{name: "leaves", form: true, freed: true, narrow: true}
	late     = fate{name: "is not within the dates"}
	unasked  = fate{name: "is of a line that is not selected"}
	secret   = fate{name: "needs an authorization", narrow: true}
	waits    = fate{name: "is of no line"}
	freed    = fate{name: "is of no line, and is released", freed: true}
	others   = fate{name: "is another patient's", narrow: true}
	strays   = fate{name: "belongs to a resource of another patient"}
	needed   = fate{name: "is a look-up row of what is released", freed: true, narrow: true}
	unneeded = fate{name: "is a look-up row of what is withheld", narrow: true}
)

// word is a word that occurs in one place of the planted record.
type word struct {
	text, where string
	fate        fate
}

// planted is a folder with records of two patients, with a word of its own in each place.
type planted struct {
	words []word
	files map[string]string
}

// word returns a new word.
func (p *planted) word(f fate, where string) string {
	w := word{fmt.Sprintf("Zq%03dMarker", len(p.words)), where, f}
	p.words = append(p.words, w)
	return w.text
}

// The patients' IDs, and those of the conditions of the first one.
const (
	plantedPatient = "patient-of-the-markers"
	plantedOther   = "patient-beside-her"
	icd            = "http://hl7.org/fhir/sid/icd-10-cm"
)

// paper is a planted document.
type paper struct {
	name, patient, kind, category, date, labels, resource, ext, text string
}

// document plants a document, with words in its content, name, title and label, and in its type
// unless it has one.
func (p *planted) document(f fate, d paper) {
	where := "the document " + d.name + ": its "
	if d.patient == "" {
		d.patient = plantedPatient
	}
	if d.ext == "" {
		d.ext = ".txt"
	}
	if d.kind == "" {
		d.kind = "Letter " + p.word(f, where+"type")
	}
	file := "papers/" + d.name + "-" + p.word(f, where+"file name") + d.ext
	p.files[file] = strings.ReplaceAll(d.text, "...", strings.Repeat("so on ", 1000)) +
		p.word(f, where+"content")
	p.files["documents.csv"] += strings.Join([]string{
		d.patient, file, d.kind, d.category, d.date, "Title " + p.word(f, where+"title"),
		strings.TrimSpace(d.labels + " urn:labels|" + p.word(f, where+"label")), d.resource,
	}, ",") + "\n"
}

// row adds a row to a table. %s stands for a word.
func (p *planted) row(f fate, table, where, row string) {
	for strings.Contains(row, "%s") {
		row = strings.Replace(row, "%s", p.word(f, "a row of "+table+" "+where), 1)
	}
	p.files[table] += row + "\n"
}

// tables describe the planted tables.
const plantedTables = `{"name":"planted","resources":[
 {"name":"visit","path":"visit.tsv","dialect":{"delimiter":"\t","lineTerminator":"\n"},
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"ward"},{"name":"day","type":"date"},
    {"name":"text"}],"primaryKey":"id",
   "foreignKeys":[{"fields":"ward","reference":{"resource":"ward","fields":"code"}}]},
  "ehi:patient":["patient"],"ehi:category":"visits","ehi:date":"day"},
 {"name":"problem","path":"problem.csv","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"id"},{"name":"patient"},
    {"name":"of","ehi:resource":"Condition"},{"name":"icd","ehi:system":"` + icd + `"},
    {"name":"label","ehi:label":true},{"name":"secret","type":"boolean"},{"name":"term"},
    {"name":"text"}],"primaryKey":"id",
   "foreignKeys":[{"fields":"term","reference":{"resource":"term","fields":"key"}}]},
  "ehi:patient":["patient"],"ehi:category":"medicalRecord",
  "ehi:sensitive":[{"field":"secret","values":["true"],"authorization":"confidential"}]},
 {"name":"note","path":"note.csv","encoding":"utf-16le","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"visit"},{"name":"text"}],
   "foreignKeys":[{"fields":"visit","reference":{"resource":"visit","fields":"id"}}]},
  "ehi:patient":["visit","patient"],"ehi:category":"medicalRecord"},
 {"name":"study","path":"study.csv","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"patient"},{"name":"text"}]},
  "ehi:patient":["patient"],"ehi:category":"radiology"},
 {"name":"oddity","path":"oddity.csv","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"patient"},{"name":"kind"},{"name":"text"}],
   "foreignKeys":[{"fields":"kind","reference":{"resource":"kind","fields":"code"}}]},
  "ehi:patient":["patient"]},
 {"name":"freed","path":"freed.csv","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"patient"},{"name":"kind"},{"name":"text"}],
   "foreignKeys":[{"fields":"kind","reference":{"resource":"kind","fields":"code"}}]},
  "ehi:patient":["patient"]},
 {"name":"ward","path":"ward.csv","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"code"},{"name":"name"},{"name":"site"}],"primaryKey":"code",
   "foreignKeys":[{"fields":"site","reference":{"resource":"site","fields":"code"}}]},
  "ehi:lookup":true},
 {"name":"site","path":"site.csv","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"code"},{"name":"name"}],"primaryKey":"code"},"ehi:lookup":true},
 {"name":"term","path":"term.csv","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"key"},{"name":"icd","ehi:system":"` + icd + `"},{"name":"name"}],
   "primaryKey":"key"},"ehi:lookup":true},
 {"name":"kind","path":"kind.csv","dialect":{"lineTerminator":"\n"},
  "schema":{"fields":[{"name":"code"},{"name":"name"}],"primaryKey":"code"},
  "ehi:lookup":true}]}`

// plant fills a folder.
func plant(t *testing.T) *planted {
	t.Helper()
	p := &planted{files: map[string]string{
		"documents.csv":    "patient,path,type,category,date,title,labels,resource\n",
		"datapackage.json": plantedTables,
		"visit.tsv":        "id\tpatient\tward\tday\ttext\n",
		"problem.csv":      "id,patient,of,icd,label,secret,term,text\n",
		"note.csv":         "visit,text\n", "study.csv": "patient,text\n",
		"oddity.csv": "patient,kind,text\n", "freed.csv": "patient,kind,text\n",
		"ward.csv": "code,name,site\n", "site.csv": "code,name\n",
		"term.csv": "key,icd,name\n", "kind.csv": "code,name\n",
	}}
	hidden := p.resources()
	p.documents(hidden)
	p.rows(hidden)
	p.lookups()
	p.files["note.csv"] = strings.Join(strings.Split(p.files["note.csv"], ""), "\x00") + "\x00"
	return p
}

// resources plants the patients, and a condition that the form withholds. It returns its ID.
func (p *planted) resources() (hidden string) {
	hidden = "condition-" + p.word(secret, "the ID of a withheld resource")
	for _, line := range []string{
		`{"resourceType":"Patient","id":"` + plantedPatient + `"}`,
		`{"resourceType":"Patient","id":"` + plantedOther + `"}`,
		`{"resourceType":"Condition","id":"condition-` + p.word(shared, "an ID") + `",` +
			`"subject":{"reference":"Patient/` + plantedPatient + `"},"code":{"text":"asthma"}}`,
		`{"resourceType":"Condition","id":"` + hidden + `","subject":{"reference":"Patient/` +
			plantedPatient + `"},"code":{"coding":[{"system":"` + icd + `","code":"B20"}],"text":"` +
			p.word(secret, "a withheld resource") + `"}}`,
		`{"resourceType":"Condition","id":"hers","subject":{"reference":"Patient/` +
			plantedOther + `"},"code":{"text":"cough"}}`,
	} {
		p.files["patients.ndjson"] += line + "\n"
	}
	return hidden
}

func (p *planted) documents(hidden string) {
	const in, before = "2021-05-06", "2011-05-06"
	p.document(shared, paper{name: "letter", category: "visits", date: in, text: "Dear patient "})
	p.document(shared, paper{name: "scan", category: "medicalRecord", ext: ".pdf", text: "%PDF "})
	p.document(shared, paper{
		name: "large", category: "labs", date: in, text: strings.Repeat("...", 20),
	})
	p.document(late, paper{name: "old", category: "labs", date: before})
	p.document(late, paper{name: "undated", category: "labs"})
	p.document(unasked, paper{name: "image", category: "radiology", date: in, ext: ".png"})
	p.document(secret, paper{
		name: "labelled", category: "medicalRecord",
		labels: "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|R",
	})
	p.document(secret, paper{name: "coded", category: "medicalRecord", kind: icd + "|B20"})
	p.document(secret, paper{
		name: "linked", category: "medicalRecord", resource: "Condition/" + hidden,
	})
	p.document(secret, paper{
		name: "mentions", category: "medicalRecord", text: "... see " + hidden + " ...",
	})
	p.document(secret, paper{
		name: "clinical", category: "medicalRecord", ext: ".xml",
		text: `...<value code="B20" codeSystem="2.16.840.1.113883.6.90"/>`,
	})
	p.document(secret, paper{
		name: "resource", category: "medicalRecord", ext: ".json",
		text: `{"resourceType":"Condition","code":{"coding":[{"system":"` + icd +
			`","code":"B20"}]},"note":"..."}` + "\n",
	})
	p.document(secret, paper{
		name: "resource-of-xml", category: "medicalRecord", ext: ".xml",
		text: `<Condition xmlns="http://hl7.org/fhir">...<code><coding><system value="` + icd +
			`"/><code value="B20"/></coding></code></Condition>`,
	})
	p.document(secret, paper{
		name: "hidden", category: "medicalRecord",
		text: "see " + strings.ReplaceAll(hidden, "-", "+AC0-") + " ",
	})
	p.document(secret, paper{
		name: "message", category: "medicalRecord", ext: ".hl7",
		text: "MSH|^~\\&|...\rDG1|1||B20^HIV^I10\r",
	})
	p.document(secret, paper{name: "F10.20-alcohol", category: "medicalRecord"})
	p.document(waits, paper{name: "strange", date: in})
	p.document(waits, paper{name: "strange-too", ext: ".pdf"})
	p.document(freed, paper{name: "freed", date: in})
	p.document(secret, paper{name: "strange-mentions", text: hidden, category: "medicalRecord"})
	p.document(others, paper{name: "hers", patient: plantedOther, category: "medicalRecord"})
}

func (p *planted) rows(hidden string) {
	const me, her = plantedPatient, plantedOther
	visits, notes := "visit.tsv", "note.csv"
	p.row(shared, visits, "in the dates", "v1\t"+me+"\tW1\t2021-02-03\t%s")
	p.row(late, visits, "before the dates", "v2-%s\t"+me+"\tW2\t2011-02-03\t%s")
	early := strings.SplitN(p.files[visits][strings.LastIndex(p.files[visits], "v2-"):], "\t", 2)[0]
	p.row(late, visits, "without a date", "v3\t"+me+"\tW2\t\t%s")
	p.row(others, visits, "of another patient", "v4\t"+her+"\tW3\t2021-02-03\t%s")
	p.row(shared, notes, "of a visit", "v1,%s")
	p.row(late, notes, "of a withheld visit", early+",%s")
	p.row(secret, notes, "that mentions a withheld resource", "v1,%s see "+hidden)
	for _, r := range []struct {
		fate       fate
		where, row string
	}{
		{shared, "", "p1," + me + ",,E11.9,N,false,T1,%s"},
		{secret, "of a withheld resource", "p2," + me + "," + hidden + ",,,false,T3,%s"},
		{secret, "with a code", "p3-%s," + me + ",,B20,,false,T3,%s"},
		{secret, "with a label", "p4," + me + ",,,R,false,T3,%s"},
		{secret, "with a declared value", "p5," + me + ",,,,true,T3,%s"},
		{secret, "whose term has a code", "p6," + me + ",,,,false,T2,%s"},
		{secret, "that shows a code", "p7," + me + ",,,,false,T3,F10.20 - Alcohol %s"},
		{others, "of another patient", "p8," + her + ",,,,false,T4,%s"},
		{strays, "of what is hers", "p9," + me + ",hers,,,false,T3,%s"},
	} {
		p.row(r.fate, "problem.csv", r.where, r.row)
	}
	p.row(unasked, "study.csv", "", me+",%s")
	p.row(waits, "oddity.csv", "", me+",K1,%s")
	p.row(freed, "freed.csv", "", me+",K2,%s")
}

// lookups plants look-up tables, which exports of populations have whole.
func (p *planted) lookups() {
	for _, r := range []struct {
		fate              fate
		table, where, row string
	}{
		{shared, "ward.csv", "of a visit", "W1,%s,S1"},
		{unneeded, "ward.csv", "of a withheld visit", "W2,%s,S2"},
		{unneeded, "ward.csv", "of another patient's visit", "W3,%s,S2"},
		{unneeded, "ward.csv", "of no visit", "W4-%s,%s,S2"},
		{shared, "site.csv", "of a ward", "S1,%s"},
		{unneeded, "site.csv", "of a ward that stays", "S2,%s"},
		{shared, "term.csv", "of a problem", "T1,E11.9,%s"},
		{unneeded, "term.csv", "with a code", "T2,B20,%s"},
		{unneeded, "term.csv", "of withheld problems", "T3,I10,%s"},
		{unneeded, "term.csv", "of another patient's problem", "T4,I10,%s"},
		{unneeded, "kind.csv", "of what waits", "K1,%s"},
		{needed, "kind.csv", "of what is released", "K2,%s"},
	} {
		p.row(r.fate, r.table, r.where, r.row)
	}
}

// load imports the folder into a new store.
func (p *planted) load(t *testing.T) (data string) {
	t.Helper()
	folder, data := t.TempDir(), t.TempDir()
	for name, text := range p.files {
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(path.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Import(t.Context(), []string{folder}, source.ImportOptions{Now: time.Now()})
	if err != nil || r.Problems > 0 || len(r.UnplacedRows) > 0 || len(r.Ignored) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return data
}
