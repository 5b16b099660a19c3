package fhir

import (
	"github.com/segmentio/encoding/json"
)

// OperationOutcome is FHIR's resource for errors
// (https://hl7.org/fhir/R4/operationoutcome.html).
type OperationOutcome struct {
	ResourceType string  `json:"resourceType"`
	ID           string  `json:"id,omitempty"`
	Issue        []Issue `json:"issue"`
}

// Issue is one finding of an OperationOutcome.
type Issue struct {
	Severity    string `json:"severity"`
	Code        string `json:"code"`
	Diagnostics string `json:"diagnostics"`
}

// Outcome returns an OperationOutcome with one issue. severity is fatal, error, warning or
// information.
func Outcome(severity, code, text string) OperationOutcome {
	return OperationOutcome{
		ResourceType: "OperationOutcome",
		Issue:        []Issue{{severity, code, text}},
	}
}

// Line renders the outcome as one line of NDJSON.
func (o OperationOutcome) Line() []byte {
	b, err := json.Marshal(o)
	if err != nil { // cannot fail: only strings
		panic(err)
	}
	return append(b, '\n')
}
