package fhirapi

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/faulty"
	"ehi-server/api/request"
	"ehi-server/shared/ehi"
)

// Retry-After in seconds (EHI-4, REAL-1): short while a machine works, longer while a person
// does.
const (
	retryMachine = "1"
	retryPerson  = "5"
)

// handleStatus returns the state of a client's job (EHI-3, 4, 5).
func (h *Handlers) handleStatus(c *fiber.Ctx) error {
	j, err := h.ownJob(c)
	if err != nil {
		return err
	}
	if done, err := h.Faults.Status(c, j); done {
		return err
	}
	if j, err = h.await(c, j); err != nil {
		return err
	}
	if done, err := faulty.Standing(c, j); done {
		return err
	}
	if err := h.sendStatus(c, j); err != nil {
		return err
	}
	if j.SeparateStatus { // BULK-7
		code := c.Response().StatusCode()
		c.Set("X-Export-Status", strconv.Itoa(code)+" "+http.StatusText(code))
		c.Status(http.StatusOK)
	}
	return nil
}

func (h *Handlers) sendStatus(c *fiber.Ctx, j *ehi.Job) error {
	switch j.Status {
	case ehi.Approved:
		return h.sendManifest(c, j)
	case ehi.Failed: // BULK-5
		return content.Outcome(c, http.StatusInternalServerError, "fatal",
			string(ehi.Internal), j.Error)
	case ehi.Rejected:
		return content.Outcome(c, http.StatusForbidden, "fatal",
			"suppressed", "The export was rejected by an administrator")
	}
	h.setLink(c, j)
	c.Set(fiber.HeaderRetryAfter, retryPerson)
	if j.Status == ehi.Requested {
		c.Set(fiber.HeaderRetryAfter, retryMachine)
	}
	c.Set("X-Progress", h.progressText(j, reachOf(request.Access(c), j)))
	return content.Empty(c, http.StatusAccepted)
}

// progressText describes the state of a job in less than 100 characters (EHI-4). Sums over all
// types are for tokens that open them all (see reach).
func (h *Handlers) progressText(j *ehi.Job, r reach) string {
	switch j.Status {
	case ehi.AwaitingInput:
		return "awaiting-input: waiting for the patient to choose what to share"
	case ehi.Retrieved:
		return "retrieved: waiting for an administrator's approval"
	}
	if j.Level != ehi.OnePatient {
		return populationProgress(j, r.whole)
	}
	p, known := h.Progress.Of(j.ID)
	return patientProgress(p, known, r.counts(j))
}

// patientProgress describes the progress of a patient's export. known is whether its worker has
// reported. The size of a synthetic record is never known. Counts are those of the record, so
// they would reveal how much of it is withheld: a reader who may not know that gets only the
// percentage (EHI-14).
func patientProgress(p ehi.Progress, known, counts bool) string {
	switch {
	case !known:
		return "requested: the export is queued, 0% done"
	case p.Total <= 0 && !counts:
		return "requested: the export is running"
	case !counts:
		return fmt.Sprintf("requested: %d%% done", p.Percent())
	case p.Total <= 0:
		return fmt.Sprintf("requested: %d resources done", p.Done)
	}
	return fmt.Sprintf("requested: %d%% done, %d of %d resources", p.Percent(), p.Done, p.Total)
}

// populationProgress returns how many tasks are committed and, with resources, how many
// resources.
func populationProgress(j *ehi.Job, resources bool) string {
	if j.Tasks == 0 {
		return "requested: the export is queued, 0% done"
	}
	var done int64
	for _, n := range j.Counts {
		done += n
	}
	p := ehi.Progress{Done: int64(j.Done.Count()), Total: int64(j.Tasks)}
	text := fmt.Sprintf("requested: %d%% done, %d of %d parts", p.Percent(), p.Done, p.Total)
	if resources {
		text += fmt.Sprintf(", %d resources", done)
	}
	return text
}

// handleDelete deletes a job in any state (EHI-13, REAL-6).
func (h *Handlers) handleDelete(c *fiber.Ctx) error {
	j, err := h.ownJob(c)
	if err != nil {
		return err
	}
	if !reachOf(request.Access(c), j).whole {
		err := beyondReach(c)
		h.Trail.Record(c, err, ehi.About(ehi.ActionDelete, j))
		return err
	}
	if err := h.Jobs.Delete(c.UserContext(), h.Origins.Acting(c), j); err != nil {
		return err
	}
	return content.Outcome(c, http.StatusAccepted, "information",
		"informational", "The export was deleted")
}
