package ehi

import (
	"fmt"
	"strings"

	"ehi-server/shared/fhir"
)

// Notice tells a client what was left out of its export. The server reports all notices as
// OperationOutcomes in the manifest's error[] (Bulk Data Access 3.0.0, "Response - Complete
// Status").
type Notice struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

// Suppressed is the code of a notice about types that the token's scopes do not cover. Other
// notices have Unsupported or NotFound.
const Suppressed Code = "suppressed"

// Outcome returns the notice as an OperationOutcome of severity warning.
func (n Notice) Outcome() fhir.OperationOutcome {
	return fhir.Outcome("warning", string(n.Code), n.Text)
}

// maxNotices is how many notices a job's record holds. Further ones are only counted.
const maxNotices = 20

// notices gathers notices.
type notices struct {
	list []Notice
	more int
}

func (n *notices) add(code Code, text string) {
	if len(n.list) == maxNotices {
		n.more++
		return
	}
	n.list = append(n.list, Notice{code, text})
}

// all returns the notices, followed by one that counts those without room.
func (n *notices) all() []Notice {
	if n.more == 0 {
		return n.list
	}
	return append(n.list, Notice{Unsupported, fmt.Sprintf("Ignored: %d more", n.more)})
}

// Notices returns what was left out of the kick-off.
func (k *KickOff) Notices() []Notice {
	out := make([]Notice, 0, len(k.Unknown)+len(k.Dropped))
	for _, text := range k.Unknown { // in records of earlier builds
		out = append(out, Notice{Unsupported, text})
	}
	return append(out, k.Dropped...)
}

// LimitTypes limits the export to the types that the application may read, and notes the
// requested types that it may not (SMART-7). It returns Forbidden if no type is left.
func (k *KickOff) LimitTypes(granted func(typ string) bool, all []string) error {
	if len(k.Types) == 0 {
		k.Types = all
	}
	var kept, lost []string
	for _, t := range k.Types {
		if granted(t) {
			kept = append(kept, t)
		} else {
			lost = append(lost, t)
		}
	}
	if len(kept) == 0 {
		return Errorf(Forbidden, "The token's scopes open none of the types that were asked for")
	}
	if k.Provenance && !granted("Provenance") {
		k.Provenance = false
		lost = appendNew(lost, "Provenance")
	}
	var filters []fhir.Search
	for _, f := range k.TypeFilters {
		if granted(f.Type) {
			filters = append(filters, f)
		} else {
			lost = appendNew(lost, f.Type)
		}
	}
	k.Types, k.TypeFilters = kept, filters
	if len(lost) > 0 {
		k.Dropped = append(k.Dropped, Notice{
			Suppressed,
			"Left out, because the token's scopes do not open it: " + strings.Join(lost, ", "),
		})
	}
	return nil
}
