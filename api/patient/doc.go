// Package patient has the pages of patients: they sign in, fill in the release form, follow
// their exports, download the files, and end the access of applications. All pages are rendered
// in the visitor's language. (The page on which patients consent to an application is in
// api/smart, with the rest of authorization.)
//
// It never decides who may use a route: the router does, with its rules of access. It never
// changes a job: exporter/jobs does. api/server uses it.
package patient

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Sessions knows which patient is signed in (session.Patients).
type Sessions interface {
	// LoggedIn returns the ID of the patient of the request's session; "" for nobody.
	LoggedIn(c *fiber.Ctx) (patient string, err error)
	// Check finds the account with a name and a password. Errors: ehi.Unauthenticated,
	// ehi.Throttled.
	Check(c *fiber.Ctx, name, password string) (auth.Account, error)
	LogIn(c *fiber.Ctx, patient string, a auth.Account) error
	LogOut(c *fiber.Ctx) error
}

// Trail records what requests do (trail.Recorder).
type Trail interface {
	Record(c *fiber.Ctx, err error, e ehi.Event)
}

// Router registers a handler behind the access rule of its route and the middleware before it.
type Router interface {
	On(method, path string, handler fiber.Handler, before ...fiber.Handler)
}
