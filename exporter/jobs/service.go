// Package jobs implements the use cases of exports, for every actor and protocol: kick off, send
// the form, review, read files, delete.
//
// The methods of Service take the Actor who acts. They are the only place that checks the
// actor's permission, changes the job's record, writes the audit trail, counts metrics and logs.
// Callers decode a request and encode the response; they do not change jobs.
//
// Finding a job and acting on it are two steps. Find, FindOwn and Record return a job that the
// caller may see. A job of somebody else is reported like one that does not exist. The other
// methods act on the job that was found.
package jobs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"ehi-server/exporter/release"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/kv"
	"ehi-server/shared/tracing"
)

// Flags are what an operator decides about exports.
type Flags struct {
	// FourEyes asks for the approval of two administrators before files are released.
	FourEyes bool `name:"four-eyes" help:"Require the approval of two administrators for each export." env:"EHI_FOUR_EYES"`
	// JobTTL is how long a job may take until it is approved (EHI-17).
	JobTTL time.Duration `name:"job-ttl" help:"Time from the kick-off to the approval after which a job expires." default:"168h" env:"EHI_JOB_TTL" range:"1s..87600h"`
	// ClientJobs and ClientBulkJobs limit how many exports of patients and of populations a
	// client may have running (BULK-4).
	ClientJobs     int `name:"client-jobs" help:"Limit for unfinished exports of single patients per client. Further kick-offs get 429." default:"50000" env:"EHI_CLIENT_JOBS" range:"1.."`
	ClientBulkJobs int `name:"client-bulk-jobs" help:"Limit for unfinished exports of populations per client. Further kick-offs get 429." default:"20" env:"EHI_CLIENT_BULK_JOBS" range:"1.."`
	// MinFreeBytes is the space on the exports' disk below which kick-offs are refused.
	MinFreeBytes int64 `name:"min-free-bytes" help:"Free bytes on the disk of the export files below which kick-offs get 503 and the server is not ready." default:"268435456" env:"EHI_MIN_FREE_BYTES" range:"0.."`
	// MaxExportBytes is how much may be stored of exports before kick-offs are refused; 0 sets
	// no limit.
	MaxExportBytes int64 `name:"max-export-bytes" help:"Limit for all stored exports, in bytes. At the limit, kick-offs get 503. 0: no limit." default:"0" env:"EHI_MAX_EXPORT_BYTES" range:"0.."`
	// Compression is how the files of exports are stored whose kick-off does not say.
	Compression ehi.Compression `name:"compression" help:"Compression of export files, unless the kick-off has a _compression parameter: identity (none), gzip or zstd." enum:"identity,gzip,zstd" default:"identity" env:"EHI_COMPRESSION"`
	// AttachmentBytes limits one attachment, AttachmentsPerCall the attachments of one upload
	// (EHI-11).
	AttachmentBytes    int64 `name:"attachment-bytes" help:"Maximum size of an attachment in bytes." default:"10000000" env:"EHI_ATTACHMENT_BYTES" range:"1..1073741824"`
	AttachmentsPerCall int   `name:"attachments-per-call" help:"Maximum number of attachments in one upload." default:"10" env:"EHI_ATTACHMENTS_PER_CALL" range:"1..1000"`
}

// Config configures a Service.
type Config struct {
	Flags
	// Quotas limit what clients have, and what is done for patients.
	Quotas Quotas
	// Sandbox lets every client skip the form and the review.
	Sandbox bool
	// FileTTL is how long approved files are kept (EHI-17, ehi.Limits).
	FileTTL time.Duration
}

// Source is what this package needs of the records (source.Source).
type Source interface {
	Patient(ctx context.Context, id string) (ehi.Patient, error)
	Group(ctx context.Context, id string) ([]byte, error)
	Size(ctx context.Context, patients []string, native bool) (int64, error)
	Open(ctx context.Context, patient string) (source.Record, error)
	Records() ehi.Records
}

// Files is what this package needs of the export files (files.Store).
type Files interface {
	recallNotes
	// Open opens a file or document. Errors: fs.ErrNotExist, files.ErrDamaged.
	Open(job string, e files.Extent) (files.Reader, error)
	// PutAttachment stores a document. Errors: files.ErrTooLarge, those of r.
	PutAttachment(
		job string, r io.Reader, limit int64,
	) (object string, size int64, sha1 []byte, err error)
	// RemoveAttachment deletes a document.
	RemoveAttachment(job, object string) error
	// Lost records that a file which a record names is missing. It returns files.ErrDamaged.
	Lost(job string, e files.Extent) error
	// Damaged lists the known damaged files of a job, or of all jobs if job is "".
	Damaged(job string) ([]files.Known, error)
	// Free returns how many bytes can still be written.
	Free() (int64, error)
}

// Authorization is the authorization under which a job was kicked off.
type Authorization struct {
	Client, Grant string
	// Begun is when the job was kicked off. ClientMade identifies the registration of the
	// client, because a client that is removed and registered again is another one.
	Begun, ClientMade time.Time
}

func authorizationOf(j *ehi.Job) Authorization {
	return Authorization{j.ClientID, j.Grant, j.CreatedAt, j.ClientMade}
}

// Authority is what this package needs of the authorization server.
type Authority interface {
	// StillValid reports whether an authorization is still valid. It may answer yes from this
	// process's memory. It answers no only after reading the record, or if this process knows
	// that the authorization has ended. An error means that the record could not be read.
	StillValid(ctx context.Context, a Authorization) (bool, error)
	// StillValidFromMemory is StillValid from this process's memory. known is false if that does
	// not tell.
	StillValidFromMemory(a Authorization) (valid, known bool)
	// Withdrawals returns a function that reports whether a patient has withdrawn an
	// authorization of a client.
	Withdrawals() func(client, patient string) bool
	// Dormant reports whether a client belongs to a mode in which the server is not running. Its
	// jobs are left alone.
	Dormant(client string) bool
	// MaySkip reports whether an administrator has permitted that a client's exports skip the
	// form, and that they skip the review.
	MaySkip(client string) (form, review bool)
	// Packaging is how a client gets documents and tables if its kick-off does not say; "" for the
	// default.
	Packaging(client string) ehi.Packaging
}

// Reviewers knows who may approve an export if two administrators must approve.
type Reviewers interface {
	// MayApprove reports whether an administrator who approved with a mark may still approve.
	MayApprove(name, mark string) bool
	// SamePerson reports whether two names of administrators belong to one person.
	SamePerson(one, other string) bool
}

// Deps is what a Service needs.
type Deps struct {
	Bus       *bus.Bus
	Source    Source
	Rules     *release.Rules
	Files     Files
	Authority Authority
	Reviewers Reviewers
	// Remove deletes a job in any state, with its files and records. Errors: ehi.NotFound.
	Remove func(ctx context.Context, job string) error
	// Doubt reports a job that lacks the record of a task, so that the keeper exports it again.
	Doubt  func(job string)
	Log    *slog.Logger
	Tracer *tracing.Tracer // nil disables tracing
}

// Service implements the use cases of exports. It is safe for concurrent use.
type Service struct {
	Config
	Deps
	recalls  *recalls
	endings  *endings
	counted  *summaries
	tally    kv.Tally // of quotas
	draining atomic.Bool
}

// New creates a service. Close ends its background work.
func New(c Config, d Deps) (*Service, error) {
	c.Quotas = c.Quotas.Resolved(c.Sandbox)
	s := &Service{Config: c, Deps: d, tally: kv.Tally{Bucket: d.Bus.Auth, Now: now}}
	var err error
	if s.recalls, err = newRecalls(d.Remove, d.Files); err != nil {
		return nil, err
	}
	s.endings = newEndings(s.DeleteUnauthorized, d.Log)
	s.counted = newSummaries(d)
	return s, nil
}

// Drain makes the service refuse kick-offs, because the process is stopping.
func (s *Service) Drain() { s.draining.Store(true) }

// Close ends the background work and waits for it.
func (s *Service) Close() {
	s.recalls.stop()
	s.endings.stop()
	s.counted.stop()
}

// Working returns an error while the process is stopping or the disk is full. Errors:
// ehi.Transient.
func (s *Service) Working() error {
	if s.draining.Load() {
		return errDraining
	}
	free, err := s.Files.Free()
	if err == nil && free < s.MinFreeBytes {
		err = ErrNoSpace
	}
	return err
}

var (
	// ErrNoSpace is returned if something cannot be stored because the disk is full.
	ErrNoSpace = ehi.Errorf(ehi.Transient,
		"The disk is full; try again when there is space")
	errDraining = ehi.Errorf(ehi.Transient, "The server is stopping; try again in a moment")
	errNoRoom   = ehi.Errorf(ehi.Transient,
		"The limit for stored exports is reached; try again when some are deleted or have "+
			"expired")
	// ErrNotFound is returned for a job that does not exist, or that the caller may not see.
	ErrNotFound = ehi.Errorf(ehi.NotFound, "Export job not found!")
	// ErrPatientNotFound is returned for a patient who does not exist, or who is not the
	// token's.
	ErrPatientNotFound = ehi.Errorf(ehi.NotFound, "Patient not found")
)

// audit writes an actor's action to the audit trail.
func (s *Service) audit(a ehi.Actor, err error, e ehi.Event) {
	e.At, e.Sender = now(), a.Sender
	if e.Agent == "" {
		e.Agent = a.Agent()
	}
	if e.Client == "" {
		e.Client = a.ClientID
	}
	e.End(err)
	s.Bus.Audit.Record(e)
}

// now returns the current time in UTC, as in all records and responses.
func now() time.Time { return time.Now().UTC() }

// undoTime limits how long an undo may take after the request has ended.
const undoTime = 3 * time.Second

func undoContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoTime)
}

// isNotFound reports whether an error means that the job does not exist.
func isNotFound(err error) bool { return ehi.CodeOf(err) == ehi.NotFound }

// joinErrors joins all errors into one.
func joinErrors(errs []error, more ...error) error { return errors.Join(append(errs, more...)...) }
