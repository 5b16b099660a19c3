package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

// startOnSynthetic runs a server with synthetic patients, and returns what its generator makes:
// the valid resources by key, and the number of malformed ones.
func startOnSynthetic(
	t *testing.T, settings string,
) (w *world, sound map[string]records.Resource, malformed int64) {
	t.Helper()
	cfg := config()
	cfg.Source.Spec = "synthetic:" + settings
	made, err := synthetic.ParseConfig(settings)
	if err != nil {
		t.Fatal(err)
	}
	sound = map[string]records.Resource{}
	keep := func(r source.Resource) error {
		var x records.Resource
		if json.Unmarshal(r.Line, &x) != nil {
			malformed++
			return nil
		}
		sound[records.Key(x)] = x
		return nil
	}
	g := synthetic.NewGenerator(made)
	if err := g.Shared(keep); err != nil {
		t.Fatal(err)
	}
	for k := range made.Patients {
		if err := g.Patient(k, keep); err != nil {
			t.Fatal(err)
		}
	}
	return start(t, t.TempDir(), cfg, node.Options{}), sound, malformed
}

func TestSyntheticPatientsAreExportedAsTheyAreMade(t *testing.T) {
	t.Parallel()
	w, sound, _ := startOnSynthetic(t, "patients=40,seed=5,resources=120")
	got, m := w.bulk(w.service("system/*.read"), http.MethodGet, "/fhir/Patient/$export", nil)
	if d := cmp.Diff(sound, got); d != "" {
		t.Error(d)
	}
	if len(m.Error) > 0 {
		t.Errorf("errors: %+v", m.Error)
	}
}

// BULK-6: malformed resources are left out and reported, each in an OperationOutcome; the others
// are exported. The same holds for one patient with a form, for which every resource is
// examined.
func TestBULK6MalformedResourcesAreReported(t *testing.T) {
	t.Parallel()
	w, sound, malformed := startOnSynthetic(t, "patients=20,seed=5,resources=120,errors=0.05")
	if malformed == 0 {
		t.Fatal("nothing is malformed")
	}
	c := w.service("system/*.read")
	got, m := w.bulk(c, http.MethodGet, "/fhir/Patient/$export", nil)
	if d := cmp.Diff(sound, got); d != "" {
		t.Error(d)
	}
	if n := reported(w, m); n != malformed {
		t.Errorf("%d malformed resources are reported, %d were made", n, malformed)
	}

	list, err := w.node.Patients(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := w.patient(list[0].ID)
	j := w.kickOff(p, "/auto-approve", list[0].ID, nil)
	w.submit(p, j.ID, everything())
	m = w.manifest(p, j)
	if n := reported(w, m); n == 0 || len(m.Output) == 0 {
		t.Errorf("one patient: %d reported, %d files", n, len(m.Output))
	}
}

// reported counts the OperationOutcomes that a manifest announces.
func reported(w *world, m *ehi.Manifest) (n int64) {
	for _, e := range m.Error {
		n += e.Count
		if e.Type != "OperationOutcome" {
			w.t.Errorf("an error file of type %s", e.Type)
		}
	}
	return n
}

func TestSettingsOfASourceAreChecked(t *testing.T) {
	t.Parallel()
	for spec, why := range map[string]string{
		"synthetic:patients=0": "patients must be",
		"ldap":                 "unknown source",
	} {
		cfg := config()
		cfg.Source.Spec = spec
		_, err := node.Open(t.Context(), cfg, t.TempDir(), nil, node.Options{})
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
