package jobs

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"
	"golang.org/x/text/encoding/htmlindex"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// maxAttachmentName is the maximum length of a document's name in bytes.
const maxAttachmentName = 180

// formEscapes undoes the escapes of browsers' forms for characters that a header cannot contain
// (WHATWG HTML, multipart/form-data).
var formEscapes = strings.NewReplacer("%22", `"`, "%0D", "\r", "%0A", "\n")

// UniqueName returns a safe name for an uploaded file (see ehi.PortableName), with a number if
// taken contains the name already.
func UniqueName(name string, taken map[string]bool) string {
	name = ehi.PortableName(formEscapes.Replace(name))
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if stem == "" {
		stem = "attachment"
	}
	ext = fhir.CutText(ext, 20)
	stem = strings.TrimRight(fhir.CutText(stem, maxAttachmentName-len(ext)-8), ". ")
	for n, candidate := 1, stem+ext; ; n++ {
		if !taken[ehi.NameKey(candidate)] {
			return candidate
		}
		candidate = stem + "-" + strconv.Itoa(n) + ext
	}
}

// sniff returns the content type according to the bytes, or according to the name's extension if
// the bytes fit many types. It ignores the type that the uploader declares. It may return types
// that a browser would run: documents are sent in a way that nothing in them runs
// (content.DisableScripts).
func sniff(head []byte, name string) string {
	t := http.DetectContentType(head)
	_, charset, _ := strings.Cut(t, "; ")
	utf16 := strings.HasPrefix(charset, "charset=utf-16")
	text := strings.HasPrefix(t, "text/plain") || strings.HasPrefix(t, "text/xml")
	if text && isSVG(head) {
		return "image/svg+xml"
	}
	if t == "application/octet-stream" || text {
		if byName := mime.TypeByExtension(path.Ext(name)); byName != "" {
			t = byName
		}
	}
	if of, _, _ := strings.Cut(t, ";"); utf16 && strings.HasPrefix(of, "text/") {
		return of + "; " + charset
	}
	return t
}

// charsetOf returns the content type of a complete document; sniff returned t for its beginning.
// If t says UTF-8 but the text is not UTF-8, the result has the charset that the uploader
// declared, or none if that is unknown.
func charsetOf(t string, isUTF8 bool, declared string) string {
	of, params, err := mime.ParseMediaType(t)
	if err != nil || isUTF8 || !strings.HasPrefix(of, "text/") ||
		!strings.EqualFold(params["charset"], "utf-8") {
		return t
	}
	_, params, _ = mime.ParseMediaType(declared) // a malformed type declares no charset
	label := strings.ToLower(params["charset"])
	e, err := htmlindex.Get(label)
	if err != nil {
		return of
	}
	if name, err := htmlindex.Name(e); err != nil || name == "utf-8" {
		return of
	}
	return of + "; charset=" + label
}

// utf8Reader reads a document and finds out whether all of it is text in UTF-8.
type utf8Reader struct {
	io.Reader
	cut    []byte // the beginning of a character that is not complete yet
	broken bool
}

// Read implements io.Reader.
func (r *utf8Reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.see(p[:n])
	return n, err
}

// valid reports whether everything read so far is UTF-8 without zero bytes. UTF-16 has many of
// those.
func (r *utf8Reader) valid() bool { return !r.broken && len(r.cut) == 0 }

func (r *utf8Reader) see(b []byte) {
	if len(r.cut) > 0 && len(b) > 0 {
		start := append(r.cut, b[:min(len(b), utf8.UTFMax-len(r.cut))]...)
		if !utf8.FullRune(start) {
			r.cut = start
			return
		}
		_, size := utf8.DecodeRune(start)
		r.broken = r.broken || size == 1 // an invalid character
		b, r.cut = b[max(size-len(r.cut), 0):], nil
	}
	if r.broken {
		return
	}
	whole := wholeRunes(b)
	r.broken = !utf8.Valid(whole) || bytes.IndexByte(whole, 0) >= 0
	r.cut = append(r.cut, b[len(whole):]...)
}

// isSVG reports whether text is an SVG image, possibly after an XML declaration, comments and a
// DOCTYPE.
func isSVG(head []byte) bool {
	rest := bytes.TrimSpace(bytes.TrimPrefix(head, fhir.BOM))
	for len(rest) > 1 && rest[0] == '<' && (rest[1] == '?' || rest[1] == '!') {
		_, after, found := bytes.Cut(rest, []byte(">"))
		if !found {
			return false
		}
		rest = bytes.TrimSpace(after)
	}
	return bytes.HasPrefix(rest, []byte("<svg")) || bytes.HasPrefix(rest, []byte("<svg:svg"))
}

// wholeRunes returns text without an incomplete character at its end.
func wholeRunes(head []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(head); n++ {
		if last := head[len(head)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				return head[:len(head)-n]
			}
			break
		}
	}
	return head
}

// AttachmentLine returns a line of NDJSON: the EHIDocumentReference of an attachment at a URL
// (EHI-11).
func AttachmentLine(j *ehi.Job, a ehi.Attachment, url string) []byte {
	at := fhir.NewAttachment(a.Name, a.ContentType, url, a.Size, a.SHA1, a.CreatedAt)
	line, err := json.Marshal(fhir.NewEHIDocument(fhir.MakeID(j.ID, a.Object), subjectOf(j), at))
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	return append(line, '\n')
}

// subjectOf returns a reference to the patient or group of a job's documents; "" if the job is
// about all patients.
func subjectOf(j *ehi.Job) string {
	switch {
	case j.Level == ehi.OnePatient && fhir.ValidID(j.Patient.ID):
		return "Patient/" + j.Patient.ID
	case j.Level == ehi.OneGroup && fhir.ValidID(j.Group):
		return "Group/" + j.Group
	}
	return ""
}
