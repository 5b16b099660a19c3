package server

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

// Clients can order faults, to test what they do about them: below /faulty/<faults>/fhir, in sandbox mode only (ehi.Faults says what each shows). A job
// keeps the faults that it was kicked off with. What has happened to whom is counted in this process; it is for tests, and may be forgotten.

// faultyBase stands before the FHIR base in the paths of ordered faults.
const faultyBase = "/faulty/:faults"

// faultBook counts what is asked of jobs that have faults.
type faultBook struct {
	mu   sync.Mutex
	seen *lru.Cache[string, int]
}

// knownFaults bounds what is counted.
const knownFaults = 1 << 14

func newFaultBook() (*faultBook, error) {
	c, err := lru.New[string, int](knownFaults)
	return &faultBook{seen: c}, err
}

// time is the how manieth time it is that something happens, from 1.
func (b *faultBook) time(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, _ := b.seen.Get(what)
	b.seen.Add(what, n+1)
	return n + 1
}

// Pauses of ordered faults.
const (
	retryFault = "2" // s
	slowFault  = 10 * time.Second
)

// ordered are the faults of a kick-off's base, nil for none.
func ordered(c *fiber.Ctx) ([]ehi.Fault, error) {
	if !strings.HasPrefix(c.Path(), "/faulty/") {
		return nil, nil
	}
	return ehi.ParseFaults(c.Params("faults"))
}

// faultyAudience reports whether aud is a base of ordered faults, of an origin; both in the spelling of
// weburl.Canonical.
func faultyAudience(origin, aud string) bool {
	rest, ok := strings.CutPrefix(aud, origin+"/faulty/")
	faults, base, found := strings.Cut(rest, "/")
	_, err := ehi.ParseFaults(faults)
	return ok && found && err == nil && slices.ContainsFunc(bases, func(b string) bool { return "/"+base == b+"/fhir" })
}

func has(faults []ehi.Fault, f ehi.Fault) bool { return slices.Contains(faults, f) }

// faultyKickOff is what goes wrong at a kick-off.
func (s *Server) faultyKickOff(c *fiber.Ctx, faults []ehi.Fault) error {
	if has(faults, ehi.FaultBusy) && s.faults.time("kick-off "+request.Access(c).ClientID)%2 == 1 {
		c.Set(fiber.HeaderRetryAfter, retryFault)
		return ehi.Errorf(ehi.Throttled, "This client has too many exports running (ordered by /faulty)")
	}
	return nil
}

// faultyStatus is what goes wrong at a status request; done is whether that is the answer.
func (s *Server) faultyStatus(c *fiber.Ctx, j *ehi.Job) (done bool, err error) {
	for _, f := range j.Faults {
		switch f {
		case ehi.FaultThrottled, ehi.FaultUnavailable, ehi.FaultDropped:
			if n := s.faults.time(string(f) + " status " + j.ID); n != 1 && n != 3 {
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
	return s.orderedStatus(c, j)
}

// orderedStatus is the status that a fault gives a job where it stands. A held request asks again at
// its end: the job has moved on meanwhile.
func (s *Server) orderedStatus(c *fiber.Ctx, j *ehi.Job) (done bool, err error) {
	for _, f := range j.Faults {
		switch f {
		case ehi.FaultSlow:
			if j.Status == ehi.AwaitingInput || now().Sub(j.RequestedAt) > slowFault {
				continue
			}
			c.Set(fiber.HeaderRetryAfter, retryFault)
			c.Set("X-Progress", "requested: the export takes its time (ordered by /faulty)")
			return true, content.Empty(c, http.StatusAccepted)
		case ehi.FaultFailed:
			if j.Status == ehi.Approved || j.Status == ehi.Retrieved {
				return true, content.Outcome(c, http.StatusInternalServerError, "fatal", string(ehi.Internal), "The export failed (ordered by /faulty)")
			}
		}
	}
	return false, nil
}

// faultyFile is what goes wrong at the download of a file: nothing, an error, or that it is cut; done is whether there is an answer already.
func (s *Server) faultyFile(c *fiber.Ctx, j *ehi.Job, name string) (cut, done bool, err error) {
	for _, f := range j.Faults {
		switch f {
		case ehi.FaultExpired:
			return false, true, ehi.Errorf(ehi.NotFound, "The files of this export have expired (ordered by /faulty)")
		case ehi.FaultDropped:
			if s.faults.time("dropped "+j.ID+" "+name) == 1 {
				return false, true, drop(c)
			}
		case ehi.FaultTruncated:
			if c.Method() == fiber.MethodGet && s.faults.time("truncated "+j.ID+" "+name) == 1 {
				cut = true
			}
		}
	}
	return cut, false, nil
}

// drop closes the connection without an answer.
func drop(c *fiber.Ctx) error {
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(func(conn net.Conn) {
		_ = conn.Close() // that is all that is to be done
	})
	return nil
}

// faultLines are the OperationOutcomes that were ordered.
func faultLines(j *ehi.Job) (out []string) {
	if has(j.Faults, ehi.FaultErrors) {
		out = append(out, "A resource of this record could not be read (ordered by /faulty)", "A resource of this record is malformed and was left out (ordered by /faulty)")
	}
	return out
}
