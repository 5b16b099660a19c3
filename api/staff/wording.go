package staff

import (
	"fmt"
	"time"

	"ehi-server/shared/ehi"
)

// age says how long something takes or took, in its largest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "<1 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// sinceText is how long ago something was, "" if it never was.
func sinceText(at, since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return at.Sub(since).Round(time.Second).String()
}

// statusWords are the statuses as administrators read them.
var statusWords = map[ehi.Status]string{
	ehi.AwaitingInput: "Waits for the patient",
	ehi.Requested:     "Running",
	ehi.Retrieved:     "Waits for review",
	ehi.Approved:      "Approved",
	ehi.Rejected:      "Rejected",
	ehi.Failed:        "Failed",
	ehi.Aborted:       "Deleted",
}

// levelWords are what a job exports.
var levelWords = map[ehi.Level]string{
	ehi.OnePatient:  "One patient",
	ehi.AllPatients: "All patients",
	ehi.OneGroup:    "Group",
	ehi.System:      "Everything",
}
