package server

import (
	"context"
	"errors"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/session"

	"ehi-server/api/abuse"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/telemetry"
)

// staff lets logged-in administrators pass that have at least a role.
func (s *Server) staff(least auth.Role) fiber.Handler {
	return func(c *fiber.Ctx) error {
		return s.letIn(c, least, func() error { return errNoSession })
	}
}

// staffPage is staff for pages: who is not logged in is led to the log-in, and from there back.
func (s *Server) staffPage(least auth.Role) fiber.Handler {
	return func(c *fiber.Ctx) error {
		return s.letIn(c, least, func() error { return s.signInFirst(c) })
	}
}

// whoIs reads what a session says, nil where there is none.
func whoIs(c *fiber.Ctx, store *session.Store, cookie string) (map[string]string, error) {
	if c.Cookies(cookie) == "" {
		return nil, nil
	}
	sess, err := sessionsOf(c, store).Get(c)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, key := range sess.Keys() {
		out[key], _ = sess.Get(key).(string)
	}
	return out, nil
}

// logIn opens a new session that says who it is of; none is carried over a log-in.
func logIn(c *fiber.Ctx, store *session.Store, who map[string]string) error {
	sess, err := sessionsOf(c, store).Get(c)
	if err != nil {
		return err
	}
	if err := sess.Regenerate(); err != nil {
		return err
	}
	for _, key := range sess.Keys() { // of a session from before
		sess.Delete(key)
	}
	for key, value := range who {
		sess.Set(key, value)
	}
	return sess.Save()
}

// logOut ends the session that the cookie names, if there is one.
func (s *Server) logOut(c *fiber.Ctx, store *session.Store, cookie string) error {
	if c.Cookies(cookie) == "" {
		return nil
	}
	defer s.ended.Add(1)
	sess, err := sessionsOf(c, store).Get(c)
	if err != nil {
		return err
	}
	return sess.Destroy()
}

// unknown is who is written down where the name that was given may be anything, also a password in the
// wrong field.
const unknown = "(unknown)"

// known is a name that may be written down: one that was found.
func known(err error, name string) string {
	if err != nil {
		return unknown
	}
	return name
}

// changed is when an account's password or second factor was last set, as sessions note it.
func changed(a auth.Account) string { return a.Changed.Format(time.RFC3339Nano) }

// locked turns the refusal of a locked account into an answer that says when to come back.
func locked(c *fiber.Ctx, err error) error {
	l, ok := errors.AsType[*auth.Locked](err)
	if !ok {
		return err
	}
	telemetry.AbuseRefused.WithLabelValues("account").Inc()
	return abuse.TooMany(c, l.For, "Too many wrong passwords or codes for this name")
}

func (s *Server) handleAdminLogout(c *fiber.Ctx) error {
	if err := s.logOutAdmin(c); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Logout successful"})
}

// loggedIn is the patient who is logged in on the pages, "" for nobody.
func (s *Server) loggedIn(c *fiber.Ctx) (string, error) {
	who, err := whoIs(c, s.patients, s.Origins.Cookie(request.PatientSession))
	if err != nil {
		return "", err
	}
	return s.patientOf(c.UserContext(), who)
}

// patientOf is whose session says so, "" for nobody.
func (s *Server) patientOf(ctx context.Context, who map[string]string) (string, error) {
	if !s.Accounts || who == nil {
		return who["patient"], nil
	}
	a, err := s.sessionAccount(ctx, who)
	return a.Patient, err
}

// sessionAccount is the account that a patient's session is of. It is the zero Account where that was removed,
// or its password changed since.
func (s *Server) sessionAccount(ctx context.Context, who map[string]string) (auth.Account, error) {
	a, err := s.Auth.PatientAccount(ctx, who["account"])
	if ehi.CodeOf(err) == ehi.NotFound || err == nil && (a.Patient != who["patient"] || changed(a) != who["changed"]) {
		return auth.Account{}, nil
	}
	return a, err
}

// sessionsOf is a store of sessions that takes no longer than the request does.
func sessionsOf(c *fiber.Ctx, store *session.Store) *session.Store {
	own := *store
	own.Storage = timely(c.UserContext(), own.Storage)
	return &own
}

// timely is a storage that takes no longer than ctx allows.
func timely(ctx context.Context, storage fiber.Storage) fiber.Storage {
	if part, ok := storage.(*kv.Storage); ok {
		return part.In(ctx)
	}
	return storage
}

// pagesOf is what pages keep, within the time of a request.
func (s *Server) pagesOf(c *fiber.Ctx) *kv.Storage { return s.kept.In(c.UserContext()) }
