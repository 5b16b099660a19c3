package content

import (
	"context"
	"log/slog"

	"github.com/gofiber/fiber/v2"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/files"
)

// Authority decides whether an answer that takes long may go on.
type Authority interface {
	// Lasting returns a function that reports, for as long as the answer takes, whether the request
	// would still be let in. It outlives the request: it holds nothing of c. It must be quick,
	// because it is called for each piece of the answer, and safe to call from another goroutine.
	Lasting(c *fiber.Ctx) func() bool
}

// Files are the stored files and documents of exports (jobs.Service).
type Files interface {
	// OpenFile opens a file for reading; the caller closes it. Errors: jobs.ErrNotFound,
	// jobs.ErrFileNotFound and jobs.ErrDamaged.
	OpenFile(ctx context.Context, of jobs.Stored) (files.Reader, error)
}

// Sender sends answers that take long, and stored files. It is safe for concurrent use.
type Sender struct {
	files     Files
	authority Authority
	log       *slog.Logger
	digests   digests
}

// NewSender makes a Sender. The log gets the reason for each answer that breaks off through a
// failure of the server.
func NewSender(files Files, authority Authority, log *slog.Logger) (*Sender, error) {
	known, err := newDigests()
	if err != nil {
		return nil, err
	}
	return &Sender{files: files, authority: authority, log: log, digests: known}, nil
}
