package session

import (
	"context"
	"sync/atomic"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Records knows which jobs were deleted (bus.Jobs).
type Records interface {
	// Gone reports whether a job was deleted.
	Gone(id string) bool
}

// Jobs knows whether the authorization of jobs has ended (jobs.Service).
type Jobs interface {
	// HasEnded reports whether the authorization of a job's kick-off has ended.
	HasEnded(j *ehi.Job) bool
}

// Authority decides whether a long response may continue: a held poll, a stream or a download.
// It checks whether what authorized the request is still valid. For jobs, which outlive their
// requests, jobs.Service decides with Tokens.
type Authority struct {
	auth     *auth.Server
	patients *Patients
	admins   *Administrators
	records  Records
	jobs     Jobs
	rechecks *rechecks
	ended    atomic.Uint64 // number of calls of NoteEnded
}

// NewAuthority returns an Authority for the sessions of patients and administrators and for
// tokens. Close ends it.
func NewAuthority(
	as *auth.Server, patients *Patients, admins *Administrators, records Records, jobs Jobs,
) *Authority {
	return &Authority{
		auth:     as,
		patients: patients,
		admins:   admins,
		records:  records,
		jobs:     jobs,
		rechecks: newRechecks(),
	}
}

// Close waits for running checks.
func (a *Authority) Close() { a.rechecks.stop() }

// NoteEnded tells the Authority that this process has ended something that authorized requests,
// such as an account. It triggers new checks immediately.
func (a *Authority) NoteEnded() { a.ended.Add(1) }

// version changes whenever this process ends something: a session, an account or a password.
func (a *Authority) version() uint64 {
	return a.ended.Load() + a.patients.store.ended.Load() + a.admins.store.ended.Load()
}

// Lasting returns a function that reports, for as long as a response takes, whether its request
// would still be allowed. The function outlives the request and keeps nothing of c. If NATS
// cannot answer, the response continues without waiting.
func (a *Authority) Lasting(c *fiber.Ctx) func() bool {
	sender := a.senderOf(c)
	job := request.Job(c)
	if job == nil {
		return sender
	}
	byToken := request.Access(c) != nil
	return func() bool {
		return sender() && !a.records.Gone(job.ID) && (!byToken || !a.jobs.HasEnded(job))
	}
}

// senderOf returns a function that reports whether the sender of a request would still be
// allowed.
func (a *Authority) senderOf(c *fiber.Ctx) func() bool {
	if access := request.Access(c); access != nil {
		return a.tokenLasts(access)
	}
	look := a.patients.lasts
	if was := request.SignedIn(c); was != nil {
		look = func(c *fiber.Ctx) func(context.Context) (bool, error) {
			return a.admins.lasts(c, was.Role)
		}
	}
	if lasts := look(c); lasts != nil {
		return a.rechecks.of(lasts, a.version).goesOn
	}
	return func() bool { return true } // no session authorized the request
}

// tokenLasts returns a function that reports whether the grant of a token is still valid. It
// uses what this process has heard and, if it has heard nothing about the client (for example
// after an outage of NATS), what is stored.
func (a *Authority) tokenLasts(access *auth.Access) func() bool {
	if access == everybody {
		return func() bool { return true }
	}
	stored := a.rechecks.of(
		func(ctx context.Context) (bool, error) { return a.auth.Holds(ctx, access) },
		a.version,
	)
	return func() bool {
		return !a.auth.Ended(access) && (a.auth.Known(access.ClientID) || stored.goesOn())
	}
}
