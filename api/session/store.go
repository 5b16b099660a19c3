// Package session knows who may come in: patients and administrators by the session of their
// browser, clients by an access token. It opens, reads and ends sessions, checks passwords and
// second factors, and tells long responses when their request is no longer authorized.
//
// It renders no page and redirects nowhere. It returns values and errors; the pages of package
// patient and package staff decide what visitors see.
package session

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/session"
	"github.com/gofiber/fiber/v2/utils"

	"ehi-server/api/abuse"
	"ehi-server/auth"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

// Prefixes of keys in the bucket of sessions. Other values of pages, such as a form's draft,
// have keys without a prefix.
var (
	patientSessions = subject.KindOf("patient")
	staffSessions   = subject.KindOf("admin")
)

// Lifetimes of sessions.
const (
	PatientMaxAge = time.Hour
	StaffMaxAge   = 8 * time.Hour
)

// store keeps the sessions of one kind of users.
type store struct {
	sessions *session.Store
	cookie   string
	ended    atomic.Uint64 // number of sign-outs in this process
}

// newStore returns a store that keeps sessions in a part of a bucket and names them in a cookie.
func newStore(
	bucket *kv.Bucket,
	kind subject.Kind,
	cookie string,
	age time.Duration,
	sameSite string,
	secure bool,
) *store {
	return &store{cookie: cookie, sessions: session.New(session.Config{
		Storage: bucket.Part(kind), KeyLookup: "cookie:" + cookie, Expiration: age,
		CookiePath: "/", CookieHTTPOnly: true, CookieSameSite: sameSite, CookieSecure: secure,
	})}
}

// within returns the store with the request's context.
func (s *store) within(c *fiber.Ctx) *session.Store {
	own := *s.sessions
	own.Storage = timely(c.UserContext(), own.Storage)
	return &own
}

// timely returns a storage whose calls end with ctx.
func timely(ctx context.Context, storage fiber.Storage) fiber.Storage {
	if part, ok := storage.(*kv.Storage); ok {
		return part.In(ctx)
	}
	return storage
}

// values returns the content of the request's session; nil if there is none.
func (s *store) values(c *fiber.Ctx) (map[string]string, error) {
	if c.Cookies(s.cookie) == "" {
		return nil, nil
	}
	sess, err := s.within(c).Get(c)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, key := range sess.Keys() {
		out[key], _ = sess.Get(key).(string)
	}
	return out, nil
}

// begin opens a new session with the given content. A sign-in never continues an earlier
// session.
func (s *store) begin(c *fiber.Ctx, who map[string]string) error {
	sess, err := s.within(c).Get(c)
	if err != nil {
		return err
	}
	if err := sess.Regenerate(); err != nil {
		return err
	}
	for _, key := range sess.Keys() { // of an earlier session
		sess.Delete(key)
	}
	for key, value := range who {
		sess.Set(key, value)
	}
	return sess.Save()
}

// end ends the session that the cookie names, if there is one.
func (s *store) end(c *fiber.Ctx) error {
	if c.Cookies(s.cookie) == "" {
		return nil
	}
	defer s.ended.Add(1)
	sess, err := s.within(c).Get(c)
	if err != nil {
		return err
	}
	return sess.Destroy()
}

// lasts returns a check of whether the request's session still exists and is valid; nil if no
// session authorized the request. The check keeps nothing of c.
func (s *store) lasts(
	c *fiber.Ctx, good func(ctx context.Context, who map[string]string) (bool, error),
) func(context.Context) (bool, error) {
	id := utils.CopyString(c.Cookies(s.cookie))
	who, err := s.values(c)
	if err != nil || len(who) == 0 {
		return nil
	}
	return func(ctx context.Context) (bool, error) {
		data, err := timely(ctx, s.sessions.Storage).Get(id)
		if err != nil || len(data) == 0 {
			return false, err
		}
		return good(ctx, who)
	}
}

// changed returns when an account's password or second factor was last set, in the form of
// sessions.
func changed(a auth.Account) string { return a.Changed.Format(time.RFC3339Nano) }

// Unknown replaces a name in the trail if the input could be anything, for example a password in
// the wrong field.
const Unknown = "(unknown)"

// locked turns the refusal of a locked account into a response with Retry-After.
func locked(c *fiber.Ctx, err error) error {
	l, ok := errors.AsType[*auth.Locked](err)
	if !ok {
		return err
	}
	telemetry.AbuseRefused.WithLabelValues("account").Inc()
	return abuse.TooMany(c, l.For, "Too many wrong passwords or codes for this name")
}
