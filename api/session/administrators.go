package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/openid"
	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
)

// Who knows an administrator and keeps his password: his account here, the configuration, or the OpenID
// provider, which takes care of his second factor, too.
const (
	ByAccount = "admin"
	ByConfig  = "config"
	ByOpenID  = "openid"
)

// ByPassword is how somebody signs in by a password alone. With a code of a second factor it is what the
// code was of (see auth.Proof).
const ByPassword = "password"

// Where somebody signs in, as metrics call it: at the log-in, or where he proves once more who he is.
const (
	AtLogIn = "admin"
	Again   = "again"
)

// HalfAge is how long somebody whose password was right may take to prove his second factor.
const HalfAge = 10 * time.Minute

// What is returned for whoever is not let in, or not yet.
var (
	// ErrNobody: there is no session.
	ErrNobody = ehi.Errorf(ehi.Unauthenticated, "Authorization required")
	// ErrUnfinished: a second factor has to be set up before anything else.
	ErrUnfinished = ehi.Errorf(ehi.Forbidden, "Set up a second factor first")
	// ErrCodeMissing: the account has a second factor, and no code was sent.
	ErrCodeMissing = ehi.Errorf(
		ehi.Unauthenticated,
		`This account has a second factor: send its present code, or a recovery code, as "code" too`,
	)
)

// AdministratorsConfig is what is told once, at start.
type AdministratorsConfig struct {
	// User and Password open every right, beside the accounts; an empty password opens nothing.
	User, Password string
	// Sandbox is the mode of the server. A session of the configuration's administrator ends with it.
	Sandbox bool
	// RequireSecondFactor makes administrators set up a second factor before anything else.
	RequireSecondFactor bool
	// ProofAge is for how long a proof of identity is recent; 0: for as long as the session lasts.
	ProofAge time.Duration
}

// AdministratorsDeps is what Administrators works on.
type AdministratorsDeps struct {
	Sessions *kv.Bucket
	Auth     *auth.Server
	// OpenID is the provider by which administrators may sign in, too; nil where there is none.
	OpenID  *openid.Provider
	Trail   *trail.Recorder
	Origins request.Origins
	// Clock is by which proofs of identity age.
	Clock func() time.Time
}

// Administrators are the sessions of administrators, and how they prove who they are.
type Administrators struct {
	config AdministratorsConfig
	deps   AdministratorsDeps
	store  *store
	// mark is configured, worked out once.
	mark func() string
}

// NewAdministrators keeps administrators' sessions in a bucket.
func NewAdministrators(c AdministratorsConfig, d AdministratorsDeps) *Administrators {
	a := &Administrators{config: c, deps: d}
	cookie := d.Origins.Cookie(request.StaffSession)
	a.store = newStore(
		d.Sessions,
		staffSessions,
		cookie,
		StaffMaxAge,
		fiber.CookieSameSiteStrictMode,
		d.Origins.Secure(),
	)
	a.mark = sync.OnceValue(a.configured)
	return a
}

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

// valuesOf are what the session of an administrator holds.
func valuesOf(w *request.Administrator) map[string]string {
	return map[string]string{
		keyName: w.Name, keyBy: w.By, keyFactor: w.Factor, keyChanged: w.Changed,
		keyProved: w.Proved.Format(time.RFC3339Nano), keyRole: string(w.Role),
	}
}

// Require finds the administrator who has sent a request, and notes who it is. Errors: ErrNobody;
// ErrUnfinished; ehi.Forbidden, which is recorded, where the role is less than least.
func (s *Administrators) Require(c *fiber.Ctx, least auth.Role) error {
	if err := s.RequireSelf(c); err != nil {
		return err
	}
	who := request.SignedIn(c)
	if s.unfinished(who) {
		return ErrUnfinished
	}
	if !who.Role.May(least) {
		err := ehi.Errorf(ehi.Forbidden, "This needs the role %s", least)
		asked := c.Method() + " " + c.Route().Path + ": " + string(who.Role)
		s.deps.Trail.Record(c, err, ehi.Event{Action: ehi.ActionAdministrate, Detail: asked})
		return err
	}
	return nil
}

// RequireSelf is Require for what is about the administrator himself: it asks for no role, nor for a
// second factor that is still to be set up. Errors: ErrNobody.
func (s *Administrators) RequireSelf(c *fiber.Ctx) error {
	request.NoStore(c)
	who, err := s.session(c)
	if err != nil {
		return err
	}
	if who == nil {
		return ErrNobody
	}
	request.SetAdministrator(c, who)
	return nil
}

// Recent reports whether somebody has proved recently who he is.
func (s *Administrators) Recent(who *request.Administrator) bool {
	return s.config.ProofAge <= 0 || s.deps.Clock().Sub(who.Proved) <= s.config.ProofAge
}

// unfinished reports whether somebody has to set up a second factor before anything else.
func (s *Administrators) unfinished(who *request.Administrator) bool {
	return s.config.RequireSecondFactor && who.Factor == ""
}

// configured is what the session of the administrator of the configuration was opened by: it ends where
// the name, the password or the mode of the configuration is another one now.
func (s *Administrators) configured() string {
	if s.config.Password == "" {
		return "nobody"
	}
	mode := "production"
	if s.config.Sandbox {
		mode = "sandbox"
	}
	return auth.SessionMark(s.config.Password, s.config.User, mode)
}

// NoteConfiguration takes in which administrator is configured. The sessions and the approvals of one of another
// configuration are void, also when that comes back. Call it before Serve.
func (s *Administrators) NoteConfiguration(ctx context.Context) error {
	mark := s.configured()
	a, err := s.deps.Auth.Configure(ctx, mark)
	if err == nil {
		s.mark = func() string { return mark + " " + changed(a) }
	}
	return err
}

// Current is who may act as an administrator, nil for nobody: whoever still has to set up a second factor may not.
func (s *Administrators) Current(c *fiber.Ctx) (*request.Administrator, error) {
	who, err := s.session(c)
	if err != nil || who == nil || s.unfinished(who) {
		return nil, err
	}
	return who, nil
}

// session is the administrator of a session, nil where there is none. An account that was removed, or
// whose password or second factor was changed, has no session any more; nor has the administrator of the
// configuration after a change of it.
func (s *Administrators) session(c *fiber.Ctx) (*request.Administrator, error) {
	values, err := s.store.values(c)
	if err != nil {
		return nil, err
	}
	return s.namedBy(c.UserContext(), values, keyName)
}

// namedBy is the administrator that a session's values name under a key, nil where they do not, or not any more. What
// this process has heard of him may say that it is he; that it is not, what is stored says.
func (s *Administrators) namedBy(
	ctx context.Context,
	values map[string]string,
	key string,
) (*request.Administrator, error) {
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
func (s *Administrators) knownBy(values map[string]string, key string) *request.Administrator {
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
func (s *Administrators) present(name, by, role string) *request.Administrator {
	switch {
	case by == ByOpenID:
		return s.ofProvider(s.deps.Auth.Provided(name), name, role)
	case by == ByConfig && (s.config.Password == "" || name != s.config.User):
		return nil
	case by == ByConfig:
		return s.ofConfig(s.deps.Auth.Configured(name))
	}
	if a, ok := s.deps.Auth.Administrator(name); ok {
		return ofAccount(a)
	}
	return nil
}

// keptAdministrator is present by what is stored.
func (s *Administrators) keptAdministrator(
	ctx context.Context,
	name, by, role string,
) (*request.Administrator, error) {
	if by == ByOpenID {
		told, err := s.deps.Auth.StoredProvided(ctx, name)
		return s.ofProvider(told, name, role), err
	}
	if by == ByConfig && (s.config.Password == "" || name != s.config.User) {
		return nil, nil
	}
	if by == ByConfig {
		a, err := s.deps.Auth.StoredConfigured(ctx, name)
		return s.ofConfig(a), err
	}
	a, err := s.deps.Auth.StoredAdministrator(ctx, name)
	if errors.Is(err, auth.ErrNoAccount) {
		return nil, nil
	}
	return ofAccount(a), err
}

// MayApprove implements jobs.Reviewers. Whom the provider names is taken at its word of then: what he may do by now
// shows when he signs in.
func (s *Administrators) MayApprove(name, mark string) bool {
	by, rest, _ := strings.Cut(mark, " ")
	role, _, _ := strings.Cut(rest, " ")
	who := s.present(name, by, role)
	return who != nil && who.Role.May(auth.Reviewer) && who.Mark == mark
}

// SamePerson implements jobs.Reviewers. Names that differ in case alone are of one person, and so are those of an
// account and of the provider: who is both approves once.
func (*Administrators) SamePerson(one, other string) bool {
	return auth.SameName(openid.Unmarked(one), openid.Unmarked(other))
}

func ofAccount(a auth.Account) *request.Administrator {
	return &request.Administrator{
		Name: a.Name, Role: a.Role, By: ByAccount, Changed: changed(a), TwoFactors: a.SecondFactor,
		Mark: ByAccount + " " + a.Created.Format(time.RFC3339Nano),
	}
}

// ofConfig is the administrator of the configuration; a is what is stored of him.
func (s *Administrators) ofConfig(a auth.Account) *request.Administrator {
	mark := s.mark() + " " + changed(a)
	return &request.Administrator{
		Name: s.config.User, Role: auth.Admin, By: ByConfig, Changed: mark, TwoFactors: a.SecondFactor,
		Mark: ByConfig + " - " + request.Digest(s.mark()),
	}
}

// ofProvider is somebody as the provider has named him when his session began, nil where it has told
// another role of him since, where it is another provider, or where its roles are others by now.
func (s *Administrators) ofProvider(told auth.Account, name, role string) *request.Administrator {
	if s.deps.OpenID == nil || !auth.Role(role).May(auth.Viewer) || told.Role != auth.Role(role) {
		return nil
	}
	return &request.Administrator{
		Name: name, Role: told.Role, By: ByOpenID, Changed: s.deps.OpenID.Mark() + " " + changed(told),
		Mark: ByOpenID + " " + role + " " + request.Digest(s.deps.OpenID.Mark()),
	}
}

// lasts is a look whether a session still lets an administrator do what a role may, see store.lasts.
func (s *Administrators) lasts(c *fiber.Ctx, role auth.Role) func(context.Context) (bool, error) {
	return s.store.lasts(c, func(ctx context.Context, values map[string]string) (bool, error) {
		who, err := s.namedBy(ctx, values, keyName)
		return who != nil && who.Role.May(role), err
	})
}
