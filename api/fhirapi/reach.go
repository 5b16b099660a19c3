package fhirapi

import (
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/exporter/selection"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// reach is what a token opens of a job of its client (SMART-7). A client may hold several tokens.
// One that was narrowed, or given for less, opens no more of a job than its own scopes say,
// whatever the token of the kick-off opened. "Bulk Data Status Request and Bulk Data Output File
// Requests SHALL be protected the same way the Bulk Data Kick-off Request" (Bulk Data Access 3.0.0,
// "Privacy and Security Considerations").
//
//	what                                   opens with
//	files of a type, its count, its part   the scope of the job's operation for all of EHI,
//	of the manifest                        or reading that type
//	documents, and the list of them        the same for DocumentReference
//	files of mixed types, errors of        all that the job exports
//	resources, bytes, deletion
//	state, errors of the request itself    any of these
type reach struct {
	scopes auth.Scopes
	// whole is whether the token could have kicked the job off as it is.
	whole bool
	// patients is whether it may know who is a patient here.
	patients bool
	// withheld is whether it may know that something is withheld: never, but for administrators.
	withheld bool
}

// unlimited is the reach of administrators.
var unlimited = reach{whole: true, patients: true, withheld: true}

func reachOf(a *auth.Access, j *ehi.Job) reach {
	r := reach{scopes: a.Scopes}
	if j.Operation == ehi.EHIExport {
		r.whole = a.Scopes.Contains(auth.PatientExport) && !a.System() ||
			a.Scopes.Contains(auth.SystemExport) && a.System()
		r.patients = r.opens("Patient")
		return r
	}
	types := selection.Types(j.KickOff)
	r.patients = r.reads("Patient")
	hidden := func(typ string) bool { return !r.reads(typ) }
	r.whole = !slices.ContainsFunc(types, hidden) && (len(types) > 0 || r.reads("*"))
	return r
}

func (r reach) reads(typ string) bool { return r.scopes.Can(auth.SystemContext, typ, auth.Export) }

// opens reports whether files of a type may be had; "" stands for files of mixed types.
func (r reach) opens(typ string) bool { return r.whole || typ != "" && r.reads(typ) }

// file reports whether a file may be had, by the name under which the manifest lists it. It looks
// at the name alone, so that the answer does not tell whether there is such a file.
func (r reach) file(name string) bool {
	switch typ, _, _ := strings.Cut(name, "."); {
	case name == errorsFile:
		return true
	case name == attachmentsFile:
		return r.opens(documentType)
	case fhir.KnownType(typ):
		return r.opens(typ)
	}
	return r.whole
}

const documentType = "DocumentReference"

// absent says which patients the kick-off asked for in vain. Only a token that may read Patient
// learns whether somebody is a patient here. Of a group, nobody learns whether a person outside of
// it is a patient at all.
func (r reach) absent(j *ehi.Job) []ehi.Notice {
	ids := j.AbsentPatients()
	if len(ids) == 0 {
		return nil
	}
	if !r.patients {
		return []ehi.Notice{{
			Code: ehi.Suppressed,
			Text: "Which of the patients that were asked for are in this export " +
				"is told to tokens that may read Patient",
		}}
	}
	out := make([]ehi.Notice, len(ids))
	for i, id := range ids {
		out[i] = ehi.Notice{
			Code: ehi.NotFound,
			Text: "Left out: Patient/" + id + " is no patient of this export",
		}
	}
	return out
}

// counts reports whether it may know how many resources the record of a patient's job has. Beside
// the number of those that are shared, that tells how many are withheld (EHI-14).
func (r reach) counts(j *ehi.Job) bool { return r.withheld || r.whole && j.Form == nil }

// beyondReach refuses what belongs to the client's own job, but is not opened by the token.
func beyondReach(c *fiber.Ctx) error {
	return session.Insufficient(c, "The scopes of this token do not reach so far into the export; "+
		"a token like the one of its kick-off does")
}

// lines tell a token that there is more than it opens, so that nobody takes a part of an export for
// the whole.
func (r reach) lines() []byte {
	if r.whole {
		return nil
	}
	return fhir.Outcome("information", "suppressed",
		"This export may hold more than the scopes of this token open: "+
			"its other files are not listed").Line()
}
