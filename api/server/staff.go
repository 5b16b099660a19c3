package server

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// The pages of administrators are below staffBase, so that a proxy that keeps /admin within the house keeps them, too.
const (
	// staffGuard is what the cookie of these pages' tokens is called without TLS.
	staffGuard = "ehi_admin_csrf"

	staffBase  = "/admin/ui"
	staffLogin = staffBase + "/login"
	staffJobs  = staffBase + "/jobs"
)

func staffJobPath(id string) string { return staffJobs + "/" + id }

// isStaffPage tells the pages of administrators, and the upload that is a form of one, from their API.
func isStaffPage(c *fiber.Ctx) bool {
	return strings.HasPrefix(c.Path(), staffBase+"/") || strings.HasSuffix(c.Route().Path, "/add-files")
}

// staffRender renders a page of administrators. section is which part of the pages it belongs to.
func (s *Server) staffRender(c *fiber.Ctx, name, section, title string, data fiber.Map) error {
	request.NoStore(c)
	if name != "fault" {
		data["Flash"] = s.staffLeft(c)
	}
	data["Title"], data["Section"], data["CSRF"] = title, section, page.Token(c)
	data["Name"], data["Role"] = request.AdministratorName(c), request.Role(c)
	data["Reviewer"], data["Admin"] = request.Role(c).May(auth.Reviewer), request.Role(c).May(auth.Admin)
	data["Site"], data["Description"] = "EHI export administration", "Review and administration of health record exports."
	data["T"] = s.views.Default() // these pages are in one language; its numbers and times are wanted
	return s.views.Render(c, "staff/"+name, "staff/layout", data)
}

// staffFault is the page of an error. again is the form that may be sent again; nil for none.
func (s *Server) staffFault(c *fiber.Ctx, status int, text string, again *page.SentForm) error {
	return s.staffRender(c, "fault", "", http.StatusText(status),
		fiber.Map{"Text": text, "Request": request.ID(c), "Again": again})
}

func (s *Server) handleStaffHome(c *fiber.Ctx) error { return c.Redirect(staffJobs, http.StatusFound) }

// staffFlash is what a form of administrators leaves.
type staffFlash struct {
	page.Flash
	// Added is a client whose secret is shown this once.
	Added *addedClient `json:"added,omitempty"`
	// Codes are recovery codes, shown this once.
	Codes []string `json:"codes,omitempty"`
	// Decided is how decisions about several exports went.
	Decided []decided `json:"decided,omitempty"`
}

// addedClient is a client that was added, or got another secret.
type addedClient struct{ ID, Name, Secret string }

// staffLeft is what a form has left for this page of administrators; empty for nothing.
func (s *Server) staffLeft(c *fiber.Ctx) *staffFlash {
	var f staffFlash
	s.flashes.Left(c, s.Origins.Cookie(request.StaffSession), request.AdministratorName(c), &f)
	return &f
}

// staffLeave answers a form of administrators: it leads to a page, and leaves a flash of this session.
func (s *Server) staffLeave(c *fiber.Ctx, to string, f staffFlash) error {
	f.Session, f.Owner = page.SessionDigest(c.Cookies(s.Origins.Cookie(request.StaffSession))), request.AdministratorName(c)
	return s.flashes.Leave(c, to, &f)
}

// staffAgain leads back to the page of a form that could not be done, with what was typed and the
// reason; also where somebody else, or a second click, was faster and there is nothing left to do it to.
// Errors that are not about the form are returned.
func (s *Server) staffAgain(c *fiber.Ctx, to string, err error) error {
	switch ehi.CodeOf(err) {
	case ehi.Invalid, ehi.Conflict, ehi.TooLarge, ehi.NotFound:
	default:
		return err
	}
	request.SetRefused(c, err)
	status, _, text := s.describe(c, err)
	return s.staffLeave(c, to, staffFlash{
		Flash: page.Flash{Status: status, Problem: text, Fields: page.Typed(c)},
	})
}

// staffFormPage is the page that holds the form of a POST.
func staffFormPage(c *fiber.Ctx) string {
	id := c.Params("id")
	switch path := c.Path(); {
	case id != "":
		return staffJobPath(id)
	case path == staffOpenID:
		return staffLogin + "?" + url.Values{"next": {page.Field(c, "next")}}.Encode()
	case path == staffLogin, path == staffCode, path == staffProve, path == staffFactor:
		q := url.Values{"next": {page.Field(c, "next")}}
		if anew := page.Field(c, "anew"); anew != "" {
			q.Set("anew", anew)
		}
		return path + "?" + q.Encode()
	case path == staffJobs && len(postedJobs(c)) > 0:
		return decisionPage(postedJobs(c), ehi.Action(page.Field(c, "do")))
	case path == staffClients, path == staffAccounts:
		return path
	}
	return staffJobs
}

const (
	staffTyped   = "Nothing was sent, because you were signed out. What you typed is here again, but for passwords: check it and send it."
	staffTooLate = "Nothing was sent, because this page was open for too long. What you typed is here again, but for passwords: check it and send it."
)

// signInFirst leads a stranger to the log-in, and from there to the page that was asked for, or to
// that of the form that was sent, with what was typed.
func (s *Server) signInFirst(c *fiber.Ctx) error {
	if !content.WantsPage(c) {
		return session.ErrNobody
	}
	if request.AsksForPage(c) {
		return c.Redirect(staffLogin+"?"+url.Values{"next": {c.OriginalURL()}}.Encode(), http.StatusFound)
	}
	q := url.Values{"next": {staffFormPage(c)}}
	switch {
	case strings.HasPrefix(c.Get(fiber.HeaderContentType), fiber.MIMEMultipartForm):
		q.Set("kept", "files")
	case s.site.OurForm(c, s.Origins.Cookie(staffGuard)):
		f := &page.Flash{Owner: page.Field(c, "_as"), Problem: staffTyped, Fields: page.Typed(c)}
		kept, err := s.flashes.KeepTyped(c, q.Get("next"), f)
		if err != nil {
			return err
		}
		if kept {
			q.Set("kept", "text")
		}
	}
	return c.Redirect(staffLogin+"?"+q.Encode(), http.StatusSeeOther)
}

// staffLate answers a form whose page was open for too long.
func (s *Server) staffLate(c *fiber.Ctx) error {
	f := &page.Flash{Owner: page.Field(c, "_as"), Problem: staffTooLate, Fields: page.Typed(c)}
	return s.flashes.LeadBack(c, staffFormPage(c), f)
}

// keptWords say at the log-in what became of a form that was sent without a session.
var keptWords = map[string]string{
	"text":  "You were signed out. Sign in, and what you typed is there again.",
	"files": "You were signed out, and nothing was uploaded. Sign in, and choose the files again: a browser does not hand them on.",
}

func (s *Server) handleStaffLoginPage(c *fiber.Ctx) error {
	return s.staffRender(c, "login", "", "Sign in", fiber.Map{
		"Next": s.staffNext(c), "Kept": keptWords[c.Query("kept")], "OpenID": s.OpenID != nil,
	})
}

// staffNext is the page to go on to after the log-in: one of these, or the list of jobs.
func (s *Server) staffNext(c *fiber.Ctx) string {
	next := s.site.Local(c, c.Query("next", page.Field(c, "next")))
	if !strings.HasPrefix(next, staffBase+"/") || strings.HasPrefix(next, staffLogin) || strings.HasPrefix(next, staffProve) {
		return staffJobs
	}
	return next
}

func (s *Server) handleStaffLogin(c *fiber.Ctx) error {
	next := s.staffNext(c)
	who, err := s.admins.Check(c, page.Field(c, "username"), page.Field(c, "password"))
	if err == nil && who.TwoFactors {
		return s.askForCode(c, who, next)
	}
	err = s.admins.Finish(c, session.AtLogIn, who, session.ByPassword, err)
	if err == nil {
		return c.Redirect(next, http.StatusSeeOther)
	}
	again := page.Flash{Fields: url.Values{"username": {page.Field(c, "username")}}}
	return s.wrongProof(c, staffLogin+"?"+url.Values{"next": {next}}.Encode(), err, again)
}

func (s *Server) handleStaffLogout(c *fiber.Ctx) error {
	if err := s.admins.LogOut(c); err != nil {
		return err
	}
	return c.Redirect(staffLogin, http.StatusSeeOther)
}

// age says how long something takes or took, in its largest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "<1 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// statusWords are the statuses as administrators read them.
var statusWords = map[ehi.Status]string{
	ehi.AwaitingInput: "Waits for the patient", ehi.Requested: "Running", ehi.Retrieved: "Waits for review", ehi.Approved: "Approved", ehi.Rejected: "Rejected", ehi.Failed: "Failed", ehi.Aborted: "Deleted",
}

// levelWords are what a job exports.
var levelWords = map[ehi.Level]string{ehi.OnePatient: "One patient", ehi.AllPatients: "All patients", ehi.OneGroup: "Group", ehi.System: "Everything"}
