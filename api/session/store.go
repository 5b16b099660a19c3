// Package session knows who is let in: patients and administrators by the session of their browser,
// clients by an access token. It opens, reads and ends sessions, checks passwords and second factors,
// and tells long answers when whoever asked for them is no longer let in.
//
// It renders no page and leads nowhere: its answers are values and errors, and the pages of package
// patient and of package server decide what a stranger sees.
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

// The parts of the bucket of sessions. What the pages keep otherwise, such as a form's draft, has keys
// without a beginning.
var (
	patientSessions = subject.KindOf("patient")
	staffSessions   = subject.KindOf("admin")
)

// How long a session lasts.
const (
	PatientMaxAge = time.Hour
	StaffMaxAge   = 8 * time.Hour
)

// store is the sessions of one kind of people.
type store struct {
	sessions *session.Store
	cookie   string
	ended    atomic.Uint64 // counts the log-outs of this process
}

// newStore keeps sessions in a part of a bucket, and names them in a cookie.
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

// within is the store, taking no longer than the request does.
func (s *store) within(c *fiber.Ctx) *session.Store {
	own := *s.sessions
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

// values are what the request's session says, nil where there is none.
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

// begin opens a new session that says who it is of; none is carried over a log-in.
func (s *store) begin(c *fiber.Ctx, who map[string]string) error {
	sess, err := s.within(c).Get(c)
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

// lasts is a look whether the request's session still exists and is good; nil where no session let the
// request in. It holds nothing of c.
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

// changed is when an account's password or second factor was last set, as sessions note it.
func changed(a auth.Account) string { return a.Changed.Format(time.RFC3339Nano) }

// Unknown is who is written down where the name that was given may be anything, also a password in the
// wrong field.
const Unknown = "(unknown)"

// locked turns the refusal of a locked account into an answer that says when to come back.
func locked(c *fiber.Ctx, err error) error {
	l, ok := errors.AsType[*auth.Locked](err)
	if !ok {
		return err
	}
	telemetry.AbuseRefused.WithLabelValues("account").Inc()
	return abuse.TooMany(c, l.For, "Too many wrong passwords or codes for this name")
}
