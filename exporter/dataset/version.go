package dataset

import (
	"cmp"
	"strings"
	"time"

	"ehi-server/shared/fhir"
)

// version decides which of two versions of a resource is newer (IN-3).
type version struct {
	updated time.Time // meta.lastUpdated or response.lastModified; zero if invalid or absent
	id      string    // meta.versionId, or that of response.etag or response.location
	// untimed marks a DELETE without a time. It has the time of what it deletes.
	untimed bool
}

// compare returns a positive number if v is newer than o, and 0 if the order of arrival decides.
// The later lastUpdated is newer, none being the oldest, and then the higher versionId.
func (v version) compare(o version) int {
	if !v.untimed && !o.untimed {
		if c := v.updated.Compare(o.updated); c != 0 {
			return c
		}
	}
	if (v.untimed || o.untimed) && (v.id == "" || o.id == "") {
		return 0
	}
	return compareIDs(v.id, o.id)
}

// or fills in the missing parts of v.
func (v version) or(o version) version {
	if v.updated.IsZero() {
		v.updated = o.updated
	}
	v.id = cmp.Or(v.id, o.id)
	return v
}

// compareIDs orders versionIds: none, then numbers by value, then other texts.
func compareIDs(a, b string) int {
	na, nb := isNumber(a), isNumber(b)
	switch {
	case na && nb:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	case a == "" || b == "" || na == nb:
		return strings.Compare(a, b)
	case na:
		return -1
	}
	return 1
}

// higherID returns the higher of two versionIds.
func higherID(a, b string) string {
	if compareIDs(a, b) < 0 {
		return b
	}
	return a
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parseUpdated parses an instant. It returns the zero time if it is invalid.
func parseUpdated(text string) time.Time {
	span, err := fhir.ParseSpan(text)
	if err != nil {
		return time.Time{}
	}
	return span.Start
}

// encode returns the stored form of a version: of a tombstone, or of what an entry said about
// its resource; "" for nothing.
func (v version) encode() string {
	switch {
	case v == version{}:
		return ""
	case v.untimed:
		return "- " + v.id
	}
	return v.updated.UTC().Format(time.RFC3339Nano) + " " + v.id
}

func decodeVersion(s string) (v version) {
	at, id, _ := strings.Cut(s, " ")
	v.id, v.untimed = id, at == "-"
	if at != "" && !v.untimed {
		v.updated, _ = time.Parse(time.RFC3339Nano, at) // written by encode
	}
	return v
}
