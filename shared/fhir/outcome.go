package fhir

import (
	"github.com/segmentio/encoding/json"
)

// OperationOutcome is FHIR's error answer (https://hl7.org/fhir/R4/operationoutcome.html).
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

// Outcome makes an OperationOutcome with one issue; severity is fatal, error, warning or
// information.
func Outcome(severity, code, text string) OperationOutcome {
	return OperationOutcome{
		ResourceType: "OperationOutcome",
		Issue:        []Issue{{severity, code, text}},
	}
}

// Line renders the outcome as one NDJSON line.
func (o OperationOutcome) Line() []byte {
	b, err := json.Marshal(o)
	if err != nil { // strings only: cannot fail
		panic(err)
	}
	return append(b, '\n')
}
