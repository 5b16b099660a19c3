package staff

import (
	"strings"
	"time"

	"ehi-server/api/page"
	"ehi-server/shared/ehi"
)

// moment is a line of a job's timeline.
type moment struct {
	Name, Text string
	At         time.Time
	After      string // the time since the line before
}

// timeline is what happened to a job, in order.
func timeline(j *ehi.Job) (out []moment) {
	add := func(at time.Time, name, text string) {
		if at.IsZero() {
			return
		}
		m := moment{Name: name, Text: text, At: at}
		if len(out) > 0 {
			m.After = age(max(0, at.Sub(out[len(out)-1].At)))
		}
		out = append(out, m)
	}
	add(j.CreatedAt, "Asked for", "by "+j.ClientID)
	if j.WithForm {
		add(j.RequestedAt, "Choices made", "by the "+j.RequestedBy)
	}
	add(j.TransactionTime, "Record read", "as of this moment")
	ended := map[ehi.Status]string{ehi.Failed: "Failed", ehi.Rejected: "Rejected"}[j.Status]
	if ended == "" {
		ended = "Files ready"
	}
	text := ""
	if j.Status == ehi.Rejected {
		text = "by " + j.DecidedBy
	}
	add(j.CompletedAt, ended, text)
	if j.AutoApprove {
		text = "without review, as the application asked"
	} else {
		text = "by " + j.DecidedBy
	}
	add(j.ApprovedAt, "Approved", text)
	return out
}

// share is a count, and the largest count of its list.
type share struct {
	Name       string
	Count, Max int64
}

// shares lists counts, the largest first. name translates their names; nil keeps them.
func shares(counts map[string]int64, name func(string) string) (out []share) {
	for _, c := range page.LargestFirst(counts) {
		if name != nil {
			c.Name = name(c.Name)
		}
		out = append(out, share{c.Name, c.Count, 0})
	}
	for i := range out {
		out[i].Max = out[0].Count
	}
	return out
}

// withheldWords says why a resource is withheld. The reason is category.<key>, document.<key>,
// sensitive.<key>, reference-only or unclassified.
func withheldWords(reason string) string {
	if reason == ehi.Unclassified {
		return "Documents and tables of no line of the form"
	}
	kind, key, _ := strings.Cut(reason, ".")
	for _, a := range ehi.Authorizations() {
		if kind == "sensitive" && string(a.Key) == key {
			return "Protected: " + a.Name
		}
	}
	for _, c := range ehi.Categories() {
		if kind != "sensitive" && string(c.Key) == key {
			of := map[string]string{"category": "Not chosen: ", "document": "Within a report: "}
			return of[kind] + c.Name
		}
	}
	return "About withheld resources only"
}

// choiceLine is a line of the release form as administrators read it.
type choiceLine struct{ Name, Value, Notes string }

// choicesOf lists what the patient chose, with notes, and what the patient did not choose.
func choicesOf(f *ehi.ReleaseForm) (out []choiceLine) {
	if f == nil {
		return nil
	}
	for _, c := range ehi.Categories() {
		choice, on := f.Parameters[c.Key]
		line := choiceLine{c.Name, "no", choice.Notes}
		if on {
			line.Value = "yes"
			if choice.From != "" {
				line.Value += ", from " + choice.From
			}
			if choice.To != "" {
				line.Value += ", to " + choice.To
			}
		}
		out = append(out, line)
	}
	for _, a := range ehi.Authorizations() {
		line := choiceLine{Name: a.Name, Value: "no", Notes: f.Texts[a.Key]}
		if f.Authorizes(a.Key) {
			line.Value = "yes"
		}
		out = append(out, line)
	}
	return out
}
