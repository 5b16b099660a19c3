package jobs

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/disk"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Upload adds documents to an export that is under review (EHI-11). Add stores them one by one.
// Commit then lists all of them in the export, or none if one of them failed.
type Upload struct {
	service *Service
	actor   ehi.Actor
	job     *ehi.Job
	taken   map[string]bool // names, by ehi.NameKey
	added   []ehi.Attachment
}

// Upload starts an upload. Errors: ehi.Forbidden; ehi.Conflict if the export does not accept
// documents.
func (s *Service) Upload(a ehi.Actor, j *ehi.Job) (*Upload, error) {
	if err := a.May(ehi.DutyReview); err != nil {
		return nil, err
	}
	if err := j.CanAttach(); err != nil {
		return nil, err
	}
	u := &Upload{service: s, actor: a, job: j, taken: map[string]bool{}}
	for _, a := range j.Attachments {
		u.taken[ehi.NameKey(a.Name)] = true
	}
	return u, nil
}

// Add stores a document under a safe and unique form of its name. declared is the content type
// that the sender declares. Errors: ehi.Invalid if there are too many documents; ehi.TooLarge;
// ErrNoSpace; those of content.
func (u *Upload) Add(name, declared string, content io.Reader) error {
	s := u.service
	if len(u.added) == s.AttachmentsPerCall || len(u.taken) == ehi.MaxAttachments {
		return ehi.Errorf(ehi.Invalid,
			"You can add at most %d attachments per request and %d per export",
			s.AttachmentsPerCall, ehi.MaxAttachments)
	}
	head := make([]byte, sniffed)
	n, err := io.ReadFull(content, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	name = UniqueName(name, u.taken)
	a := ehi.Attachment{
		Name:        name,
		ContentType: sniff(head[:n], name),
		CreatedAt:   now().Truncate(time.Millisecond),
	}
	text := utf8Reader{Reader: io.MultiReader(strings.NewReader(string(head[:n])), content)}
	a.Object, a.Size, a.SHA1, err = s.Files.PutAttachment(u.job.ID, &text, s.AttachmentBytes)
	a.ContentType = charsetOf(a.ContentType, text.valid(), declared)
	switch {
	case errors.Is(err, files.ErrTooLarge):
		return ehi.Errorf(ehi.TooLarge, "The file %q is larger than %d bytes", name,
			s.AttachmentBytes)
	case disk.IsFull(err):
		return errors.Join(ErrNoSpace, err)
	case err != nil:
		return err
	}
	u.taken[ehi.NameKey(name)] = true
	u.added = append(u.added, a)
	return nil
}

// sniffed is how many bytes sniff needs.
const sniffed = 512

// Commit lists the documents in the export. If failed is not nil, it removes them instead.
// Errors: failed; ehi.Invalid if there is no document; ehi.Conflict if the export no longer
// accepts documents.
func (u *Upload) Commit(ctx context.Context, failed error) (*ehi.Job, error) {
	s, err := u.service, failed
	if err == nil && len(u.added) == 0 {
		err = ErrNoAttachments
	}
	var j *ehi.Job
	if err == nil {
		j, err = s.Bus.Jobs.Update(ctx, u.job.ID, func(j *ehi.Job) error {
			return j.Attach(u.added...)
		})
	}
	// If NATS did not answer, the job may list the documents. If it does not, the keeper removes
	// them.
	if err != nil && !bus.IsAway(err) {
		for _, a := range u.added {
			err = errors.Join(err, s.Files.RemoveAttachment(u.job.ID, a.Object))
		}
	}
	s.audit(u.actor, err, ehi.Event{
		Action:  ehi.ActionAttach,
		Job:     u.job.ID,
		Patient: u.job.Patient.ID,
	})
	return j, err
}

// ErrNoAttachments is returned for an upload without a document.
var ErrNoAttachments = ehi.Errorf(ehi.Invalid, `Called "addFiles" without uploaded "attachments"`)
