package server

import (
	"context"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/session"
	"github.com/gofiber/fiber/v2/utils"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
)

// What is open outlives what it was opened by: a form, an export, a held poll, a stream, a download.
// This file decides, for all of them, whether the authority behind them goes on: stands for jobs,
// lasting for answers that take long. What lets a request in is decided in sessions.go and middleware.go.

// EndWhatDoesNotStand deletes unfinished exports that nobody may have any more, see jobs.Service.
func (s *Server) EndWhatDoesNotStand(ctx context.Context) error {
	return s.jobs.EndWhatDoesNotStand(ctx)
}

// authority is the authorization server, as far as it decides about jobs.
type authority struct{ *Server }

var (
	_ jobs.Authority    = authority{}
	_ content.Authority = authority{}
)

// Lasting implements content.Authority.
func (s authority) Lasting(c *fiber.Ctx) func() bool { return s.lasting(c) }

// Stands implements jobs.Authority.
func (s authority) Stands(ctx context.Context, a jobs.Authorization) (bool, error) {
	if a.Client == everybody.ClientID {
		return s.Open, nil
	}
	return s.Auth.Stands(ctx, a.Client, a.Grant, auth.Origin{Begun: a.Begun, Made: a.ClientMade})
}

// StandsAsHeard implements jobs.Authority.
func (s authority) StandsAsHeard(a jobs.Authorization) (stands, told bool) {
	if a.Client == everybody.ClientID {
		return s.Open, true
	}
	return s.Auth.StandsAsHeard(a.Client, a.Grant, auth.Origin{Begun: a.Begun, Made: a.ClientMade})
}

// Withdrawals implements jobs.Authority.
func (s authority) Withdrawals() func(client, patient string) bool {
	withdrawn := s.Auth.Withdrawals()
	return func(client, patient string) bool {
		return withdrawn[auth.Withdrawal{Client: client, Patient: patient}]
	}
}

// Dormant implements jobs.Authority.
func (s authority) Dormant(client string) bool {
	return client == everybody.ClientID || client == auth.SandboxClientID && !s.Sandbox
}

// MaySkip implements jobs.Authority.
func (s authority) MaySkip(client string) (form, review bool) { return s.Auth.MaySkip(client) }

// withdrawn ends what an application has begun for a patient who has withdrawn its access.
func (s *Server) withdrawn(c *fiber.Ctx, patient, client string) error {
	ctx := c.UserContext()
	consents, err := s.Auth.Consents(ctx, patient)
	if err != nil {
		return err
	}
	valid := map[string]bool{}
	for _, consent := range consents {
		if consent.ClientID == client {
			valid[consent.ID] = true
		}
	}
	return s.jobs.Withdraw(ctx, s.Origins.ActingPatient(c, patient), client, valid, func(grant string) error {
		return s.Auth.End(ctx, grant, auth.Withdrawal{Client: client, Patient: patient})
	})
}

// lasting tells, for as long as an answer takes, whether its request would still be let in. It outlives
// the request: it holds nothing of c. Where that cannot be found out, because NATS is away, what goes on goes on, and
// waits for nothing.
func (s *Server) lasting(c *fiber.Ctx) func() bool {
	party := s.partyOf(c)
	job := request.Job(c)
	if job == nil {
		return party
	}
	byToken := request.Access(c) != nil
	return func() bool {
		return party() && !s.Bus.Jobs.Gone(job.ID) && (!byToken || !s.jobs.HasEnded(job))
	}
}

// partyOf tells whether whoever a request was let in as would be let in still.
func (s *Server) partyOf(c *fiber.Ctx) func() bool {
	if a := request.Access(c); a != nil {
		return s.tokenLasts(a)
	}
	if was := request.SignedIn(c); was != nil {
		return s.sessionLasts(c, s.admins, s.Origins.Cookie(request.StaffSession),
			func(ctx context.Context, values map[string]string) (bool, error) {
				who, err := s.namedBy(ctx, values, keyName)
				return who != nil && who.Role.May(was.Role), err
			})
	}
	return s.sessionLasts(c, s.patients, s.Origins.Cookie(request.PatientSession),
		func(ctx context.Context, who map[string]string) (bool, error) {
			patient, err := s.patientOf(ctx, who)
			return patient != "", err
		})
}

// tokenLasts tells whether what a token came of holds still: by what this process hears, and by what is stored where
// it has heard nothing of the token's client, as after NATS was away.
func (s *Server) tokenLasts(a *auth.Access) func() bool {
	if a == everybody {
		return func() bool { return true }
	}
	stored := s.rechecks.of(func(ctx context.Context) (bool, error) { return s.Auth.Holds(ctx, a) }, s.ended.Load)
	return func() bool {
		return !s.Auth.Ended(a) && (s.Auth.Known(a.ClientID) || stored.goesOn())
	}
}

// sessionLasts tells whether a request's session is there and whose it was, and still what it was good for. Sessions
// that this process ends are known at once.
func (s *Server) sessionLasts(
	c *fiber.Ctx, store *session.Store, cookie string,
	good func(ctx context.Context, who map[string]string) (bool, error),
) func() bool {
	id := utils.CopyString(c.Cookies(cookie))
	who, err := whoIs(c, store, cookie)
	if err != nil || len(who) == 0 {
		return func() bool { return true } // it was no session that let the request in
	}
	return s.rechecks.of(func(ctx context.Context) (bool, error) {
		data, err := timely(ctx, store.Storage).Get(id)
		if err != nil || len(data) == 0 {
			return false, err
		}
		return good(ctx, who)
	}, s.ended.Load).goesOn
}
