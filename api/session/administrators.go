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

// Who manages an administrator and their password: an account on this server, the configuration,
// or the OpenID provider. The provider also manages the second factor.
const (
	ByAccount = "admin"
	ByConfig  = "config"
	ByOpenID  = "openid"
)

// ByPassword is the method of a sign-in with a password only. With a second factor, the method
// is the kind of its code (see auth.Proof).
const ByPassword = "password"

// Where administrators prove who they are, as metrics call it: at sign-in, or again later.
const (
	AtLogIn = "admin"
	Again   = "again"
)

// HalfAge is the time limit for the second factor after a correct password.
const HalfAge = 10 * time.Minute

// Errors for those who may not sign in, or not yet.
var (
	// ErrNobody means that there is no session.
	ErrNobody = ehi.Errorf(ehi.Unauthenticated, "Authorization required")
	// ErrUnfinished means that the administrator must set up a second factor first.
	ErrUnfinished = ehi.Errorf(ehi.Forbidden, "Set up a second factor first")
	// ErrCodeMissing means that the account has a second factor and no code was sent.
	ErrCodeMissing = ehi.Errorf(
		ehi.Unauthenticated,
		`This account has a second factor: also send its current code, or a recovery code, as `+
			`"code" `+
			`too`,
	)
)

// Flags are the settings of administrators' sessions.
type Flags struct {
	// User and Password are the credentials of an administrator with all rights, see
	// AdministratorsConfig.
	User     string `name:"admin-user" help:"User name of the built-in administrator. Unless --admin-password is empty, no account may have this name or one that looks like it." default:"admin" env:"EHI_ADMIN_USER" form:"name"`
	Password string `name:"admin-password" help:"Password of the built-in administrator. Empty: only accounts can sign in." secret:"" default:"admin-password" env:"EHI_ADMIN_PASSWORD" form:"text"`
	// SecondFactor makes every administrator set up a second factor; nil depends on the mode.
	SecondFactor *bool `name:"require-second-factor" negatable:"" help:"Require administrators to set up a second factor (an authenticator app) when they first sign in. Default: only in production mode." env:"EHI_REQUIRE_SECOND_FACTOR"`
	// ReauthenticateAfter is how long a proof of identity counts as recent, 0 for the whole
	// session. A negative value depends on the mode.
	ReauthenticateAfter time.Duration `name:"reauthenticate-after" help:"Time after which administrators must prove who they are again before they approve exports or change accounts and clients. 0: the whole session; negative: 10m in production mode, the whole session in the sandbox." default:"-1s" env:"EHI_REAUTHENTICATE_AFTER" range:"-1s..24h"`
}

// proofInProduction is how long a proof of identity counts as recent in production mode.
const proofInProduction = 10 * time.Minute

// In returns the configuration for a mode.
func (f Flags) In(sandbox bool) AdministratorsConfig {
	c := AdministratorsConfig{
		User:                f.User,
		Password:            f.Password,
		Sandbox:             sandbox,
		RequireSecondFactor: !sandbox,
		ProofAge:            f.ReauthenticateAfter,
	}
	if f.SecondFactor != nil {
		c.RequireSecondFactor = *f.SecondFactor
	}
	if c.ProofAge < 0 && sandbox {
		c.ProofAge = 0
	} else if c.ProofAge < 0 {
		c.ProofAge = proofInProduction
	}
	return c
}

// AdministratorsConfig is the configuration of Administrators.
type AdministratorsConfig struct {
	// User and Password are the credentials of an administrator with all rights, in addition to
	// the accounts. An empty password disables them.
	User, Password string
	// Sandbox is the mode of the server. A session of the configured administrator is valid only
	// in the mode in which it began.
	Sandbox bool
	// RequireSecondFactor makes every administrator set up a second factor before anything else.
	RequireSecondFactor bool
	// ProofAge is how long a proof of identity counts as recent; 0 for the whole session.
	ProofAge time.Duration
}

// AdministratorsDeps are the dependencies of Administrators.
type AdministratorsDeps struct {
	Sessions *kv.Bucket
	Auth     *auth.Server
	// OpenID is the provider with which administrators can also sign in; nil for none.
	OpenID  *openid.Provider
	Trail   *trail.Recorder
	Origins request.Origins
	// Clock is the clock for the age of proofs of identity.
	Clock func() time.Time
}

// Administrators manages the sessions of administrators and their proofs of identity.
type Administrators struct {
	config AdministratorsConfig
	deps   AdministratorsDeps
	store  *store
	// mark is configured, computed once.
	mark func() string
}

// NewAdministrators returns Administrators that keeps sessions in a bucket.
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

// Keys of an administrator's session. A session whose second factor is still to be proved has no
// name, so that nothing takes it for a complete session.
const (
	keyName    = "name"
	keyHalf    = "half" // instead of the name
	keyBy      = "by"
	keyFactor  = "factor"
	keyProved  = "proved"
	keyChanged = "changed"
	keyRole    = "role" // of an administrator from the OpenID provider; accounts store their role
)

// valuesOf returns what the session of an administrator contains.
func valuesOf(w *request.Administrator) map[string]string {
	return map[string]string{
		keyName: w.Name, keyBy: w.By, keyFactor: w.Factor, keyChanged: w.Changed,
		keyProved: w.Proved.Format(time.RFC3339Nano), keyRole: string(w.Role),
	}
}

// Require finds the administrator who sent a request and stores them in the request. Errors:
// ErrNobody; ErrUnfinished; ehi.Forbidden, with an audit event, if the role is lower than least.
func (s *Administrators) Require(c *fiber.Ctx, least auth.Role) error {
	if err := s.RequireSelf(c); err != nil {
		return err
	}
	who := request.SignedIn(c)
	if s.unfinished(who) {
		return ErrUnfinished
	}
	if !who.Role.May(least) {
		err := ehi.Errorf(ehi.Forbidden, "This requires the role %s", least)
		asked := c.Method() + " " + c.Route().Path + ": " + string(who.Role)
		s.deps.Trail.Record(c, err, ehi.Event{Action: ehi.ActionAdministrate, Detail: asked})
		return err
	}
	return nil
}

// RequireSelf is Require for routes about the administrator's own account. It requires no role,
// and no second factor that is not set up yet. Errors: ErrNobody.
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

// Recent reports whether an administrator has recently proved who they are.
func (s *Administrators) Recent(who *request.Administrator) bool {
	return s.config.ProofAge <= 0 || s.deps.Clock().Sub(who.Proved) <= s.config.ProofAge
}

// unfinished reports whether an administrator must set up a second factor first.
func (s *Administrators) unfinished(who *request.Administrator) bool {
	return s.config.RequireSecondFactor && who.Factor == ""
}

// configured identifies the configured administrator in their sessions. It changes with the
// name, the password and the mode, which ends the sessions.
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

// NoteConfiguration records the configured administrator. Sessions and approvals under another
// configuration become invalid, and stay so even if that configuration returns. Call it before
// Serve.
func (s *Administrators) NoteConfiguration(ctx context.Context) error {
	mark := s.configured()
	a, err := s.deps.Auth.Configure(ctx, mark)
	if err == nil {
		s.mark = func() string { return mark + " " + changed(a) }
	}
	return err
}

// Current returns the administrator who sent a request and may act; nil for nobody. An
// administrator who must still set up a second factor may not act.
func (s *Administrators) Current(c *fiber.Ctx) (*request.Administrator, error) {
	who, err := s.session(c)
	if err != nil || who == nil || s.unfinished(who) {
		return nil, err
	}
	return who, nil
}

// session returns the administrator of a session; nil for none. A session ends if its account is
// removed, or if the account's password or second factor changes. The sessions of the configured
// administrator end if the configuration changes.
func (s *Administrators) session(c *fiber.Ctx) (*request.Administrator, error) {
	values, err := s.store.values(c)
	if err != nil {
		return nil, err
	}
	return s.namedBy(c.UserContext(), values, keyName)
}

// namedBy returns the administrator whom a session's values name under a key; nil if they name
// none, or one who is no longer valid. What this process knows is enough to accept them; before
// it rejects them, namedBy reads what is stored.
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

// knownBy returns the administrator whom a session's values name under a key, as far as this
// process knows; nil if they name none, or one who is no longer valid.
func (s *Administrators) knownBy(values map[string]string, key string) *request.Administrator {
	name := values[key]
	if name == "" {
		return nil
	}
	return asNamed(s.present(name, values[keyBy], values[keyRole]), values)
}

// asNamed returns an administrator with the values of their session; nil if the session began
// with another password or second factor than the current one.
func asNamed(who *request.Administrator, values map[string]string) *request.Administrator {
	if who == nil || !auth.Equal(who.Changed, values[keyChanged]) {
		return nil
	}
	who.Factor = values[keyFactor]
	// on an error, the proof counts as old
	who.Proved, _ = time.Parse(time.RFC3339Nano, values[keyProved])
	return who
}

// present returns an administrator as this process knows them now; nil if it does not. role is
// the role in the session.
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

// keptAdministrator is present for what is stored.
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

// MayApprove implements jobs.Reviewers. An administrator from the provider keeps the role of the
// last sign-in; a change shows only at the next one.
func (s *Administrators) MayApprove(name, mark string) bool {
	by, rest, _ := strings.Cut(mark, " ")
	role, _, _ := strings.Cut(rest, " ")
	who := s.present(name, by, role)
	return who != nil && who.Role.May(auth.Reviewer) && who.Mark == mark
}

// SamePerson implements jobs.Reviewers. Names that differ only in case belong to one person, and
// so do equal names of an account and of the provider. Such a person approves once.
func (*Administrators) SamePerson(one, other string) bool {
	return auth.SameName(openid.Unmarked(one), openid.Unmarked(other))
}

func ofAccount(a auth.Account) *request.Administrator {
	return &request.Administrator{
		Name: a.Name, Role: a.Role, By: ByAccount, Changed: changed(a), TwoFactors: a.SecondFactor,
		Mark: ByAccount + " " + a.Created.Format(time.RFC3339Nano),
	}
}

// ofConfig returns the configured administrator. a is what is stored about them.
func (s *Administrators) ofConfig(a auth.Account) *request.Administrator {
	mark := s.mark() + " " + changed(a)
	return &request.Administrator{
		Name:       s.config.User,
		Role:       auth.Admin,
		By:         ByConfig,
		Changed:    mark,
		TwoFactors: a.SecondFactor,
		Mark:       ByConfig + " - " + request.Digest(s.mark()),
	}
}

// ofProvider returns an administrator with what the provider said when the session began; nil if
// the provider has since named another role, or if the provider or its roles have changed in the
// configuration.
func (s *Administrators) ofProvider(told auth.Account, name, role string) *request.Administrator {
	if s.deps.OpenID == nil || !auth.Role(role).May(auth.Viewer) || told.Role != auth.Role(role) {
		return nil
	}
	return &request.Administrator{
		Name:    name,
		Role:    told.Role,
		By:      ByOpenID,
		Changed: s.deps.OpenID.Mark() + " " + changed(told),
		Mark:    ByOpenID + " " + role + " " + request.Digest(s.deps.OpenID.Mark()),
	}
}

// lasts returns a check of whether a session still lets an administrator do what a role may, see
// store.lasts.
func (s *Administrators) lasts(c *fiber.Ctx, role auth.Role) func(context.Context) (bool, error) {
	return s.store.lasts(c, func(ctx context.Context, values map[string]string) (bool, error) {
		who, err := s.namedBy(ctx, values, keyName)
		return who != nil && who.Role.May(role), err
	})
}
