package server

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/shared/ehi"
)

// What is sensitive asks for a recent proof of who somebody is, so that neither a browser that was left
// open nor a stolen session approves, or lets others in. Which routes do is in rules: each route of
// administrators that changes something says so, or says why not.

// staffProve is where somebody who is signed in proves once more who he is.
const staffProve = staffBase + "/prove"

// recently lets administrators pass who have proved who they are not longer than ProofAge ago. Others are
// led to do so, and from there back to the page of their form, with what was typed; programs are told how.
func (s *Server) recently(c *fiber.Ctx) error {
	who := request.SignedIn(c)
	if s.admins.Recent(who) {
		return c.Next()
	}
	if !isStaffPage(c) {
		// as RFC 9470 3 has it for bearers
		c.Set(fiber.HeaderWWWAuthenticate, fmt.Sprintf(
			`Session realm="ehi", error="insufficient_user_authentication", max_age="%d"`, int(s.ProofAge.Seconds())))
		return ehi.Errorf(ehi.Unauthenticated, "This needs a proof of who you are that is no older than %v: "+
			"open a new session by POST /admin/login, or prove it at %s in a browser", s.ProofAge, staffProve)
	}
	to := staffFormPage(c)
	f := &page.Flash{Owner: who.Name, Problem: staffUnproved, Fields: page.Typed(c)}
	if err := s.flashes.Keep(c, to, f, page.TypedLife); err != nil {
		return err
	}
	return c.Redirect(provePage(to), http.StatusSeeOther)
}

const staffUnproved = "Nothing was sent before you had proved who you are. What you typed is here again, but for passwords: check it and send it."

func provePage(next string) string { return staffProve + "?" + url.Values{"next": {next}}.Encode() }

func (s *Server) handleProvePage(c *fiber.Ctx) error {
	return s.adminPages.render(c, "prove", "", "Confirm that it is you",
		fiber.Map{"Next": s.adminPages.next(c), "Who": request.SignedIn(c)})
}

// handleProve proves once more who somebody is, by all that his account asks for. His session becomes
// another one.
func (s *Server) handleProve(c *fiber.Ctx) error {
	next, who := s.adminPages.next(c), request.SignedIn(c)
	if who.By == session.ByOpenID {
		return s.proveByProvider(c, who)
	}
	method, err := s.admins.ProveAgain(c, who, page.Field(c, "password"), page.Field(c, "code"))
	if err = s.admins.Finish(c, session.Again, who, method, err); err != nil {
		return s.wrongProof(c, provePage(next), err, page.Flash{Owner: who.Name})
	}
	return c.Redirect(next, http.StatusSeeOther)
}
