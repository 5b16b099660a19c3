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
	"ehi-server/shared/ehi"
)

// The pages of administrators are below staffBase, so that a proxy that keeps /admin within the house keeps them, too.
const (
	staffBase  = "/admin/ui"
	staffLogin = staffBase + "/login"
	staffJobs  = staffBase + "/jobs"
)

func staffJobPath(id string) string { return staffJobs + "/" + id }

// isStaffPage tells the pages of administrators, and the upload that is a form of one, from their API.
func isStaffPage(c *fiber.Ctx) bool {
	return strings.HasPrefix(c.Path(), staffBase+"/") || strings.HasSuffix(c.Route().Path, "/add-files")
}

func (s *Server) handleStaffHome(c *fiber.Ctx) error { return c.Redirect(staffJobs, http.StatusFound) }

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

// keptWords say at the log-in what became of a form that was sent without a session.
var keptWords = map[string]string{
	"text":  "You were signed out. Sign in, and what you typed is there again.",
	"files": "You were signed out, and nothing was uploaded. Sign in, and choose the files again: a browser does not hand them on.",
}

func (s *Server) handleStaffLoginPage(c *fiber.Ctx) error {
	return s.adminPages.render(c, "login", "", "Sign in", fiber.Map{
		"Next": s.adminPages.next(c), "Kept": keptWords[c.Query("kept")], "OpenID": s.OpenID != nil,
	})
}

func (s *Server) handleStaffLogin(c *fiber.Ctx) error {
	next := s.adminPages.next(c)
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

// handleAdminLogin opens a session (EHI-10). A wrong name and a wrong password are answered alike.
func (s *Server) handleAdminLogin(c *fiber.Ctx) error {
	var in struct {
		Username string `json:"username" form:"username"`
		Password string `json:"password" form:"password"`
		Code     string `json:"code" form:"code"`
	}
	if content.Unambiguous(c) == nil {
		_ = c.BodyParser(&in) // what holds no name and password is a wrong log-in as any other
	}
	who, err := s.admins.SignIn(c, in.Username, in.Password, in.Code)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"username": who.Name})
}

func (s *Server) handleAdminLogout(c *fiber.Ctx) error {
	if err := s.admins.LogOut(c); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Logout successful"})
}
