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
