package content

import (
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Job is a job as the sender of its form sees it (EHI-7), and the part of it that administrators
// see as well (EHI-10). It does not contain the effects of the choices: an application must not
// learn that something is withheld (EHI-14).
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

// Counts returns counts for a JSON response, in which no counts are an empty object.
func Counts(m map[string]int64) map[string]int64 {
	if m == nil {
		return map[string]int64{}
	}
	return m
}
