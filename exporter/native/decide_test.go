package native_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime/quotedprintable"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/charmap"

	"ehi-server/exporter/native"
	"ehi-server/exporter/source"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// secretID is the ID of a withheld resource.
const secretID = "withheld-0123456789"

// strict are rules of a form with every line and no authorization: B20 and 86406008 are sensitive
// codes.
type strict struct{}

func (strict) Line(ehi.Category, *fhir.Span) string { return "" }

func (strict) Code(_ string, code []byte) string {
	if string(code) == "B20" || string(code) == "86406008" {
		return "sensitive.hiv"
	}
	return ""
}

func (s strict) Text(text []byte) string              { return s.Code("", text) }
func (strict) Label(string, []byte) string            { return "" }
func (strict) Authorization(ehi.Authorization) string { return "sensitive" }

func (strict) Resource(_ string, id []byte) string {
	if string(id) == secretID {
		return "sensitive.hiv"
	}
	return ""
}

func (strict) Describes([]byte, func(string, string) ([]byte, error)) (string, error) {
	return "", nil
}

func (strict) Mentions(text []byte) string {
	if bytes.Contains(text, []byte(secretID)) {
		return "reference-only"
	}
	return ""
}

func (strict) Called([]byte) (reason string)              { return "" }
func (strict) Named(string, []byte, func(string, []byte)) {}
func (strict) Group(fhir.Coding) ehi.Category             { return "" }

// coded is a table of problems, whose codes are in look-up tables.
var coded = must(datapackage.Parse([]byte(`{"name":"coded","resources":[
 {"name":"problem","path":"problem.csv",
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"term"},{"name":"group"}],
   "primaryKey":"id","foreignKeys":[
    {"fields":"term","reference":{"resource":"term","fields":"key"}},
    {"fields":"group","reference":{"resource":"group","fields":"key"}}]},
  "ehi:patient":["patient"],"ehi:category":"medicalRecord"},
 {"name":"remark","path":"remark.csv",
  "schema":{"fields":[{"name":"problem"},{"name":"text"}],"foreignKeys":[
    {"fields":"problem","reference":{"resource":"problem","fields":"id"}}]},
  "ehi:patient":["problem","patient"],"ehi:category":"medicalRecord"},
 {"name":"term","path":"term.csv",
  "schema":{"fields":[{"name":"key"},{"name":"icd","ehi:system":"urn:icd"},{"name":"broader"}],
   "primaryKey":"key","foreignKeys":[
    {"fields":"broader","reference":{"resource":"","fields":"key"}}]},"ehi:lookup":true},
 {"name":"group","path":"group.csv",
  "schema":{"fields":[{"name":"key"},{"name":"first"}],"primaryKey":"key","foreignKeys":[
    {"fields":"first","reference":{"resource":"term","fields":"key"}}]},"ehi:lookup":true}]}`)))

// codedRecord has problems by their keys in look-up tables.
type codedRecord struct {
	source.NoNative
	rows map[string]string
}

func (codedRecord) Tables() *datapackage.Package { return coded }

func (codedRecord) Documents(
	context.Context, source.Query, func(*source.Document) error,
) error {
	return nil
}

func (r codedRecord) Rows(_ context.Context, table string, visit func(source.Rows) error) error {
	text := r.rows[table]
	return visit(source.Rows{
		Patient: "p", Data: []byte(text), Count: int64(strings.Count(text, "\n")),
	})
}

func (codedRecord) Lookup(
	_ context.Context, table string, _, values []string, visit func(source.Rows) error,
) error {
	row, ok := map[string]string{
		"term 1":  "1,E11.9,1\r\n", // broader than itself
		"term 2":  "2,J06.9,3\r\n",
		"term 3":  "3,B20,2\r\n", // each is the broader term of the other
		"term 4":  "4,I10,\r\n",
		"term 5":  "5," + secretID + ",\r\n",
		"group a": "a,4\r\n", "group b": "b,3\r\n",
	}[table+" "+values[0]]
	if !ok {
		return nil
	}
	return visit(source.Rows{Data: []byte(row), Count: 1})
}

// EHI-9: a row stays if the look-up row that it refers to, directly or through others, has a
// sensitive code or names something withheld. What refers to the row stays with it, and so do
// look-up rows to which nothing else refers.
func TestEHI9ARowStaysWithTheLookUpRowThatTellsItsCode(t *testing.T) {
	r := codedRecord{rows: map[string]string{
		"problem": "p1,p,1,\r\np2,p,2,\r\np3,p,3,\r\np4,p,4,a\r\np5,p,4,b\r\np6,p,5,\r\n" +
			"p7,p,,\r\n",
		"remark": "p1,one\r\np2,two\r\np5,five\r\np7,seven\r\n" +
			`p7,{\rtf1 {\b w}ithheld-0123456789}` + "\r\n",
	}}
	decide := native.NewRelease(strict{}, coded)
	x := export(t, native.Export{
		Record: r, Packaging: ehi.PackageFiles, Patient: "p", Decide: decide,
	})
	for name, want := range map[string]string{
		"tables/problem.csv": "id,patient,term,group\r\np1,p,1,\r\np4,p,4,a\r\np7,p,,\r\n",
		"tables/remark.csv":  "problem,text\r\np1,one\r\np7,seven\r\n",
		"tables/term.csv":    "key,icd,broader\r\n1,E11.9,1\r\n4,I10,\r\n",
		"tables/group.csv":   "key,first\r\na,4\r\n",
	} {
		if got := string(x.get(ehi.Index, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if n := decide.Withheld["reference-only"]; n != 7 {
		t.Errorf("withheld: %v", decide.Withheld)
	}
}

// EHI-9: a document that is text stays if it mentions something withheld, in UTF-8 or UTF-16, or if
// it is a clinical document with a sensitive code, wherever in it that is.
func TestEHI9ATextThatTellsSomethingWithheldStays(t *testing.T) {
	wide := func(text string) (out []byte) {
		for _, b := range []byte(text) {
			out = append(out, b, 0)
		}
		return out
	}
	long := strings.Repeat("no finding ", 60_000)
	for name, c := range map[string]struct {
		mime   string
		text   []byte
		leaves bool
	}{
		"harmless":           {"text/plain", []byte(long), true},
		"an ID":              {"text/plain", []byte(long + secretID + long), false},
		"an ID in UTF-16":    {"text/plain; charset=utf-16", wide(long + secretID), false},
		"an ID in rich text": {"application/rtf", []byte(`{\rtf1 ` + secretID + `}`), false},
		// nobody reads it
		"an ID in an image": {
			"image/png", []byte("\x89PNG\r\n\x1a\n\x00\x00\rIHDR\x01\x02\x03\xff" + secretID), true,
		},
		"an ID in a PDF": {"application/octet-stream", []byte("%PDF-1.7\n" + secretID), true},
		"an ID in HL7 v2 with its frame": {
			"application/hl7-v2", []byte("\vMSH|^~\\&|" + secretID + "\r\x1c\r"), false,
		},
		"an ID in a log with colors": {
			"application/octet-stream", []byte("\x1b[31m \x01" + secretID), false,
		},
		"an ID in UTF-16 of an unknown type": {
			"application/octet-stream", wide("see " + secretID), false,
		},
		"an ID in a text whose type says zip":    {"x/x-zip-note", []byte(secretID), false},
		"an ID in a text whose type is an image": {"image/x-note", []byte("BM " + secretID), false},
		"an ID in PostScript": {
			"application/postscript", []byte("%!PS-Adobe-3.0 " + secretID), false,
		},
		"a code": {
			"application/hl7-cda+xml",
			[]byte(`<value code="B20" codeSystem="2.16.840.1.113883.6.90"/>`), false,
		},
		"a code behind its system": {
			"text/xml",
			[]byte(long + "<value xsi:type='CD'\n codeSystem = '2.16' code = 'B20'>"), false,
		},
		"another code": {
			"text/xml", []byte(`<value code="E11.9" codeSystem="2.16.840.1.113883.6.90"/>`), true,
		},
		"an ID with escapes of JSON": {
			"application/json", []byte(`{"see":"` + long + `\u0077ithheld-012\u0033456789"}`), false,
		},
		"an ID with escapes of rich text": {
			"text/rtf", []byte(`{\rtf1 ` + long + `\'77ithheld-0\'31\'323456789}`), false,
		},
		"an ID in rich text with an optional hyphen": {
			"text/rtf", []byte(`{\rtf1 {\b w}ithheld\-0123456789}`), false,
		},
		"an ID with escapes of HTML": {
			"text/html", []byte(`<p>` + long + `&#119;ithheld-0123&#x34;56789`), false,
		},
		"a code with escapes of XML": {
			"application/hl7-cda+xml",
			[]byte(long + `<value code="&#66;2&#x30;" codeSystem="2.16.840.1.113883.6.90"/>`), false,
		},
		"another code with escapes": {
			"text/xml", []byte(`<value code="E1&#49;.9" codeSystem="2.16"/>`), true,
		},
		"an ID with escapes of another format": {
			"text/plain", []byte(`&#119;ithheld-0123&#x34;56789`), false,
		},
		"an ID in rich text of an unknown type": {
			"application/octet-stream",
			[]byte(`{\rtf1 ` + long + `{\b w}ithheld-0123456789}`), false,
		},
		"an ID in a text of a strange type": {
			"application/x-notes", []byte(long + secretID), false,
		},
		"an ID in a mail": {
			"message/rfc822",
			[]byte("Subject: \x01\r\n\r\n" + long + "=77ithheld-01=\r\n23456789"), false,
		},
		"a code with markup in its name": {
			"text/xml", []byte(`<value displayName="> 1" code='B20' codeSystem='2.16'/>`), false,
		},
		"a code in HTML within JSON": {
			"application/json",
			[]byte(`{"div":"<value code=\"B20\" codeSystem=\"2.16\"\/>"}`), false,
		},
		"a code with the name of its system": {
			"text/xml", []byte(`<value code="B20" codeSystemName="ICD-10-CM"/>`), false,
		},
		"a code far from its system": {
			"text/xml", []byte(strings.Repeat(" ", 256<<10-2500) +
				`<value code="B20" displayName="` +
				strings.Repeat("x", 300_000) + `" codeSystem="2.16"/>`), false,
		},
		"an ID with an entity": {
			"text/xml",
			[]byte(`<!DOCTYPE a [<!ENTITY h "held-">]><a>with&h;0123456789</a>`), false,
		},
		"an ID with escapes and markup": {
			"message/rfc822", []byte("<p>withheld-<b>0123=\r\n45</b>6789"), false,
		},
		"an ID with markup in an attribute": {
			"text/html", []byte(`<a href="x/<b title=''></b>withheld-<i>0123456789">`), false,
		},
		"an ID with markup in an attribute of HTML within XML": {
			"text/xml", []byte(`<text>&lt;a href='withheld-<b></b>0123456789'/></text>`), false,
		},
		"an ID with markup in a long attribute": {
			"text/html", []byte(`<a href="` + long + `withheld-<b></b>0123456789` +
				strings.Repeat("x ", 200) + `">x</a>`), false,
		},
		"markup in an attribute": {"text/html", []byte(`<a href="a<b>c<" title="<">`), true},
		"an ID in HTML within XML": {
			"text/xml", []byte("<text>withheld-&lt;b&gt;0123&lt;/b&gt;456789</text>"), false,
		},
		"an ID in JSON in JSON in JSON": {
			"application/json", []byte(`"\"\\\"\\\\u0077ithheld-0123456789\\\"\""`), false,
		},
		"a code in FHIR as JSON": {
			"application/fhir+json",
			[]byte(`{"resourceType":"Bundle","entry":[{"resource":{"text":{"div":"` + long +
				`"},"code":{"coding":[{"code":"B2\u0030","system":"urn:icd"}]}}}]}`), false,
		},
		"a code in FHIR of an unknown type": {
			"application/octet-stream",
			[]byte("\ufeff" + `[{"security":[{"system":"urn:icd","code":"B20"}]}]`), false,
		},
		"a code in lines of JSON in UTF-16": {
			"application/x-ndjson", wide("{}\n" + `{"codeSystem":"2.16","code":"B20"}`), false,
		},
		"another code in FHIR": {
			"application/fhir+json", []byte(`{"coding":[{"code":"E11.9","system":"urn:icd"},` +
				`{"code":"B20"}],"value":{"code":"B20","of":{"system":"urn:icd"}}}`), true,
		},
		"a code in FHIR as XML": {
			"application/fhir+xml", []byte(`<f:Bundle xmlns:f="http://hl7.org/fhir">` + long +
				`<f:coding><f:system value="urn:icd"/><f:version value="1"/><!-- <x> -->` +
				`<f:code value='B2&#48;'></f:code></f:coding></f:Bundle>`), false,
		},
		"a code in FHIR as XML of an unknown type": {
			"application/octet-stream", []byte(`<?xml version="1.0"?>` +
				`<Condition xmlns="http://hl7.org/fhir"><code><coding><system value="urn:icd"/>` +
				`<code value="B20"/></coding></code></Condition>`), false,
		},
		"another code in FHIR as XML": {
			"application/fhir+xml", []byte(`<code><coding><system value="urn:icd"/>` +
				`<code value="E11.9"/></coding><coding><code value="B20"/></coding></code>`), true,
		},
		"a code in HL7 v2": {
			"x-application/hl7-v2+er7",
			[]byte("MSH|^~\\&|X\rOBX|1|TX|||" + long + "\rDG1|1||E11.9^DM^I10~B20^HIV^I10\r"), false,
		},
		"a code in HL7 v2 of an unknown type": {
			"application/octet-stream", []byte("\vMSH|^~\\&|X\rPID|1\rDG1|1|I10|B20\r\x1c\r"),
			false,
		},
		"a code in a batch of HL7 v2 with other separators": {
			"application/edi-hl7", []byte("FHS#-~\\&#X\nMSH#-~\\&#X\nOBR#1#E11-DM-I10-B20-HIV-I9"),
			false,
		},
		"a code in HL7 v2 with escapes": {
			"x-application/hl7-v2+er7",
			[]byte("MSH|^~\\&|X\rOBX|1|ST|\\X42\\2\\X30\\^HIV^LN\r"), false,
		},
		"another code in HL7 v2": {
			"text/plain", []byte("MSH|^~\\&|B20\rDG1|1|B20^x|E11.9^B20^I10|B20\r"), true,
		},
		"a code of no system": {"text/xml", []byte(`<x code="B20"/>`), true},
	} {
		d := document(t, "", name, c.text)
		d.ContentType = c.mime
		v, err := native.NewRelease(strict{}, nil).Document(d, false)
		if err != nil || c.leaves != (v == native.Leaves) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	// at every place where pieces meet
	for at := 256<<10 - 30; at < 256<<10+4096+30; at += 7 {
		text := bytes.Repeat([]byte("-"), 600_000)
		copy(text[at:], secretID)
		d := document(t, "", "note", nil)
		d.ContentType = "text/plain"
		d.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
		v, err := native.NewRelease(strict{}, nil).Document(d, false)
		if v != native.Stays || err != nil {
			t.Fatalf("at %d: %v, %v", at, v, err)
		}
	}
}

// EHI-9: codes are found in what a document has behind or within something else.
func TestEHI9CodesAreFoundWhereverTheyBeginInADocument(t *testing.T) {
	const object = `{"resourceType":"Condition","code":{"coding":[{"system":"urn:icd","code":"%"}]}}`
	const xml = `<Condition xmlns="http://hl7.org/fhir"><code><coding><system value="urn:icd"/>` +
		`<code value="%"/></coding></code></Condition>`
	const message = "MSH|^~\\&|A\rPID|1\rDG1|1||%^HIV^I10\r"
	escaped := strings.NewReplacer(`"system"`, `"s\u0079stem"`, `"code":"`, `"\u0063\u006fde":"`).
		Replace(object)
	quoted := func(text string) string { return string(must(json.Marshal(text))) }
	long := strings.Repeat("x", 5000)
	for _, text := range []string{
		"received 12\":\n" + message, "# log\r\n" + message, "INFO " + message,
		"Export of \"today\n" + object, "// x\n" + object, "\x1e" + object, "\x00" + object,
		"Content-Type: application/fhir+json\n\n" + object + "\n--x--",
		`<script type="application/json">` + object + "</script>",
		"<log id=\"1\"><msg>" + object + "</msg></log>",
		`{"payload":` + quoted(object) + "}", `{"a":` + quoted(`{"b":`+quoted(object)+"}") + "}",
		`{"message":` + quoted(message) + "}", `{"doc":` + quoted(xml) + "}",
		escaped, "INFO " + escaped, `{"payload":` + quoted(escaped) + "}",
		"<?xml version='1.0'?><!-- " + long + " -->" + xml,
		"<s:Envelope><s:Header>" + long + "</s:Header>" + xml + "</s:Envelope>",
	} {
		for code, want := range map[string]native.Verdict{
			"B20": native.Stays, "E11": native.Leaves,
		} {
			d := document(t, "", "a", []byte(strings.ReplaceAll(text, "%", code)))
			d.ContentType = "text/plain"
			v, err := native.NewRelease(strict{}, nil).Document(d, false)
			if v != want || err != nil {
				t.Errorf("%.60q with %s: %v, want %v, %v", text, code, v, want, err)
			}
		}
	}
}

// EHI-9: a code is found in each form in which its document is found to be text.
func TestEHI9CodesAreFoundInEachFormOfAText(t *testing.T) {
	const object = `{"resourceType":"Condition","code":{"coding":[` +
		`{"system":"urn:icd","code":"%"}]}}`
	const xml = `<Condition xmlns="http://hl7.org/fhir"><code><coding><system value="urn:icd"/>` +
		`<code value="%"/></coding></code></Condition>`
	const message = "MSH|^~\\&|A\rPID|1\rDG1|1||%^HIV^I10\r"
	quoted := func(text string) string { return string(must(json.Marshal(text))) }
	references := html.EscapeString
	numbered := func(text string) string {
		return strings.NewReplacer(`"`, "&#34;", "<", "&#x3c;", "\r", "&#13;").Replace(text)
	}
	printable := func(text string) string {
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		must(w.Write([]byte(text)))
		must(w, w.Close())
		return strings.NewReplacer("B20", "=42=\r\n20", "E11", "=45=\r\n11").Replace(b.String())
	}
	rich := func(text string) string {
		return `{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0 ` + strings.NewReplacer(
			"{", `\{`, "}", `\}`, `\`, `\\`, "\r", "\\par\r\n").Replace(text) + "}"
	}
	for name, form := range map[string]func(text string) string{
		"a mail": func(text string) string {
			return "From: a\n\n" + printable(text)
		},
		"a mail with a string": func(text string) string {
			return "A: a\n\n" + printable(quoted(text))
		},
		"HTML": func(text string) string {
			return "<pre>" + references(text) + "</pre>"
		},
		"HTML by numbers": func(text string) string {
			return "<pre>" + numbered(text) + "</pre>"
		},
		"HTML within XML": func(text string) string {
			return "<a>" + references(references(text)) + "</a>"
		},
		"HTML in a mail": func(text string) string {
			return "A: a\n\n" + printable("<p>"+references(text))
		},
		"HTML in a string": func(text string) string {
			return `{"a":` + quoted("<p>"+references(text)) + "}"
		},
		"a CDATA section": func(text string) string {
			return "<a x='1'><b/><![CDATA[" + text + "]]></a>"
		},
		"CDATA beside other text": func(text string) string {
			return "<a xmlns='http://hl7.org/fhir'><![CDATA[a < b 'c]]>" +
				"<![CDATA[</a>" + text + "]]></a>"
		},
		"CSV": func(text string) string {
			return "id,note\n1,\"" + strings.ReplaceAll(text, `"`, `""`) + "\"\n"
		},
		"rich text": rich,
		"rich text with HTML": func(text string) string {
			return rich("<p>" + references(text))
		},
		"URL": func(text string) string {
			return "http://x?q=" + url.PathEscape(text)
		},
		"UTF-7": func(text string) string {
			return strings.NewReplacer("B20", "+AEIAMgAw-", "E11", "+AEUAMQAx-").Replace(text)
		},
		"a string behind text": func(text string) string {
			return `{"a":` + quoted("see "+text) + "}"
		},
		"a string in a log": func(text string) string {
			return "INFO at=1 " + quoted("see:\r"+text)
		},
	} {
		for _, text := range []string{object, xml, message} {
			for code, want := range map[string]native.Verdict{
				"B20": native.Stays, "E11": native.Leaves,
			} {
				text := form(strings.ReplaceAll(text, "%", code))
				d := document(t, "", "a", []byte(text))
				d.ContentType = "text/plain"
				v, err := native.NewRelease(strict{}, nil).Document(d, false)
				if v != want || err != nil {
					t.Errorf("%s, %.300q with %s: %v, want %v, %v", name, text, code, v, want, err)
				}
			}
		}
	}
}

// EHI-9, NAT-4: a document stays in every character set that it declares or looks like. If nobody
// here can read its character set, it waits.
func TestEHI9ATextIsReadInItsCharacterSet(t *testing.T) {
	in := func(encoding *charmap.Charmap, text string) string {
		return string(must(encoding.NewEncoder().Bytes([]byte(text))))
	}
	old := in(charmap.CodePage037, "The patient came in good health. See "+secretID)
	const stays, waits, leaves = native.Stays, native.Waits, native.Leaves
	for _, c := range []struct {
		mime, text string
		want       native.Verdict
	}{
		{"text/plain; charset=UTF-7", "see withheld+AC0-0123456789", stays},
		{"text/plain;charset=utf-7;charset=utf-7", "+AHcAaQB0AGgAaABlAGwAZAAt-0123456789", stays},
		{"text/plain", "see withheld+AC0-0123456789", stays},
		{"text/html", "<p>1 + 1<p>withheld+AC0AMAAx-23456<b>7</b>89", stays},
		{`text/plain; charset="IBM037"`, old, stays},
		{"application/octet-stream; charset=cp1047", old, stays},
		{"text/plain; charset=ebcdic-cp-us", old, stays},
		{"text/plain", old, stays},
		{"application/octet-stream", old, stays},
		{"text/plain; charset=ibm500", "see " + secretID, stays},
		{"text/xml", in(charmap.CodePage1140, `<?xml version="1.0" encoding="cp1140"?>`+
			`<value code="B&#50;0" codeSystem="2.16"/>`), stays},
		{"application/json", in(charmap.CodePage037, `{"a":"with\u0068eld-0123456789","b":"c"}`),
			stays},
		{"text/plain; charset=gb18030", "\xc4\xe3" + secretID, stays},
		{"text/plain; charset=iso-2022-jp", "\x1b$B$3\x1b(B" + secretID, stays},
		{"text/plain; charset=x-martian", "see " + secretID, stays},
		{"text/plain; charset=x-martian", "harmless", waits},
		{"text/plain; charset=iso-2022-kr", "harmless", waits},
		{"text/xml", `<?xml version="1.0" encoding="scsu"?><a/>`, waits},
		{"text/html", `<html><meta charset=bocu-1><p>harmless`, waits},
		{"application/octet-stream; charset=ibm424", in(charmap.CodePage037, "harmless"), waits},
		{"text/plain; charset=x-martian", "\ufeffharmless", leaves},
		{"image/png; charset=x-martian", "\x89PNG\r\n\x1a\n\x00\x01\x02\x03\xff", leaves},
		{"application/pdf; charset=ibm037", "%PDF-1.7", leaves},
		{"text/plain; charset=iso-8859-1", "harmless \xe9", leaves},
		{"text/plain; charset=windows-1252", "harmless \xe9", leaves},
		{"text/plain; charset=us-ascii", "1 +AOk- 2", leaves},
		{"text/plain; charset=utf-16", "h\x00a\x00r\x00m\x00", leaves},
		{"text/xml", `<?xml version="1.0" encoding="UTF-8"?><a/>`, leaves},
		{"text/plain; charset=shift_jis", "\x83\x6e", leaves},
		{"text/plain; charset=utf_8", "harmless", leaves},
		{"text/plain; charset=UTF-8-SIG", "harmless", leaves},
		{"text/plain; charset=ISO8859_1", "harmless \xe9", leaves},
		{"text/plain; charset=windows1252", "harmless \xe9", leaves},
		{"text/plain; charset=win-1252", "harmless \xe9", leaves},
		{"text/plain; charset=8859/1", "harmless", leaves},
		{"text/plain; charset=en_US.UTF-8", "harmless", leaves},
		{"text/plain; charset=unknown", "harmless", leaves},
		{"text/plain; charset=default", "harmless", leaves},
		{"text/plain; charset=none", "harmless", leaves},
		{"text/plain; charset=ASCII//TRANSLIT", "harmless", leaves},
		{"text/plain; charset=unknown", "see " + secretID, stays},
		{"text/plain; charset=utf_7", "see withheld+AC0-0123456789", stays},
		{"text/plain; charset=de_DE.ibm037", old, stays},
	} {
		d := document(t, "", "note", []byte(c.text))
		d.ContentType = c.mime
		v, err := native.NewRelease(strict{}, nil).Document(d, false)
		if v != c.want || err != nil {
			t.Errorf("%s %q: %v, want %v, %v", c.mime, c.text, v, c.want, err)
		}
	}
}

// EHI-14: what an application learns of an export does not depend on what waits.
func TestWhatWaitsLeavesNoTraceInWhatLeaves(t *testing.T) {
	figures := func(waiting int) (out []string) {
		r := sample(t, "")
		for i := range waiting {
			d := document(t, "", fmt.Sprint("waits", i), bytes.Repeat([]byte("w"), 5000))
			d.Category = ""
			r.documents = append([]*source.Document{d}, r.documents...)
		}
		x := export(t, native.Export{
			Record: r, Packaging: ehi.PackageFiles, Patient: "p",
			Decide: native.NewRelease(strict{}, clinic),
		})
		job := ehi.Job{Status: ehi.Requested, Tasks: 1}
		x.task.Committed = true
		if err := job.Complete(x.task, time.Now(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if job.Held != int64(waiting) {
			t.Errorf("%d files wait, want %d", job.Held, waiting)
		}
		out = append(out, fmt.Sprint(job.Bytes, job.Files, job.Documents, job.Counts))
		for _, f := range x.task.Files {
			if !f.Kind.Hidden() {
				out = append(out, fmt.Sprintln(f.Kind, f.Count, f.Length, f.Sum), string(x.file(f)))
			}
		}
		return out
	}
	if d := cmp.Diff(figures(0), figures(7)); d != "" {
		t.Error(d)
	}
}

// chained is a table whose rows refer to each other, in whatever order they come, and to a table
// that comes after it in a circle.
var chained = must(datapackage.Parse([]byte(`{"name":"chained","resources":[
 {"name":"step","path":"step.csv",
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"before"},{"name":"plan"},
    {"name":"code","ehi:system":"urn:icd","ehi:label":true},
    {"name":"of","ehi:resource":"Condition","ehi:system":"urn:icd"},
    {"name":"secret","type":"boolean"}],
   "primaryKey":"id","foreignKeys":[
    {"fields":"before","reference":{"resource":"","fields":"id"}},
    {"fields":"plan","reference":{"resource":"plan","fields":"id"}}]},
  "ehi:patient":["patient"],"ehi:category":"medicalRecord",
  "ehi:sensitive":[{"field":"secret","values":["true"],"authorization":"confidential"}]},
 {"name":"plan","path":"plan.csv",
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"first"}],"primaryKey":"id",
   "foreignKeys":[{"fields":"first","reference":{"resource":"step","fields":"id"}}]},
  "ehi:patient":["patient"],"ehi:category":"medicalRecord"},
 {"name":"odd","path":"odd.csv","schema":{"fields":[{"name":"id"},{"name":"patient"}],
   "primaryKey":"id"},"ehi:patient":["patient"]},
 {"name":"child","path":"child.csv","schema":{"fields":[{"name":"odd"},{"name":"patient"}],
   "foreignKeys":[{"fields":"odd","reference":{"resource":"odd","fields":"id"}}]},
  "ehi:patient":["patient"],"ehi:category":"medicalRecord"}]}`)))

type chainedRecord struct{ codedRecord }

func (chainedRecord) Tables() *datapackage.Package { return chained }

// EHI-9, NAT-4: a row stays with the row that it refers to, in whatever order they come, in a
// circle, and if that one waits. Every property of a column counts, and a value however it is
// written.
func TestEHI9RowsStayWithWhatTheyReferToInAnyOrder(t *testing.T) {
	r := chainedRecord{codedRecord{rows: map[string]string{
		"step": "a,p,b,,,,\r\nb,p,c,,,,\r\nc,p,,,B20,,\r\nd,p,,x,,,\r\ne,p,,,,B20,\r\n" +
			"f,p,,,,,TRUE\r\ng,p,,,,,1\r\nh,p,g,,,,\r\ni,p,,y,,,false\r\n",
		"plan":  "x,p,a\r\ny,p,i\r\n",
		"odd":   "o,p\r\n",
		"child": "o,p\r\n,p\r\n",
	}}}
	var moved atomic.Int64
	x := export(t, native.Export{
		Record: r, Packaging: ehi.PackageFiles, Patient: "p", Moved: &moved,
		Decide: native.NewRelease(strict{}, chained),
	})
	passes := 0 // the first and the last decide, and one at least is needed between them
	for _, rows := range r.rows {
		passes += 3 * len(rows)
	}
	if int(moved.Load()) < passes {
		t.Errorf("%d bytes are signs of progress, want %d", moved.Load(), passes)
	}
	for name, want := range map[string]string{
		"tables/step.csv":  "id,patient,before,plan,code,of,secret\r\ni,p,,y,,,false\r\n",
		"tables/plan.csv":  "id,patient,first\r\ny,p,i\r\n",
		"tables/child.csv": "odd,patient\r\n,p\r\n",
	} {
		if got := string(x.get(ehi.Index, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// unsorted are tables that nobody has classified, and that refer to themselves and to each other.
var unsorted = must(datapackage.Parse([]byte(`{"name":"unsorted","resources":[
 {"name":"folder","path":"folder.csv",
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"within"},{"name":"note"}],
   "primaryKey":"id","foreignKeys":[
    {"fields":"within","reference":{"resource":"","fields":"id"}}]},"ehi:patient":["patient"]},
 {"name":"sheet","path":"sheet.csv",
  "schema":{"fields":[{"name":"id"},{"name":"folder"}],"primaryKey":"id","foreignKeys":[
    {"fields":"folder","reference":{"resource":"folder","fields":"id"}}]},
  "ehi:patient":["folder","patient"]},
 {"name":"visit","path":"visit.csv",
  "schema":{"fields":[{"name":"id"},{"name":"patient"},{"name":"sheet"}],"primaryKey":"id",
   "foreignKeys":[{"fields":"sheet","reference":{"resource":"sheet","fields":"id"}}]},
  "ehi:patient":["patient"],"ehi:category":"visits"}]}`)))

type unsortedRecord struct{ codedRecord }

func (unsortedRecord) Tables() *datapackage.Package { return unsorted }

// NAT-4: a row of a table that waits waits with the rows that it refers to, whatever order they
// come in, and stays only with those that stay. A row of another table stays with both.
func TestNAT4RowsThatReferToRowsThatWaitWaitWithThem(t *testing.T) {
	r := unsortedRecord{codedRecord{rows: map[string]string{
		"folder": "a,p,b,\r\nb,p,c,\r\nc,p,,\r\nd,p,e,\r\ne,p,," + secretID + "\r\nf,p,f,\r\n",
		"sheet":  "1,a\r\n2,d\r\n3,\r\n",
		"visit":  "v,p,1\r\nw,p,2\r\nx,p,\r\n",
	}}}
	decide := native.NewRelease(strict{}, unsorted)
	x := export(t, native.Export{
		Record: r, Packaging: ehi.PackageFiles, Patient: "p", Decide: decide,
	})
	for name, want := range map[string]string{
		"tables/folder.csv": "id,patient,within,note\r\na,p,b,\r\nb,p,c,\r\nc,p,,\r\nf,p,f,\r\n",
		"tables/sheet.csv":  "id,folder\r\n1,a\r\n3,\r\n",
	} {
		if got := string(x.get(ehi.HeldIndex, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	want := "id,patient,sheet\r\nx,p,\r\n"
	if got := string(x.get(ehi.Index, "tables/visit.csv")); got != want {
		t.Errorf("the visits that leave are %q, want %q", got, want)
	}
	reasons := map[string]int64{native.Unclassified: 6, "reference-only": 5}
	if d := cmp.Diff(reasons, decide.Withheld); d != "" {
		t.Error(d)
	}
}

// unread are two tables that nobody has classified, with look-up tables of their own.
var unread = must(datapackage.Parse([]byte(`{"name":"unread","resources":[
 {"name":"device","path":"device.csv",
  "schema":{"fields":[{"name":"patient"},{"name":"kind"},{"name":"visit"}],"foreignKeys":[
    {"fields":"kind","reference":{"resource":"term","fields":"key"}},
    {"fields":"visit","reference":{"resource":"visit","fields":"id"}}]},
  "ehi:patient":["patient"]},
 {"name":"diet","path":"diet.csv",
  "schema":{"fields":[{"name":"patient"},{"name":"kind"}],"foreignKeys":[
    {"fields":"kind","reference":{"resource":"group","fields":"key"}}]},
  "ehi:patient":["patient"]},
 {"name":"visit","path":"visit.csv",
  "schema":{"fields":[{"name":"id"},{"name":"patient"}],"primaryKey":"id"},
  "ehi:patient":["patient"],"ehi:category":"visits"},
 {"name":"term","path":"term.csv",
  "schema":{"fields":[{"name":"key"},{"name":"icd","ehi:system":"urn:icd"},{"name":"broader"}],
   "primaryKey":"key"},"ehi:lookup":true},
 {"name":"group","path":"group.csv",
  "schema":{"fields":[{"name":"key"},{"name":"first"}],"primaryKey":"key","foreignKeys":[
    {"fields":"first","reference":{"resource":"term","fields":"key"}}]},"ehi:lookup":true}]}`)))

type unreadRecord struct{ codedRecord }

func (unreadRecord) Tables() *datapackage.Package { return unread }

// NAT-3, NAT-4: with a table that waits there are its description and the look-up rows that its
// rows refer to, which nothing else has. Each table has its own, because each is decided alone.
func TestNAT4ATableThatWaitsCanBeReadOnItsOwn(t *testing.T) {
	r := unreadRecord{codedRecord{rows: map[string]string{
		"device": "p,1,v1\r\np,3,v1\r\n", "diet": "p,a\r\n", "visit": "v1,p\r\n",
	}}}
	for _, packaging := range []ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP} {
		x := export(t, native.Export{
			Record: r, Packaging: packaging, Patient: "p",
			Decide: native.NewRelease(strict{}, unread),
		})
		for name, want := range map[string]string{
			"tables/device.csv":      "patient,kind,visit\r\np,1,v1\r\n", // 3 has a sensitive code
			"tables/device~term.csv": "key,icd,broader\r\n1,E11.9,1\r\n",
			"tables/diet.csv":        "patient,kind\r\np,a\r\n",
			"tables/diet~group.csv":  "key,first\r\na,4\r\n",
			"tables/diet~term.csv":   "key,icd,broader\r\n4,I10,\r\n",
		} {
			kind := ehi.HeldIndex
			if strings.Contains(name, "~") {
				kind = ehi.HeldBesideIndex
			}
			if got := string(x.get(kind, name)); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		waits := listed(t, x.kind(ehi.HeldDocuments), downloads, func(name string) []byte {
			return x.get(ehi.HeldIndex, name)
		})
		with := listed(t, x.kind(ehi.HeldBeside), downloads, func(name string) []byte {
			return x.get(ehi.HeldBesideIndex, name)
		})
		if len(waits) != 2 || len(with) != 5 {
			t.Errorf("%q wait, with %q", waits, with)
		}
		err := native.Each(bytes.NewReader(x.kind(ehi.HeldBesideIndex)),
			func(f ehi.NativeFile) error {
				table, _, _ := strings.Cut(f.Name, "~")
				if waits[f.With] != table+".csv" {
					t.Errorf("%s is released with %s", f.Name, waits[f.With])
				}
				return nil
			})
		if err != nil {
			t.Error(err)
		}
		for table, want := range map[string]int{"device": 2, "diet": 3} {
			p := must(datapackage.Parse(x.get(ehi.HeldBesideIndex,
				"tables/"+table+"~datapackage.json")))
			if len(p.Resources) != want {
				t.Errorf("%s is described with %d tables", table, len(p.Resources))
			}
			for _, r := range p.Resources {
				kind := ehi.HeldBesideIndex
				if r.Name == table {
					kind = ehi.HeldIndex
				}
				if got := x.get(kind, "tables/"+r.Path[0]); int64(len(got)) != r.Bytes {
					t.Errorf("%s has %d bytes, and is described with %d", r.Path, len(got), r.Bytes)
				}
			}
		}
		whole := x.kind(ehi.Documents)
		if len(x.task.Files) == 0 || bytes.Contains(whole, []byte("term")) {
			t.Errorf("the list names what waits: %s", whole)
		}
	}
}

// dated returns a table with a column of dates.
func dated(field string) *datapackage.Package {
	return must(datapackage.Parse([]byte(`{"name":"dated","resources":[
 {"name":"visit","path":"visit.csv","schema":{"fields":[{"name":"patient"},` + field + `]},
  "ehi:patient":["patient"],"ehi:category":"visits","ehi:date":"at"}]}`)))
}

// limited are rules with dates from 10 to 20 March 2024.
type limited struct{ strict }

func (limited) Line(_ ehi.Category, happened *fhir.Span) string {
	from := time.Date(2024, 3, 10, 0, 0, 0, 0, time.UTC)
	if happened == nil || !happened.Overlaps(from, from.AddDate(0, 0, 11)) {
		return "category.visits"
	}
	return ""
}

// EHI-9: limits of dates apply to what a date of a row says, to its second if it says that.
func TestEHI9LimitsOfDatesApplyToDatesOfEveryForm(t *testing.T) {
	for _, c := range []struct {
		field       string
		leave, stay []string
	}{
		{`{"name":"at","type":"datetime","format":"%d.%m.%Y %H:%M:%S"}`,
			[]string{"10.03.2024 00:00:00", "20.03.2024 23:59:59"},
			[]string{"09.03.2024 00:00:01", "09.03.2024 23:59:59", "21.03.2024 00:00:00", ""}},
		{`{"name":"at","type":"datetime","format":"%Y-%m-%d %H:%M:%S %z"}`,
			[]string{"2024-03-20 23:00:00 +0000"},
			[]string{"2024-03-09 12:00:00 +0000", "2024-03-10 01:00:00 +0200"}},
		{`{"name":"at","type":"date","format":"%d.%m.%Y"}`,
			[]string{"10.03.2024", "20.03.2024"}, []string{"09.03.2024", "21.03.2024"}},
		{`{"name":"at","type":"datetime"}`,
			[]string{"2024-03-10T00:00:00Z", "2024-03-20T23:59:59"},
			[]string{"2024-03-09T23:59:59Z", "2024-03-21T00:00:00", "2024-03-10T00:30:00+02:00"}},
		{`{"name":"at","type":"datetime","format":"any"}`,
			[]string{
				"2024-03-20", "2024-03", "2024-03-20 23:59", "2024-03-20T23:59:59.5",
				"2024-03-20 23:59:59Z", "2024-03-21 00:30:00+01:00", "2024-03-21T00:30+0100",
				"2024-03-21 00:30:00 +0100", "2024-03-21 00:30:00.25+01", " 2024-03-10 ",
			},
			[]string{
				"2024-03-09", "2024-02", "2024-03-09 23:59", "2024-03-09T23:59:59.5",
				"2024-03-10 00:30:00+01:00", "2024-03-21 00:00", "15.03.2024", "2024-3-15",
			}},
		{`{"name":"at","type":"date","format":"any"}`,
			[]string{"2024-03-20"}, []string{"2024-03-09", "15 March 2024"}},
		{`{"name":"at"}`, []string{"2024-03-20 23:59"}, []string{"2024-03-21 00:00"}},
		{`{"name":"at","type":"year"}`, []string{"2024"}, []string{"2023", "2025"}},
		{`{"name":"at","type":"yearmonth"}`, []string{"2024-03"}, []string{"2024-02", "2024-04"}},
	} {
		p := dated(c.field)
		r := native.NewRelease(limited{}, p)
		if _, _, err := r.Table(p.Table("visit")); err != nil {
			t.Fatal(err)
		}
		for value, want := range marked(c.leave, c.stay) {
			got, err := r.Row([][]byte{[]byte("p"), []byte(value)}, []byte("p,"+value), false)
			if got != want || err != nil {
				t.Errorf("%s with %q leaves: %t, %v", c.field, value, got, err)
			}
		}
	}
}

// marked says of values whether they leave.
func marked(leave, stay []string) map[string]bool {
	of := map[string]bool{}
	for _, v := range leave {
		of[v] = true
	}
	for _, v := range stay {
		of[v] = false
	}
	return of
}

// declared returns decisions about a table with one column and a patient.
func declared(t *testing.T, rules native.Rules, field, properties string) *native.Release {
	t.Helper()
	p := must(datapackage.Parse([]byte(`{"name":"declared","resources":[
 {"name":"fact","path":"fact.csv","schema":{"fields":[{"name":"patient"},` + field + `]},
  "ehi:patient":["patient"],"ehi:category":"medicalRecord"` + properties + `}]}`)))
	r := native.NewRelease(rules, p)
	if _, _, err := r.Table(p.Table("fact")); err != nil {
		t.Fatal(err)
	}
	return r
}

// EHI-9: a declared value counts however its type lets it be written, and a text as it is read.
func TestEHI9ADeclaredValueCountsHoweverItIsWritten(t *testing.T) {
	sensitive := func(value string) string {
		return `,"ehi:sensitive":[{"field":"f","values":["` + value + `"],"authorization":"hiv"}]`
	}
	for _, c := range []struct {
		field, properties string
		leave, stay       []string
	}{
		{`{"name":"f","type":"number"}`, sensitive("1"),
			[]string{"11", "0.1", "", "10e1"}, []string{"1", "01", "1.0", "+1", "1e0", " 1"}},
		{`{"name":"f","type":"integer"}`, sensitive("01"),
			[]string{"10", "-1"}, []string{"1", "01", "+1"}},
		{`{"name":"f","type":"number","decimalChar":","}`, sensitive("1"),
			[]string{"1,5"}, []string{"1,0"}},
		{`{"name":"f","type":"datetime"}`, sensitive("2024-01-01T00:00:00Z"),
			[]string{"2024-01-01T00:00:00+01:00"},
			[]string{"2024-01-01T00:00:00Z", "2024-01-01T01:00:00+01:00"}},
		{`{"name":"f","type":"boolean","trueValues":["J"],"falseValues":["N"]}`, sensitive("true"),
			[]string{"N", "false", "0"}, []string{"J", "j", "true", "1"}},
		{`{"name":"f"}`, sensitive("HIV"),
			[]string{"HIVE", "X,Y", "", "no HIV"},
			[]string{"HIV", "hiv ", "\u00a0HIV", "H\u200bIV", "\uff28\uff29\uff36", "HIV;X", "X,HIV",
				`"HIV"`, "X| hiv", "HIV^X", "x~HIV", "“HIV”"}},
		{`{"name":"f","type":"array"}`, sensitive("HIV"), []string{`["X"]`},
			[]string{`["HIV"]`, `["X", "h\u0069v"]`, `[["X;HIV"]]`}},
		{`{"name":"f","ehi:system":"urn:icd"}`, "", []string{"E11.9"}, []string{"B20"}},
		{`{"name":"f","type":"number","ehi:system":"urn:icd"}`, "",
			[]string{"7"}, []string{"86406008", "86406008.0", "8.6406008e7", "+86406008"}},
		{`{"name":"f","type":"array"}`, "", []string{`["E11"]`, `[`},
			[]string{`["B20"]`, `["E11", "B2\u0030"]`}},
		{`{"name":"f","type":"object"}`, "", []string{`{"x": "E11"}`},
			[]string{`{"x": "B20"}`, `{"x": "B20", "x": ""}`, `{"B20": 1}`, `{"x": [86406008]}`}},
		{`{"name":"f"}`, "",
			[]string{"a < b", "a = 1", "50 %", "R&D", "<b>B2</b>", "withheld-01%", "x=", "<", `a\b`,
				"+1 555", "C+A", "+A"},
			[]string{
				"<p>withheld-<b>0123</b>456789</p>", "withheld&#45;0123456789", "<b>B20</b>",
				"withheld=2D0123456789", "withheld-0123=\r\n456789", "withheld-0123= \n456789",
				"withheld%2D0123456789", `{\rtf1 withheld-{\b 01}23456789}`,
				"withheld-<wbr>0123456789", "withheld+AC0-0123456789", "+AEIAMgAw-",
				html.EscapeString(`{"system":"urn:icd","code":"86406008"}`),
				url.PathEscape(`{"system":"urn:icd","code":"86406008"}`),
				`<value code="B20" codeSystem="2.16.840.1.113883.6.90"/>`,
			}},
		{`{"name":"f"}`, "",
			[]string{`{"system":"urn:icd","code":"E11"}`, `{B20}`, `[]`},
			[]string{
				`{"coding":[{"system":"urn:icd","code":"B20"}]}`,
				` [{"code":"B20","system":"urn:icd"}]`,
				"\ufeff{\"code\":86406008,\"codeSystem\":\"2.16\"}",
				`{"s\u0079stem":"urn:icd","\u0063ode":"B20"}`,
			}},
		{`{"name":"f","type":"object"}`, "", []string{`{"x": "a < b"}`},
			[]string{
				`{"x": "{\\rtf1 withheld-{\\b 01}23456789}"}`, `{"x": "withheld-<b>01</b>23456789"}`,
				`{"x": "withheld-0123=\r\n456789"}`,
			}},
	} {
		r := declared(t, strict{}, c.field, c.properties)
		for value, want := range marked(c.leave, c.stay) {
			got, err := r.Row([][]byte{[]byte("p"), []byte(value)}, []byte("p,"+value), false)
			if got != want || err != nil {
				t.Errorf("%s%s with %q leaves: %t, %v", c.field, c.properties, value, got, err)
			}
		}
	}
}

// oneSystem are rules by which B20 is sensitive in the system urn:icd, and in texts.
type oneSystem struct{ strict }

func (r oneSystem) Code(system string, code []byte) string {
	if system != "urn:icd" {
		return ""
	}
	return r.strict.Code(system, code)
}

func (r oneSystem) Text(text []byte) string { return r.strict.Text(text) }

// EHI-9: a code of a declared system counts in that system alone, and an ID is no code. In any
// other text a code counts.
func TestEHI9ACodeOfADeclaredSystemIsNoTextOfAnother(t *testing.T) {
	for field, leaves := range map[string]bool{
		`{"name":"f","ehi:system":"urn:icd"}`:                false,
		`{"name":"f","ehi:system":"urn:unit"}`:               true,
		`{"name":"f","type":"array","ehi:system":"urn:x"}`:   true,
		`{"name":"f","ehi:resource":"Location"}`:             true,
		`{"name":"f"}`:                                       false,
		`{"name":"f","ehi:label":true}`:                      false,
		`{"name":"f","type":"any"}`:                          false,
		`{"name":"g","ehi:system":"urn:unit"},{"name":"f"}`:  false,
		`{"name":"g"},{"name":"f","ehi:system":"urn:units"}`: true,
	} {
		r := declared(t, oneSystem{}, field, "")
		for value, said := range map[string]string{"B20": "B20", "<b>B20</b>": "B20", "ok": "ok"} {
			row := [][]byte{[]byte("p"), []byte(value)}
			if strings.Contains(field, `"g"`) {
				row = [][]byte{[]byte("p"), []byte("E11"), []byte(value)}
			}
			raw := bytes.Join(row, []byte(","))
			got, err := r.Row(row, raw, false)
			if want := leaves || said == "ok"; got != want || err != nil {
				t.Errorf("%s with %q leaves: %t, %v", field, value, got, err)
			}
		}
	}
	patient := declared(t, oneSystem{}, `{"name":"f"}`, "")
	if got, err := patient.Row([][]byte{[]byte("B20"), nil}, []byte("B20,"), false); !got {
		t.Error("the ID of a patient counts as a code", err)
	}
}

// lacking are tables with texts that stand for no value.
var lacking = must(datapackage.Parse([]byte(`{"name":"lacking","resources":[
 {"name":"visit","path":"visit.csv","schema":{"missingValues":["-"],
   "fields":[{"name":"patient"},{"name":"id"},{"name":"code","ehi:system":"urn:icd"}]},
  "ehi:patient":["patient"],"ehi:category":"visits"},
 {"name":"note","path":"note.csv","schema":{"missingValues":["-"],
   "fields":[{"name":"patient"},{"name":"visit"},{"name":"hiv"}],"foreignKeys":[
    {"fields":"visit","reference":{"resource":"visit","fields":"id"}}]},
  "ehi:sensitive":[{"field":"hiv","authorization":"hiv"}],
  "ehi:patient":["patient"],"ehi:category":"medicalRecord"}]}`)))

type lackingRecord struct{ codedRecord }

func (lackingRecord) Tables() *datapackage.Package { return lacking }

// EHI-9: a text that stands for no value refers to nothing, and needs no authorization. An empty
// one that does not is a value.
func TestEHI9AMissingValueIsNoValue(t *testing.T) {
	x := export(t, native.Export{
		Record: lackingRecord{codedRecord{rows: map[string]string{
			"visit": "p,-,B20\r\np,,B20\r\np,7,-\r\n",
			"note":  "p,-,-\r\np,,-\r\np,7,\r\np,7,x\r\n",
		}}},
		Packaging: ehi.PackageFiles, Patient: "p", Decide: native.NewRelease(strict{}, lacking),
	})
	for name, want := range map[string]string{
		"tables/visit.csv": "patient,id,code\r\np,7,-\r\n",
		"tables/note.csv":  "patient,visit,hiv\r\np,-,-\r\np,7,\r\n",
	} {
		if got := string(x.get(ehi.Index, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// EHI-9: a declared value counts even if it is declared to stand for none.
func TestEHI9ADeclaredValueCountsThatStandsForNone(t *testing.T) {
	r := declared(t, strict{}, `{"name":"f","missingValues":["unknown"]}`,
		`,"ehi:sensitive":[{"field":"f","values":["unknown"],"authorization":"hiv"}]`)
	leaves, err := r.Row([][]byte{[]byte("p"), []byte("unknown")}, []byte("p,unknown"), false)
	if leaves || err != nil {
		t.Error("it leaves", err)
	}
}

// numbered are tables with numbers as keys.
var numbered = must(datapackage.Parse([]byte(`{"name":"numbered","resources":[
 {"name":"visit","path":"visit.csv","schema":{"fields":[{"name":"id","type":"integer"},
    {"name":"patient"},{"name":"code","ehi:system":"urn:icd"}],"primaryKey":"id"},
  "ehi:patient":["patient"],"ehi:category":"visits"},
 {"name":"note","path":"note.csv","schema":{"fields":[{"name":"patient"},
    {"name":"visit","type":"number"},{"name":"term","type":"integer"}],"foreignKeys":[
    {"fields":"visit","reference":{"resource":"visit","fields":"id"}},
    {"fields":"term","reference":{"resource":"term","fields":"key"}}]},
  "ehi:patient":["patient"],"ehi:category":"medicalRecord"},
 {"name":"term","path":"term.csv",
  "schema":{"fields":[{"name":"key","type":"integer"},{"name":"icd","ehi:system":"urn:icd"},
    {"name":"broader"}],"primaryKey":"key"},"ehi:lookup":true}]}`)))

type numberedRecord struct{ codedRecord }

func (numberedRecord) Tables() *datapackage.Package { return numbered }

// EHI-9: keys refer to what has the same value, however it is written.
func TestEHI9KeysReferByValueNotBySpelling(t *testing.T) {
	x := export(t, native.Export{
		Record: numberedRecord{codedRecord{rows: map[string]string{
			"visit": "5,p,B20\r\n006,p,B20\r\n7,p,\r\n",
			"note": "p,05,\r\np,+5,\r\np,5.0,\r\np,6,\r\np,07,\r\np,,003\r\np,,+4\r\n" +
				"p,,9\r\n",
		}}},
		Packaging: ehi.PackageFiles, Patient: "p", Decide: native.NewRelease(strict{}, numbered),
	})
	for name, want := range map[string]string{
		"tables/note.csv": "patient,visit,term\r\np,07,\r\np,,+4\r\np,,9\r\n",
		"tables/term.csv": "key,icd,broader\r\n4,I10,\r\n",
	} {
		if got := string(x.get(ehi.Index, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// naming are rules by which each text of a cell is the ID of a resource.
type naming struct{ strict }

func (naming) Named(typ string, text []byte, visit func(typ string, name []byte)) {
	for _, name := range bytes.Split(text, []byte(";")) {
		visit(typ, name)
	}
}

func (naming) Called(value []byte) string {
	if string(value) == "called" || string(value) == "both" {
		return "reference-only"
	}
	return ""
}

// EHI-9: a row stays with a resource that is another patient's, or that it names by an identifier.
// The store is asked once for each resource, and what it cannot say ends the export.
func TestEHI9ARowStaysWithWhatItNamesOutsideOfTheRecord(t *testing.T) {
	r := declared(t, naming{}, `{"name":"f","type":"number","ehi:resource":"Encounter"}`, "")
	asked := map[string]int{}
	r.Find = func(typ, id string) ([]byte, error) {
		asked[typ+"/"+id]++
		if id == "own" || id == "both" {
			return []byte("{}"), nil
		}
		return nil, nil
	}
	broken := errors.New("broken")
	r.Beside = func(_, id string) (string, error) {
		switch id {
		case "foreign", "77":
			return "reference-only", nil
		case "broken":
			return "", broken
		}
		return "", nil
	}
	for range 2 {
		for value, want := range marked(
			[]string{"own", "absent", "own;absent", "", "both"},
			[]string{"foreign", "own;foreign", "called", "77", "077.0"},
		) {
			got, err := r.Row([][]byte{[]byte("p"), []byte(value)}, []byte("p,"+value), false)
			if got != want || err != nil {
				t.Errorf("%q leaves: %t, %v", value, got, err)
			}
		}
	}
	if asked["Encounter/own"] != 1 || asked["Encounter/foreign"] != 1 {
		t.Errorf("asked %v", asked)
	}
	_, err := r.Row([][]byte{[]byte("p"), []byte("broken")}, []byte("p,broken"), false)
	if !errors.Is(err, broken) {
		t.Errorf("the row is decided in spite of an error: %v", err)
	}
}

// describing are rules by which only the resource "whole" leaves with its narrative.
type describing struct{ naming }

func (describing) Describes(
	line []byte, find func(string, string) ([]byte, error),
) (string, error) {
	if _, err := find("List", "part"); err != nil {
		return "", err
	}
	if string(line) == `{"id":"whole"}` {
		return "", nil
	}
	return "reference-only", nil
}

// EHI-9: rows and documents leave with a resource of the record only if its own narrative does.
func TestEHI9RowsAndDocumentsLeaveWithTheNarrativeOfTheirResource(t *testing.T) {
	r := declared(t, describing{}, `{"name":"f","ehi:resource":"Encounter"}`, "")
	broken := errors.New("broken")
	r.Find = func(typ, id string) ([]byte, error) {
		switch id {
		case "", "absent":
			return nil, nil
		case "broken":
			return nil, broken
		}
		return []byte(`{"id":"` + id + `"}`), nil
	}
	document := func(id string) (native.Verdict, error) {
		d := document(t, "", "a", nil)
		d.Category, d.Resource = ehi.Visits, "Encounter/"+id
		return r.Document(d, false)
	}
	for range 2 {
		for value, want := range marked(
			[]string{"whole", "absent", "whole;absent", ""}, []string{"torn", "whole;torn"},
		) {
			got, err := r.Row([][]byte{[]byte("p"), []byte(value)}, []byte("p,"+value), false)
			if got != want || err != nil {
				t.Errorf("%q leaves: %t, %v", value, got, err)
			}
		}
		for id, want := range map[string]native.Verdict{
			"whole": native.Leaves, "absent": native.Leaves, "torn": native.Stays,
		} {
			if v, err := document(id); v != want || err != nil {
				t.Errorf("a document of %s: %v, %v", id, v, err)
			}
		}
	}
	if _, err := document("broken"); !errors.Is(err, broken) {
		t.Errorf("a document is decided in spite of an error: %v", err)
	}
}

// EHI-9, NAT-4: in a population too, a row stays with one that it refers to, which may come after
// it or be in a table that nobody has classified.
func TestEHI9RowsOfAPopulationStayWithWhatTheyReferTo(t *testing.T) {
	for name, c := range map[string]struct {
		record source.Native
		want   map[string]string
	}{
		"in a circle": {
			chainedRecord{codedRecord{rows: map[string]string{
				"step": "a,p,b,,,,\r\nb,p,c,,,,\r\nc,p,,,B20,,\r\nd,p,,x,,,\r\ni,p,,y,,,false\r\n",
				"plan": "x,p,a\r\ny,p,i\r\n", "odd": "o,p\r\n", "child": "o,p\r\n,p\r\n",
			}}},
			map[string]string{
				"tables/step.csv":  "id,patient,before,plan,code,of,secret\r\ni,p,,y,,,false\r\n",
				"tables/plan.csv":  "id,patient,first\r\ny,p,i\r\n",
				"tables/odd.csv":   "",
				"tables/child.csv": "odd,patient\r\n,p\r\n",
			},
		},
		"in one pass": {
			unreadRecord{codedRecord{rows: map[string]string{
				"visit": "v1,p\r\n", "device": "p,1,v1\r\n", "diet": "p,a\r\n",
			}}},
			map[string]string{
				"tables/visit.csv": "id,patient\r\nv1,p\r\n", "tables/device.csv": "",
			},
		},
		"in tables to be classified": {
			unsortedRecord{codedRecord{rows: map[string]string{
				"folder": "a,p,b,\r\nb,p,,\r\n", "sheet": "1,a\r\n", "visit": "v,p,1\r\nx,p,\r\n",
			}}},
			map[string]string{
				"tables/visit.csv":  "id,patient,sheet\r\nx,p,\r\n",
				"tables/folder.csv": "", "tables/sheet.csv": "",
			},
		},
	} {
		x := export(t, native.Export{
			Record: c.record, Packaging: ehi.PackageZIP,
			Decide: native.NewRelease(strict{}, c.record.Tables()),
		})
		contents := unpack(t, x.kind(ehi.Archive))
		for file, want := range c.want {
			if got := string(contents[file]); got != want {
				t.Errorf("%s: %s is %q, want %q", name, file, got, want)
			}
		}
		if len(x.kind(ehi.HeldIndex)) > 0 {
			t.Errorf("%s: something of a population waits", name)
		}
	}
}

// EHI-9: what belongs to a resource that is not part of a population stays, rows and documents.
func TestEHI9WhatBelongsToNoResourceOfAPopulationStays(t *testing.T) {
	r := declared(t, naming{}, `{"name":"f","ehi:resource":"Encounter"}`, "")
	r.Beside = func(typ, id string) (string, error) {
		if typ == "Encounter" && id == "old" {
			return "category.visits", nil
		}
		return "", nil
	}
	for value, want := range marked([]string{"new", ""}, []string{"old", "new;old"}) {
		got, err := r.Row([][]byte{[]byte("p"), []byte(value)}, []byte("p,"+value), false)
		if got != want || err != nil {
			t.Errorf("%q leaves: %t, %v", value, got, err)
		}
	}
	for id, want := range map[string]native.Verdict{"new": native.Leaves, "old": native.Stays} {
		d := document(t, "", "a", nil)
		d.Category, d.Resource = ehi.Visits, "Encounter/"+id
		if v, err := r.Document(d, false); v != want || err != nil {
			t.Errorf("a document of %s: %v, %v", id, v, err)
		}
	}
}

// EHI-9: what belongs to another patient's resource stays in a population too, whoever's rows come
// before it. The store is asked once for each resource and patient.
func TestEHI9RowsOfAPopulationStayThatBelongToAnotherPatientsResource(t *testing.T) {
	r := declared(t, naming{}, `{"name":"f","ehi:resource":"Encounter"}`, "")
	r.Beside = func(string, string) (string, error) { return "", nil }
	asked := map[string]int{}
	r.Another = func(patient, typ, id string) (bool, error) {
		asked[patient+" "+typ+"/"+id]++
		if id == "broken" {
			return false, errors.New(id)
		}
		return strings.HasPrefix(id, "of-") && id != "of-"+patient, nil
	}
	row := func(of string) (bool, error) {
		return r.Row([][]byte{[]byte("p"), []byte(of)}, []byte("p,"+of), false)
	}
	for _, patient := range []string{"p", "q"} {
		r.Of(patient)
		for range 2 {
			for of, want := range map[string]bool{
				"of-p": patient == "p", "of-q": patient == "q", "of-x;of-" + patient: false,
				"of-" + patient + ";nobodys": true, "": true,
			} {
				if got, err := row(of); got != want || err != nil {
					t.Errorf("%q of %s leaves: %t, %v", of, patient, got, err)
				}
			}
		}
	}
	for name, n := range asked {
		if n != 1 {
			t.Errorf("%s is asked for %d times", name, n)
		}
	}
	if _, err := row("broken"); err == nil {
		t.Error("the row is decided in spite of an error")
	}
}

// countedRecord counts how often the rows of each table are read.
type countedRecord struct {
	chainedRecord
	read map[string]int
}

func (r countedRecord) Rows(
	ctx context.Context, table string, visit func(source.Rows) error,
) error {
	r.read[table]++
	return r.chainedRecord.Rows(ctx, table, visit)
}

// A chain of rows, each of which refers to the next one, is decided in as many passes as one row.
func TestChainsOfRowsAreDecidedInTwoPasses(t *testing.T) {
	var chain strings.Builder
	for i := range 500 {
		fmt.Fprintf(&chain, "%d,p,%d,,,,\r\n", i, i+1)
	}
	chain.WriteString("500,p,,,B20,,\r\nfree,p,,,,,\r\n")
	r := countedRecord{chainedRecord{codedRecord{rows: map[string]string{
		"step": chain.String(), "plan": "x,p,0\r\ny,p,free\r\n",
	}}}, map[string]int{}}
	x := export(t, native.Export{
		Record: r, Packaging: ehi.PackageFiles, Patient: "p",
		Decide: native.NewRelease(strict{}, chained),
	})
	for name, want := range map[string]string{
		"tables/step.csv": "id,patient,before,plan,code,of,secret\r\nfree,p,,,,,\r\n",
		"tables/plan.csv": "id,patient,first\r\ny,p,free\r\n",
	} {
		if got := string(x.get(ehi.Index, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if r.read["step"] > 3 { // and once to write
		t.Errorf("the rows are read %d times", r.read["step"])
	}
}

// EHI-9: limits of dates apply to the whole year, month or day that a document has, as they do to
// resources and rows.
func TestEHI9ThePartialDateOfADocumentCoversItsWholeSpan(t *testing.T) {
	for date, leaves := range map[string]bool{
		"2024": true, "2024-03": true, "2024-03-20": true, "2023": false, "2024-02": false,
		"2024-03-09": false, "": false, // the first instant of 2024
	} {
		d := document(t, "", "letter.pdf", []byte("%PDF-1.7"))
		d.Created, d.Date = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), date
		v, err := native.NewRelease(limited{}, nil).Document(d, false)
		if err != nil || (v == native.Leaves) != leaves {
			t.Errorf("dated %q: %v, %v", date, v, err)
		}
	}
}
