package e2e

import (
	"errors"
	"net/url"
	"regexp"
	"testing"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// documentLink matches the address of a document on an export's page.
var documentLink = regexp.MustCompile(`/admin/ui/jobs/[^/"]+/documents/[^"]+`)

// decisionOn returns the path of the page that asks whether to approve an export.
func decisionOn(job string) string {
	return "/admin/ui/jobs?" + url.Values{"do": {"approve"}, "job": {job}}.Encode()
}

// With four eyes, the second reviewer cannot release what the first has not seen. A new document
// resets the approvals, a page with an older state cannot decide anything, and reviewers can
// open every document.
func TestFourEyesApproveTheSameThing(t *testing.T) {
	t.Parallel()
	p := startProduction(t, func(c *node.Config) { c.Jobs.FourEyes = true })
	app, _ := p.letIn("app", "ann")
	j := p.kickOff(app, "/no-form", p.ann, nil)
	p.wait(j.ID, ehi.Retrieved)
	rita := p.staff("rita")
	page := p.open.Base + "/admin/ui/jobs/" + j.ID
	b := p.person()
	b.visit(page)
	b.submit("username", "ada", "password", staffPassword)
	b.sees(200, "Decide")

	seen := p.wait(j.ID, ehi.Retrieved)
	p.want(p.do(rita, "POST", "/admin/jobs/"+j.ID+"/approve"), 400, "contents")
	job, err := rita.Decide(t.Context(), seen, "approve")
	if err != nil || job.Status != ehi.Retrieved || len(job.Approvals) != 1 {
		t.Fatalf("%+v, %v", job, err)
	}
	letter := client.File{Name: "100% a letter #1.txt", Data: []byte("a letter")}
	if a, err := rita.AddFiles(t.Context(), j.ID, letter); err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	var refused *client.Error
	_, err = p.staff("ada").Decide(t.Context(), seen, "approve")
	if !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("an approval of the export before the letter: %v", err)
	}
	// from the page before the letter was added
	b.submit("do", "approve", "contents", b.field("contents"))
	b.sees(400, "has changed since you looked at it")
	if job := p.wait(j.ID, ehi.Retrieved); len(job.Approvals) != 0 {
		t.Errorf("approved by %v before anybody has seen the letter", job.Approvals)
	}
	// The page that asks about several exports refuses too, if it is sent again unchanged.
	b.visit(p.open.Base + decisionOn(j.ID))
	b.sees(200, "Approve 1 export?")
	second := client.File{Name: "another.txt", Data: []byte("another letter")}
	if a, err := rita.AddFiles(t.Context(), j.ID, second); err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	b.submitTo("/admin/ui/jobs")
	b.sees(200, "has changed since you looked at it")
	if job := p.wait(j.ID, ehi.Retrieved); len(job.Approvals) != 0 {
		t.Errorf("approved by %v before anybody has seen the second letter", job.Approvals)
	}
	b.visit(page)
	b.submit("do", "approve", "contents", b.field("contents"))
	b.sees(200, "Approved by: ada", "You approved this export")

	document := documentLink.FindString(b.page)
	b.visit(p.open.Base + document)
	b.sees(200, "a letter")
	if b.header.Get("Content-Disposition") == "" || b.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", b.header)
	}
	p.want(p.do(rita, "GET", document), 200, "a letter")
	p.want(p.do(p.staff("vera"), "GET", document), 403, "")
	p.want(p.do(rita, "GET", "/admin/ui/jobs/"+j.ID+"/documents/none.txt"), 404, "no such file")
	if job, err := rita.Act(t.Context(), j.ID, "approve"); err != nil ||
		job.Status != ehi.Approved {
		t.Fatalf("%+v, %v", job, err)
	}
}

// With four eyes, an approval ends with its reviewer: it does not count if the reviewer was
// removed, or came back with another role or as another account of the same name.
func TestAnApprovalEndsWithItsReviewer(t *testing.T) {
	t.Parallel()
	p := startProduction(t, func(c *node.Config) { c.Jobs.FourEyes = true })
	app, _ := p.letIn("app", "ann")
	j := p.kickOff(app, "/no-form", p.ann, nil)
	p.wait(j.ID, ehi.Retrieved)
	if job, err := p.staff("rita").Act(t.Context(), j.ID, "approve"); err != nil ||
		len(job.Approvals) != 1 {
		t.Fatalf("%+v, %v", job, err)
	}
	if err := p.admin.RemoveAccount(t.Context(), "admin", "rita"); err != nil {
		t.Fatal(err)
	}
	// Ada's sign-in reads what is stored, so this process then knows of the removal.
	ada := p.staff("ada")
	job, err := ada.Act(t.Context(), j.ID, "approve")
	if err != nil || job.Status != ehi.Retrieved || len(job.Approvals) != 1 ||
		job.Approvals[0] != "ada" {
		t.Fatalf("after the first approver was removed: %+v, %v", job, err)
	}
	p.want(p.do(app, "GET", j.StatusURL), 202, "")
	_, err = p.admin.AddAccount(t.Context(), auth.Account{Name: "rita", Role: auth.Reviewer},
		staffPassword)
	if err != nil {
		t.Fatal(err)
	}
	if job, err := p.staff("rita").Act(t.Context(), j.ID, "approve"); err != nil ||
		job.Status != ehi.Approved {
		t.Fatalf("two who may approve: %+v, %v", job, err)
	}
}
