package patient

import (
	"slices"

	"ehi-server/api/web"
	"ehi-server/auth"
)

// Skips knows what applications may skip (jobs.Service).
type Skips interface {
	// MaySkip returns which steps a client may skip: the release form, the review.
	MaySkip(client string) (form, review bool)
}

// Wording describes in plain words what applications get.
type Wording struct {
	Jobs Skips
	// Sandbox is whether the server is a sandbox.
	Sandbox bool
	// Documents is whether applications can read single documents, see
	// fhirapi.Handlers.ReadsBinaries.
	Documents bool
}

// controlTexts say which controls stand between an application and the patient's record: those
// that always apply, those that the sandbox lets it skip, and those that an administrator lets
// it skip.
var controlTexts = [2][3]string{
	{"consent.form", "consent.sandbox.form", "consent.no-form"},
	{"consent.review", "consent.sandbox.review", "consent.no-review"},
}

// Controls describes which controls really apply between an application and the patient's
// record, if its scopes allow requests for it.
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

// scopeTexts are the texts of permissions, in the order in which patients read them. Any of its
// scopes is enough for a text. Other scopes change nothing for the patient.
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

// scopeDocuments says that an application can read single documents, see
// fhirapi.Handlers.ReadsBinaries.
const scopeDocuments = "scope.documents"

// Asks describes in plain words what an application will be able to do.
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
