package server

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// The pages of administrators are below staffBase, so that a proxy that keeps /admin within the house keeps them, too.
const (
	staffBase  = "/admin/ui"
	staffLogin = staffBase + "/login"
	staffJobs  = staffBase + "/jobs"
)

func staffJobPath(id string) string { return staffJobs + "/" + id }

func isStaffPage(c *fiber.Ctx) bool { return strings.HasPrefix(c.Path(), staffBase+"/") }

// staffRender renders a page of administrators. section is which part of the pages it belongs to.
func (s *Server) staffRender(c *fiber.Ctx, name, section, title string, data fiber.Map) error {
	noStore(c)
	data["Title"], data["Section"], data["CSRF"] = title, section, c.Locals("csrf")
	data["Name"], data["Role"] = adminOf(c), roleOf(c)
	data["Reviewer"], data["Admin"] = roleOf(c).May(auth.Reviewer), roleOf(c).May(auth.Admin)
	data["Site"], data["Description"] = "EHI export administration", "Review and administration of health record exports."
	data["T"] = s.texts.List[0] // these pages are in one language; its numbers and times are wanted
	return s.render(c, "staff/"+name, "staff/layout", data)
}

// staffFault is the page of an error.
func (s *Server) staffFault(c *fiber.Ctx, status int, text string) error {
	return s.staffRender(c, "fault", "", http.StatusText(status), fiber.Map{"Text": text, "Request": requestID(c)})
}

func (s *Server) handleStaffHome(c *fiber.Ctx) error { return c.Redirect(staffJobs, http.StatusFound) }

func (s *Server) handleStaffLoginPage(c *fiber.Ctx) error { return s.renderStaffLogin(c, "") }

func (s *Server) renderStaffLogin(c *fiber.Ctx, problem string) error {
	return s.staffRender(c, "login", "", "Sign in", fiber.Map{"Problem": problem, "Next": s.staffNext(c), "Username": c.FormValue("username")})
}

// staffNext is the page to go on to after the log-in: one of these, or the list of jobs.
func (s *Server) staffNext(c *fiber.Ctx) string {
	next := s.localPath(c, c.Query("next", c.FormValue("next")))
	if !strings.HasPrefix(next, staffBase+"/") || strings.HasPrefix(next, staffLogin) {
		return staffJobs
	}
	return next
}

func (s *Server) handleStaffLogin(c *fiber.Ctx) error {
	_, err := s.logInAdmin(c, c.FormValue("username"), c.FormValue("password"))
	switch ehi.CodeOf(err) {
	case "":
		return c.Redirect(s.staffNext(c), http.StatusSeeOther)
	case ehi.Unauthenticated:
		c.Status(http.StatusUnauthorized)
		return s.renderStaffLogin(c, "Invalid username or password")
	case ehi.Throttled:
		c.Status(http.StatusTooManyRequests)
		return s.renderStaffLogin(c, err.Error())
	}
	return err
}

func (s *Server) handleStaffLogout(c *fiber.Ctx) error {
	if err := s.logOutAdmin(c); err != nil {
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
