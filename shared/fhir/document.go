package fhir

import (
	"encoding/base64"
	"time"
)

// Attachment is the FHIR data type (https://hl7.org/fhir/R4/datatypes.html#Attachment).
type Attachment struct {
	ContentType string `json:"contentType"`
	URL         string `json:"url"`
	Size        int64  `json:"size"`
	Hash        string `json:"hash,omitempty"` // base64 of the SHA-1; "" if it is not known
	Title       string `json:"title"`
	Creation    string `json:"creation"`
}

// NewAttachment returns an Attachment.
func NewAttachment(
	title, contentType, url string, size int64, sha1 []byte, created time.Time,
) Attachment {
	return Attachment{
		ContentType: contentType, URL: url, Size: size, Title: title,
		Hash: base64.StdEncoding.EncodeToString(sha1), Creation: FormatInstant(created),
	}
}

// Coding is the FHIR data type.
type Coding struct {
	System  string `json:"system,omitempty"`
	Code    string `json:"code,omitempty"`
	Display string `json:"display,omitempty"`
}

// Reference is the FHIR data type with a literal reference.
type Reference struct {
	Reference string `json:"reference"`
	Display   string `json:"display,omitempty"`
}

// DocumentReference holds the parts of the resource that an EHIDocumentReference of the Argonaut
// EHI Export API uses (EHI-11).
type DocumentReference struct {
	ResourceType string            `json:"resourceType"`
	ID           string            `json:"id"`
	Meta         Meta              `json:"meta"`
	Status       string            `json:"status"`
	Subject      *Reference        `json:"subject,omitempty"`
	Description  string            `json:"description"`
	Content      []DocumentContent `json:"content"`
}

// Meta carries tags.
type Meta struct {
	Tag []Coding `json:"tag"`
}

// DocumentContent is one rendition of a document.
type DocumentContent struct {
	Attachment Attachment `json:"attachment"`
	Format     Coding     `json:"format"`
}

// ehiExport is the tag of every EHIDocumentReference.
var ehiExport = []Coding{
	{Code: "ehi-export", Display: "generated as part of an ehi-export request"},
}

// NewEHIDocument describes one document of an export, whose bytes are at a.URL. subject is a
// reference such as Patient/1 or Group/1, or "" if the document has no subject.
func NewEHIDocument(id, subject string, a Attachment) (d DocumentReference) {
	d.SetEHIDocument(id, subject, a)
	return d
}

// SetEHIDocument makes d what NewEHIDocument returns, in the memory that d has already.
func (d *DocumentReference) SetEHIDocument(id, subject string, a Attachment) {
	about, content := d.Subject, append(d.Content[:0], DocumentContent{
		Attachment: a,
		Format: Coding{
			System:  "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode",
			Code:    "urn:ihe:iti:xds:2017:mimeTypeSufficient",
			Display: "mimeType Sufficient",
		},
	})
	switch {
	case subject == "":
		about = nil
	case about == nil:
		about = &Reference{Reference: subject}
	default:
		*about = Reference{Reference: subject}
	}
	*d = DocumentReference{
		ResourceType: "DocumentReference", ID: id, Status: "current",
		Meta:        Meta{Tag: ehiExport},
		Subject:     about,
		Description: a.Title,
		Content:     content,
	}
}
