package fhir

import "bytes"

// PlainIdentifier is an identifier's value as it is compared where it may be of any system: neither
// case nor space around it counts, nor that it is written as a URN.
func PlainIdentifier(value []byte) []byte {
	value = bytes.ToLower(bytes.TrimSpace(value))
	for _, urn := range []string{"urn:uuid:", "urn:oid:"} {
		value = bytes.TrimPrefix(value, []byte(urn))
	}
	return value
}
