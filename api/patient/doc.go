// Package patient holds the pages of patients: they sign in, fill in the release form, see how
// their exports stand, keep the files, and withdraw what they let applications do. All pages are
// rendered in the visitor's language. (The page on which patients consent to what an application
// asks for is in api/smart, with the rest of authorization.)
//
// It never decides who may use a route: the router does, by its rules of access. It never changes a
// job: exporter/jobs does. api/server uses it.
package patient

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Sessions know which patient is signed in (session.Patients).
type Sessions interface {
	// LoggedIn is the ID of the patient of the request's session, "" for nobody.
	LoggedIn(c *fiber.Ctx) (patient string, err error)
	// Check finds the account of a name and a password. Errors: ehi.Unauthenticated, ehi.Throttled.
	Check(c *fiber.Ctx, name, password string) (auth.Account, error)
	LogIn(c *fiber.Ctx, patient string, a auth.Account) error
	LogOut(c *fiber.Ctx) error
}

// Trail records what requests do (trail.Recorder).
type Trail interface {
	Record(c *fiber.Ctx, err error, e ehi.Event)
}

// Router registers a handler behind the rule of access of its route, and what comes before that
// rule.
type Router interface {
	On(method, path string, handler fiber.Handler, before ...fiber.Handler)
}
