package native

import (
	"fmt"
	"mime"
	"net/url"
	"path"
	"strings"

	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// The folders of native files, in archives and in URLs.
const (
	documentsFolder = "documents/"
	tablesFolder    = "tables/"
)

// The other files of an archive.
const (
	listName       = "document_reference.ndjson" // NAT-2
	descriptorName = "datapackage.json"          // NAT-3
	readmeName     = "README.txt"
)

// maxNumber is the highest number of a document that keeps the order of names (see documentName).
const maxNumber = 999_999

// documentName returns the name of the n-th document of a task, counted from 1. The number makes
// it unique, and is all that decides the order of names. What waits has numbers of its own: a gap
// in the others would tell an application of it.
func documentName(n int64, held bool, name string) string {
	number := fmt.Sprintf("%06d", n)
	if held {
		number = "r" + number
	}
	return documentsFolder + number + "-" + ehi.FileName(name)
}

// escaped returns the relative URL of a native file.
func escaped(name string) string {
	folder, file, within := strings.Cut(name, "/")
	if !within {
		return url.PathEscape(name)
	}
	return folder + "/" + url.PathEscape(file)
}

// tableName returns the file name of a table.
func tableName(r *datapackage.Resource) string { return r.Name + "." + TableFormat(r) }

// TableFormat returns the format of a table's file, which is also its extension: csv or tsv.
func TableFormat(r *datapackage.Resource) string {
	tabs := r.Dialect != nil && r.Dialect.Delimiter == "\t"
	if r.Format == "tsv" || r.Format == "" && tabs {
		return "tsv"
	}
	return "csv"
}

// tableType returns the media type of a table's file (RFC 4180, IANA
// text/tab-separated-values), with its encoding.
func tableType(r *datapackage.Resource) string {
	t := r.MediaType
	if t == "" {
		t = "text/csv"
		if TableFormat(r) == "tsv" {
			t = "text/tab-separated-values"
		}
	}
	if !strings.Contains(t, ";") {
		t = mime.FormatMediaType(t, map[string]string{"charset": encoding(r)})
	}
	return t
}

// encoding returns the encoding of a table's file. It has no byte order mark, so UTF-16 says the
// order.
func encoding(r *datapackage.Resource) string {
	switch e := strings.ToLower(r.Encoding); e {
	case "":
		return "utf-8"
	case "utf-16", "utf16":
		return "utf-16le"
	default:
		return e
	}
}

// Format is a format of native files: the code that content.format of an EHIDocumentReference
// has for it, and its name for people.
type Format struct {
	Code, Title string
	// Specification is where the format is defined.
	Specification string
	// Types are its media types, and Extensions those of file names, with the dot.
	Types, Extensions []string
}

// formats lists the formats that have a code of their own.
var formats = []Format{
	{"csv", "Comma-separated values", "https://www.rfc-editor.org/rfc/rfc4180",
		[]string{"text/csv"}, []string{".csv"}},
	{"tsv", "Tab-separated values",
		"https://www.iana.org/assignments/media-types/text/tab-separated-values",
		[]string{"text/tab-separated-values"}, []string{".tsv"}},
	{"datapackage", "Data Package descriptor", "https://datapackage.org",
		[]string{datapackage.MediaType}, nil},
	{"zip", "ZIP archive of native files",
		"https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT",
		[]string{"application/zip"}, []string{".zip"}},
	{"ccda", "HL7 C-CDA document", "https://hl7.org/cda/us/ccda/",
		[]string{"application/hl7-cda+xml", "text/xml+cda"}, nil},
	{"dicom", "DICOM", "https://www.dicomstandard.org/current",
		[]string{"application/dicom"}, []string{".dcm"}},
	{"pdf", "PDF", "https://www.iso.org/standard/75839.html",
		[]string{"application/pdf"}, []string{".pdf"}},
	{"rtf", "Rich text", "https://www.loc.gov/preservation/digital/formats/fdd/fdd000473.shtml",
		[]string{"application/rtf", "text/rtf"}, []string{".rtf"}},
	{"jpeg", "JPEG image", "https://www.w3.org/Graphics/JPEG/itu-t81.pdf",
		[]string{"image/jpeg"}, []string{".jpg", ".jpeg"}},
	{"png", "PNG image", "https://www.w3.org/TR/png-3/",
		[]string{"image/png"}, []string{".png"}},
	{"tiff", "TIFF image", "https://www.rfc-editor.org/rfc/rfc3302",
		[]string{"image/tiff"}, []string{".tif", ".tiff"}},
	{"ndjson", "Newline-delimited JSON", "https://github.com/ndjson/ndjson-spec",
		[]string{"application/x-ndjson", "application/ndjson"}, []string{".ndjson", ".jsonl"}},
	{"xml", "XML", "https://www.w3.org/TR/xml/",
		[]string{"application/xml", "text/xml"}, []string{".xml"}},
	{"html", "HTML", "https://html.spec.whatwg.org/",
		[]string{"text/html", "application/xhtml+xml"}, []string{".html", ".htm"}},
	{"text", "Plain text", "https://www.rfc-editor.org/rfc/rfc2046",
		[]string{"text/plain"}, []string{".txt"}},
}

// other is the format of everything else: the media type says what it is.
var other = Format{Code: "other", Title: "As the media type says",
	Specification: "https://www.iana.org/assignments/media-types/"}

// Formats lists all formats.
func Formats() []Format { return append(append([]Format{}, formats...), other) }

// formatOf returns the format of a file.
func formatOf(contentType, name string) Format {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		t = strings.ToLower(contentType)
	}
	for _, f := range formats {
		for _, of := range f.Types {
			if of == t {
				return f
			}
		}
	}
	if t != "" && t != "application/octet-stream" {
		return other
	}
	ext := strings.ToLower(path.Ext(name))
	for _, f := range formats {
		for _, of := range f.Extensions {
			if of == ext {
				return f
			}
		}
	}
	return other
}
