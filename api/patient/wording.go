package patient

import (
	"slices"

	"ehi-server/api/web"
	"ehi-server/auth"
)

// Skips knows what applications may skip (jobs.Service).
type Skips interface {
	// MaySkip says what need not stand between a client and a record: the release form, the review.
	MaySkip(client string) (form, review bool)
}

// Wording says in plain words what applications get.
type Wording struct {
	Jobs Skips
	// Sandbox is whether the server is one.
	Sandbox bool
	// Documents is whether applications read documents one by one, see
	// fhirapi.Handlers.ReadsBinaries.
	Documents bool
}

// controlTexts say what stands between an application and the patient's record: what always does,
// what need not in the sandbox, and what need not by an administrator's decision.
var controlTexts = [2][3]string{
	{"consent.form", "consent.sandbox.form", "consent.no-form"},
	{"consent.review", "consent.sandbox.review", "consent.no-review"},
}

// Controls says what really stands between an application and the patient's record, where its
// scopes let it ask for that.
func (w Wording) Controls(t *web.Catalogue, client string, scopes auth.Scopes) (out []string) {
	if !scopes.Contains(auth.PatientExport) {
		return nil
	}
	form, review := w.Jobs.MaySkip(client)
	for i, may := range []bool{form, review} {
		at := 0
		if may && w.Sandbox {
			at = 1
		} else if may {
			at = 2
		}
		out = append(out, t.Say(controlTexts[i][at]))
	}
	return out
}

// scopeTexts are the texts of permissions, any of which is enough for the text, in the order in
// which patients read them. What is not here changes nothing for the patient.
var scopeTexts = []struct {
	anyOf []auth.Scopes
	key   string
}{
	{[]auth.Scopes{auth.PatientExport}, "scope.export"},
	{
		[]auth.Scopes{
			auth.On(auth.PatientContext, "Patient", auth.Read),
			auth.On(auth.PatientContext, "Patient", auth.Search),
		},
		"scope.read",
	},
	{[]auth.Scopes{auth.On(auth.PatientContext, "Binary", auth.Read)}, scopeDocuments},
	{[]auth.Scopes{auth.FHIRUser}, "scope.user"},
	{[]auth.Scopes{auth.Offline}, "scope.offline"},
	{[]auth.Scopes{auth.Online}, "scope.online"},
}

// scopeDocuments says that an application reads documents one by one, see
// fhirapi.Handlers.ReadsBinaries.
const scopeDocuments = "scope.documents"

// Asks says in plain words what an application will be able to do.
func (w Wording) Asks(t *web.Catalogue, scopes auth.Scopes) (out []string) {
	for _, text := range scopeTexts {
		if text.key == scopeDocuments && !w.Documents {
			continue
		}
		if slices.ContainsFunc(text.anyOf, scopes.Contains) {
			out = append(out, t.Say(text.key))
		}
	}
	return out
}
