package fhirapi

import (
	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Job is a job as the sender of its form sees it (EHI-7). It does not contain the effects of the
// choices: an application must not learn that something is withheld (EHI-14).
type Job struct {
	ID             string            `json:"id"`
	Patient        ehi.Patient       `json:"patient"`
	Level          string            `json:"level"` // patient, patients, group, system
	Group          string            `json:"group,omitempty"`
	Manifest       json.RawMessage   `json:"manifest"`
	Status         ehi.Status        `json:"status"`
	CreatedAt      int64             `json:"createdAt"`   // ms since 1970
	CompletedAt    int64             `json:"completedAt"` // ms since 1970; 0 until then
	Parameters     any               `json:"parameters"`
	Authorizations any               `json:"authorizations"`
	Attachments    []fhir.Attachment `json:"attachments"`
	AutoApprove    bool              `json:"autoApprove"`
	Progress       string            `json:"progress,omitempty"`
}

// AnswerSender describes a job to the sender of its form.
func (h *Handlers) AnswerSender(c *fiber.Ctx, j *ehi.Job) error {
	return c.JSON(h.describeJob(j, reach{}))
}

// JobForStaff describes a job to administrators. It omits the manifest, see ManifestForStaff.
func (h *Handlers) JobForStaff(c *fiber.Ctx, j *ehi.Job) Job {
	out := h.describeJob(j, unlimited)
	for _, a := range j.Attachments {
		out.Attachments = append(out.Attachments, h.attachment(c, j, a))
	}
	return out
}

func (h *Handlers) describeJob(j *ehi.Job, r reach) Job {
	out := Job{
		ID:          j.ID,
		Patient:     j.Patient,
		Level:       j.Level.Kind(),
		Group:       j.Group,
		Manifest:    json.RawMessage("null"),
		Status:      j.Status,
		CreatedAt:   j.CreatedAt.UnixMilli(),
		Attachments: []fhir.Attachment{},
		AutoApprove: j.AutoApprove,
	}
	if !j.CompletedAt.IsZero() {
		out.CompletedAt = j.CompletedAt.UnixMilli()
	}
	out.Parameters, out.Authorizations = j.Form.MarshalWire()
	if !j.Status.Settled() {
		out.Progress = h.progressText(j, r)
	}
	return out
}
