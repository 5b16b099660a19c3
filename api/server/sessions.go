package server

import (
	"errors"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/session"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// adminKey is where the administrator's name is kept during a request.
const adminKey = "admin"

// roleKey is where an administrator's role is kept during a request.
const roleKey = "role"

// roleOf is what the administrator of a request may do.
func roleOf(c *fiber.Ctx) auth.Role { role, _ := c.Locals(roleKey).(auth.Role); return role }

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

// letIn lets logged-in administrators pass that have at least a role; stranger answers everybody else.
func (s *Server) letIn(c *fiber.Ctx, least auth.Role, stranger func() error) error {
	noStore(c)
	name, role, err := s.administrator(c)
	if err != nil {
		return err
	}
	if name == "" {
		return stranger()
	}
	c.Locals(adminKey, name)
	c.Locals(roleKey, role)
	if !role.May(least) {
		err := ehi.Errorf(ehi.Forbidden, "This needs the role %s", least)
		s.audit(c, err, ehi.Event{Action: ehi.ActionAdministrate, Detail: c.Method() + " " + c.Route().Path + ": " + string(role)})
		return err
	}
	return c.Next()
}

// byConfig marks the session of the administrator of the configuration.
const byConfig = "config"

// configured is what such a session was opened by: it ends where the name, the password or the mode of
// the configuration is another one now.
func (s *Server) configured() string {
	mode := "production"
	if s.Sandbox {
		mode = "sandbox"
	}
	return auth.SessionMark(s.AdminPassword, s.AdminUser, mode)
}

// administrator is who is logged in as one and what he may do, "" for nobody. An account that was
// removed, or whose password was changed, has no session any more; nor has the administrator of the
// configuration after a change of it.
func (s *Server) administrator(c *fiber.Ctx) (name string, role auth.Role, err error) {
	who, err := whoIs(c, s.admins, s.cookie(staffSession))
	if err != nil || who["name"] == "" {
		return "", "", err
	}
	if who["by"] == byConfig {
		if s.AdminPassword == "" || who["name"] != s.AdminUser || !auth.Equal(who["changed"], s.adminMark()) {
			return "", "", nil
		}
		return who["name"], auth.Admin, nil
	}
	a, ok := s.Auth.Administrator(who["name"])
	if !ok || who["changed"] != changed(a) {
		return "", "", nil
	}
	return a.Name, a.Role, nil
}

// whoIs reads what a session says, nil where there is none.
func whoIs(c *fiber.Ctx, store *session.Store, cookie string) (map[string]string, error) {
	if c.Cookies(cookie) == "" {
		return nil, nil
	}
	sess, err := store.Get(c)
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
	sess, err := store.Get(c)
	if err != nil {
		return err
	}
	if err := sess.Regenerate(); err != nil {
		return err
	}
	for key, value := range who {
		sess.Set(key, value)
	}
	return sess.Save()
}

// logOut ends the session that the cookie names, if there is one.
func logOut(c *fiber.Ctx, store *session.Store, cookie string) error {
	if c.Cookies(cookie) == "" {
		return nil
	}
	sess, err := store.Get(c)
	if err != nil {
		return err
	}
	return sess.Destroy()
}

func adminOf(c *fiber.Ctx) string { name, _ := c.Locals(adminKey).(string); return name }

// handleAdminLogin opens a session (EHI-10). A wrong name and a wrong password are answered alike.
func (s *Server) handleAdminLogin(c *fiber.Ctx) error {
	var in struct {
		Username string `json:"username" form:"username"`
		Password string `json:"password" form:"password"`
	}
	_ = c.BodyParser(&in) // what holds no name and password is a wrong log-in as any other
	who, err := s.logInAdmin(c, in.Username, in.Password)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"username": who["name"]})
}

// logInAdmin opens a session for an administrator.
func (s *Server) logInAdmin(c *fiber.Ctx, name, password string) (who map[string]string, err error) {
	who, err = s.checkAdmin(c, name, password)
	s.audit(c, err, ehi.Event{Action: ehi.ActionLogIn, Agent: "admin " + known(err, name)})
	if err != nil {
		telemetry.Logins.WithLabelValues("admin", "refused").Inc()
		return nil, err
	}
	telemetry.Logins.WithLabelValues("admin", "ok").Inc()
	return who, logIn(c, s.admins, who)
}

// known is a name that may be written down: one that was not found may be anything, also a password in the wrong field.
func known(err error, name string) string {
	if err != nil {
		return "(unknown)"
	}
	return name
}

// checkAdmin finds out who logs in, and what his session says. The administrator of the configuration goes before an account of his name.
func (s *Server) checkAdmin(c *fiber.Ctx, name, password string) (who map[string]string, err error) {
	if s.AdminPassword != "" && name == s.AdminUser {
		if err := s.Auth.LogInByConfig(c.UserContext(), s.AdminUser, s.AdminPassword, name, password); err != nil {
			return nil, locked(c, err)
		}
		return map[string]string{"name": name, "by": byConfig, "changed": s.adminMark()}, nil
	}
	a, err := s.Auth.LogIn(c.UserContext(), "admin", name, password)
	if err != nil {
		return nil, locked(c, err)
	}
	return map[string]string{"name": a.Name, "changed": changed(a)}, nil
}

// changed is when an account's password was last set, as sessions note it.
func changed(a auth.Account) string { return a.Changed.Format(time.RFC3339Nano) }

// locked turns the refusal of a locked account into an answer that says when to come back.
func locked(c *fiber.Ctx, err error) error {
	l, ok := errors.AsType[*auth.Locked](err)
	if !ok {
		return err
	}
	telemetry.AbuseRefused.WithLabelValues("account").Inc()
	return tooMany(c, l.For, "Too many wrong passwords for this name")
}

func (s *Server) handleAdminLogout(c *fiber.Ctx) error {
	if err := s.logOutAdmin(c); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Logout successful"})
}

// logOutAdmin ends an administrator's session, if there is one.
func (s *Server) logOutAdmin(c *fiber.Ctx) error {
	name, _, err := s.administrator(c)
	if err != nil {
		return err
	}
	if name != "" {
		s.audit(c, nil, ehi.Event{Action: ehi.ActionLogOut, Agent: "admin " + name})
	}
	return logOut(c, s.admins, s.cookie(staffSession))
}

// loggedIn is the patient who is logged in on the pages, "" for nobody.
func (s *Server) loggedIn(c *fiber.Ctx) (string, error) {
	who, err := whoIs(c, s.patients, s.cookie(patientSession))
	if err != nil || !s.Accounts || who == nil {
		return who["patient"], err
	}
	a, err := s.Auth.PatientAccount(c.UserContext(), who["account"])
	if ehi.CodeOf(err) == ehi.NotFound || err == nil && (a.Patient != who["patient"] || changed(a) != who["changed"]) { // removed, or of the time before its password
		return "", nil
	}
	return a.Patient, err
}
