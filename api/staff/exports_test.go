package staff

import (
	"net/http"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

// EHI-10: a decision is read from JSON or a form, or left out. One that cannot be read, or that
// readers could take for another, decides nothing.
func TestEHI10DecisionsAreReadOrRefused(t *testing.T) {
	d := newDesk(t)
	d.keep("j")
	d.exports.Routes(routes{d.app})
	for _, c := range []struct {
		mime, body string
		status     int
		want       jobs.Decision
	}{
		{"", "", http.StatusOK, jobs.Decision{}},
		{"application/json", `{"reason":"why","contents":"x"}`, http.StatusOK,
			jobs.Decision{Reason: "why", Contents: "x"}},
		{"application/x-www-form-urlencoded", "reason=why&contents=x", http.StatusOK,
			jobs.Decision{Reason: "why", Contents: "x"}},
		{"application/json", `{"reason":"a","reason":"b"}`, http.StatusBadRequest, jobs.Decision{}},
		{"application/json", `{"reason":`, http.StatusBadRequest, jobs.Decision{}},
		{"text/plain", "reason=why", http.StatusBadRequest, jobs.Decision{}},
	} {
		delete(d.jobs.asked, "j")
		a := d.ask("POST", "/admin/jobs/j/approve", c.body, "Content-Type", c.mime)
		got, decided := d.jobs.asked["j"]
		if a.StatusCode() != c.status || decided != (c.status == http.StatusOK) || got != c.want {
			t.Errorf("%s %q: %d, decided %v: %+v", c.mime, c.body, a.StatusCode(), decided, got)
		}
	}
}

// EHI-10: the list of exports is narrowed, bounded and continued as asked, or the request is
// refused.
func TestEHI10TheListOfExportsIsNarrowed(t *testing.T) {
	d := newDesk(t)
	for _, id := range []string{"a", "b", "c"} {
		d.keep(id, func(j *ehi.Job) {
			if id == "b" {
				j.Status = ehi.Failed
			}
		})
	}
	d.keep("gone", func(j *ehi.Job) { j.ExpiresAt = now().Add(-1) })
	d.exports.Routes(routes{d.app})
	for query, want := range map[string]int{
		"": 3, "?status=failed": 1, "?status=approved": 0, "?limit=2": 2, "?limit=0": 3,
		"?status=retrieved&limit=1": 1,
		"?status=lost":              -1, "?limit=-1": -1, "?limit=x": -1,
	} {
		a := d.ask("GET", "/admin/jobs"+query, "")
		var list []jobJSON
		if want < 0 {
			if a.StatusCode() != http.StatusBadRequest {
				t.Errorf("%s: %d", query, a.StatusCode())
			}
			continue
		}
		if err := json.Unmarshal(a.Body(), &list); err != nil || len(list) != want {
			t.Errorf("%s: %d exports, not %d: %v", query, len(list), want, err)
		}
	}
	var first, rest []jobJSON
	err := json.Unmarshal(d.ask("GET", "/admin/jobs?limit=1", "").Body(), &first)
	if err != nil || len(first) != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	a := d.ask("GET", "/admin/jobs?after="+first[0].ID, "")
	if err := json.Unmarshal(a.Body(), &rest); err != nil || len(rest) != 2 {
		t.Errorf("behind %s: %d exports, %v", first[0].ID, len(rest), err)
	}
}

// A digest of an export's contents is given out only while somebody may decide about it.
func TestContentsAreToldWhileThereIsADecision(t *testing.T) {
	d := newDesk(t)
	d.keep("open")
	d.keep("done", func(j *ehi.Job) { j.Status = ehi.Rejected })
	d.exports.Routes(routes{d.app})
	for id, told := range map[string]bool{"open": true, "done": false} {
		var j jobJSON
		a := d.ask("GET", "/admin/jobs/"+id, "")
		if err := json.Unmarshal(a.Body(), &j); err != nil || (j.Contents != "") != told {
			t.Errorf("%s: contents %q, %v", id, j.Contents, err)
		}
	}
}
