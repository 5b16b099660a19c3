package server

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/openid"
	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// Who keeps an administrator's password: his account here, or the configuration.
const (
	byAccount = "admin"
	byConfig  = "config"
)

// What a session of administrators holds. One of somebody whose second factor is still to be proved has
// no name, so that nothing takes it for a session.
const (
	keyName    = "name"
	keyHalf    = "half" // in place of the name
	keyBy      = "by"
	keyFactor  = "factor"
	keyProved  = "proved"
	keyChanged = "changed"
	keyRole    = "role" // of whom the OpenID provider has named; accounts say theirs
)

// values are what the session of an administrator holds.
func sessionValues(w *request.Administrator) map[string]string {
	return map[string]string{
		keyName: w.Name, keyBy: w.By, keyFactor: w.Factor, keyChanged: w.Changed,
		keyProved: w.Proved.Format(time.RFC3339Nano), keyRole: string(w.Role),
	}
}

// letIn lets signed-in administrators pass that have at least a role; stranger answers everybody else.
func (s *Server) letIn(c *fiber.Ctx, least auth.Role, stranger func() error) error {
	request.NoStore(c)
	who, err := s.session(c)
	if err != nil {
		return err
	}
	if who == nil {
		return stranger()
	}
	request.SetAdministrator(c, who)
	if s.unfinished(who) {
		return s.setUpFirst(c)
	}
	if !who.Role.May(least) {
		err := ehi.Errorf(ehi.Forbidden, "This needs the role %s", least)
		asked := c.Method() + " " + c.Route().Path + ": " + string(who.Role)
		s.trail.Record(c, err, ehi.Event{Action: ehi.ActionAdministrate, Detail: asked})
		return err
	}
	return c.Next()
}

// staffSelf lets every administrator pass to what is about himself, also before his second factor is
// set up.
func (s *Server) staffSelf(c *fiber.Ctx) error {
	request.NoStore(c)
	who, err := s.session(c)
	if err != nil {
		return err
	}
	if who == nil {
		return s.signInFirst(c)
	}
	request.SetAdministrator(c, who)
	return c.Next()
}

// unfinished reports whether somebody has to set up a second factor before anything else.
func (s *Server) unfinished(who *request.Administrator) bool {
	return s.RequireSecondFactor && who.Factor == ""
}

// configured is what the session of the administrator of the configuration was opened by: it ends where
// the name, the password or the mode of the configuration is another one now.
func (s *Server) configured() string {
	if s.AdminPassword == "" {
		return "nobody"
	}
	mode := "production"
	if s.Sandbox {
		mode = "sandbox"
	}
	return auth.SessionMark(s.AdminPassword, s.AdminUser, mode)
}

// NoteConfiguration takes in which administrator is configured. The sessions and the approvals of one of another
// configuration are void, also when that comes back. Call it before Serve.
func (s *Server) NoteConfiguration(ctx context.Context) error {
	mark := s.configured()
	a, err := s.Auth.Configure(ctx, mark)
	if err == nil {
		s.adminMark = func() string { return mark + " " + changed(a) }
	}
	return err
}

// administrator is who may act as one, nil for nobody: whoever still has to set up a second factor may not.
func (s *Server) administrator(c *fiber.Ctx) (*request.Administrator, error) {
	who, err := s.session(c)
	if err != nil || who == nil || s.unfinished(who) {
		return nil, err
	}
	return who, nil
}

// session is the administrator of a session, nil where there is none. An account that was removed, or
// whose password or second factor was changed, has no session any more; nor has the administrator of the
// configuration after a change of it.
func (s *Server) session(c *fiber.Ctx) (*request.Administrator, error) {
	values, err := whoIs(c, s.admins, s.Origins.Cookie(request.StaffSession))
	if err != nil {
		return nil, err
	}
	return s.namedBy(c.UserContext(), values, keyName)
}

// namedBy is the administrator that a session's values name under a key, nil where they do not, or not any more. What
// this process has heard of him may say that it is he; that it is not, what is stored says.
func (s *Server) namedBy(ctx context.Context, values map[string]string, key string) (*request.Administrator, error) {
	if who := s.knownBy(values, key); who != nil || values[key] == "" {
		return who, nil
	}
	who, err := s.keptAdministrator(ctx, values[key], values[keyBy], values[keyRole])
	if err != nil {
		return nil, err
	}
	return asNamed(who, values), nil
}

// knownBy is the administrator that a session's values name under a key, nil where they do not, or not any
// more.
func (s *Server) knownBy(values map[string]string, key string) *request.Administrator {
	name := values[key]
	if name == "" {
		return nil
	}
	return asNamed(s.present(name, values[keyBy], values[keyRole]), values)
}

// asNamed is an administrator with what a session of his says; nil where the session was opened by another password
// or second factor than his.
func asNamed(who *request.Administrator, values map[string]string) *request.Administrator {
	if who == nil || !auth.Equal(who.Changed, values[keyChanged]) {
		return nil
	}
	who.Factor = values[keyFactor]
	who.Proved, _ = time.Parse(time.RFC3339Nano, values[keyProved]) // else it is long ago
	return who
}

// present is an administrator as he is known now, nil where he is not. role is what his session says.
func (s *Server) present(name, by, role string) *request.Administrator {
	switch {
	case by == byOpenID:
		return s.ofProvider(s.Auth.Provided(name), name, role)
	case by == byConfig && (s.AdminPassword == "" || name != s.AdminUser):
		return nil
	case by == byConfig:
		return s.ofConfig(s.Auth.Configured(name))
	}
	if a, ok := s.Auth.Administrator(name); ok {
		return ofAccount(a)
	}
	return nil
}

// keptAdministrator is present by what is stored.
func (s *Server) keptAdministrator(ctx context.Context, name, by, role string) (*request.Administrator, error) {
	if by == byOpenID {
		told, err := s.Auth.StoredProvided(ctx, name)
		return s.ofProvider(told, name, role), err
	}
	if by == byConfig && (s.AdminPassword == "" || name != s.AdminUser) {
		return nil, nil
	}
	if by == byConfig {
		a, err := s.Auth.StoredConfigured(ctx, name)
		return s.ofConfig(a), err
	}
	a, err := s.Auth.StoredAdministrator(ctx, name)
	if errors.Is(err, auth.ErrNoAccount) {
		return nil, nil
	}
	return ofAccount(a), err
}

// reviewers knows who may approve.
type reviewers struct{ *Server }

var _ jobs.Reviewers = reviewers{}

// MayApprove implements jobs.Reviewers. Whom the provider names is taken at its word of then: what he may do by now
// shows when he signs in.
func (s reviewers) MayApprove(name, mark string) bool {
	by, rest, _ := strings.Cut(mark, " ")
	role, _, _ := strings.Cut(rest, " ")
	who := s.present(name, by, role)
	return who != nil && who.Role.May(auth.Reviewer) && who.Mark == mark
}

// SamePerson implements jobs.Reviewers. Names that differ in case alone are of one person, and so are those of an
// account and of the provider: who is both approves once.
func (reviewers) SamePerson(one, other string) bool {
	return auth.SameName(openid.Unmarked(one), openid.Unmarked(other))
}

func ofAccount(a auth.Account) *request.Administrator {
	return &request.Administrator{
		Name: a.Name, Role: a.Role, By: byAccount, Changed: changed(a), TwoFactors: a.SecondFactor,
		Mark: byAccount + " " + a.Created.Format(time.RFC3339Nano),
	}
}

// ofConfig is the administrator of the configuration; a is what is stored of him.
func (s *Server) ofConfig(a auth.Account) *request.Administrator {
	mark := s.adminMark() + " " + changed(a)
	return &request.Administrator{
		Name: s.AdminUser, Role: auth.Admin, By: byConfig, Changed: mark, TwoFactors: a.SecondFactor,
		Mark: byConfig + " - " + request.Digest(s.adminMark()),
	}
}

// checkAdmin finds out whose name and password these are. The administrator of the configuration goes
// before an account of his name. What is stored decides, not what this process knows of it.
func (s *Server) checkAdmin(c *fiber.Ctx, name, password string) (*request.Administrator, error) {
	if s.AdminPassword != "" && name == s.AdminUser {
		a, err := s.Auth.LogInByConfig(c.UserContext(), s.AdminUser, s.AdminPassword, name, password)
		if err != nil {
			return nil, locked(c, err)
		}
		return s.ofConfig(a), nil
	}
	a, err := s.Auth.LogIn(c.UserContext(), byAccount, name, password)
	if err != nil {
		return nil, locked(c, err)
	}
	return ofAccount(a), nil
}

// byPassword is how somebody signs in by a password alone. With a code of a second factor it is what the
// code was of (see auth.Proof).
const byPassword = "password"

// errCodeMissing is the answer to a log-in of a program that brings no code where one is wanted.
var errCodeMissing = ehi.Errorf(ehi.Unauthenticated,
	`This account has a second factor: send its present code, or a recovery code, as "code" too`)

// signIn proves who somebody is, by all that his account asks for, and opens a session.
func (s *Server) signIn(c *fiber.Ctx, name, password, code string) (*request.Administrator, error) {
	who, err := s.checkAdmin(c, name, password)
	method := byPassword
	if err == nil && who.TwoFactors {
		method, err = s.proveCode(c, who, code)
	}
	return who, s.signedInBy(c, who, method, err)
}

// proveCode proves the second factor of somebody whose password was right.
func (s *Server) proveCode(c *fiber.Ctx, who *request.Administrator, code string) (method string, err error) {
	method = string(auth.ByApp)
	if code == "" {
		return method, errCodeMissing
	}
	by, err := s.Auth.CheckCode(c.UserContext(), who.By, who.Name, code)
	if err != nil {
		return method, locked(c, err)
	}
	who.Factor = string(by)
	return string(by), nil
}

// signedInBy ends a log-in: it is counted and recorded and, where nothing went wrong, opens a session.
func (s *Server) signedInBy(c *fiber.Ctx, who *request.Administrator, method string, err error) error {
	return s.signedInAt(c, "admin", who, method, err)
}

// again is the page of who proves once more who he is.
const again = "again"

// signedInAt is signedInBy at a page, as metrics and the audit trail call it.
func (s *Server) signedInAt(c *fiber.Ctx, page string, who *request.Administrator, method string, err error) error {
	e := ehi.Event{Action: ehi.ActionLogIn, Agent: "admin " + unknown, Detail: method}
	if page == again {
		e.Detail = again + ", " + method
	}
	if who != nil { // whoever has the password of a name may be named
		e.Agent = "admin " + who.Name
	}
	if err != nil {
		e.Detail += ": " + trail.Reason(err)
	}
	s.trail.Record(c, err, e)
	telemetry.Logins.WithLabelValues(page, method, loginOutcome(err)).Inc()
	if err != nil {
		return err
	}
	if method != byOpenID { // the provider says when
		who.Proved = s.clock()
	}
	return logIn(c, s.admins, sessionValues(who))
}

// loginOutcome is the outcome of a log-in in metrics.
func loginOutcome(err error) string {
	if err != nil {
		return "refused"
	}
	return "ok"
}

// handleAdminLogin opens a session (EHI-10). A wrong name and a wrong password are answered alike.
func (s *Server) handleAdminLogin(c *fiber.Ctx) error {
	var in struct {
		Username string `json:"username" form:"username"`
		Password string `json:"password" form:"password"`
		Code     string `json:"code" form:"code"`
	}
	if oneMeaning(c) == nil {
		_ = c.BodyParser(&in) // what holds no name and password is a wrong log-in as any other
	}
	who, err := s.signIn(c, in.Username, in.Password, in.Code)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"username": who.Name})
}

// logOutAdmin ends an administrator's session, if there is one.
func (s *Server) logOutAdmin(c *fiber.Ctx) error {
	who, err := s.session(c)
	if err != nil {
		return err
	}
	if who != nil {
		s.trail.Record(c, nil, ehi.Event{Action: ehi.ActionLogOut, Agent: "admin " + who.Name})
	}
	return s.logOut(c, s.admins, s.Origins.Cookie(request.StaffSession))
}
