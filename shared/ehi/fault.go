package ehi

import (
	"slices"
	"strings"
)

// Fault is a failure that a client asks the sandbox to simulate, by using the base URL
// /faulty/<faults>/fhir.
type Fault string

// The faults.
const (
	FaultBusy        Fault = "busy"        // rejects every other kick-off: too many exports
	FaultThrottled   Fault = "throttled"   // rejects status requests: too many requests
	FaultUnavailable Fault = "unavailable" // answers status requests with 503
	FaultDropped     Fault = "dropped"     // closes connections without an answer
	FaultSlow        Fault = "slow"        // delays the export
	FaultFailed      Fault = "failed"      // fails the job
	FaultErrors      Fault = "errors"      // reports resources that could not be exported
	FaultTruncated   Fault = "truncated"   // cuts downloads off
	FaultExpired     Fault = "expired"     // expires the files before they are fetched
)

// FaultInfo describes a fault to developers of clients.
type FaultInfo struct {
	Fault Fault
	Shows string
}

// Faults lists the faults and what a client sees of each.
func Faults() []FaultInfo {
	return []FaultInfo{
		{
			FaultBusy,
			"The first kick-off and every other one of the client is answered 429 with " +
				"Retry-After: 2.",
		},
		{
			FaultThrottled,
			"The first and third status request of a job are answered 429 with Retry-After: 2.",
		},
		{
			FaultUnavailable,
			"The first and third status request of a job are answered 503 with Retry-After: 2 " +
				"and the issue code transient.",
		},
		{
			FaultDropped,
			"On the first and third status request of a job, and on the first download of each " +
				"file, the connection is closed without an answer.",
		},
		{
			FaultSlow,
			"The job is 202 until ten seconds after it was asked for, with Retry-After: 2.",
		},
		{FaultFailed, "The job ends as 500 with an OperationOutcome, and stays so."},
		{FaultErrors, "The manifest's error has a file with two OperationOutcomes."},
		{
			FaultTruncated,
			"The first download of each file has its Content-Length, and breaks off in the middle.",
		},
		{FaultExpired, "The manifest's Expires has passed, and its files answer 404."},
	}
}

// ParseFaults parses a list of faults that are separated by + or commas. It returns Invalid for
// an unknown fault.
func ParseFaults(s string) (out []Fault, err error) {
	// A + that is not escaped may arrive as a space.
	for _, name := range strings.FieldsFunc(s,
		func(r rune) bool { return r == '+' || r == ',' || r == ' ' }) {
		f := Fault(name)
		if !slices.ContainsFunc(Faults(), func(i FaultInfo) bool { return i.Fault == f }) {
			return nil, Errorf(Invalid, "There is no fault %q; there are %s", name, faultNames())
		}
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return nil, Errorf(Invalid, "No fault is named; there are %s", faultNames())
	}
	return out, nil
}

func faultNames() string {
	var names []string
	for _, i := range Faults() {
		names = append(names, string(i.Fault))
	}
	return strings.Join(names, ", ")
}
