package fhir

import (
	"bytes"

	"golang.org/x/text/unicode/norm"
)

// PlainIdentifier is an identifier's value as it is compared where it may be of any system: neither
// case, width nor space around it counts, nor that it is written as a URN.
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

// PlainURL is a URL as it is compared: neither case, http or https, nor a slash at its end count.
func PlainURL(url []byte) []byte {
	url = bytes.TrimRight(bytes.ToLower(bytes.TrimSpace(url)), "/")
	if rest, is := bytes.CutPrefix(url, []byte("https:")); is {
		return append([]byte("http:"), rest...)
	}
	return url
}

// PlainCanonical is the canonical URL of a definition, without a version, as a value that is
// compared with identifiers, and is none of them; nil for an empty one.
func PlainCanonical(url []byte) []byte {
	if url = PlainURL(url); len(url) == 0 {
		return nil
	}
	return append([]byte("url|"), url...)
}
