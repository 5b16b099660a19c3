package session

import (
	"github.com/gofiber/fiber/v2"

	"ehi-server/api/openid"
	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// Check finds the administrator with a name and a password. The configured administrator takes
// precedence over an account of the same name. Check reads what is stored, not only what this
// process knows. Errors: auth.ErrLogin; ehi.Throttled if the account is locked for a while.
func (s *Administrators) Check(
	c *fiber.Ctx,
	name, password string,
) (*request.Administrator, error) {
	if s.config.Password != "" && name == s.config.User {
		a, err := s.deps.Auth.LogInByConfig(
			c.UserContext(),
			s.config.User,
			s.config.Password,
			name,
			password,
		)
		if err != nil {
			return nil, locked(c, err)
		}
		return s.ofConfig(a), nil
	}
	a, err := s.deps.Auth.LogIn(c.UserContext(), ByAccount, name, password)
	if err != nil {
		return nil, locked(c, err)
	}
	return ofAccount(a), nil
}

// ProveCode checks the second factor of an administrator whose password was correct. method is
// the kind of the code. Errors: ErrCodeMissing; those of Check.
func (s *Administrators) ProveCode(
	c *fiber.Ctx,
	who *request.Administrator,
	code string,
) (method string, err error) {
	method = string(auth.ByApp)
	if code == "" {
		return method, ErrCodeMissing
	}
	by, err := s.deps.Auth.CheckCode(c.UserContext(), who.By, who.Name, code)
	if err != nil {
		return method, locked(c, err)
	}
	who.Factor = string(by)
	return string(by), nil
}

// ProveAgain checks the identity of an administrator again, with everything that the account
// requires.
func (s *Administrators) ProveAgain(
	c *fiber.Ctx, who *request.Administrator, password, code string,
) (method string, err error) {
	found, err := s.Check(c, who.Name, password)
	if err != nil {
		return ByPassword, err
	}
	if found.By != who.By || found.Name != who.Name { // another administrator has the name now
		return ByPassword, auth.ErrLogin
	}
	if !found.TwoFactors {
		return ByPassword, nil
	}
	return s.ProveCode(c, who, code)
}

// SignIn checks the identity of an administrator, with everything that the account requires, and
// opens a session.
func (s *Administrators) SignIn(
	c *fiber.Ctx,
	name, password, code string,
) (*request.Administrator, error) {
	who, err := s.Check(c, name, password)
	method := ByPassword
	if err == nil && who.TwoFactors {
		method, err = s.ProveCode(c, who, code)
	}
	return who, s.Finish(c, AtLogIn, who, method, err)
}

// Finish ends a sign-in: it counts and records it and, if err is nil, opens a session. at is
// AtLogIn or Again. Finish returns err.
func (s *Administrators) Finish(
	c *fiber.Ctx,
	at string,
	who *request.Administrator,
	method string,
	err error,
) error {
	e := ehi.Event{Action: ehi.ActionLogIn, Agent: "admin " + Unknown, Detail: method}
	if at == Again {
		e.Detail = Again + ", " + method
	}
	if who != nil { // the password was right, so that the name may be in the trail
		e.Agent = "admin " + who.Name
	}
	if err != nil {
		e.Detail += ": " + trail.Reason(err)
	}
	s.deps.Trail.Record(c, err, e)
	telemetry.Logins.WithLabelValues(at, method, outcomeOf(err)).Inc()
	if err != nil {
		return err
	}
	if method != ByOpenID { // the provider says when
		who.Proved = s.deps.Clock()
	}
	return s.store.begin(c, valuesOf(who))
}

// outcomeOf returns the outcome of a sign-in for metrics.
func outcomeOf(err error) string {
	if err != nil {
		return "refused"
	}
	return "ok"
}

// BeginHalf opens a session for an administrator whose password was correct and whose second
// factor is still to be proved. It allows nothing yet.
func (s *Administrators) BeginHalf(c *fiber.Ctx, who *request.Administrator) error {
	who.Proved = s.deps.Clock()
	values := valuesOf(who)
	values[keyHalf] = values[keyName]
	delete(values, keyName)
	return s.store.begin(c, values)
}

// Half returns the administrator whose session BeginHalf opened no longer than HalfAge ago; nil
// for nobody.
func (s *Administrators) Half(c *fiber.Ctx) (*request.Administrator, error) {
	values, err := s.store.values(c)
	if err != nil {
		return nil, err
	}
	who, err := s.namedBy(c.UserContext(), values, keyHalf)
	if err != nil {
		return nil, err
	}
	if who == nil || s.deps.Clock().Sub(who.Proved) > HalfAge {
		return nil, nil
	}
	return who, nil
}

// Renew opens a new session for an administrator whose account has just become a, because a
// change of the second factor ends all their sessions. factor is how the new one was proved; ""
// for not.
func (s *Administrators) Renew(
	c *fiber.Ctx,
	who *request.Administrator,
	a auth.Account,
	factor string,
) error {
	next := ofAccount(a)
	if who.By == ByConfig {
		next = s.ofConfig(a)
	}
	next.Factor, next.Proved = factor, who.Proved
	return s.store.begin(c, valuesOf(next))
}

// Account returns what is stored about an administrator, including this process's last change.
func (s *Administrators) Account(who *request.Administrator) auth.Account {
	if who.By == ByConfig {
		return s.deps.Auth.Configured(who.Name)
	}
	a, _ := s.deps.Auth.Administrator(who.Name)
	return a
}

// Provided returns the administrator whom the OpenID provider has just named. Errors:
// openid.ErrNoRole, also if a simultaneous sign-in got another answer.
func (s *Administrators) Provided(
	told auth.Account,
	person openid.Person,
) (*request.Administrator, error) {
	who := s.ofProvider(told, person.Name, string(person.Role))
	if who == nil {
		return nil, openid.ErrNoRole
	}
	who.Factor, who.Proved = ByOpenID, person.Proved
	return who, nil
}

// LogOut ends the request's session, if there is one, and records whose it was.
func (s *Administrators) LogOut(c *fiber.Ctx) error {
	who, err := s.session(c)
	if err != nil {
		return err
	}
	if who != nil {
		s.deps.Trail.Record(c, nil, ehi.Event{Action: ehi.ActionLogOut, Agent: "admin " + who.Name})
	}
	return s.store.end(c)
}

// Drop ends the session with a cookie value that another session has replaced.
func (s *Administrators) Drop(c *fiber.Ctx, id string) error { return s.store.within(c).Delete(id) }
