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
//	files of a type, data of attachments   the scope of the job's operation for all of EHI,
//	in them, the type's count, its part    or reading that type
//	of the manifest
//	documents that an administrator        the same for DocumentReference
//	added, and the list of them
//	native files and the list of them      the scope of the operation
//	files of mixed types, errors of        all that the job exports
//	resources, bytes, deletion
//	state, errors of the request itself    any of these
type reach struct {
	scopes auth.Scopes
	// whole is whether the token could have kicked off the job as it is.
	whole bool
	// patients is whether the reader may know who is a patient here.
	patients bool
	// withheld is whether the reader may know that something is withheld: only administrators
	// may.
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

// opens reports whether files of a type are available; "" stands for files of mixed types.
func (r reach) opens(typ string) bool { return r.whole || typ != "" && r.reads(typ) }

// file reports whether a file is available, by its name in the manifest. It uses only the name,
// so that the answer does not reveal whether the file exists.
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

// absent returns which requested patients are not in the export. Only a token that may read
// Patient learns whether somebody is a patient here. For a group, nobody learns whether a person
// outside of it is a patient at all.
func (r reach) absent(j *ehi.Job) []ehi.Notice {
	ids := j.AbsentPatients()
	if len(ids) == 0 {
		return nil
	}
	if !r.patients {
		return []ehi.Notice{{
			Code: ehi.Suppressed,
			Text: "Only a token that may read Patient can see which of the requested " +
				"patients are in this export",
		}}
	}
	out := make([]ehi.Notice, len(ids))
	for i, id := range ids {
		out[i] = ehi.Notice{
			Code: ehi.NotFound,
			Text: "Left out: Patient/" + id + " is not a patient of this export",
		}
	}
	return out
}

// counts reports whether the reader may know how many resources the record of a patient's job
// has. Together with the number of released resources, that would reveal how many are withheld
// (EHI-14).
func (r reach) counts(j *ehi.Job) bool { return r.withheld || r.whole && j.Form == nil }

// beyondReach refuses something that belongs to the client's own job but that the token does not
// open.
func beyondReach(c *fiber.Ctx) error {
	return session.Insufficient(c, "The scopes of this token do not open this part of the export; "+
		"use a token with the scopes of its kick-off")
}

// lines tells the reader that the export has more than the token opens, so that nobody takes a
// part for the whole.
func (r reach) lines() []byte {
	if r.whole {
		return nil
	}
	return fhir.Outcome("information", "suppressed",
		"This export may contain more than the scopes of this token open: "+
			"other files are not listed").Line()
}
