package fhirapi

import (
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// jobMetadata is what an application may know about its job (EHI-14). It has no field for what
// the patient withheld, nor for choices from which an application could infer it.
type jobMetadata struct {
	ID      string      `json:"id"`
	Level   string      `json:"level"`
	Group   string      `json:"group"`
	Patient ehi.Patient `json:"patient"`
	Client  string      `json:"client"`
	Status  ehi.Status  `json:"status"`
	Request string      `json:"request"`
	Choices choices     `json:"choices"`
	// Counts are resources by type. An application gets them once the export is approved.
	Counts map[string]int64 `json:"counts"`
	// Bytes and Errors are sums over all types; nil if the reader may not know them.
	Bytes  *int64    `json:"bytes,omitempty"`
	Errors *int64    `json:"errors,omitempty"`
	Times  fiber.Map `json:"times"`
}

// choices describes how the job was requested.
type choices struct {
	Form    bool      `json:"form"` // whether the patient's form was sent
	By      string    `json:"by"`   // who sent it
	KickOff fiber.Map `json:"kickOff"`
}

// staffMetadata is jobMetadata with additional fields for administrators.
type staffMetadata struct {
	jobMetadata
	Choices  staffChoices     `json:"choices"` // instead of jobMetadata.Choices
	Withheld map[string]int64 `json:"withheld"`
}

type staffChoices struct {
	choices
	Parameters     any `json:"parameters"`
	Authorizations any `json:"authorizations"`
}

// handleMetadata returns how a job was requested, its state and what it contains (EHI-14).
func (h *Handlers) handleMetadata(c *fiber.Ctx) error {
	if request.AdministratorName(c) != "" {
		j, err := h.Jobs.Find(c.UserContext(), c.Params("id"))
		if j, err = request.Noted(c, j, err); err != nil {
			return err
		}
		return c.JSON(metadataForStaff(j))
	}
	j, err := h.ownJob(c)
	if err != nil {
		return err
	}
	return c.JSON(metadataFor(reachOf(request.Access(c), j), j))
}

// metadataFor returns what a token may know about its job. Nothing is released before approval.
func metadataFor(r reach, j *ehi.Job) jobMetadata {
	m := describe(j)
	if j.WithForm {
		m.Patient.Name = "" // for administrators only; the patient may withhold it
	}
	if j.Status != ehi.Approved {
		return m
	}
	for typ, n := range j.Counts {
		if r.opens(typ) {
			m.Counts[typ] = n
		}
	}
	if r.whole {
		m.Bytes, m.Errors = &j.Bytes, &j.Errors
	}
	return m
}

func metadataForStaff(j *ehi.Job) staffMetadata {
	m := describe(j)
	m.Counts, m.Bytes, m.Errors = content.Counts(j.Counts), &j.Bytes, &j.Errors
	out := staffMetadata{jobMetadata: m, Withheld: content.Counts(j.StillWithheld())}
	out.Choices.choices = m.Choices
	out.Choices.Parameters, out.Choices.Authorizations = j.Form.MarshalWire()
	return out
}

// describe returns the metadata that every reader may have.
func describe(j *ehi.Job) jobMetadata {
	return jobMetadata{
		ID:      j.ID,
		Level:   j.Level.Kind(),
		Group:   j.Group,
		Patient: j.Patient,
		Client:  j.ClientID,
		Status:  j.Status,
		Request: j.Request,
		Choices: choices{Form: j.Form != nil, By: j.RequestedBy, KickOff: wireKickOff(j.KickOff)},
		Counts:  map[string]int64{},
		Times: fiber.Map{
			"created":         instant(j.CreatedAt),
			"requested":       instant(j.RequestedAt),
			"transactionTime": instant(j.TransactionTime),
			"completed":       instant(j.CompletedAt),
			"approved":        instant(j.ApprovedAt),
			"expires":         instant(j.ExpiresAt),
		},
	}
}

// instant formats a time; "" for none.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fhir.FormatInstant(t)
}

// ignored returns what was left out of a request.
func ignored(k ehi.KickOff) []string {
	notices := k.Notices()
	out := make([]string, len(notices))
	for i, n := range notices {
		out[i] = n.Text
	}
	return out
}

// wireKickOff describes the request of an application with the names of its parameters (EHI-6).
func wireKickOff(k ehi.KickOff) fiber.Map {
	return fiber.Map{
		"_typeFilter":             k.TypeFilters,
		"_elements":               strings.Join(k.Elements, ","),
		"patients":                len(k.Patients),
		"organizeOutputByPatient": k.ByPatient,
		"_since":                  instant(k.Since),
		"_until":                  instant(k.Until),
		"_type":                   strings.Join(k.Types, ","),
		"_compression":            k.Compression,
		"category":                k.Categories,
		"from":                    k.From,
		"to":                      k.To,
		"ignored":                 ignored(k),
	}
}
