package fhir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// AbsentReasonURL is the standard extension in place of a missing value.
const AbsentReasonURL = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

// MaskedReference replaces a reference to a resource that is not released (EHI-9). As the
// sibling with an underscore it replaces a primitive value.
var MaskedReference = []byte(`{"extension":[{"url":"` + AbsentReasonURL +
	`","valueCode":"masked"}]}`)

// UnknownReference replaces a reference to a resource that the record never contained.
var UnknownReference = []byte(`{"extension":[{"url":"` + AbsentReasonURL +
	`","valueCode":"unknown"}]}`)

// Local splits a relative literal reference such as Patient/1, Patient/1/_history/2 or
// Binary/1#page=3. ok is false for absolute URLs, bare fragments, urn: and conditional
// references.
func Local(ref []byte) (typ, id []byte, ok bool) {
	typ, rest, found := bytes.Cut(ref, []byte("/"))
	if !found || TypeNumber(typ) == 0 {
		return nil, nil, false
	}
	if ValidID(rest) { // the most frequent form
		return typ, rest, true
	}
	id, _, _ = bytes.Cut(rest, []byte("/_history/"))
	if !ValidID(id) {
		id, _, _ = bytes.Cut(id, []byte("#"))
	}
	return typ, id, ValidID(id)
}

// External reports whether a reference needs no resource of the export: it is an absolute
// http(s) URL or references a contained resource.
func External(ref []byte) bool {
	return len(ref) > 0 && ref[0] == '#' || hasScheme(ref, "http://") || hasScheme(ref, "https://")
}

// hasScheme reports whether a URL starts with a scheme, in any case.
func hasScheme(url []byte, scheme string) bool {
	return len(url) >= len(scheme) && bytes.EqualFold(url[:len(scheme)], []byte(scheme))
}

// ValidID reports whether s is a FHIR ID: 1 to 64 letters, digits, - and .
// (https://hl7.org/fhir/R4/datatypes.html#id).
func ValidID[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if !inID[s[i]] {
			return false
		}
	}
	return true
}

// inID holds the bytes that may occur in a FHIR ID. An import looks up each byte of each ID.
var inID = func() (in [256]bool) {
	const all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-."
	for i := range len(all) {
		in[all[i]] = true
	}
	return in
}()

// MakeID returns the ID of a resource that this server writes, derived from the names of what it
// describes: the names joined by dots, or a digest of them if that is no valid ID. The same
// names always give the same ID. Every ID that is not from a record is made by MakeID or valid
// by construction.
func MakeID(names ...string) string {
	if id := strings.Join(names, "."); ValidID(id) {
		return id
	}
	sum := sha256.Sum256([]byte(strings.Join(names, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// Identify reads the resourceType and ID of a resource.
func (c *Cursor) Identify(resource []byte) (typ, id string, err error) {
	for c.Reset(resource); c.Next(); {
		if c.Depth != 1 || !c.IsString() {
			continue
		}
		switch string(c.Key()) {
		case "resourceType":
			typ = string(c.Text())
		case "id":
			id = string(c.Text())
		}
		if typ != "" && id != "" {
			return typ, id, nil
		}
	}
	return typ, id, c.Err()
}

// Edit is one replacement in a document.
type Edit struct {
	Start, End int
	With       []byte
}

// LoseReference replaces the reference field of a Reference that leads nowhere by one that says
// so. It keeps the other fields: a display or an identifier says what was meant. start and end
// are those of the field. ok is false if there are no other fields, or if _reference exists;
// UnknownReference then replaces the whole Reference.
func LoseReference(doc []byte, start, end int) (e Edit, ok bool) {
	if bytes.Contains(doc, unknownReferenceField[:len(`"_reference"`)]) {
		return Edit{}, false
	}
	const blank = " \t\r\n"
	opens := bytes.HasSuffix(bytes.TrimRight(doc[:start], blank), []byte("{"))
	if opens && bytes.HasPrefix(bytes.TrimLeft(doc[end:], blank), []byte("}")) {
		return Edit{}, false
	}
	return Edit{Start: start, End: end, With: unknownReferenceField}, true
}

// unknownReferenceField is the sibling of a missing reference, with the reason.
var unknownReferenceField = append([]byte(`"_reference":`), UnknownReference...)

// Apply appends doc to dst with the edits applied. Edits must be in order. An edit that starts
// before the end of the previous one is skipped, so that replacing a container discards the
// edits within it.
func Apply(dst, doc []byte, edits []Edit) []byte {
	at := 0
	for _, e := range edits {
		if e.Start < at {
			continue
		}
		dst = append(dst, doc[at:e.Start]...)
		dst = append(dst, e.With...)
		at = e.End
	}
	return append(dst, doc[at:]...)
}
