package server

import (
	"regexp"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// documentLink matches the address of a document on an export's page.
var documentLink = regexp.MustCompile(`/admin/ui/jobs/[^/"]+/documents/[^"]+`)

// reviewed is an export that waits for two approvals, with administrators' browsers.
type reviewed struct {
	t *testing.T
	*seat
	rita, vera *seat // programs of a reviewer and a viewer
}

func newReviewed(t *testing.T) *reviewed {
	t.Helper()
	b, _ := seated(t, func(c *Config) {
		c.FourEyes, c.AttachmentsPerCall, c.AttachmentBytes = true, 10, 1<<20
	})
	b.review()
	r := &reviewed{t: t, seat: b, rita: b.another(), vera: b.another()}
	for name, p := range map[string]*seat{"rita": r.rita, "vera": r.vera} {
		a := auth.Account{Name: name, Role: auth.Viewer}
		if p == r.rita {
			a.Role = auth.Reviewer
		}
		if _, err := b.s.Auth.AddAccount(t.Context(), a, seatPassword); err != nil {
			t.Fatal(err)
		}
		if a := p.program(name, seatPassword, ""); a.StatusCode() != 200 {
			t.Fatalf("%d %s", a.StatusCode(), a.Body())
		}
	}
	return r
}

// contents are those of the export at the moment.
func (r *reviewed) contents() string {
	r.t.Helper()
	var j struct{ Contents string }
	err := json.Unmarshal(r.rita.wants("GET", "/admin/jobs/j", "", 200, "").Body(), &j)
	if err != nil || j.Contents == "" {
		r.t.Fatalf("contents %q, %v", j.Contents, err)
	}
	return j.Contents
}

// attach adds a document.
func (r *reviewed) attach(name string) {
	r.t.Helper()
	a := r.rita.ask("POST", "/admin/jobs/j/add-files",
		"--x\r\nContent-Disposition: form-data; name=\"attachments\"; filename=\""+name+
			"\"\r\n\r\na letter\r\n--x--\r\n", "Content-Type", "multipart/form-data; boundary=x")
	if a.StatusCode() != 200 {
		r.t.Fatalf("%d %s", a.StatusCode(), a.Body())
	}
}

// is requires the state of the export and how many approve it.
func (r *reviewed) is(status ehi.Status, approvals int) {
	r.t.Helper()
	j, err := r.s.Bus.Jobs.Get(r.t.Context(), "j")
	if err != nil || j.Status != status || len(j.Approvals) != approvals {
		r.t.Errorf("%s with %d approvals, %v; want %s with %d", j.Status, len(j.Approvals), err,
			status, approvals)
	}
}

// With four eyes, the second reviewer cannot release what the first has not seen. A new document
// resets the approvals, a page with an older state cannot decide anything, and reviewers can
// open every document.
func TestFourEyesApproveTheSameThing(t *testing.T) {
	r := newReviewed(t)
	const page, approve = "/admin/ui/jobs/j", "/admin/jobs/j/approve"
	r.visit(page, 200, "Decide")
	seen := r.contents()
	r.rita.wants("POST", approve, "", 400, "contents")
	r.rita.wants("POST", approve, `{"contents":"`+seen+`"}`, 200, "rita")
	r.is(ehi.Retrieved, 1)
	r.attach("100% a letter #1.txt")
	r.wants("POST", approve, `{"contents":"`+seen+`"}`, 400, "")
	// from the page before the letter was added
	stale := r.submit(page, "do", "approve", "contents", r.field("contents"))
	r.sees(stale, 400, "has changed since you looked at it")
	r.is(ehi.Retrieved, 0)
	// The page that asks about several exports refuses too, if it is sent again unchanged.
	r.visit("/admin/ui/jobs?do=approve&job=j", 200, "Approve 1 export?")
	r.attach("another.txt")
	r.sees(r.submit("/admin/ui/jobs"), 200, "has changed since you looked at it")
	r.is(ehi.Retrieved, 0)
	r.visit(page, 200)
	current := r.submit(page, "do", "approve", "contents", r.field("contents"))
	r.sees(current, 200, "Approved by: admin", "You approved this export")

	document := documentLink.FindString(r.page)
	a := r.ask("GET", document, "", "Accept", "text/html")
	if a.StatusCode() != 200 || string(a.Body()) != "a letter" ||
		len(a.Header.Peek("Content-Disposition")) == 0 ||
		string(a.Header.Peek("Cache-Control")) != "no-store" {
		t.Errorf("%s: %d %s", document, a.StatusCode(), &a.Header)
	}
	r.rita.wants("GET", document, "", 200, "a letter")
	r.vera.wants("GET", document, "", 403, "")
	r.rita.wants("GET", "/admin/ui/jobs/j/documents/none.txt", "", 404, "no such file")
	r.rita.wants("POST", approve, `{"contents":"`+r.contents()+`"}`, 200, "approved")
	r.is(ehi.Approved, 2)
}
