package staff

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

func newQueue(t *testing.T) *desk {
	t.Helper()
	d := newDesk(t)
	queue := &Queue{Pages: d.pages, Exports: d.exports, Progress: idle{}}
	queue.Routes(routes{d.app})
	return d
}

// A decision about several exports is asked for once more, and then made about each for itself.
// What could not be decided is named with its reason.
func TestDecisionsAboutSeveralExportsAreMadeOneByOne(t *testing.T) {
	d := newQueue(t)
	d.keep("a")
	d.keep("b")
	d.jobs.refuse["b"] = ehi.Errorf(ehi.Conflict, "somebody was faster")
	chosen := url.Values{"do": {"approve"}, "job": {"a", "b", "a"}}
	question := d.send("/admin/ui/jobs", chosen.Encode())
	if len(d.jobs.asked) > 0 {
		t.Fatalf("it is decided before the question: %v", d.jobs.asked)
	}
	asks := string(d.ask("GET", question, "").Body())
	if !strings.Contains(asks, "Approve 2 exports?") || !strings.Contains(asks, "Ana b") {
		t.Fatalf("the question: %.400s", asks)
	}
	chosen["contents"], chosen["reason"] = []string{"x", ""}, []string{"fine"}
	chosen["job"] = []string{"a", "b"}
	result := d.send("/admin/ui/jobs", chosen.Encode())
	want := map[string]jobs.Decision{
		"a": {Reason: "fine", Contents: "x"}, "b": {Reason: "fine", Contents: unseen},
	}
	for id, decision := range want {
		if d.jobs.asked[id] != decision {
			t.Errorf("%s: %+v, not %+v", id, d.jobs.asked[id], decision)
		}
	}
	told := string(d.ask("GET", result, "").Body())
	for _, part := range []string{"1 done", "1 failed", "somebody was faster"} {
		if !strings.Contains(told, part) {
			t.Errorf("the result does not say %q: %s", part, told)
		}
	}
}

// A form that names no decision, no export or too many leads back and says why.
func TestImpossibleDecisionsLeadBack(t *testing.T) {
	var many []string
	for i := range maxBulk + 1 {
		many = append(many, strconv.Itoa(i))
	}
	for _, c := range []struct {
		form url.Values
		why  string
	}{
		{url.Values{"job": {"a"}}, "Choose whether to approve or to reject"},
		{url.Values{"do": {"delete"}, "job": {"a"}}, "Choose whether to approve or to reject"},
		{url.Values{"do": {"approve"}}, "no export is ticked"},
		{url.Values{"do": {"reject"}, "job": many}, "200 is the most at once"},
	} {
		d := newQueue(t)
		c.form.Set("back", "/admin/ui/jobs?status=retrieved")
		to := d.send("/admin/ui/jobs", c.form.Encode())
		if to != "/admin/ui/jobs?status=retrieved" || len(d.jobs.asked) > 0 {
			t.Errorf("%.60v leads to %s, and decides %v", c.form, to, d.jobs.asked)
		}
		a := d.ask("GET", to, "")
		if text := string(a.Body()); a.StatusCode() != http.StatusBadRequest ||
			!strings.Contains(text, c.why) {
			t.Errorf("%.60v: %d, without %q", c.form, a.StatusCode(), c.why)
		}
	}
}

// The list leads back to itself alone, whatever a form says.
func TestDecisionsLeadBackToTheListAlone(t *testing.T) {
	d := newQueue(t)
	for _, back := range []string{
		"", "https://evil.example/", "//evil.example", "/admin/ui/clients", "/admin/ui/jobs/x",
	} {
		to := d.send("/admin/ui/jobs", url.Values{"do": {"approve"}, "back": {back}}.Encode())
		if to != jobsPath {
			t.Errorf("%q leads to %s", back, to)
		}
	}
}

// The filters of the list find exports by name, by the beginning of an ID, and by status; each tab
// counts what the other filters admit.
func TestTheQueueIsFiltered(t *testing.T) {
	d := newQueue(t)
	d.keep("alpha", func(j *ehi.Job) { j.Patient.Name = "Ana Núñez" })
	d.keep("beta", func(j *ehi.Job) { j.Patient.Name, j.Status = "Bea Smith", ehi.Rejected })
	for query, want := range map[string][]string{
		"":                        {"Ana Núñez", "Bea Smith"},
		"?q=nunez":                {"Ana Núñez"},
		"?q=BET":                  {"Bea Smith"},
		"?status=rejected":        {"Bea Smith"},
		"?status=rejected&q=ana":  {},
		"?sort=name&page=9999999": {"Ana Núñez", "Bea Smith"},
	} {
		text := string(d.ask("GET", "/admin/ui/jobs"+query, "").Body())
		for _, name := range []string{"Ana Núñez", "Bea Smith"} {
			if strings.Contains(text, name) != slices.Contains(want, name) {
				t.Errorf("%q: shows %s: %v", query, name, !slices.Contains(want, name))
			}
		}
	}
	for _, bad := range []string{"?status=x", "?sort=x", "?page=0"} {
		if a := d.ask("GET", "/admin/ui/jobs"+bad, ""); a.StatusCode() != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, a.StatusCode())
		}
	}
}
