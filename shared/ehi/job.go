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
//	6: File.Kind, Task.Links
//	7: DataIndex, DataPack, Job.Data
const RecordVersion = 7

// Lane is a queue of jobs. Short interactive jobs and long bulk jobs have one each, so that
// neither starves the other.
type Lane string

const (
	// Interactive is the lane of single-patient exports.
	Interactive Lane = "interactive"
	// Bulk is the lane of population exports.
	Bulk Lane = "bulk"
)

// Lanes lists the lanes.
func Lanes() []Lane { return []Lane{Interactive, Bulk} }

// Patient identifies the patient whose record a job exports.
type Patient struct {
	ID   string `json:"id"`
	Name string `json:"name"` // display name, may be empty
}

// Level is the scope of an export: one patient's record or a population's (Bulk Data Access
// 3.0.0, "Operations").
type Level string

const (
	// OnePatient exports the record of Job.Patient.
	OnePatient Level = ""
	// AllPatients exports the records of all patients and the resources that they reference.
	AllPatients Level = "patients"
	// OneGroup exports the records of the members of Job.Group and the resources that they
	// reference.
	OneGroup Level = "group"
	// System exports everything that the server holds.
	System Level = "system"
)

// Kind returns the level's name in metrics: patient, patients, group or system.
func (l Level) Kind() string {
	if l == OnePatient {
		return "patient"
	}
	return string(l)
}

// LogLevel returns the level at which events of such a job are logged. Exports of populations
// are few; those of single patients may be thousands a second.
func (l Level) LogLevel() slog.Level {
	if l == OnePatient {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Operation is the operation that requested a population's export. It decides the form of the
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

// Job is one export request and its whole state except the file tables (see Task). It is one KV
// record of about 1 KiB. Every change is one compare-and-set.
type Job struct {
	Version   int       `json:"v"`
	ID        string    `json:"id"`      // URL-safe (REAL-11)
	Patient   Patient   `json:"patient"` // empty for a population
	Level     Level     `json:"level,omitempty"`
	Group     string    `json:"group,omitempty"` // for OneGroup only
	Operation Operation `json:"op,omitempty"`
	ClientID  string    `json:"client"` // the OAuth client that kicked off
	// ByService reports whether a backend service kicked the job off, rather than a patient's
	// application.
	ByService bool `json:"service,omitempty"`
	// Grant is the patient's authorization under which the application kicked the job off; ""
	// for a backend service. An older build drops the field, and a withdrawal then does not end
	// the job.
	Grant string `json:"grant,omitempty"`
	// ClientMade is when ClientID was registered. A client that is registered again under the
	// same ID has another time. It is zero for clients of the sandbox. An older build drops the
	// field and compares the seconds of CreatedAt instead.
	ClientMade  time.Time `json:"clientMade,omitzero"`
	Lane        Lane      `json:"lane"`
	Status      Status    `json:"status"`
	WithForm    bool      `json:"form,omitempty"` // false below /no-form (EHI-1)
	AutoApprove bool      `json:"auto,omitempty"` // true below /auto-approve (EHI-1)
	BareLink    bool      `json:"bareLink,omitempty"`
	// SeparateStatus reports whether the client sent "Prefer: separate-export-status" of the
	// 4.0.0 ballot. A status request then answers 200 and reports the status in X-Export-Status
	// (BULK-7).
	SeparateStatus bool `json:"separate,omitempty"`

	// Request is the kick-off URL as the client sent it. The manifest repeats it (EHI-5).
	Request string  `json:"request"`
	KickOff KickOff `json:"kickOff,omitzero"`
	// Form is nil until the form is submitted, and always nil for a job without a form.
	Form *ReleaseForm `json:"choices,omitempty"`

	CreatedAt time.Time `json:"created"`
	// RequestedAt is when the form was submitted, or when a job without a form was created.
	RequestedAt time.Time `json:"requested,omitzero"`
	// RequestedBy is who submitted the form: "patient" or "client".
	RequestedBy string `json:"requestedBy,omitempty"`
	// TransactionTime is the instant as of which the data was read (EHI-5).
	TransactionTime time.Time `json:"transactionTime,omitzero"`
	CompletedAt     time.Time `json:"completed,omitzero"` // retrieved, failed, or rejected
	ApprovedAt      time.Time `json:"approved,omitzero"`
	// DecidedBy is the administrator who approved or rejected the job.
	DecidedBy string `json:"decidedBy,omitempty"`
	// Reason is the decision's reason, which the patient reads. An older build drops it.
	Reason string `json:"reason,omitempty"`
	// Approvals are the administrators who approved, where two must approve (four eyes). An
	// older build drops them and asks for them again.
	Approvals []string `json:"approvals,omitempty"`
	// Approved is the digest of the export that Approvals are for (see Contents). The approvals
	// are void if the export's digest differs. An older build drops it together with the
	// approvals.
	Approved string `json:"approvedContents,omitempty"`
	// ApprovedAs holds the account mark of each entry of Approvals. An approval is void once
	// that account may no longer approve. An older build drops it together with the approvals.
	ApprovedAs []string  `json:"approvedAs,omitempty"`
	ExpiresAt  time.Time `json:"expires,omitzero"` // the job and its files go after this (EHI-17)

	// Tasks is the number of planned tasks, numbered from 0. It is 0 until a population is
	// planned.
	Tasks int `json:"tasks,omitempty"`
	// Done is the set of tasks that are committed and counted here.
	Done Bits `json:"done,omitempty"`
	// Planned is how many resources the plan expects; used for progress.
	Planned int64            `json:"planned,omitempty"`
	Counts  map[string]int64 `json:"counts,omitempty"`
	// Withheld counts withheld resources by reason, never by name.
	Withheld map[string]int64 `json:"withheld,omitempty"`
	// Documents is the number of EHIDocumentReferences of native content: documents, tables and
	// archives. An older build drops it.
	Documents int64 `json:"documents,omitempty"`
	// Data is the number of files with data of attachments that the export's resources name.
	Data int64 `json:"data,omitempty"`
	// Held is the number of documents and tables that fall under no line of the form. They wait
	// for the decision of an administrator (NAT-4). Freed marks those that are released, by
	// their position in the list. An older build drops both, and releases none of them.
	Held  int64 `json:"held,omitempty"`
	Freed Bits  `json:"freed,omitempty"`
	// Beside is the number of files that are released together with those of Freed (HeldBeside).
	// An older build drops it.
	Beside int64 `json:"beside,omitempty"`
	Bytes  int64 `json:"bytes,omitempty"`
	// Stored is the size of the outputs in the file store, in bytes. It is smaller than Bytes if
	// the files are compressed.
	Stored int64 `json:"stored,omitempty"`
	// Errors counts resources that could not be exported (BULK-6).
	Errors int64 `json:"errors,omitempty"`
	// Files is the number of files of the committed tasks. An older build does not count them.
	Files       int          `json:"files,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Error       string       `json:"error,omitempty"` // why the job failed, for people
	// Starts counts the start commands of the job. It makes a repeated command differ from the
	// first, so that JetStream does not drop it as a duplicate.
	Starts int `json:"starts,omitempty"`
	// Absent marks the entries of KickOff.Patients that were not in the population when it was
	// planned. An older build drops it.
	Absent Bits `json:"absent,omitempty"`
	// Trace is the traceparent of the kick-off, the parent of all spans of the job; "" if the
	// kick-off is not traced. An older build drops it, which loses nothing else, so
	// RecordVersion does not count it.
	Trace string `json:"trace,omitempty"`
	// Faults are the failures that the client asked for, in the sandbox only. An older build
	// drops them.
	Faults []Fault `json:"faults,omitempty"`
	// Records identifies the records that are exported: those at the kick-off until the job is
	// planned, then those of the plan, which every task uses. It is zero in records of version 4
	// and before.
	Records Records `json:"records,omitzero"`
	// Rules identifies the operator's release rules when the export was requested, which is when
	// the form was submitted if there is one. No task applies other rules. It is "" in records
	// of version 4 and before.
	Rules string `json:"rules,omitempty"`
	// Attempts is the highest attempt of any task that may have left files although its record
	// is lost (see Remake). The next attempt of each task is higher, and the job's deletion
	// covers those files. An older build drops it.
	Attempts int `json:"attempts,omitempty"`
	// Plans counts the attempts to plan a population's export since the last success.
	Plans int `json:"plans,omitempty"`
}

// Attachment is a document that an administrator added (EHI-11). Name is unique within its job
// and is the only key of the document.
type Attachment struct {
	Name        string    `json:"name"`
	Object      string    `json:"obj"` // the name in the file store
	ContentType string    `json:"contentType"`
	Size        int64     `json:"size"`
	SHA1        []byte    `json:"sha1"` // FHIR R4 defines Attachment.hash as the SHA-1 of the bytes
	CreatedAt   time.Time `json:"created"`
}

// SetStatus moves the job to another status of the transition table. If the table has no such
// step, it returns Conflict with the current status and leaves the job unchanged.
func (j *Job) SetStatus(next Status) error {
	if !j.Status.CanBecome(next) {
		return Errorf(Conflict, "Cannot move an export in %q state to %q", j.Status, next)
	}
	j.Status = next
	return nil
}

// Submit stores the patient's choices and requests the export. If the form is no longer open, it
// returns Conflict with the wording that existing clients expect (EHI-7).
func (j *Job) Submit(form ReleaseForm, by string, now time.Time) error {
	if !j.WithForm || j.Status != AwaitingInput {
		return Errorf(Conflict, "Exports job already customized")
	}
	j.Form, j.RequestedBy, j.RequestedAt = &form, by, now
	j.Starts = 1
	return j.SetStatus(Requested)
}

// Plan records how many tasks a population has, and which records they read. It returns Conflict
// unless the job is requested and has no plan yet.
func (j *Job) Plan(tasks int, resources int64, transactionTime time.Time, of Records) error {
	if j.Status != Requested || j.Tasks > 0 {
		return Errorf(Conflict, "Cannot plan an export in %q state with %d tasks", j.Status,
			j.Tasks)
	}
	j.Tasks, j.Planned, j.TransactionTime, j.Records, j.Plans =
		tasks, resources, transactionTime, of, 0
	return nil
}

// NoteAbsent records which of the requested patients are not in the population.
func (j *Job) NoteAbsent(ids []string) {
	j.Absent = nil
	for i, id := range j.KickOff.Patients {
		if slices.Contains(ids, id) {
			j.Absent = j.Absent.With(i)
		}
	}
}

// AbsentPatients returns the requested patients that are not in the population.
func (j *Job) AbsentPatients() (ids []string) {
	for i, id := range j.KickOff.Patients {
		if j.Absent.Has(i) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Complete records the result of a committed task. After the last task the job is ready for
// review, or approved if no review is required and nothing waits for a decision (NAT-4); fileTTL
// is how long approved files are kept. It returns Conflict, and leaves the job unchanged, if the
// job is not running or has counted the task already.
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
	if j.AutoApprove && j.Held == 0 {
		next = Approved
		j.ApprovedAt, j.ExpiresAt = now, now.Add(fileTTL)
	}
	j.CompletedAt = now
	return j.SetStatus(next)
}

// count adds the figures of a task. It replaces maps instead of changing them, because readers
// share the old ones.
func (j *Job) count(t Task) {
	j.Done = j.Done.With(t.Number)
	counts, withheld := maps.Clone(j.Counts), maps.Clone(j.Withheld)
	if counts == nil {
		counts = map[string]int64{}
	}
	if withheld == nil && len(t.Withheld) > 0 {
		withheld = map[string]int64{}
	}
	for _, f := range t.Files {
		// applications learn this figure
		if f.Kind != Index && f.Kind != DataIndex && !f.Kind.held() {
			j.Bytes += f.Bytes
		}
		j.Stored += f.Length
		if !f.Kind.Hidden() {
			j.Files++
		}
		switch {
		case f.Error:
			j.Errors += f.Count
		case f.Kind == Documents:
			j.Documents += f.Count
		case f.Kind == HeldDocuments:
			j.Held += f.Count
		case f.Kind == DataIndex:
			j.Data += f.Count
		case f.Kind == "":
			counts[f.Type] += f.Count
		}
	}
	j.Bytes += t.LinkBytes
	for reason, n := range t.Withheld {
		withheld[reason] += n
	}
	j.Counts, j.Withheld = counts, withheld
	if j.TransactionTime.IsZero() {
		j.TransactionTime = t.TransactionTime
	}
}

// Whole reports whether the given task records are all that the job has counted.
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

// Remake requests the export again after a power loss destroyed the records of some of its
// tasks: without them, its files cannot be told from garbage. kept are the tasks whose records
// exist, and attempts is the highest attempt that may have left files. Remake is the only step
// back in the state machine; the review starts again. It returns Conflict if nothing was
// exported or if the files are no longer wanted.
func (j *Job) Remake(kept []Task, attempts int) error {
	if j.Status != Requested && j.Status != Retrieved && j.Status != Approved {
		return Errorf(Conflict, "Cannot make an export in %q state anew", j.Status)
	}
	j.Status = Requested
	j.CompletedAt, j.ApprovedAt, j.DecidedBy, j.Reason = time.Time{}, time.Time{}, "", ""
	j.unapprove()
	j.Done, j.Counts, j.Withheld = nil, nil, nil
	j.Bytes, j.Stored, j.Errors, j.Files, j.Documents, j.Held = 0, 0, 0, 0, 0, 0
	j.Freed, j.Beside = nil, 0
	if j.Level == OnePatient { // a population keeps the number of its plan
		j.TransactionTime = time.Time{}
	}
	for _, t := range kept {
		j.count(t)
	}
	j.Attempts = max(j.Attempts, attempts, 1) // never 0: a positive number marks the job as remade
	j.Plans = 0
	j.Starts++
	return nil
}

// Approve releases the files to the client until fileTTL has passed. It returns Conflict unless
// the job is retrieved.
func (j *Job) Approve(by string, now time.Time, fileTTL time.Duration) error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot approve export in %q state", j.Status)
	}
	j.DecidedBy, j.ApprovedAt, j.ExpiresAt = by, now, now.Add(fileTTL)
	return j.SetStatus(Approved)
}

// Contents returns a digest of what an approval releases: the patient, the request and the
// choices, the committed files and the attachments. A committed file never changes (see Task),
// so the counts stand for the files.
func (j *Job) Contents() string {
	data, err := json.Marshal(append([]any{
		j.ID, j.Patient.ID, j.Level, j.Group, j.KickOff, j.Form, j.RequestedBy,
		j.Tasks, j.Done, j.TransactionTime, j.Files, j.Counts, j.Bytes, j.Stored, j.Errors,
		j.Withheld,
		j.Attachments,
	}, j.freed()...))
	if err != nil { // cannot fail: only strings, numbers and times
		panic(err)
	}
	sum := sha256.Sum256(data)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// freed returns what Contents covers besides; nothing if nothing was released that waited, as in
// records of version 5 and before.
func (j *Job) freed() []any {
	if j.Freed.Count() == 0 {
		return nil
	}
	return []any{j.Freed}
}

// MayApprove reports whether the administrator name, whose account mark is as, may still approve.
type MayApprove func(name, as string) bool

// Approvers returns the administrators who approved the export in its current state and may
// still approve.
func (j *Job) Approvers(mayApprove MayApprove) []string {
	if j.Status != Retrieved {
		return j.Approvals
	}
	names, _ := j.standing(mayApprove)
	return names
}

func (j *Job) standing(mayApprove MayApprove) (names, as []string) {
	if len(j.Approvals) != len(j.ApprovedAs) || j.Approved != j.Contents() {
		return nil, nil
	}
	for i, name := range j.Approvals {
		if mayApprove(name, j.ApprovedAs[i]) {
			names, as = append(names, name), append(as, j.ApprovedAs[i])
		}
	}
	return names, as
}

// Unchanged checks that a decision is about the current export. contents is the digest that the
// administrator saw; "" skips the check. It returns Conflict if the export has changed.
func (j *Job) Unchanged(contents string) error {
	if contents != "" && contents != j.Contents() {
		return Errorf(Conflict,
			"The export has changed since you looked at it. Look at it again, then decide")
	}
	return nil
}

// ApproveByTwo is Approve where two administrators must approve: it notes the first approval,
// and the second one releases the files. An approval counts only for the current contents and
// only while its administrator may approve. seen is the digest that he saw (see Contents). It
// returns Conflict unless the job is retrieved, if the same administrator approves twice, or if
// seen is out of date, and Invalid if seen is empty.
func (j *Job) ApproveByTwo(
	seen, by, as string, mayApprove MayApprove, now time.Time, fileTTL time.Duration,
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
	names, marks := j.standing(mayApprove)
	if slices.Contains(names, by) {
		return Errorf(Conflict, "A second administrator has to approve this export")
	}
	j.Approvals, j.ApprovedAs, j.Approved = append(names, by), append(marks, as), j.Contents()
	if len(j.Approvals) < 2 {
		return nil
	}
	return j.Approve(strings.Join(j.Approvals, ", "), now, fileTTL)
}

// Reject closes the job without a release. It returns Conflict unless the job is retrieved.
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

// maxReason is the longest reason of a decision, in characters. It keeps the job's record small.
const maxReason = 500

// Explain sets the reason of a decision. It returns Invalid if the reason is too long.
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

// CanDecideHeld checks that administrators may still decide about what falls under no line of the
// form. It returns Conflict if not.
func (j *Job) CanDecideHeld() error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot decide about documents of an export in %q state", j.Status)
	}
	return nil
}

// DecideHeld releases documents and tables that wait for a decision, or withdraws the release, by
// their numbers. It returns Conflict unless the job is retrieved, or if it has no such number.
func (j *Job) DecideHeld(release bool, numbers ...int) error {
	if err := j.CanDecideHeld(); err != nil {
		return err
	}
	for _, n := range numbers {
		if n < 0 || int64(n) >= j.Held {
			return Errorf(Conflict, "The export has changed since you looked at it")
		}
	}
	freed := j.Freed.Without(numbers...)
	if release {
		freed = j.Freed.With(numbers...)
	}
	if !slices.Equal(freed, j.Freed) {
		j.unapprove()
	}
	j.Freed = freed
	return nil
}

// Waiting returns how many documents and tables wait for a decision: those that fall under no line
// of the form and are not released.
func (j *Job) Waiting() int64 { return j.Held - int64(j.Freed.Count()) }

// Unclassified is the reason in Job.Withheld for documents and tables that fall under no line of
// the form (NAT-4).
const Unclassified = "unclassified"

// StillWithheld returns Withheld after the decisions of administrators. Those count files: of
// Unclassified, only what still waits is left.
func (j *Job) StillWithheld() map[string]int64 {
	if j.Held == 0 {
		return j.Withheld
	}
	out := map[string]int64{}
	maps.Copy(out, j.Withheld)
	delete(out, Unclassified)
	if n := j.Waiting(); n > 0 {
		out[Unclassified] = n
	}
	return out
}

// CanDetach returns Conflict, in the wording of the reference implementation, if documents may
// not be removed.
func (j *Job) CanDetach() error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot remove attachments from export in %q state", j.Status)
	}
	return nil
}

// CanAttach returns Conflict, in the wording of EHI-11, if documents may not be added.
func (j *Job) CanAttach() error {
	if j.Status != Retrieved {
		return Errorf(Conflict, "Cannot add attachments to export in %q state", j.Status)
	}
	return nil
}

// MaxAttachments is the largest number of documents of a job. It keeps the job's record small.
const MaxAttachments = 100

// Attach adds documents and voids all approvals. It returns Conflict as CanAttach does, Invalid
// if there would be too many documents, and Transient if a document has the same name by
// NameKey.
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

// Detach removes documents by their exact names and returns the objects that are no longer
// referenced. It returns Conflict as CanDetach does, and NotFound if there is no such document.
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

// unapprove drops all approvals. A change voids them even if a second change undoes the first.
func (j *Job) unapprove() { j.Approvals, j.ApprovedAs, j.Approved = nil, nil, "" }

// NameKey returns the same key for names that some file system treats as equal: those that
// differ in case, in Unicode normalization or in invisible characters such as joiners.
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

// StoredBytes returns how many bytes of the file store the job uses, attachments included.
func (j *Job) StoredBytes() int64 {
	n := j.Stored
	for _, a := range j.Attachments {
		n += a.Size
	}
	return n
}

// IsOf reports whether the job exports the record of patient. It is false for "", also for a
// population's job.
func (j *Job) IsOf(patient string) bool { return patient != "" && j.Patient.ID == patient }

// Expired reports whether the job has expired at now.
func (j *Job) Expired(now time.Time) bool {
	return !j.ExpiresAt.IsZero() && !now.Before(j.ExpiresAt)
}
