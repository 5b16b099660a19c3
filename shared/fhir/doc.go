// Package fhir implements the parts of HL7 FHIR R4 that the server reads or writes itself:
// instants and partial dates, references, OperationOutcome, Parameters, DocumentReference and
// the list of resource types. Resources stay raw bytes throughout the server. Cursor walks them
// without building values.
package fhir
