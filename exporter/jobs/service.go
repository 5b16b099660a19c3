// Package jobs is what can be done with exports, whoever asks and by whatever protocol: kick one
// off, send its form, review it, read its files, delete it.
//
// The methods of Service take the Actor who acts. Each of them alone checks that the actor may,
// changes the job's record, writes the audit trail, counts the metric, and logs. Those who call
// it decode a request and encode the answer; they change no job themselves.
//
// Finding a job and acting on it are two steps. Find, FindOwn and Record look for a job on
// behalf of somebody, and somebody else's job is as absent as one that never was. What they
// return is what the other methods act on.
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

// Config is what an operator decides about exports.
type Config struct {
	// Sandbox lets every client skip the form and the review.
	Sandbox bool
	// Open is whether everybody is let in without a token.
	Open bool
	// FourEyes asks for the approval of two administrators before files are released.
	FourEyes bool
	// JobTTL is how long a job may take until it is approved; FileTTL how long approved files
	// are kept (EHI-17).
	JobTTL, FileTTL time.Duration
	// ClientJobs and ClientBulkJobs limit how many exports of patients and of populations a
	// client may have running (BULK-4).
	ClientJobs, ClientBulkJobs int
	// MinFreeBytes is the space on the exports' disk below which kick-offs are refused.
	MinFreeBytes int64
	// MaxExportBytes is how much may be stored of exports before kick-offs are refused; 0 sets
	// no limit.
	MaxExportBytes int64
	// Quotas bound what clients have, and what is done for patients.
	Quotas Quotas
	// Compression is how the files of exports are stored whose kick-off does not say.
	Compression ehi.Compression
	// AttachmentBytes limits one attachment, AttachmentsPerCall the attachments of one upload
	// (EHI-11).
	AttachmentBytes    int64
	AttachmentsPerCall int
}

// Source is the records, as far as this package needs them.
type Source interface {
	Patient(ctx context.Context, id string) (ehi.Patient, error)
	Group(ctx context.Context, id string) ([]byte, error)
	Size(ctx context.Context, patients []string) (int64, error)
	Open(ctx context.Context, patient string) (source.Record, error)
	Records() ehi.Records
}

// Files is the files of exports, as far as this package needs them (files.Store).
type Files interface {
	recallNotes
	// Open opens a file or document. Errors: fs.ErrNotExist, files.ErrDamaged.
	Open(job string, e files.Extent) (files.Reader, error)
	// PutAttachment keeps a document. Errors: files.ErrTooLarge, those of r.
	PutAttachment(
		job string, r io.Reader, limit int64,
	) (object string, size int64, sha1 []byte, err error)
	// RemoveAttachment deletes a document.
	RemoveAttachment(job, object string) error
	// Lost says that a file is not there which a record names. It returns files.ErrDamaged.
	Lost(job string, e files.Extent) error
	// Damaged lists what is known to be damaged: of one job, or where job is "" of all.
	Damaged(job string) ([]files.Known, error)
	// Free is how many bytes more can be taken.
	Free() (int64, error)
}

// Authorization is what a job was kicked off under.
type Authorization struct {
	Client, Grant string
	// Begun is when the job was kicked off, and ClientMade stands for the very registration of
	// the client.
	Begun, ClientMade time.Time
}

func under(j *ehi.Job) Authorization {
	return Authorization{j.ClientID, j.Grant, j.CreatedAt, j.ClientMade}
}

// Authority is the authorization server, as far as it decides about exports.
type Authority interface {
	// Stands reports whether an authorization goes on. What this process has heard may say that
	// it does; that it does not is said by what is stored, or by news of its end. Errors: where
	// that cannot be read.
	Stands(ctx context.Context, a Authorization) (bool, error)
	// StandsAsHeard is Stands as far as this process has heard, without asking anybody; told is
	// false where it has heard nothing of that client.
	StandsAsHeard(a Authorization) (stands, told bool)
	// Withdrawals reports of which clients a patient has withdrawn an authorization.
	Withdrawals() func(client, patient string) bool
	// Dormant reports whether a client's jobs wait for a mode in which the server is not
	// running, and are left alone.
	Dormant(client string) bool
	// MaySkip reports whether an administrator lets a client's exports do without the form, and
	// without review.
	MaySkip(client string) (form, review bool)
}

// Reviewers knows who may approve an export where that takes two.
type Reviewers interface {
	// MayApprove reports whether an administrator who has approved under a mark may approve still.
	MayApprove(name, mark string) bool
	// SamePerson reports whether two administrators' names are of one person.
	SamePerson(one, other string) bool
}

// Deps is what a Service works on.
type Deps struct {
	Bus       *bus.Bus
	Source    Source
	Rules     *release.Rules
	Files     Files
	Authority Authority
	Reviewers Reviewers
	// Remove deletes a job in any state, its files and its records. Errors: ehi.NotFound where
	// there is none.
	Remove func(ctx context.Context, job string) error
	// Doubt is told of a job that lacks the record of a task, and has to be made anew.
	Doubt  func(job string)
	Log    *slog.Logger
	Tracer *tracing.Tracer // nil: nothing is traced
}

// Service does what can be done with exports. It is safe for use by many goroutines.
type Service struct {
	Config
	Deps
	recalls  *recalls
	endings  *endings
	counted  *summaries
	tally    kv.Tally // of quotas
	draining atomic.Bool
}

// New makes a service; Close ends what it does in the background.
func New(c Config, d Deps) (*Service, error) {
	s := &Service{Config: c, Deps: d, tally: kv.Tally{Bucket: d.Bus.Auth, Now: now}}
	var err error
	if s.recalls, err = newRecalls(d.Remove, d.Files); err != nil {
		return nil, err
	}
	s.endings = newEndings(s.EndWhatDoesNotStand, d.Log)
	s.counted = newSummaries(d)
	return s, nil
}

// Drain refuses kick-offs from now on: the process is being stopped.
func (s *Service) Drain() { s.draining.Store(true) }

// Close ends what goes on in the background, and waits for it.
func (s *Service) Close() {
	s.recalls.stop()
	s.endings.stop()
	s.counted.stop()
}

// Working is an error while the process is being stopped, or has no space to work in. Errors:
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
	// ErrNoSpace is the answer to what would be stored while the disk is full.
	ErrNoSpace = ehi.Errorf(ehi.Transient,
		"The disk is full; more is taken when there is space again")
	errDraining = ehi.Errorf(ehi.Transient, "The server is being stopped; try again in a moment")
	errNoRoom   = ehi.Errorf(ehi.Transient,
		"As much is stored of exports as may be; more are taken when some are deleted or have "+
			"expired")
	// ErrNotFound is the answer to who asks for a job that is not there, or not theirs.
	ErrNotFound = ehi.Errorf(ehi.NotFound, "Export job not found!")
	// ErrPatientNotFound is the answer to who asks for a patient who is not there, or not the
	// one of their token.
	ErrPatientNotFound = ehi.Errorf(ehi.NotFound, "Patient not found")
)

// audit writes what an actor did to the trail.
func (s *Service) audit(a ehi.Actor, err error, e ehi.Event) {
	e.At, e.Address, e.Request = now(), a.Address, a.Request
	if e.Agent == "" {
		e.Agent = a.Agent()
	}
	if e.Client == "" {
		e.Client = a.ClientID
	}
	e.End(err)
	s.Bus.Audit.Record(e)
}

// now is the clock of jobs: UTC, as all instants on the wire.
func now() time.Time { return time.Now().UTC() }

// undoTime is how long what has to be undone may take, although the time of its request is over.
const undoTime = 3 * time.Second

func undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoTime)
}

// isNotFound tells an absent job from a failure.
func isNotFound(err error) bool { return ehi.CodeOf(err) == ehi.NotFound }

// joined is an error of any of them.
func joined(errs []error, more ...error) error { return errors.Join(append(errs, more...)...) }
