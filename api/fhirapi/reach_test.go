package fhirapi

import (
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
)

// SMART-7: a token that is narrower than the one of the kick-off opens only what its own scopes
// allow, at every step, and cannot delete the job.
func TestSMART7ATokenOpensOnlyItsTypesOfAJob(t *testing.T) {
	e := newExports(t, func(*Flags) {})
	all := e.serviceFor("system/*.rs system/$ehi-export")
	every := []string{"Claim", "Condition", "Observation", "Patient"}
	for target, types := range map[string][]string{
		"/fhir/$export":                          every,
		"/auto-approve/fhir/$ehi-export":         every,
		"/fhir/$export?_type=Condition,Patient":  {"Condition", "Patient"},
		"/fhir/$export?organizeOutputBy=Patient": {""},
	} {
		job := e.kickOff(all, target)
		e.export(job, types...)
		whole := e.manifest(all, job)
		if len(whole.Output) != len(types) || len(whole.Error) != 0 {
			t.Errorf("%s: the manifest lists %v and %v", target, whole.Output, whole.Error)
		}
		byPatient := strings.Contains(target, "organize")
		for _, scope := range []string{
			"system/Condition.read",
			"system/Condition.r system/Condition.s",
			"system/Condition.cruds system/Claim.r",
		} {
			e.opensOnlyConditions(e.serviceFor(scope), job, whole, byPatient)
		}
		for _, other := range []string{"system/Condition.r", "system/Condition.write"} {
			if token, ok := e.service(other); ok {
				e.wantOutcome(e.ask(token, "GET", job+"/status"), 403, "scope")
			}
		}
		if strings.Contains(target, "_type") {
			enough := e.serviceFor("system/Patient.rs system/Condition.read system/Claim.rs")
			m := e.manifest(enough, job)
			if len(m.Output) != len(whole.Output) || len(m.Error) != 0 {
				t.Errorf("a token of both types sees %v", m.Output)
			}
			e.want(e.ask(enough, "DELETE", job+"/status"), 202, "")
		} else {
			fewer := e.serviceFor("system/Patient.rs system/Condition.rs")
			e.wantOutcome(e.ask(fewer, "DELETE", job+"/status"), 403, "scopes of this token")
			e.want(e.ask(all, "DELETE", job+"/status"), 202, "")
		}
	}
}

// opensOnlyConditions reads everything of a job with a token for Condition.
func (e *exports) opensOnlyConditions(token, job string, whole ehi.Manifest, byPatient bool) {
	e.t.Helper()
	opened := 0
	for _, f := range whole.Output {
		want := 403
		if f.Type == "Condition" {
			want, opened = 200, opened+1
		}
		for _, method := range []string{"GET", "HEAD"} {
			a := e.ask(token, method, f.URL)
			if a.StatusCode() != want ||
				want == 403 && !strings.Contains(string(a.Body()), `"OperationOutcome"`) {
				e.t.Errorf("%s %s: %d %.200s", method, f.URL, a.StatusCode(), a.Body())
			}
		}
	}
	if byPatient == (opened > 0) {
		e.t.Errorf("%d files opened", opened)
	}
	for _, file := range []string{
		"Observation",
		"Observation.0.0.ndjson",
		"Nothing.ndjson",
		"errors.0.0.ndjson",
		"patients.0.0.ndjson",
		"attachments.DocumentReference.ndjson",
		"attachments/note.txt",
	} {
		e.wantOutcome(e.ask(token, "GET", job+"/download/"+file), 403, "scopes of this token")
	}
	m := e.manifest(token, job)
	other := func(f ehi.ManifestEntry) bool { return f.Type != "Condition" }
	if len(m.Output) != opened || slices.ContainsFunc(m.Output, other) ||
		len(m.Error) != 1 || m.Error[0].Count != 1 {
		e.t.Fatalf("the manifest lists %v and %v", m.Output, m.Error)
	}
	note := e.ask(token, "GET", m.Error[0].URL)
	e.want(note, 200, `"severity":"information"`)
	tag := string(e.ask(token, "HEAD", m.Error[0].URL).Header.Peek("ETag"))
	if tag == "" || tag != string(note.Header.Peek("ETag")) {
		e.t.Errorf("tags %q and %q", tag, note.Header.Peek("ETag"))
	}
	var told struct {
		Counts map[string]int64 `json:"counts"`
		Bytes  *int64           `json:"bytes"`
	}
	a := e.ask(token, "GET", job+"/metadata")
	if a.StatusCode() != 200 || json.Unmarshal(a.Body(), &told) != nil || told.Bytes != nil ||
		len(told.Counts) > 1 || told.Counts["Condition"] == 0 && !byPatient {
		e.t.Errorf("metadata: %d %s", a.StatusCode(), a.Body())
	}
	e.wantOutcome(e.ask(token, "DELETE", job+"/status"), 403, "scopes of this token")
	e.want(e.ask(token, "GET", job+"/status"), 200, strings.TrimPrefix(job, "/jobs/"))
}
