package fhir

import (
	"bytes"

	"golang.org/x/text/unicode/norm"
)

// PlainIdentifier normalizes the value of an identifier for comparisons across systems: it
// ignores case, width, surrounding space and the form of a URN.
func PlainIdentifier(value []byte) []byte {
	for _, c := range value {
		if c >= 0x80 {
			value = norm.NFKC.Bytes(value)
			break
		}
	}
	value = bytes.ToLower(bytes.TrimSpace(value))
	for _, urn := range []string{"urn:uuid:", "urn:oid:"} {
		value = bytes.TrimPrefix(value, []byte(urn))
	}
	return value
}

// PlainURL normalizes a URL for comparisons: it ignores case, http or https, and a trailing
// slash.
func PlainURL(url []byte) []byte {
	url = bytes.TrimRight(bytes.ToLower(bytes.TrimSpace(url)), "/")
	if rest, is := bytes.CutPrefix(url, []byte("https:")); is {
		return append([]byte("http:"), rest...)
	}
	return url
}

// PlainCanonical normalizes the canonical URL of a definition, without its version, to a value
// that is compared like an identifier and equals none; nil for an empty URL.
func PlainCanonical(url []byte) []byte {
	if url = PlainURL(url); len(url) == 0 {
		return nil
	}
	return append([]byte("url|"), url...)
}
