package staff

import (
	"context"
	"strconv"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// Jobs are the exports, and what administrators may do with them (jobs.Service).
type Jobs interface {
	// Record finds a job as the bucket has it now. Errors: ehi.NotFound.
	Record(ctx context.Context, id string) (*ehi.Job, error)
	// CheckFiles refuses the files of a job that the actor may not read yet, or no longer.
	CheckFiles(by ehi.Actor, j *ehi.Job) error
	// Approvers are the administrators whose approvals of a job count.
	Approvers(j *ehi.Job) []string
	Approve(ctx context.Context, by ehi.Actor, j *ehi.Job, d jobs.Decision) (*ehi.Job, error)
	Reject(ctx context.Context, by ehi.Actor, j *ehi.Job, d jobs.Decision) (*ehi.Job, error)
	Detach(ctx context.Context, by ehi.Actor, j *ehi.Job, names ...string) (*ehi.Job, error)
	// ListHeld lists the documents and tables that need a decision, and DecideHeld decides.
	ListHeld(ctx context.Context, j *ehi.Job, after string, limit int) ([]jobs.Held, error)
	DecideHeld(
		ctx context.Context, by ehi.Actor, j *ehi.Job, d jobs.HeldDecision,
	) (*ehi.Job, error)
	Delete(ctx context.Context, by ehi.Actor, j *ehi.Job) error
}

// Index lists the jobs (bus.Jobs).
type Index interface {
	// Page lists the jobs to keep, newest first: at most limit of them (0: all) behind the job
	// after ("": from the first).
	Page(keep func(bus.Summary) bool, after string, limit int) []bus.Summary
	// Summary is what this process knows of a job without reading it.
	Summary(id string) (_ bus.Summary, known bool)
	// Peek reads a job from this process's copy, and Get from the bucket. Errors: ehi.NotFound.
	Peek(ctx context.Context, id string) (*ehi.Job, error)
	Get(ctx context.Context, id string) (*ehi.Job, error)
}

// Describer describes jobs as applications see them (fhirapi.Handlers).
type Describer interface {
	JobForStaff(c *fiber.Ctx, j *ehi.Job) content.Job
	ManifestForStaff(c *fiber.Ctx, j *ehi.Job) (json.RawMessage, error)
}

// Exports lets administrators list, review and delete exports by the JSON API (EHI-10). The pages
// of exports use it as well.
type Exports struct {
	Origins   request.Origins
	Jobs      Jobs
	Index     Index
	Describer Describer
}

// Routes registers the JSON API of exports.
func (h *Exports) Routes(r Router) {
	r.On("GET", "/admin/jobs", h.handleList)
	r.On("GET", "/admin/jobs/:id", h.handleJob)
	r.On("DELETE", "/admin/jobs/:id", h.handleDelete)
	r.On("POST", "/admin/jobs/:id/approve", h.handleDecision(ehi.ActionApprove))
	r.On("POST", "/admin/jobs/:id/reject", h.handleDecision(ehi.ActionReject))
	r.On("POST", "/admin/jobs/:id/remove-files", h.handleRemoveFiles)
	r.On("GET", "/admin/jobs/:id/held", h.handleHeld)
	r.On("POST", "/admin/jobs/:id/held", h.handleDecideHeld)
}

// jobJSON is a job as administrators see it (EHI-10).
type jobJSON struct {
	content.Job
	Counts   map[string]int64 `json:"counts"`
	Withheld map[string]int64 `json:"withheld"`
	// Held are the documents and tables that need a decision, if there are any.
	Held *heldJSON `json:"held,omitempty"`
	// Approvals are the administrators who have approved the export as it is now, where two must.
	Approvals []string `json:"approvals,omitempty"`
	// Contents is the digest of what is to be decided about.
	Contents string `json:"contents,omitempty"`
	// Reason is that of the decision.
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}

func (h *Exports) describe(c *fiber.Ctx, j *ehi.Job) jobJSON {
	out := jobJSON{
		Job:       h.Describer.JobForStaff(c, j),
		Counts:    content.Counts(j.Counts),
		Withheld:  content.Counts(j.StillWithheld()),
		Held:      heldCounts(j),
		Approvals: h.Jobs.Approvers(j),
		Reason:    j.Reason,
		Error:     j.Error,
	}
	if j.Status == ehi.Retrieved {
		out.Contents = j.Contents()
	}
	return out
}

// withManifest adds the manifest to a job whose files are there.
func (h *Exports) withManifest(c *fiber.Ctx, j *ehi.Job) (jobJSON, error) {
	out := h.describe(c, j)
	if j.Status != ehi.Retrieved && j.Status != ehi.Approved {
		return out, nil
	}
	var err error
	out.Manifest, err = h.Describer.ManifestForStaff(c, j)
	return out, err
}

// sendJob answers with a job after a change.
func (h *Exports) sendJob(c *fiber.Ctx, j *ehi.Job, err error) error {
	if err != nil {
		return err
	}
	out, err := h.withManifest(c, j)
	if err != nil {
		return err
	}
	return c.JSON(out)
}

// handleList lists jobs, newest first (EHI-10). ?status= narrows the list, ?limit= bounds it, and
// ?after= continues behind a job's ID.
func (h *Exports) handleList(c *fiber.Ctx) error {
	status, at := ehi.Status(c.Query("status")), now()
	if status != "" && !status.Valid() {
		return ehi.Errorf(ehi.Invalid, "Invalid status %q", status)
	}
	limit, err := strconv.Atoi(c.Query("limit", "0"))
	if err != nil || limit < 0 {
		return ehi.Errorf(ehi.Invalid, "Invalid limit %q", c.Query("limit"))
	}
	list := h.Index.Page(func(j bus.Summary) bool {
		return (status == "" || j.Status == status) && j.Listed(at)
	}, c.Query("after"), limit)
	out := make([]jobJSON, 0, len(list))
	for _, entry := range list {
		j, err := h.Index.Peek(c.UserContext(), entry.ID)
		if ehi.CodeOf(err) == ehi.NotFound { // deleted meanwhile
			continue
		}
		if err != nil {
			return err
		}
		out = append(out, h.describe(c, j))
	}
	return c.JSON(out)
}

func (h *Exports) handleJob(c *fiber.Ctx) error {
	j, err := h.requested(c)
	return h.sendJob(c, j, err)
}

// requested finds the request's job as the bucket has it now.
func (h *Exports) requested(c *fiber.Ctx) (*ehi.Job, error) { return h.record(c, c.Params("id")) }

// record finds a job as the bucket has it now.
func (h *Exports) record(c *fiber.Ctx, id string) (*ehi.Job, error) {
	j, err := h.Jobs.Record(c.UserContext(), id)
	return request.Noted(c, j, err)
}

// handleDecision approves or rejects an export.
func (h *Exports) handleDecision(action ehi.Action) fiber.Handler {
	return func(c *fiber.Ctx) error {
		d, err := readDecision(c)
		if err != nil {
			return err
		}
		j, err := h.decide(c, c.Params("id"), action, d)
		return h.sendJob(c, j, err)
	}
}

// decision comes with an approval or a rejection. All of it may be left out, except for Contents of
// an approval where two administrators must approve.
type decision struct {
	Reason string `json:"reason" form:"reason"`
	// Contents is the digest of the export as the administrator saw it (see ehi.Job.Contents).
	Contents string `json:"contents" form:"contents"`
}

// decide approves or rejects an export.
func (h *Exports) decide(
	c *fiber.Ctx, id string, action ehi.Action, d decision,
) (*ehi.Job, error) {
	j, err := h.record(c, id)
	if err != nil {
		return nil, err
	}
	if action == ehi.ActionReject {
		return h.Jobs.Reject(c.UserContext(), h.Origins.Acting(c), j, jobs.Decision(d))
	}
	return h.Jobs.Approve(c.UserContext(), h.Origins.Acting(c), j, jobs.Decision(d))
}

// readDecision reads a decision, as JSON or as a form.
func readDecision(c *fiber.Ctx) (d decision, err error) {
	if len(c.Body()) == 0 || c.Get(fiber.HeaderContentType) == "" {
		return d, nil
	}
	if err := content.Unambiguous(c); err != nil {
		return d, err
	}
	if err := c.BodyParser(&d); err != nil {
		return d, ehi.Errorf(ehi.Invalid, `The body must be empty, or hold a "reason" and `+
			`"contents", as JSON or as a form`)
	}
	return d, nil
}

func (h *Exports) handleDelete(c *fiber.Ctx) error {
	if err := h.delete(c); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Export deleted"})
}

// delete deletes the request's job.
func (h *Exports) delete(c *fiber.Ctx) error {
	j, err := h.requested(c)
	if err != nil {
		return err
	}
	return h.Jobs.Delete(c.UserContext(), h.Origins.Acting(c), j)
}

// handleRemoveFiles removes documents by name (EHI-11).
func (h *Exports) handleRemoveFiles(c *fiber.Ctx) error {
	var in struct {
		Params []string `json:"params"`
	}
	if err := content.Unambiguous(c); err != nil {
		return err
	}
	if err := c.BodyParser(&in); err != nil || len(in.Params) == 0 {
		return ehi.Errorf(ehi.Invalid,
			`The body must be JSON with the names of attachments in "params"`)
	}
	j, err := h.detach(c, in.Params)
	return h.sendJob(c, j, err)
}

// detach removes documents of the request's job.
func (h *Exports) detach(c *fiber.Ctx, names []string) (*ehi.Job, error) {
	j, err := h.requested(c)
	if err != nil {
		return nil, err
	}
	return h.Jobs.Detach(c.UserContext(), h.Origins.Acting(c), j, names...)
}
