// Package faulty makes the sandbox fail on demand, so that clients can test what they do about it.
// A client orders faults in the path of the FHIR base, /faulty/<faults>/fhir; ehi.Fault lists them.
// A job keeps the faults that it was kicked off with.
//
// It never acts on a job without faults, and never fails by itself. The handlers of api/fhirapi ask it
// before they answer.
package faulty

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/shared/ehi"
)

// Base stands before the FHIR base in the paths of ordered faults.
const Base = "/faulty/:faults"

// knownFaults is how many different things are counted.
const knownFaults = 1 << 14

// How long ordered faults last.
const (
	retryFault = "2" // seconds, for Retry-After
	slowFault  = 10 * time.Second
)

// Book counts what clients ask about jobs with faults: some faults go away when the client tries
// again. Each process counts for itself, and forgets what was not asked for long. It is safe for
// concurrent use.
type Book struct {
	mu   sync.Mutex
	seen *lru.Cache[string, int]
}

// NewBook makes a Book that has counted nothing.
func NewBook() (*Book, error) {
	c, err := lru.New[string, int](knownFaults)
	return &Book{seen: c}, err
}

// attempt counts how often something has happened, from 1.
func (b *Book) attempt(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, _ := b.seen.Get(what)
	b.seen.Add(what, n+1)
	return n + 1
}

// Ordered returns the faults that the base of a kick-off orders; nil for none. Errors: ehi.Invalid.
func Ordered(c *fiber.Ctx) ([]ehi.Fault, error) {
	if !strings.HasPrefix(c.Path(), "/faulty/") {
		return nil, nil
	}
	return ehi.ParseFaults(c.Params("faults"))
}

// KickOff refuses a kick-off where its faults say so. Errors: ehi.Throttled.
func (b *Book) KickOff(c *fiber.Ctx, faults []ehi.Fault) error {
	client := request.Access(c).ClientID
	if slices.Contains(faults, ehi.FaultBusy) && b.attempt("kick-off "+client)%2 == 1 {
		c.Set(fiber.HeaderRetryAfter, retryFault)
		return ehi.Errorf(ehi.Throttled, "This client has too many exports running (ordered by /faulty)")
	}
	return nil
}

// Status answers a status request with the first fault of its job that applies; done is false where
// none does. Errors: ehi.Throttled, ehi.Transient.
func (b *Book) Status(c *fiber.Ctx, j *ehi.Job) (done bool, err error) {
	for _, f := range j.Faults {
		switch f {
		case ehi.FaultThrottled, ehi.FaultUnavailable, ehi.FaultDropped:
			if n := b.attempt(string(f) + " status " + j.ID); n != 1 && n != 3 {
				continue
			}
			if f == ehi.FaultDropped {
				return true, drop(c)
			}
			c.Set(fiber.HeaderRetryAfter, retryFault)
			if f == ehi.FaultThrottled {
				return true, ehi.Errorf(ehi.Throttled, "The status is asked for too often (ordered by /faulty)")
			}
			return true, ehi.Errorf(ehi.Transient, "The status cannot be read at the moment (ordered by /faulty)")
		}
	}
	return Standing(c, j)
}

// Standing answers a status request with the state that a fault gives a job; done is false where no
// fault does. A held request asks again when the hold ends, because the job may have moved on.
func Standing(c *fiber.Ctx, j *ehi.Job) (done bool, err error) {
	for _, f := range j.Faults {
		switch f {
		case ehi.FaultSlow:
			if j.Status == ehi.AwaitingInput || time.Since(j.RequestedAt) > slowFault {
				continue
			}
			c.Set(fiber.HeaderRetryAfter, retryFault)
			c.Set("X-Progress", "requested: the export takes its time (ordered by /faulty)")
			return true, content.Empty(c, http.StatusAccepted)
		case ehi.FaultFailed:
			if j.Status == ehi.Approved || j.Status == ehi.Retrieved {
				return true, content.Outcome(c, http.StatusInternalServerError, "fatal",
					string(ehi.Internal), "The export failed (ordered by /faulty)")
			}
		}
	}
	return false, nil
}

// File applies the faults of a job to the download of a file. done is true where that is the whole
// answer; cut is true where the file shall break off in the middle. Errors: ehi.NotFound.
func (b *Book) File(c *fiber.Ctx, j *ehi.Job, name string) (cut, done bool, err error) {
	for _, f := range j.Faults {
		switch f {
		case ehi.FaultExpired:
			return false, true, ehi.Errorf(ehi.NotFound, "The files of this export have expired (ordered by /faulty)")
		case ehi.FaultDropped:
			if b.attempt("dropped "+j.ID+" "+name) == 1 {
				return false, true, drop(c)
			}
		case ehi.FaultTruncated:
			if c.Method() == fiber.MethodGet && b.attempt("truncated "+j.ID+" "+name) == 1 {
				cut = true
			}
		}
	}
	return cut, false, nil
}

// Expires is when the manifest of a job says that its files expire.
func Expires(j *ehi.Job) time.Time {
	if slices.Contains(j.Faults, ehi.FaultExpired) {
		return time.Now().UTC().Add(-time.Minute)
	}
	return j.ExpiresAt
}

// Lines are the texts of the OperationOutcomes that the faults of a job add to its errors.
func Lines(j *ehi.Job) (out []string) {
	if slices.Contains(j.Faults, ehi.FaultErrors) {
		out = append(out,
			"A resource of this record could not be read (ordered by /faulty)",
			"A resource of this record is malformed and was left out (ordered by /faulty)")
	}
	return out
}

// drop closes the connection without an answer.
func drop(c *fiber.Ctx) error {
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(func(conn net.Conn) {
		_ = conn.Close() // nothing else is to be done
	})
	return nil
}
