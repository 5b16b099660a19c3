package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// model predicts the server's responses from the state machine alone.
type model struct {
	w       *world
	door    *sync.RWMutex // no export begins while it is locked
	patient string
	owner   *client.Client
	other   *client.Client // of another patient

	held bool
	jobs []*modelJob
}

type modelJob struct {
	client.Job
	status   ehi.Status
	form     bool
	auto     bool
	attached []string
}

// gone is the state of a deleted job.
const gone = ehi.Aborted

func (m *model) ask(
	t *rapid.T, c *client.Client, method, target, body string, header ...string,
) *client.Answer {
	a, err := c.Do(context.Background(), method, target, strings.NewReader(body), header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return a
}

// expect sends a request and compares the status.
func (m *model) expect(
	t *rapid.T, j *modelJob, want int, c *client.Client, method, rest, body string,
	header ...string,
) *client.Answer {
	a := m.ask(t, c, method, "/jobs/"+j.ID+rest, body, header...)
	m.same(t, j, want, a, method+" "+rest)
	return a
}

func (m *model) same(t *rapid.T, j *modelJob, want int, a *client.Answer, what string) {
	if a.Status != want {
		t.Fatalf("%s of a job that is %s (form %v, auto %v): %d %.200s, want %d", what, j.status,
			j.form, j.auto, a.Status, a.Body, want)
	}
}

// pick draws a job.
func (m *model) pick(t *rapid.T) *modelJob {
	if len(m.jobs) == 0 {
		t.Skip("no job yet")
	}
	return m.jobs[rapid.IntRange(0, len(m.jobs)-1).Draw(t, "job")]
}

// settle waits for the exports that may run.
func (m *model) settle(t *rapid.T) {
	if m.held {
		return
	}
	for _, j := range m.jobs {
		if j.status != ehi.Requested {
			continue
		}
		j.status = ehi.Retrieved
		if j.auto {
			j.status = ehi.Approved
		}
		for end := time.Now().Add(20 * time.Second); ; {
			got, err := m.w.node.Bus.Jobs.Get(context.Background(), j.ID)
			if err == nil && got.Status == j.status {
				break
			}
			if err != nil || got.Status != ehi.Requested || time.Now().After(end) {
				t.Fatalf("job %s is %+v, %v, want %s", j.ID, got, err, j.status)
			}
		}
	}
}

func (m *model) kickOff(t *rapid.T) {
	if len(m.jobs) >= 4 {
		t.Skip("enough jobs")
	}
	j := &modelJob{form: rapid.Bool().Draw(t, "form"), auto: rapid.Bool().Draw(t, "auto")}
	base := map[[2]bool]string{
		{true, false}:  "",
		{true, true}:   "/auto-approve",
		{false, false}: "/no-form",
		{false, true}:  "/no-form/auto-approve",
	}[[2]bool{j.form, j.auto}]
	var err error
	if j.Job, err = m.owner.KickOff(context.Background(), base, m.patient, nil); err != nil {
		t.Fatal(err)
	}
	if j.form != (j.Link != "") {
		t.Fatalf("Link is %q", j.Link)
	}
	j.status = ehi.Requested
	if j.form {
		j.status = ehi.AwaitingInput
	}
	m.jobs = append(m.jobs, j)
	m.settle(t)
}

func (m *model) submit(t *rapid.T) {
	j := m.pick(t)
	body, err := jsonOf(everything())
	if err != nil {
		t.Fatal(err)
	}
	broken := rapid.IntRange(0, 3).Draw(t, "broken") == 0
	if broken {
		body = rapid.SampledFrom([]string{
			"",
			"[]",
			`{"parameters":{"nothing":{"enabled":true}}}`,
			`{"parameters":{"labs":{"enabled":"perhaps"}}}`,
		}).Draw(t, "body")
	}
	want := http.StatusOK
	switch {
	case j.status == gone:
		want = http.StatusNotFound
	case broken || j.status != ehi.AwaitingInput:
		want = http.StatusBadRequest
	}
	a := m.expect(t, j, want, m.owner, "POST", "", body, "Content-Type", "application/json")
	if want == http.StatusBadRequest && !broken &&
		string(a.Body) != "Exports job already customized" {
		t.Fatalf("the refusal reads %q", a.Body)
	}
	if want == http.StatusOK {
		j.status = ehi.Requested
		m.settle(t)
	}
}

func (m *model) status(t *rapid.T) {
	j := m.pick(t)
	want := map[ehi.Status]int{
		ehi.AwaitingInput: 202,
		ehi.Requested:     202,
		ehi.Retrieved:     202,
		ehi.Approved:      200,
		ehi.Rejected:      403,
		gone:              404,
	}[j.status]
	a := m.expect(t, j, want, m.owner, "GET", "/status", "")
	if want == 202 &&
		(!strings.HasPrefix(a.Header.Get("X-Progress"), string(j.status)) ||
			a.Header.Get("Retry-After") == "") {
		t.Fatalf("a job that is %s tells %q, Retry-After %q", j.status, a.Header.Get("X-Progress"),
			a.Header.Get("Retry-After"))
	}
	if (a.Header.Get("Link") != "") != (j.status == ehi.AwaitingInput) {
		t.Fatalf("Link of a job that is %s: %q", j.status, a.Header.Get("Link"))
	}
	if want == 200 &&
		strings.Contains(string(a.Body), "attachments.DocumentReference") != (len(j.attached) > 0) {
		t.Fatalf("%d documents, and the manifest is %s", len(j.attached), a.Body)
	}
}

func (m *model) delete(t *rapid.T) {
	j := m.pick(t)
	if rapid.Bool().Draw(t, "by an administrator") {
		m.same(t, j, or404(j, 200), m.ask(t, m.w.admin, "DELETE", "/admin/jobs/"+j.ID, ""),
			"an administrator's DELETE")
	} else {
		m.expect(t, j, or404(j, 202), m.owner, "DELETE", "/status", "")
	}
	j.status = gone
}

// or404 returns a status, or 404 if the job is deleted.
func or404(j *modelJob, status int) int {
	if j.status == gone {
		return http.StatusNotFound
	}
	return status
}

func (m *model) decide(t *rapid.T) {
	j := m.pick(t)
	action := rapid.SampledFrom([]string{"approve", "reject"}).Draw(t, "action")
	want := or404(j, 400)
	if j.status == ehi.Retrieved {
		want = 200
	}
	m.same(t, j, want, m.ask(t, m.w.admin, "POST", "/admin/jobs/"+j.ID+"/"+action, ""), action)
	if want == 200 {
		j.status = map[string]ehi.Status{"approve": ehi.Approved, "reject": ehi.Rejected}[action]
	}
}

func (m *model) attach(t *rapid.T) {
	j := m.pick(t)
	name := rapid.SampledFrom([]string{"a.txt", "b.txt"}).Draw(t, "name")
	a, err := m.w.admin.AddFiles(context.Background(), j.ID, client.File{
		Name: name,
		Data: []byte("content of " + name),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := or404(j, 400)
	if j.status == ehi.Retrieved {
		want = 200
	}
	m.same(t, j, want, a, "an upload")
	if want != 200 {
		return
	}
	for n := 0; slices.Contains(j.attached, name); n++ {
		name = fmt.Sprintf("%s-%d.txt", name[:1], n+1)
	}
	j.attached = append(j.attached, name)
}

func (m *model) detach(t *rapid.T) {
	j := m.pick(t)
	name := rapid.SampledFrom([]string{"a.txt", "b.txt", "a-1.txt"}).Draw(t, "name")
	a, err := m.w.admin.RemoveFiles(context.Background(), j.ID, name)
	if err != nil {
		t.Fatal(err)
	}
	want := or404(j, 400)
	if j.status == ehi.Retrieved {
		want = 404
		if n := slices.Index(j.attached, name); n >= 0 {
			want = 200
			j.attached = slices.Delete(j.attached, n, n+1)
		}
	}
	m.same(t, j, want, a, "a removal")
}

func (m *model) download(t *rapid.T) {
	j := m.pick(t)
	want := 404
	if j.status == ehi.Approved {
		want = 200
	}
	a := m.expect(t, j, want, m.owner, "GET", "/download/Patient.ndjson", "")
	if want == 200 && !strings.Contains(string(a.Body), m.patient) {
		t.Fatalf("Patient.ndjson is %s", a.Body)
	}
	m.expect(t, j, 404, m.owner, "GET", "/download/Nothing.ndjson", "")
	for _, name := range []string{"a.txt", "b.txt"} {
		want := 404
		if j.status == ehi.Approved && slices.Contains(j.attached, name) {
			want = 200
		}
		a := m.expect(t, j, want, m.owner, "GET", "/download/attachments/"+name, "")
		if want == 200 && string(a.Body) != "content of "+name {
			t.Fatalf("%s is %q", name, a.Body)
		}
	}
}

func (m *model) look(t *rapid.T) {
	j := m.pick(t)
	m.expect(t, j, or404(j, 200), m.owner, "GET", "/metadata", "")
	a := m.ask(t, m.w.admin, "GET", "/admin/jobs/"+j.ID, "")
	m.same(t, j, or404(j, 200), a, "an administrator's GET")
	if a.Status == 200 && !strings.Contains(string(a.Body), fmt.Sprintf(`"status":%q`, j.status)) {
		t.Fatalf("a job that is %s is shown as %s", j.status, a.Body)
	}
}

// intrude requests things of others, which must look nonexistent.
func (m *model) intrude(t *rapid.T) {
	j := m.pick(t)
	m.expect(t, j, 404, m.other, "GET", "/status", "")
	m.expect(t, j, 404, m.other, "DELETE", "/status", "")
	m.expect(t, j, 404, m.other, "GET", "/metadata", "")
	m.expect(t, j, 404, m.other, "GET", "/download/Patient.ndjson", "")
	m.expect(t, j, 404, m.other, "POST", "", "{}", "Content-Type", "application/json")
	m.same(t, j, 401, m.ask(t, m.owner, "POST", "/admin/jobs/"+j.ID+"/approve", ""),
		"a patient's approval")
}

func (m *model) hold(t *rapid.T) {
	if m.held {
		t.Skip("held already")
	}
	m.door.Lock()
	m.held = true
}

func (m *model) release(t *rapid.T) {
	if !m.held {
		t.Skip("not held")
	}
	m.letGo()
	m.settle(t)
}

func (m *model) letGo() {
	if m.held {
		m.held = false
		m.door.Unlock()
	}
}

// invariant checks what must always hold: the server knows exactly the model's jobs, in their
// states.
func (m *model) invariant(t *rapid.T) {
	got := map[string]ehi.Status{}
	for _, s := range m.w.node.Bus.Jobs.List(func(s bus.Summary) bool {
		return s.Status != ehi.Aborted
	}) {
		got[s.ID] = s.Status
	}
	for _, j := range m.jobs {
		if j.status != gone && got[j.ID] != j.status {
			t.Fatalf("job %s is %q, want %q", j.ID, got[j.ID], j.status)
		}
		if j.status != gone {
			delete(got, j.ID)
		}
	}
	if len(got) > 0 {
		t.Fatalf("jobs that nobody knows of: %v", got)
	}
}

// In any order of requests, the server responds as the table of transitions
// says. rapid's -rapid.checks sets the number of sequences.
func TestAnyOrderOfRequestsIsAnsweredAsTheStateMachineSays(t *testing.T) {
	t.Parallel()
	var door sync.RWMutex
	cfg := config()
	cfg.Source.Spec = "synthetic:patients=2,seed=1,resources=12"
	w := start(t, t.TempDir(), cfg, node.Options{
		WrapSource: func(s source.Source) source.Source { return closable{s, &door} },
	})
	patients, err := w.node.Patients(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	owner, other := w.patient(patients[0].ID), w.patient(patients[1].ID)
	rapid.Check(t, func(t *rapid.T) {
		m := &model{w: w, door: &door, patient: patients[0].ID, owner: owner, other: other}
		defer func() {
			m.letGo()
			for _, j := range m.jobs {
				if j.status != gone {
					// after a failure it may not exist
					_ = owner.Delete(context.Background(), j.StatusURL)
				}
			}
		}()
		t.Repeat(map[string]func(*rapid.T){
			"kick off": m.kickOff, "submit": m.submit, "status": m.status, "delete": m.delete,
			"decide": m.decide, "attach": m.attach, "detach": m.detach,
			"download": m.download, "look": m.look, "intrude": m.intrude, "hold": m.hold,
			"release": m.release, "": m.invariant,
		})
	})
}

func jsonOf(f form) (string, error) {
	data, err := json.Marshal(f)
	return string(data), err
}
