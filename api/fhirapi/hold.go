package fhirapi

import (
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/abuse"
	"ehi-server/api/content"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// patience returns how long a status request may be held, and until when: by default while a
// machine works on the job, with Prefer: wait also while a person does. applied is the
// preference that is honored.
func (h *Handlers) patience(
	c *fiber.Ctx, j *ehi.Job,
) (most time.Duration, over func(*ehi.Job) bool, applied string) {
	if asked, ok := content.Preferred(c).Wait(); ok && h.MaxHold >= time.Second {
		most = min(asked, h.MaxHold.Truncate(time.Second))
		began := j.Status
		return most, func(j *ehi.Job) bool {
			return j.Status.Settled() || j.Status == ehi.AwaitingInput && began != ehi.AwaitingInput
		}, "wait=" + strconv.Itoa(int(most/time.Second))
	}
	if j.Status == ehi.Requested {
		most = h.Hold
	}
	return most, func(j *ehi.Job) bool { return j.Status != ehi.Requested }, ""
}

// await delays the answer to a status request for as long as its client and the limits allow,
// and returns the job as it then is. Requests that are held do not count as polls; the pace of
// others is limited. Errors: those of keepPace.
func (h *Handlers) await(c *fiber.Ctx, j *ehi.Job) (*ehi.Job, error) {
	most, over, applied := h.patience(c, j)
	if j.Status.Settled() {
		preferenceApplied(c, applied)
		return j, nil
	}
	j, waited, err := h.hold(c, j, most, over)
	if waited || most == 0 { // no wait was requested, and there was none
		preferenceApplied(c, applied)
	}
	if waited || err != nil {
		return j, err
	}
	return h.keepPace(c, j)
}

// keepPace delays or refuses a poll that comes too early. Errors: ehi.Throttled, and those of
// ownJob.
func (h *Handlers) keepPace(c *fiber.Ctx, j *ehi.Job) (*ehi.Job, error) {
	delay, refused := h.Paces.Admit(j.ID, time.Now())
	if delay > 0 {
		status := j.Status
		j, waited, err := h.hold(c, j, delay, func(j *ehi.Job) bool { return j.Status != status })
		if waited || err != nil {
			return j, err
		}
		refused = h.Paces.Refuse(j.ID, time.Now())
	}
	if refused > 0 {
		abuse.SetRetryAfter(c, refused)
		telemetry.Refused.WithLabelValues("polls").Inc()
		return j, abuse.ErrPolls
	}
	return j, nil
}

func preferenceApplied(c *fiber.Ctx, preference string) {
	if preference != "" {
		c.Set("Preference-Applied", preference)
	}
}

// hold keeps a request until over is true for its job, for at most most, and returns the job as
// it then is. waited is false if the request was not kept. Afterwards hold checks the token
// again, because it may have been revoked.
func (h *Handlers) hold(
	c *fiber.Ctx, j *ehi.Job, most time.Duration, over func(*ehi.Job) bool,
) (_ *ehi.Job, waited bool, err error) {
	waited, err = h.Holds.Hold(c, j.ID, most, func() (bool, error) {
		latest, err := h.ownJob(c)
		if err != nil {
			return false, err
		}
		j = latest
		return over(j), nil
	})
	if waited && err == nil {
		_, err = h.Tokens.Authenticate(c)
	}
	return j, waited, err
}
