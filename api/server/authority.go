package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/session"
	"github.com/gofiber/fiber/v2/utils"

	"ehi-server/auth"
	"ehi-server/exporter/worker"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// What is open outlives what it was opened by: a form, an export, a held poll, a stream, a download.
// This file decides, for all of them, whether the authority behind them goes on: stands for jobs,
// lasting for answers that take long. What lets a request in is decided in sessions.go and middleware.go.

// stands reports whether the authorization goes on that a job was kicked off under. Of one that does
// not nothing leaves any more for its application (EHI-7).
//
// What this process has heard may say that it does; that it does not is said by what is stored, or by news of its end.
// Errors: where that cannot be read.
func (s *Server) stands(ctx context.Context, j *ehi.Job) (bool, error) {
	if j.ClientID == everybody.ClientID {
		return s.Open, nil
	}
	return s.Auth.Stands(ctx, j.ClientID, j.Grant, auth.Origin{Begun: j.CreatedAt, Made: j.ClientMade})
}

// hasEnded reports whether this process has heard that a job does not stand any more. It asks nobody.
func (s *Server) hasEnded(j *ehi.Job) bool {
	if j.ClientID == everybody.ClientID {
		return !s.Open
	}
	stands, told := s.Auth.StandsAsHeard(j.ClientID, j.Grant, auth.Origin{Begun: j.CreatedAt, Made: j.ClientMade})
	return told && !stands
}

// mayBegin is an error for a job that was made under an authorization which has ended.
func (s *Server) mayBegin(ctx context.Context, j *ehi.Job) error {
	stands, err := s.stands(ctx, j)
	if err == nil && !stands {
		err = errEnded
	}
	return err
}

// mayGoOn is an error for what would release a job that does not stand: ehi.Conflict.
func (s *Server) mayGoOn(ctx context.Context, j *ehi.Job) error {
	stands, err := s.stands(ctx, j)
	if err != nil {
		return err
	}
	if !stands {
		return ehi.Errorf(ehi.Conflict, "The application may not have this export any more: its access was withdrawn, or its registration removed")
	}
	return nil
}

// errEnded is the answer to a kick-off whose token is void by the time that there is a job.
var errEnded = ehi.Errorf(ehi.Unauthenticated, "Invalid token")

// end deletes a job in any state, with what its form has kept. Errors: those of worker.Delete.
func (s *Server) end(ctx context.Context, job string) error {
	return errors.Join(worker.Delete(ctx, s.Bus, s.Files, job, nil), s.kept.In(ctx).Delete(draftKey(job)))
}

// EndWhatDoesNotStand deletes unfinished exports that nobody may have any more: the patient has
// withdrawn the application's access, or its registration is gone. What ends an authorization calls it
// at once; the keeper calls it for what was ended elsewhere. A finished export stays for its patient,
// and is closed to its application.
func (s *Server) EndWhatDoesNotStand(ctx context.Context) error {
	return s.endWhatDoesNotStand(ctx, s.tellOfEnded)
}

// tellOfEnded writes down that the server has deleted a job that did not stand.
func (s *Server) tellOfEnded(j *ehi.Job, err error) {
	e := aboutJob(ehi.ActionDelete, j)
	e.At, e.Agent, e.Detail, e.Outcome = now(), "server", "its authorization has ended", outcomeOf(err)
	s.Bus.Audit.Record(e)
}

func (s *Server) endWhatDoesNotStand(ctx context.Context, told func(*ehi.Job, error)) error {
	withdrawn := s.Auth.Withdrawals()
	suspects := s.Bus.Jobs.List(func(j bus.Summary) bool {
		if j.Status.Settled() || j.ClientID == everybody.ClientID || j.ClientID == auth.SandboxClientID && !s.Sandbox {
			return false // those of a mode that the server is not in wait for it
		}
		stands, _ := s.Auth.StandsAsHeard(j.ClientID, "", auth.Origin{Begun: j.CreatedAt, Made: j.ClientMade})
		return !stands || withdrawn[auth.Withdrawal{Client: j.ClientID, Patient: j.Patient.ID}]
	})
	var (
		ends sync.WaitGroup
		mu   sync.Mutex
		errs []error
		away bool
	)
	slots := make(chan struct{}, endingsAtOnce)
	for _, v := range suspects {
		slots <- struct{}{}
		mu.Lock()
		over := away || ctx.Err() != nil // for the others too; the keeper comes by again
		mu.Unlock()
		if over {
			break
		}
		ends.Go(func() {
			defer func() { <-slots }()
			err := s.endUnlessItStands(ctx, v.ID, func(j *ehi.Job, err error) {
				mu.Lock()
				defer mu.Unlock()
				told(j, err)
			})
			mu.Lock()
			defer mu.Unlock()
			if ehi.CodeOf(err) != ehi.NotFound {
				errs = append(errs, err)
			}
			away = away || bus.IsAway(err)
		})
	}
	ends.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

const (
	// endingsAtOnce is how many jobs are deleted at once, and endingTime how long one may take.
	endingsAtOnce = 8
	endingTime    = 5 * time.Second
)

// endUnlessItStands deletes a job that does not stand; told is called of what is deleted.
func (s *Server) endUnlessItStands(ctx context.Context, job string, told func(*ehi.Job, error)) error {
	j, err := s.Bus.Jobs.Get(ctx, job)
	if err != nil {
		return err
	}
	stands, err := s.stands(ctx, j)
	if err != nil || stands {
		return err
	}
	// What is begun is brought to its end: a job that is only marked as deleted would wait for the keeper.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingTime)
	defer cancel()
	err = s.end(ctx, j.ID)
	told(j, err)
	return err
}

// withdrawn ends what an application has begun for a patient who has withdrawn its access. What it may
// do by another authorization that the patient has not withdrawn goes on; what it began by an
// older one that ran out does not.
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
	var errs []error
	for _, v := range s.Bus.Jobs.List(func(j bus.Summary) bool { return j.ClientID == client && j.Patient.ID == patient }) {
		j, err := s.Bus.Jobs.Get(ctx, v.ID)
		switch {
		case err != nil:
			if ehi.CodeOf(err) != ehi.NotFound {
				errs = append(errs, err)
			}
		case j.Grant != "" && !valid[j.Grant] && !s.hasEnded(j):
			errs = append(errs, s.Auth.End(ctx, j.Grant, auth.Withdrawal{Client: client, Patient: patient}))
		case j.Grant == "" && !j.ByService && len(valid) == 0 && !j.Status.Settled(): // of an older build
			errs = append(errs, s.end(ctx, j.ID))
		}
	}
	errs = append(errs, s.endInRequest(ctx, func(j *ehi.Job, err error) {
		e := aboutJob(ehi.ActionDelete, j)
		e.Agent, e.Detail = "patient "+patient, "its authorization was withdrawn"
		s.audit(c, err, e)
	}))
	return errors.Join(errs...)
}

// lasting tells, for as long as an answer takes, whether its request would still be let in. It outlives
// the request: it holds nothing of c. Where that cannot be found out, because NATS is away, what goes on goes on, and
// waits for nothing.
func (s *Server) lasting(c *fiber.Ctx) func() bool {
	party := s.partyOf(c)
	job, _ := c.Locals(jobKey).(*ehi.Job)
	if job == nil {
		return party
	}
	_, byToken := c.Locals(accessKey).(*auth.Access)
	return func() bool {
		return party() && !s.Bus.Jobs.Gone(job.ID) && (!byToken || !s.hasEnded(job))
	}
}

// partyOf tells whether whoever a request was let in as would be let in still.
func (s *Server) partyOf(c *fiber.Ctx) func() bool {
	if a, ok := c.Locals(accessKey).(*auth.Access); ok {
		return s.tokenLasts(a)
	}
	if was := staffOf(c); was != nil {
		return s.sessionLasts(c, s.admins, s.cookie(staffSession),
			func(ctx context.Context, values map[string]string) (bool, error) {
				who, err := s.namedBy(ctx, values, keyName)
				return who != nil && who.Role.May(was.Role), err
			})
	}
	return s.sessionLasts(c, s.patients, s.cookie(patientSession),
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
