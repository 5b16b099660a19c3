package fhirapi

import (
	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// AnswerSender describes a job to the sender of its form.
func (h *Handlers) AnswerSender(c *fiber.Ctx, j *ehi.Job) error {
	return c.JSON(h.describeJob(j, reach{}))
}

// JobForStaff describes a job to administrators. It omits the manifest, see ManifestForStaff.
func (h *Handlers) JobForStaff(c *fiber.Ctx, j *ehi.Job) content.Job {
	out := h.describeJob(j, unlimited)
	for _, a := range j.Attachments {
		out.Attachments = append(out.Attachments, h.attachment(c, j, a))
	}
	return out
}

func (h *Handlers) describeJob(j *ehi.Job, r reach) content.Job {
	out := content.Job{
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
