package session

import (
	"context"
	"sync/atomic"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Records tells which jobs were deleted (bus.Jobs).
type Records interface {
	// Gone reports whether a job was deleted.
	Gone(id string) bool
}

// Jobs tells what became of the authorization of jobs (jobs.Service).
type Jobs interface {
	// HasEnded reports whether the authorization has ended by which a job was begun.
	HasEnded(j *ehi.Job) bool
}

// Authority decides, for answers that take long, whether what let their request in goes on: a held
// poll, a stream, a download. For jobs that outlive their request jobs.Service decides, by Tokens.
type Authority struct {
	auth     *auth.Server
	patients *Patients
	admins   *Administrators
	records  Records
	jobs     Jobs
	rechecks *rechecks
	ended    atomic.Uint64 // counts what NoteEnded was told
}

// NewAuthority watches over the sessions of patients and administrators, and over tokens; Close ends it.
func NewAuthority(
	as *auth.Server, patients *Patients, admins *Administrators, records Records, jobs Jobs,
) *Authority {
	return &Authority{
		auth: as, patients: patients, admins: admins, records: records, jobs: jobs, rechecks: newRechecks(),
	}
}

// Close waits until nothing is looked up any more.
func (a *Authority) Close() { a.rechecks.stop() }

// NoteEnded says that this process has ended something by which requests were let in, such as an
// account: what goes on is looked at again at once.
func (a *Authority) NoteEnded() { a.ended.Add(1) }

// version changes with whatever this process ends: log-outs, accounts, passwords.
func (a *Authority) version() uint64 {
	return a.ended.Load() + a.patients.store.ended.Load() + a.admins.store.ended.Load()
}

// Lasting tells, for as long as an answer takes, whether its request would still be let in. It outlives
// the request: it holds nothing of c. Where that cannot be found out because NATS is away, what goes on
// goes on, and waits for nothing.
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

// senderOf tells whether whoever has sent a request would still be let in.
func (a *Authority) senderOf(c *fiber.Ctx) func() bool {
	if access := request.Access(c); access != nil {
		return a.tokenLasts(access)
	}
	look := a.patients.lasts
	if was := request.SignedIn(c); was != nil {
		look = func(c *fiber.Ctx) func(context.Context) (bool, error) { return a.admins.lasts(c, was.Role) }
	}
	if lasts := look(c); lasts != nil {
		return a.rechecks.of(lasts, a.version).goesOn
	}
	return func() bool { return true } // it was no session that let the request in
}

// tokenLasts tells whether what a token came of holds still: by what this process hears, and by what is
// stored where it has heard nothing of the token's client, as after NATS was away.
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
