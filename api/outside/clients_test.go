package outside

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/api/client"
)

// same compares what a client has downloaded with what is expected.
func same(t *testing.T, want, got received) {
	t.Helper()
	if d := cmp.Diff(want.Counts, got.Counts); d != "" {
		t.Errorf("resources (-there +received):\n%s", d)
	}
	if want.Files != got.Files {
		t.Errorf("%d files, there are %d", got.Files, want.Files)
	}
}

// inFolder counts the NDJSON files that a client wrote.
func inFolder(t *testing.T, pattern string) (got received) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) == "log.ndjson" {
			continue
		}
		if err := got.add(data); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// release is a form that releases everything.
var release = map[string]any{
	"parameters": map[string]any{"visits": on, "labs": on, "billing": on, "medicalRecord": on,
		"dischargeSummary": on, "operative": on, "pathology": on, "radiology": on,
		"photographs": on, "other": on},
	"authorizations": map[string]any{
		"hiv": yes, "alcoholAndDrug": yes, "mentalHealth": yes, "confidential": yes,
		"domesticViolence": yes, "sexualAssault": yes, "genetic": yes, "other": yes,
	},
}

var on, yes = map[string]any{
	"name":    "x",
	"enabled": true,
}, map[string]any{"name": "x", "value": true}

// pace is the polling interval in seconds of scripts that do not obey Retry-After.
const pace = "PACE=0.3"

// @medplum/core from npm: bulkExport of the system and of all patients.
func TestMedplumExportsInBulk(t *testing.T) {
	t.Parallel()
	npm().or(t)
	for level, target := range map[string]string{
		"":        "/fhir/$export",
		"Patient": "/fhir/Patient/$export",
	} {
		s := serve(t, "--source", slowly, "--bulk-workers", "1")
		got := s.node("medplum.mjs", "TOKEN="+s.system().Token, "LEVEL="+level).report()
		same(t, everything(t, "GET", target), got)
		s.polled("@medplum/core")
	}
}

// fhir-kit-client from npm: an export of the system at the pace of Retry-After.
func TestFHIRKitExportsInBulk(t *testing.T) {
	t.Parallel()
	npm().or(t)
	s := serve(t, "--source", slowly, "--bulk-workers", "1")
	got := s.node("fhirkit.mjs", "TOKEN="+s.system().Token).report()
	same(t, everything(t, "GET", "/fhir/$export"), got)
	if got.TokenURL != s.url+"/auth/token" || got.FHIRVersion != "4.0.1" {
		t.Errorf("discovery: %+v", got)
	}
	s.polled("fhir-kit-client")
}

// fhir-kit-client from npm: a patient's EHI export with form and review.
func TestFHIRKitExportsEHI(t *testing.T) {
	t.Parallel()
	npm().or(t)
	s := serve(t, "--source", population)
	patient := s.patient()
	c, _, err := s.open.AuthorizeFor(t.Context(), patient, client.Scope)
	if err != nil {
		t.Fatal(err)
	}
	p := s.node("fhirkit.mjs", "TOKEN="+c.Token, "PATIENT="+patient, pace)
	s.decide(release)
	same(t, everything(t, "POST", "/no-form/auto-approve/fhir/Patient/%s/$ehi-export"), p.report())
	s.polled("fhir-kit-client")
}

// fhirclient from npm: authorization, then a patient's EHI export with form and review.
func TestFHIRClientOfNPMExportsEHI(t *testing.T) {
	t.Parallel()
	npm().or(t)
	s := serve(t, "--source", population)
	patient := s.patient()
	p := s.node("fhirclient.mjs", "PATIENT="+patient, pace)
	s.decide(release)
	got := p.report()
	same(t, everything(t, "POST", "/no-form/auto-approve/fhir/Patient/%s/$ehi-export"), got)
	if got.Patient != patient {
		t.Errorf("it is authorized for the patient %q", got.Patient)
	}
	s.polled("fhirclient (npm)")
}

// fhirclient from PyPI: authorization, refresh, then a patient's EHI export with form and
// review. Its models accept the resources.
func TestFHIRClientOfPyPIExportsEHI(t *testing.T) {
	t.Parallel()
	python().or(t)
	s := serve(t, "--source", population)
	patient := s.patient()
	p := s.python([]string{"PATIENT=" + patient, pace}, "python", "smart_client.py")
	s.decide(release)
	got := p.report()
	same(t, everything(t, "POST", "/no-form/auto-approve/fhir/Patient/%s/$ehi-export"), got)
	if got.Patient != patient {
		t.Errorf("it is authorized for the patient %q", got.Patient)
	}
	s.polled("fhirclient (PyPI)")
}

// smart-fetch from PyPI: a backend service with a signed assertion; an export of the types that
// it knows.
func TestSmartFetchExportsInBulk(t *testing.T) {
	t.Parallel()
	python().or(t)
	s := serve(t, "--source", slowly, "--bulk-workers", "1")
	keys, out := filepath.Join(t.TempDir(), "keys.jwks"), t.TempDir()
	if err := os.WriteFile(keys, s.keys(), 0o600); err != nil {
		t.Fatal(err)
	}
	said := s.python(nil, "smart-fetch", "bulk", out, "--fhir-url", s.url+"/fhir",
		"--smart-client-id", "test_client_id",
		"--smart-key", keys, "--no-compression", "--no-default-filters").end()
	if strings.Contains(said, "does not support") {
		t.Errorf("it leaves types out: %s", said)
	}
	want := everything(t, "GET",
		"/fhir/$export?_type=AllergyIntolerance,Condition,Device,DiagnosticReport,"+
			"DocumentReference,"+
			"Encounter,EpisodeOfCare,Immunization,MedicationDispense,MedicationRequest,"+
			"Observation,Patient,Procedure,ServiceRequest,Specimen")
	same(t, want, inFolder(t, filepath.Join(out, "*.ndjson")))
	s.polled("smart-fetch")
}

// au.csiro.fhir:bulk-export from Maven: a backend service with a signed assertion; exports of
// the system and of all patients.
func TestCSIROsClientExportsInBulk(t *testing.T) {
	t.Parallel()
	java().or(t)
	for level, target := range map[string]string{
		"":        "/fhir/$export",
		"Patient": "/fhir/Patient/$export",
	} {
		s := serve(t, "--source", slowly, "--bulk-workers", "1")
		var set struct{ Keys []json.RawMessage }
		if err := json.Unmarshal(s.keys(), &set); err != nil {
			t.Fatal(err)
		}
		key := set.Keys[0]
		if !strings.Contains(string(key), `"RS384"`) {
			key = set.Keys[1]
		}
		out := filepath.Join(t.TempDir(), "out")
		runJava(t, "Bulk.java", s.url, level, string(key), out).end()
		same(t, everything(t, "GET", target), inFolder(t, filepath.Join(out, "*.ndjson")))
		s.polled("au.csiro.fhir:bulk-export")
	}
}

// HAPI's client from Maven: capability, read, search, kick-off.
func TestHAPIsClientReadsSearchesAndKicksOff(t *testing.T) {
	t.Parallel()
	java().or(t)
	s := serve(t, "--source", population)
	c := s.system()
	lines := strings.Fields(runJava(t, "Hapi.java", s.url, c.Token, s.patient()).end())
	if _, err := c.Wait(t.Context(), lines[len(lines)-1], 0); err != nil {
		t.Error(err)
	}
}
