package fhirapi

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/find"
	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/ehi"
)

// secretive is a Patient with a sensitive name, identifier and address, and with others that are
// not.
const secretive = `{"resourceType":"Patient","id":"p","name":[` +
	`{"family":"Hidden","given":["Ann"],"extension":[{"url":"u","valueCoding":` + hiv + `}]},` +
	`{"family":"Known"}],` +
	`"identifier":[{"system":"urn:hiv-clinic","value":"7","type":{"coding":[` + hiv + `]}},` +
	`{"system":"urn:hospital","value":"8"}],` +
	`"address":[{"city":"Refuge","extension":[{"url":"u","valueCoding":` + violence + `}]},` +
	`{"city":"Boston"}]}` + "\n"

// Codings of sensitive information.
const (
	hiv      = `{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}`
	violence = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"SDV"}`
)

// secretivePatient returns a source with that Patient.
func secretivePatient(t *testing.T) source.Source {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "patient.ndjson")
	if err := os.WriteFile(path, []byte(secretive), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := kinds.Store(kinds.Config{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	options := source.ImportOptions{Strict: true, Now: time.Now()}
	if _, err := store.Import(t.Context(), []string{path}, options); err != nil {
		t.Fatal(err)
	}
	return store
}

// EHI-9: an application finds its patient only by data that it may have, not by withheld data.
// Otherwise it could test whether the patient is registered at the HIV clinic.
func TestEHI9ASearchTellsNothingOfWhatStays(t *testing.T) {
	rules, err := release.RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	h := &Handlers{Source: secretivePatient(t), Rules: rules}
	app := fiber.New()
	ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
	defer app.ReleaseCtx(ctx)
	count := func(a *auth.Access, name, value string, limit int) int {
		t.Helper()
		request.SetAccess(ctx, a)
		criterion, known, err := find.Parse("Patient", name, value)
		if err != nil || !known {
			t.Fatalf("%s=%s: %v, %v", name, value, known, err)
		}
		found, err := h.findPatients(ctx, source.Search{
			Criteria: []find.Criterion{criterion}, Limit: limit,
		})
		if err != nil || len(found.Matches) != min(found.Total, limit) {
			t.Fatalf("%s=%s: %+v, %v", name, value, found, err)
		}
		return found.Total
	}
	own := &auth.Access{Patient: "p", Scopes: auth.PatientExport}
	another := &auth.Access{Patient: "another", Scopes: auth.PatientExport}
	service := &auth.Access{Scopes: auth.SystemExport}
	for _, c := range []struct {
		name, value string
		withheld    bool
	}{
		{"identifier", "urn:hiv-clinic|", true},
		{"identifier", "urn:hiv-clinic|7", true},
		{"identifier", "7", true},
		{"family", "Hidden", true},
		{"given", "Ann", true},
		{"name", "Hidden", true},
		{"identifier", "urn:hospital|", false},
		{"identifier", "8", false},
		{"family", "Known", false},
		{"name", "known", false},
	} {
		for _, limit := range []int{0, 5} {
			if got := count(own, c.name, c.value, limit); got == 1 == c.withheld {
				t.Errorf("by %s=%s an application finds %d", c.name, c.value, got)
			}
		}
		if got := count(service, c.name, c.value, 5); got != 1 {
			t.Errorf("by %s=%s a backend service finds %d", c.name, c.value, got)
		}
	}
	if got := count(another, "family", "Known", 5); got != 0 {
		t.Errorf("another patient's application finds %d", got)
	}
}

// EHI-14: a job stores the name that administrators see, which the patient may withhold. If
// there is a form, an application knows the patient only by id.
func TestEHI14AJobTellsItsApplicationNoNameThatStays(t *testing.T) {
	patient, err := secretivePatient(t).Patient(t.Context(), "p")
	if err != nil || patient.Name != "Ann Hidden" {
		t.Fatalf("%+v, %v", patient, err)
	}
	for _, form := range []bool{true, false} {
		j := &ehi.Job{Patient: patient, WithForm: form, Status: ehi.Approved}
		for _, r := range []reach{{}, {whole: true}} {
			if told := metadataFor(r, j).Patient; told.ID != "p" || told.Name != "" == form {
				t.Errorf("with a form %v: %+v", form, told)
			}
		}
		if told := metadataForStaff(j).Patient; told != patient {
			t.Errorf("administrators are told %+v", told)
		}
	}
}
