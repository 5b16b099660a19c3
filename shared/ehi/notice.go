package ehi

import (
	"fmt"
	"strings"

	"ehi-server/shared/fhir"
)

// Notice tells an application what of its request was left out of the export. Notices are the
// one way in which that is told: as OperationOutcomes in the manifest's error[] (Bulk Data
// Access 3.0.0, "Response - Complete Status").
type Notice struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

// Suppressed is the code of a notice about what a token's scopes do not open; others have
// Unsupported or NotFound.
const Suppressed Code = "suppressed"

// Outcome is the notice as a warning.
func (n Notice) Outcome() fhir.OperationOutcome {
	return fhir.Outcome("warning", string(n.Code), n.Text)
}

// maxNotices bounds what a job's record holds of them; further ones are only counted.
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

// all is the gathered notices, and a last one that counts those that had no room.
func (n *notices) all() []Notice {
	if n.more == 0 {
		return n.list
	}
	return append(n.list, Notice{Unsupported, fmt.Sprintf("Ignored: %d more", n.more)})
}

// Notices are what of the kick-off was left out.
func (k *KickOff) Notices() []Notice {
	out := make([]Notice, 0, len(k.Unknown)+len(k.Dropped))
	for _, text := range k.Unknown { // of a record of an earlier build
		out = append(out, Notice{Unsupported, text})
	}
	return append(out, k.Dropped...)
}

// LimitTypes holds the export to the types that an application may have, and notes which others
// it asked for (SMART-7). Errors: Forbidden where none is left.
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
