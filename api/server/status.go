package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"

	"ehi-server/exporter/worker"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Seconds after which a client shall ask again (EHI-4, REAL-1): soon while a machine works, later while a person does.
const (
	retryMachine = "1"
	retryPerson  = "5"
)

// handleStatus tells a client how its job stands (EHI-3, 4, 5).
func (s *Server) handleStatus(c *fiber.Ctx) error {
	j, err := s.ownJob(c)
	if err != nil {
		return err
	}
	switch j.Status {
	case ehi.Approved:
		return s.sendManifest(c, j)
	case ehi.Failed: // BULK-5
		return outcome(c, http.StatusInternalServerError, "fatal", string(ehi.Internal), j.Error)
	case ehi.Rejected:
		return outcome(c, http.StatusForbidden, "fatal", "suppressed", "The export was rejected by an administrator")
	}
	s.setLink(c, j)
	c.Set(fiber.HeaderRetryAfter, retryPerson)
	if j.Status == ehi.Requested {
		c.Set(fiber.HeaderRetryAfter, retryMachine)
	}
	c.Set("X-Progress", s.progressText(j))
	return c.SendStatus(http.StatusAccepted)
}

// progressText stays under 100 characters (EHI-4).
func (s *Server) progressText(j *ehi.Job) string {
	switch j.Status {
	case ehi.AwaitingInput:
		return "awaiting-input: the patient has not chosen yet what to release"
	case ehi.Retrieved:
		return "retrieved: the export waits for an administrator's approval"
	}
	p, known := s.progress.of(j.ID)
	if !known {
		return "requested: the export is queued, 0% done"
	}
	return fmt.Sprintf("requested: %d%% done, %d of %d resources", p.Percent(), p.Done, p.Total)
}

func (s *Server) sendManifest(c *fiber.Ctx, j *ehi.Job) error {
	m, err := s.manifest(c, j)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderExpires, j.ExpiresAt.Format(http.TimeFormat))
	return c.JSON(m)
}

// manifest is a view over the job's committed tasks (EHI-5).
func (s *Server) manifest(c *fiber.Ctx, j *ehi.Job) (*ehi.Manifest, error) {
	origin := s.origin(c)
	m := &ehi.Manifest{
		TransactionTime: fhir.FormatInstant(j.TransactionTime), Request: j.Request, RequiresAccessToken: true,
		Output: []ehi.ManifestEntry{}, Deleted: []ehi.ManifestEntry{}, Error: []ehi.ManifestEntry{},
		Extension: ehi.ManifestExtension{EHIDocumentationURL: origin + "/docs/ehi", Metadata: jobURL(origin, j.ID, "/metadata")},
	}
	outputs, err := s.outputs(c, j)
	if err != nil {
		return nil, err
	}
	for _, f := range outputs {
		m.Output = append(m.Output, ehi.ManifestEntry{Type: f.Type, URL: jobURL(origin, j.ID, "/download/"+f.Type+".ndjson"), Count: f.Count})
	}
	if n := len(j.Attachments); n > 0 {
		m.Output = append(m.Output, ehi.ManifestEntry{Type: "DocumentReference", URL: jobURL(origin, j.ID, "/download/"+attachmentsFile), Count: int64(n)})
	}
	if n := len(j.KickOff.Unknown); n > 0 {
		m.Error = append(m.Error, ehi.ManifestEntry{Type: "OperationOutcome", URL: jobURL(origin, j.ID, "/download/"+errorsFile), Count: int64(n)})
	}
	return m, nil
}

// outputs reads the file tables of a job's committed tasks.
func (s *Server) outputs(c *fiber.Ctx, j *ehi.Job) ([]ehi.File, error) {
	var out []ehi.File
	for n := range j.Tasks {
		t, ok, err := s.Bus.Tasks.Get(c.Context(), j.ID, n)
		if err != nil {
			return nil, err
		}
		if !ok || !t.Committed {
			return nil, fmt.Errorf("job %s is %s, its task %d is not committed", j.ID, j.Status, n)
		}
		out = append(out, t.Files...)
	}
	return out, nil
}

// handleDelete aborts or forgets a job in any state (EHI-13, REAL-6).
func (s *Server) handleDelete(c *fiber.Ctx) error {
	j, err := s.ownJob(c)
	if err != nil {
		return err
	}
	if err := worker.Delete(c.Context(), s.Bus, s.Files, j.ID, nil); err != nil {
		return err
	}
	return outcome(c, http.StatusAccepted, "information", "informational", "The export was deleted")
}

// handleMetadata tells the owner and administrators what was chosen, counted and when (EHI-14).
func (s *Server) handleMetadata(c *fiber.Ctx) error {
	find := s.ownJob
	if adminOf(c) != "" {
		find = s.job
	}
	j, err := find(c)
	if err != nil {
		return err
	}
	parameters, authorizations := j.Form.MarshalWire()
	return c.JSON(fiber.Map{
		"id": j.ID, "patient": j.Patient, "client": j.ClientID, "status": j.Status, "request": j.Request,
		"choices":  fiber.Map{"form": j.Form != nil, "parameters": parameters, "authorizations": authorizations, "kickOff": wireKickOff(j.KickOff), "by": j.RequestedBy},
		"counts":   orEmpty(j.Counts),
		"withheld": orEmpty(j.Withheld),
		"bytes":    j.Bytes,
		"times": fiber.Map{
			"created": instant(j.CreatedAt), "requested": instant(j.RequestedAt), "transactionTime": instant(j.TransactionTime),
			"completed": instant(j.CompletedAt), "approved": instant(j.ApprovedAt), "expires": instant(j.ExpiresAt),
		},
	})
}

// wireKickOff shows what an application asked for by the names of its parameters (EHI-6).
func wireKickOff(k ehi.KickOff) fiber.Map {
	return fiber.Map{
		"_since": instant(k.Since), "_until": instant(k.Until), "_type": strings.Join(k.Types, ","), "category": k.Categories,
		"from": k.From, "to": k.To, "ignored": k.Unknown,
	}
}

func orEmpty(m map[string]int64) map[string]int64 {
	if m == nil {
		return map[string]int64{}
	}
	return m
}

// progressBook is the latest news of running exports, as workers publish them. It is bounded; a job that falls out of it
// shows 0 % until its next message.
type progressBook struct {
	book *lru.Cache[string, ehi.Progress]
	stop func() error
}

func followProgress(b *bus.Bus) (*progressBook, error) {
	book, err := lru.New[string, ehi.Progress](4096)
	if err != nil {
		return nil, err
	}
	stop, err := b.OnProgress(func(p ehi.Progress) { book.Add(p.Job, p) })
	return &progressBook{book, stop}, err
}

func (p *progressBook) of(job string) (ehi.Progress, bool) { return p.book.Peek(job) }
