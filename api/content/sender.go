package content

import (
	"context"
	"log/slog"

	"github.com/gofiber/fiber/v2"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// Authority decides whether a long response may continue.
type Authority interface {
	// Lasting returns a function that reports, for as long as the response takes, whether the
	// request would still be allowed. It outlives the request and keeps nothing of c. It must be
	// fast, because it is called for each piece of the response, and safe to call from another
	// goroutine.
	Lasting(c *fiber.Ctx) func() bool
}

// Files are the stored files and documents of exports (jobs.Service).
type Files interface {
	// OpenFile opens a file for reading; the caller closes it. Errors: jobs.ErrNotFound,
	// jobs.ErrFileNotFound and jobs.ErrDamaged.
	OpenFile(ctx context.Context, of jobs.Stored) (files.Reader, error)
	// FindNative finds a document or a table by its name. Errors: jobs.ErrFileNotFound,
	// jobs.ErrDamaged, and those of jobs.Service.Task.
	FindNative(
		ctx context.Context, j *ehi.Job, name string,
	) (f ehi.NativeFile, at jobs.Stored, err error)
	// FindHeld finds a document or a table that needs the decision of an administrator. Errors: as
	// FindNative.
	FindHeld(
		ctx context.Context, j *ehi.Job, name string,
	) (f ehi.NativeFile, at jobs.Stored, err error)
}

// Sender sends long responses and stored files. It is safe for concurrent use.
type Sender struct {
	files     Files
	authority Authority
	log       *slog.Logger
	digests   digests
}

// NewSender returns a Sender. The log receives the reason for each response that breaks off
// because of a server failure.
func NewSender(files Files, authority Authority, log *slog.Logger) (*Sender, error) {
	known, err := newDigests()
	if err != nil {
		return nil, err
	}
	return &Sender{files: files, authority: authority, log: log, digests: known}, nil
}
