// Package faulty simulates failures of the sandbox, so that developers can test their clients. A
// client orders faults in the path of the FHIR base, /faulty/<faults>/fhir; ehi.Fault lists
// them. A job keeps the faults of its kick-off.
//
// The package affects no job without faults. The handlers of api/fhirapi call it before they
// respond.
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

// Base precedes the FHIR base in the paths of ordered faults.
const Base = "/faulty/:faults"

// knownFaults is the maximum number of counters.
const knownFaults = 1 << 14

// Duration of ordered faults.
const (
	retryFault = "2" // seconds, for Retry-After
	slowFault  = 10 * time.Second
)

// Book counts the requests about jobs with faults, because some faults disappear when the client
// tries again. Each process has its own counters and drops those that are unused for long. A
// Book is safe for concurrent use.
type Book struct {
	mu   sync.Mutex
	seen *lru.Cache[string, int]
}

// NewBook returns an empty Book.
func NewBook() (*Book, error) {
	c, err := lru.New[string, int](knownFaults)
	return &Book{seen: c}, err
}

// attempt counts an event and returns its number, from 1.
func (b *Book) attempt(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, _ := b.seen.Get(what)
	b.seen.Add(what, n+1)
	return n + 1
}

// Ordered returns the faults that the base of a kick-off orders; nil for none. Errors:
// ehi.Invalid.
func Ordered(c *fiber.Ctx) ([]ehi.Fault, error) {
	if !strings.HasPrefix(c.Path(), "/faulty/") {
		return nil, nil
	}
	return ehi.ParseFaults(c.Params("faults"))
}

// KickOff refuses a kick-off if its faults say so. Errors: ehi.Throttled.
func (b *Book) KickOff(c *fiber.Ctx, faults []ehi.Fault) error {
	client := request.Access(c).ClientID
	if slices.Contains(faults, ehi.FaultBusy) && b.attempt("kick-off "+client)%2 == 1 {
		c.Set(fiber.HeaderRetryAfter, retryFault)
		return ehi.Errorf(ehi.Throttled,
			"This client has too many running exports (simulated by /faulty)")
	}
	return nil
}

// Status answers a status request with the first fault of its job that applies. done is false if
// none applies. Errors: ehi.Throttled, ehi.Transient.
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
				return true,
					ehi.Errorf(ehi.Throttled, "Too many status requests (simulated by /faulty)")
			}
			return true,
				ehi.Errorf(ehi.Transient,
					"The status is temporarily unavailable (simulated by /faulty)")
		}
	}
	return Standing(c, j)
}

// Standing answers a status request with the state that a fault gives the job. done is false if
// no fault does. The caller calls it again after holding the request, because the job may have
// moved on.
func Standing(c *fiber.Ctx, j *ehi.Job) (done bool, err error) {
	for _, f := range j.Faults {
		switch f {
		case ehi.FaultSlow:
			if j.Status == ehi.AwaitingInput || time.Since(j.RequestedAt) > slowFault {
				continue
			}
			c.Set(fiber.HeaderRetryAfter, retryFault)
			c.Set("X-Progress", "requested: the export is slow (simulated by /faulty)")
			return true, content.Empty(c, http.StatusAccepted)
		case ehi.FaultFailed:
			if j.Status == ehi.Approved || j.Status == ehi.Retrieved {
				return true, content.Outcome(c, http.StatusInternalServerError, "fatal",
					string(ehi.Internal), "The export failed (simulated by /faulty)")
			}
		}
	}
	return false, nil
}

// File applies the faults of a job to the download of a file. done is true if the response is
// complete; cut is true if the caller must break the file off in the middle. Errors:
// ehi.NotFound.
func (b *Book) File(c *fiber.Ctx, j *ehi.Job, name string) (cut, done bool, err error) {
	for _, f := range j.Faults {
		switch f {
		case ehi.FaultExpired:
			return false, true,
				ehi.Errorf(ehi.NotFound,
					"The files of this export have expired (simulated by /faulty)")
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

// Expires returns when the files of a job expire according to its manifest.
func Expires(j *ehi.Job) time.Time {
	if slices.Contains(j.Faults, ehi.FaultExpired) {
		return time.Now().UTC().Add(-time.Minute)
	}
	return j.ExpiresAt
}

// Lines returns the texts of the OperationOutcomes that the faults of a job add to its errors.
func Lines(j *ehi.Job) (out []string) {
	if slices.Contains(j.Faults, ehi.FaultErrors) {
		out = append(out,
			"A resource of this record could not be read (simulated by /faulty)",
			"A resource of this record is malformed and was left out (simulated by /faulty)")
	}
	return out
}

// drop closes the connection without a response.
func drop(c *fiber.Ctx) error {
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(func(conn net.Conn) {
		_ = conn.Close() // the connection is of no further use
	})
	return nil
}
