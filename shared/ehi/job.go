package ehi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// RecordVersion is the layout of the Job and Task records that this build writes. A record with
// a higher number comes from a newer build and is refused rather than misread.
//
//	1: the first one
//	2: Attachment.Object, Task.Excused, Job.Plans, Job.Stored
//	3: counts of files that are organized by patient are without the headers of their blocks
//	4: File.Sum
//	5: Job.Records, Job.Rules, Task.Records
const RecordVersion = 5

// Lane keeps short, interactive jobs apart from long ones, so that neither starves the other.
type Lane string

const (
	// Interactive is the lane of single-patient exports.
	Interactive Lane = "interactive"
	// Bulk is the lane of population exports.
	Bulk Lane = "bulk"
)

// Lanes lists the lanes.
func Lanes() []Lane { return []Lane{Interactive, Bulk} }

// Patient is whose record a job exports.
type Patient struct {
	ID   string `json:"id"`
	Name string `json:"name"` // display name, may be empty
}

// Level is how much a job exports: one patient's record, or a population's (Bulk Data Access
// 3.0.0, "Operations").
type Level string

const (
	// OnePatient is the record of Job.Patient.
	OnePatient Level = ""
	// AllPatients is the records of all patients, and what they refer to.
	AllPatients Level = "patients"
	// OneGroup is the records of the members of Job.Group, and what they refer to.
	OneGroup Level = "group"
	// System is everything that the server holds.
	System Level = "system"
)

// Kind is the level's name in metrics: patient, patients, group or system.
func (l Level) Kind() string {
	if l == OnePatient {
		return "patient"
	}
	return string(l)
}

// LogLevel is how loud the events of a job of this level are logged: populations are few,
// patients' exports may be thousands a second.
func (l Level) LogLevel() slog.Level {
	if l == OnePatient {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Operation is the way in which a population was asked for; it decides about the form of the
// manifest.
type Operation string

const (
	// EHIExport is $ehi-export of the Argonaut EHI Export API.
	EHIExport Operation = ""
	// BulkExport is $export of Bulk Data Access 3.0.0.
	BulkExport Operation = "export"
	// BulkExportV4 is $export as in the ballot of Bulk Data Access 4.0.0 (BULK-7).
	BulkExportV4 Operation = "export-v4"
)

// Job is one export request and all that is known of it, apart from its file tables (see Task).
// It is one KV record of about 1 KiB; every change is one compare-and-set.
type Job struct {
	Version   int       `json:"v"`
	ID        string    `json:"id"`      // URL-safe (REAL-11)
	Patient   Patient   `json:"patient"` // the record's subject; none for a population
	Level     Level     `json:"level,omitempty"`
	Group     string    `json:"group,omitempty"` // of OneGroup
	Operation Operation `json:"op,omitempty"`
	ClientID  string    `json:"client"` // the OAuth client that kicked off
	// kicked off by a backend service rather than a patient's application
	ByService bool `json:"service,omitempty"`
	// Grant names the patient's authorization under which the application kicked off; "" of a
	// backend service's jobs. An older build loses it, and with it that a withdrawal ends the
	// job.
	Grant string `json:"grant,omitempty"`
	// ClientMade is when ClientID was registered: another client of that id has another one.
	// Zero of the sandbox's. An older build loses it, and tells by the second of CreatedAt.
	ClientMade  time.Time `json:"clientMade,omitzero"`
	Lane        Lane      `json:"lane"`
	Status      Status    `json:"status"`
	WithForm    bool      `json:"form,omitempty"` // false below /no-form (EHI-1)
	AutoApprove bool      `json:"auto,omitempty"` // true below /auto-approve (EHI-1)
	BareLink    bool      `json:"bareLink,omitempty"`
	// SeparateStatus is Prefer: separate-export-status of the 4.0.0 ballot: a status request
	// answers 200 and says in X-Export-Status how the job stands (BULK-7).
	SeparateStatus bool `json:"separate,omitempty"`

	// Request is the kick-off URL as the client sent it; the manifest repeats it (EHI-5).
	Request string  `json:"request"`
	KickOff KickOff `json:"kickOff,omitzero"`
	// nil until submitted, and for ever without a form
	Form *ReleaseForm `json:"choices,omitempty"`

	CreatedAt time.Time `json:"created"`
	// form submitted, or created where there is none
	RequestedAt time.Time `json:"requested,omitzero"`
	// who submitted the form: patient or client
	RequestedBy string `json:"requestedBy,omitempty"`
	// the instant as of which the data was read (EHI-5)
	TransactionTime time.Time `json:"transactionTime,omitzero"`
	CompletedAt     time.Time `json:"completed,omitzero"` // retrieved, failed, or rejected
	ApprovedAt      time.Time `json:"approved,omitzero"`
	// the administrator who approved or rejected
	DecidedBy string `json:"decidedBy,omitempty"`
	// Reason is what the one who decided says about it, for the patient to read. An older build
	// loses it.
	Reason string `json:"reason,omitempty"`
	// Approvals are the administrators who approved where two have to (four eyes). An older
	// build loses them, and asks for them again.
	Approvals []string `json:"approvals,omitempty"`
	// Approved is the digest of what Approvals are about (see Contents): they are void where the
	// export has another one now. An older build loses it, and the approvals with it.
	Approved string `json:"approvedContents,omitempty"`
	// ApprovedAs says of each of Approvals which account it was, beside its name: an approval is
	// void once that account may not approve any more. An older build loses it, and the
	// approvals with it.
	ApprovedAs []string  `json:"approvedAs,omitempty"`
	ExpiresAt  time.Time `json:"expires,omitzero"` // the job and its files go after this (EHI-17)

	// planned tasks, numbered from 0; 0 until a population is planned
	Tasks int `json:"tasks,omitempty"`
	// the tasks that are committed and counted here
	Done Bits `json:"done,omitempty"`
	// resources that the plan expects, for progress
	Planned int64            `json:"planned,omitempty"`
	Counts  map[string]int64 `json:"counts,omitempty"`
	// by reason, never by name (DESIGN section 4)
	Withheld map[string]int64 `json:"withheld,omitempty"`
	Bytes    int64            `json:"bytes,omitempty"`
	// bytes of outputs in the file store: fewer than Bytes where they are compressed
	Stored int64 `json:"stored,omitempty"`
	// resources that could not be exported (BULK-6)
	Errors int64 `json:"errors,omitempty"`
	// Files is how many files the committed tasks have. An older build counts none.
	Files       int          `json:"files,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Error       string       `json:"error,omitempty"` // why it failed, for people
	// Starts counts the start commands published for the job, so that a republished one is no
	// duplicate to JetStream.
	Starts int `json:"starts,omitempty"`
	// Absent are those of KickOff.Patients, by their places, that were not in the population
	// when it was planned. An older build loses them.
	Absent Bits `json:"absent,omitempty"`
	// Trace is the traceparent of the kick-off, below which all that is done for the job is
	// traced; "" where it is not. An older build loses it, and nothing else, so that it is no
	// new layout.
	Trace string `json:"trace,omitempty"`
	// Faults are what the client has ordered to go wrong; none but in the sandbox. An older
	// build loses them.
	Faults []Fault `json:"faults,omitempty"`
	// Records are those that the export is made from: as they were at the kick-off until it is
	// planned, and then those of the plan, of which every task is. There are none in a job of
	// version 4 and before.
	Records Records `json:"records,omitzero"`
	// Rules stands for what an operator has configured of the rules of release when the export
	// was asked for, by its form where it has one: no task goes by others. "" in a job of
	// version 4 and before.
	Rules string `json:"rules,omitempty"`
	// Attempts are those of its tasks that may have left files though the records that counted
	// them are lost (see Remake): the next attempt of each task is a later one, and those files
	// go with the job. An older build loses it.
	Attempts int `json:"attempts,omitempty"`
	// Plans counts the attempts to plan a population's export since the last one that succeeded.
	Plans int `json:"plans,omitempty"`
}

// Attachment is a document that an administrator added (EHI-11). Name is unique within its job
// and is the only key by which it can be asked for.
type Attachment struct {
	Name        string    `json:"name"`
	Object      string    `json:"obj"` // the file store's own name of it
	ContentType string    `json:"contentType"`
	Size        int64     `json:"size"`
	SHA1        []byte    `json:"sha1"` // Attachment.hash of FHIR R4 is the SHA-1 of the bytes
	CreatedAt   time.Time `json:"created"`
}

// SetStatus moves the job along the transition table.
//
// Errors: Conflict, with the present state named, where the table has no such step; the job is
// unchanged then.
func (j *Job) SetStatus(next Status) error {
	if !j.Status.CanBecome(next) {
		return Errorf(Conflict, "Cannot move an export in %q state to %q", j.Status, next)
	}
	j.Status = next
	return nil
}

// Submit stores the patient's choices and requests the export.
//
// Errors: Conflict with the wording that existing clients read (EHI-7), where the form is no
// longer open.
func (j *Job) Submit(form ReleaseForm, by string, now time.Time) error {
	if !j.WithForm || j.Status != AwaitingInput {
		return Errorf(Conflict, "Exports job already customized")
	}
	j.Form, j.RequestedBy, j.RequestedAt = &form, by, now
	j.Starts = 1
	return j.SetStatus(Requested)
}

// Plan records into how many tasks a population was divided, and of which records. Errors:
// Conflict in any state but requested, and where the job has been planned.
func (j *Job) Plan(tasks int, resources int64, transactionTime time.Time, of Records) error {
	if j.Status != Requested || j.Tasks > 0 {
		return Errorf(Conflict, "Cannot plan an export in %q state with %d tasks", j.Status,
			j.Tasks)
	}
	j.Tasks, j.Planned, j.TransactionTime, j.Records, j.Plans =
		tasks, resources, transactionTime, of, 0
	return nil
}

// NoteAbsent notes which of the patients that were asked for are not in the population.
func (j *Job) NoteAbsent(ids []string) {
	j.Absent = nil
	for i, id := range j.KickOff.Patients {
		if slices.Contains(ids, id) {
			j.Absent = j.Absent.With(i)
		}
	}
}

// AbsentPatients are the patients that were asked for and are not in the population.
func (j *Job) AbsentPatients() (ids []string) {
	for i, id := range j.KickOff.Patients {
		if j.Absent.Has(i) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Complete records the result of one committed task. Where it was the last one the job is ready
// for review, or approved at once where no review was asked for; fileTTL is how long approved
// files are kept. Errors: Conflict where the job is not running, or the task is counted already;
// the job is unchanged then.
func (j *Job) Complete(t Task, now time.Time, fileTTL time.Duration) error {
	if j.Status != Requested || t.Number >= j.Tasks || j.Done.Has(t.Number) {
		return Errorf(Conflict, "Cannot count task %d of an export in %q state", t.Number, j.Status)
	}
	if j.count(t); j.Level == OnePatient && t.Records != (Records{}) {
		j.Records = t.Records
	}
	if j.Done.Count() < j.Tasks {
		return nil
	}
	next := Retrieved
	if j.AutoApprove {
		next = Approved
		j.ApprovedAt, j.ExpiresAt = now, now.Add(fileTTL)
	}
	j.CompletedAt = now
	return j.SetStatus(next)
}

// count adds a task's figures up. Maps are replaced: readers share the old ones.
func (j *Job) count(t Task) {
	j.Done = j.Done.With(t.Number)
	counts, withheld := maps.Clone(j.Counts), maps.Clone(j.Withheld)
	if counts == nil {
		counts = map[string]int64{}
	}
	if withheld == nil && len(t.Withheld) > 0 {
		withheld = map[string]int64{}
	}
	j.Files += len(t.Files)
	for _, f := range t.Files {
		j.Bytes += f.Bytes
		j.Stored += f.Length
		if f.Error {
			j.Errors += f.Count
			continue
		}
		counts[f.Type] += f.Count
	}
	for reason, n := range t.Withheld {
		withheld[reason] += n
	}
	j.Counts, j.Withheld = counts, withheld
	if j.TransactionTime.IsZero() {
		j.TransactionTime = t.TransactionTime
	}
}

// Whole reports whether the records of these tasks are all that the job has counted.
func (j *Job) Whole(committed []Task) bool {
	var done Bits
	for _, t := range committed {
		done = done.With(t.Number)
	}
	for n := range j.Tasks {
		if j.Done.Has(n) && !done.Has(n) {
			return false
		}
	}
	return true
}

// Remake requests the export again because the records of some of its tasks were lost, by a loss
// of power, and nobody can tell its files from garbage. kept are its tasks whose records are
// there, and attempts those that may have left files. It is the one step that leads back in the
// state machine. What was approved was approved as it was: a review begins anew. Errors:
// Conflict where nothing was exported, or the files are not wanted any more.
func (j *Job) Remake(kept []Task, attempts int) error {
	if j.Status != Requested && j.Status != Retrieved && j.Status != Approved {
		return Errorf(Conflict, "Cannot make an export in %q state anew", j.Status)
	}
	j.Status = Requested
	j.CompletedAt, j.ApprovedAt, j.DecidedBy, j.Reason = time.Time{}, time.Time{}, "", ""
	j.unapprove()
	j.Done, j.Counts, j.Withheld = nil, nil, nil
	j.Bytes, j.Stored, j.Errors, j.Files = 0, 0, 0, 0
	if j.Level == OnePatient { // a population's is its plan's
		j.TransactionTime = time.Time{}
	}
	for _, t := range kept {
		j.count(t)
	}
	j.Attempts = max(j.Attempts, attempts, 1) // never 0: by this it is seen that it was made anew
	j.Plans = 0
	j.Starts++
	return nil
}

// Approve releases the files to the client until fileTTL has passed. Errors: Conflict in any
// state but retrieved.
func (j *Job) Approve(by string, now time.Time, fileTTL time.Duration) error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot approve export in %q state", j.Status)
	}
	j.DecidedBy, j.ApprovedAt, j.ExpiresAt = by, now, now.Add(fileTTL)
	return j.SetStatus(Approved)
}

// Contents is a digest of what an approval releases: whose record, what was asked for and
// chosen, the committed files and the documents beside them. A committed file never changes (see
// Task), so that their counts stand for them.
func (j *Job) Contents() string {
	data, err := json.Marshal([]any{
		j.ID, j.Patient.ID, j.Level, j.Group, j.KickOff, j.Form, j.RequestedBy,
		j.Tasks, j.Done, j.TransactionTime, j.Files, j.Counts, j.Bytes, j.Stored, j.Errors,
		j.Withheld,
		j.Attachments,
	})
	if err != nil { // strings, numbers and times only: cannot fail
		panic(err)
	}
	sum := sha256.Sum256(data)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Stands reports whether an administrator who has approved may approve still: name is his, as is of
// ApprovedAs.
type Stands func(name, as string) bool

// Approvers are the administrators who approved the export as it is now, and may approve still.
func (j *Job) Approvers(stands Stands) []string {
	if j.Status != Retrieved {
		return j.Approvals
	}
	names, _ := j.standing(stands)
	return names
}

func (j *Job) standing(stands Stands) (names, as []string) {
	if len(j.Approvals) != len(j.ApprovedAs) || j.Approved != j.Contents() {
		return nil, nil
	}
	for i, name := range j.Approvals {
		if stands(name, j.ApprovedAs[i]) {
			names, as = append(names, name), append(as, j.ApprovedAs[i])
		}
	}
	return names, as
}

// Unchanged holds a decision to what was looked at: contents is the digest of that, "" where it
// is not told. Errors: Conflict where the export has changed since.
func (j *Job) Unchanged(contents string) error {
	if contents != "" && contents != j.Contents() {
		return Errorf(Conflict,
			"The export has changed since you looked at it. Look at it again, then decide")
	}
	return nil
}

// ApproveByTwo is Approve where it takes two administrators: the first one's approval is noted,
// the second one's releases the files. An approval is of the export as it is, by somebody who
// may approve: after a change of either it has to be given again. seen is the digest of what he
// has looked at, see Contents. Errors: Conflict in any state but retrieved, where the same one
// comes again, and where seen is of another state; Invalid where it is not said.
func (j *Job) ApproveByTwo(
	seen, by, as string, stands Stands, now time.Time, fileTTL time.Duration,
) error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot approve export in %q state", j.Status)
	}
	if seen == "" {
		return Errorf(Invalid,
			`An approval by two has to say what was looked at: send the "contents" that the `+
				`export is shown with`)
	}
	if err := j.Unchanged(seen); err != nil {
		return err
	}
	names, marks := j.standing(stands)
	if slices.Contains(names, by) {
		return Errorf(Conflict, "A second administrator has to approve this export")
	}
	j.Approvals, j.ApprovedAs, j.Approved = append(names, by), append(marks, as), j.Contents()
	if len(j.Approvals) < 2 {
		return nil
	}
	return j.Approve(strings.Join(j.Approvals, ", "), now, fileTTL)
}

// Reject closes the job without a release. Errors: Conflict in any state but retrieved.
func (j *Job) Reject(by string, now time.Time) error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot reject export in %q state", j.Status)
	}
	j.DecidedBy, j.CompletedAt = by, now
	return j.SetStatus(Rejected)
}

// Fail ends the job with a reason for people to read.
func (j *Job) Fail(reason string, now time.Time) error {
	if err := j.SetStatus(Failed); err != nil {
		return err
	}
	j.Error, j.CompletedAt = reason, now
	return nil
}

// maxReason bounds the reason of a decision, in characters, so that a job's record stays small.
const maxReason = 500

// Explain notes why somebody decides as he does. Errors: Invalid where that is too long.
func (j *Job) Explain(reason string) error {
	reason = strings.Join(strings.Fields(reason), " ")
	if utf8.RuneCountInString(reason) > maxReason {
		return Errorf(Invalid, "The reason is longer than %d characters", maxReason)
	}
	if reason != "" {
		j.Reason = reason
	}
	return nil
}

// CanDetach tells whether documents may be removed. Errors: Conflict, in the reference's wording.
func (j *Job) CanDetach() error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot remove attachments from export in %q state", j.Status)
	}
	return nil
}

// CanAttach tells whether documents may be added. Errors: Conflict, in the wording of EHI-11.
func (j *Job) CanAttach() error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot add attachments to export in %q state", j.Status)
	}
	return nil
}

// MaxAttachments bounds the documents of one job, so that its record stays small.
const MaxAttachments = 100

// Attach adds documents. Errors: Conflict, as CanAttach; Invalid where they are too many
// together; Transient where another one has such a name, by NameKey. Whoever has approved has to
// approve anew.
func (j *Job) Attach(added ...Attachment) error {
	if err := j.CanAttach(); err != nil {
		return err
	}
	if len(j.Attachments)+len(added) > MaxAttachments {
		return Errorf(Invalid, "At most %d attachments an export can be added", MaxAttachments)
	}
	taken := map[string]bool{}
	for _, a := range j.Attachments {
		taken[NameKey(a.Name)] = true
	}
	for _, a := range added {
		key := NameKey(a.Name)
		if taken[key] {
			return Errorf(Transient, "Another upload took the name %q; try again", a.Name)
		}
		taken[key] = true
	}
	j.Attachments = append(slices.Clip(j.Attachments), added...)
	j.unapprove()
	return nil
}

// Detach removes documents by their exact names. removed are the objects that nothing refers to any
// more. Errors: Conflict, as CanDetach; NotFound where there is no such document.
func (j *Job) Detach(names ...string) (removed []string, err error) {
	if err := j.CanDetach(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, ok := j.Attachment(name); !ok {
			return nil, Errorf(NotFound, "There is no attachment %q", name)
		}
	}
	var kept []Attachment
	for _, a := range j.Attachments {
		if slices.Contains(names, a.Name) {
			removed = append(removed, a.Object)
		} else {
			kept = append(kept, a)
		}
	}
	j.Attachments = kept
	j.unapprove()
	return removed, nil
}

// unapprove forgets who has approved: what the documents were once is not what they are now,
// even where a second change has undone the first one.
func (j *Job) unapprove() { j.Approvals, j.ApprovedAs, j.Approved = nil, nil, "" }

// NameKey is the same for names of documents that some file system holds to be one: of another
// case, of another form of its letters, or with what is not seen, such as joiners.
func NameKey(name string) string {
	seen := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cf, unicode.Variation_Selector,
			unicode.Other_Default_Ignorable_Code_Point) {
			return -1
		}
		return r
	}, name)
	return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(seen)))
}

// Attachment finds a document by its exact name.
func (j *Job) Attachment(name string) (Attachment, bool) {
	for _, a := range j.Attachments {
		if a.Name == name {
			return a, true
		}
	}
	return Attachment{}, false
}

// StoredBytes is how much the file store keeps of the job, attachments included.
func (j *Job) StoredBytes() int64 {
	n := j.Stored
	for _, a := range j.Attachments {
		n += a.Size
	}
	return n
}

// IsOf reports whether it is a patient's export. Nobody ("") has any, also not that of many
// patients.
func (j *Job) IsOf(patient string) bool { return patient != "" && j.Patient.ID == patient }

// Expired reports whether the job's time is up at now.
func (j *Job) Expired(now time.Time) bool {
	return !j.ExpiresAt.IsZero() && !now.Before(j.ExpiresAt)
}
