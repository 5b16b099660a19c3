package server

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/fhirapi"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// adminJobJSON is a job as administrators see it (EHI-10).
type adminJobJSON struct {
	fhirapi.Job
	Counts    map[string]int64 `json:"counts"`
	Withheld  map[string]int64 `json:"withheld"`
	Approvals []string         `json:"approvals,omitempty"` // of four eyes, of what is there now
	Contents  string           `json:"contents,omitempty"`  // a digest of what is to be decided about
	Reason    string           `json:"reason,omitempty"`    // of the decision
	Error     string           `json:"error,omitempty"`
}

func (s *Server) adminJobJSON(c *fiber.Ctx, j *ehi.Job) adminJobJSON {
	out := adminJobJSON{
		Job:       s.fhir.JobForStaff(c, j),
		Counts:    fhirapi.Counts(j.Counts),
		Withheld:  fhirapi.Counts(j.Withheld),
		Approvals: s.jobs.Approvers(j),
		Reason:    j.Reason,
		Error:     j.Error,
	}
	if j.Status == ehi.Retrieved {
		out.Contents = j.Contents()
	}
	return out
}

// withManifest adds the manifest to a job whose files are there.
func (s *Server) withManifest(c *fiber.Ctx, j *ehi.Job) (adminJobJSON, error) {
	out := s.adminJobJSON(c, j)
	if j.Status != ehi.Retrieved && j.Status != ehi.Approved {
		return out, nil
	}
	var err error
	out.Manifest, err = s.fhir.ManifestForStaff(c, j)
	return out, err
}

// sendJob answers with a job after a change.
func (s *Server) sendJob(c *fiber.Ctx, j *ehi.Job, err error) error {
	if err != nil {
		return err
	}
	out, err := s.withManifest(c, j)
	if err != nil {
		return err
	}
	return c.JSON(out)
}

// handleAdminJobs lists jobs, newest first (EHI-10): ?status= narrows, ?limit= bounds, ?after= goes on behind a job's id.
func (s *Server) handleAdminJobs(c *fiber.Ctx) error {
	status, at := ehi.Status(c.Query("status")), now()
	if status != "" && !status.Valid() {
		return ehi.Errorf(ehi.Invalid, "Invalid status %q", status)
	}
	limit, err := strconv.Atoi(c.Query("limit", "0"))
	if err != nil || limit < 0 {
		return ehi.Errorf(ehi.Invalid, "Invalid limit %q", c.Query("limit"))
	}
	list := s.Bus.Jobs.Page(func(j bus.Summary) bool {
		return (status == "" || j.Status == status) && j.Listed(at)
	}, c.Query("after"), limit)
	out := make([]adminJobJSON, 0, len(list))
	for _, entry := range list {
		j, err := s.Bus.Jobs.Peek(c.UserContext(), entry.ID)
		if ehi.CodeOf(err) == ehi.NotFound { // deleted meanwhile
			continue
		}
		if err != nil {
			return err
		}
		out = append(out, s.adminJobJSON(c, j))
	}
	return c.JSON(out)
}

func (s *Server) handleAdminJob(c *fiber.Ctx) error {
	j, err := s.jobRecord(c)
	return s.sendJob(c, j, err)
}

// handleDecision answers the API's approve and reject.
func (s *Server) handleDecision(action ehi.Action) fiber.Handler {
	return func(c *fiber.Ctx) error {
		d, err := decisionOf(c)
		if err != nil {
			return err
		}
		j, err := s.decide(c, c.Params("id"), action, d)
		return s.sendJob(c, j, err)
	}
}

// decision is what comes with an approval or a rejection. All of it may be left out, but for Contents of
// an approval by two.
type decision struct {
	Reason string `json:"reason" form:"reason"`
	// Contents is the digest of the export as whoever decides has seen it (see ehi.Job.Contents).
	Contents string `json:"contents" form:"contents"`
}

// decide approves or rejects an export.
func (s *Server) decide(c *fiber.Ctx, id string, action ehi.Action, d decision) (*ehi.Job, error) {
	j, err := s.record(c, id)
	if err != nil {
		return nil, err
	}
	if action == ehi.ActionReject {
		return s.jobs.Reject(c.UserContext(), s.Origins.Acting(c), j, jobs.Decision(d))
	}
	return s.jobs.Approve(c.UserContext(), s.Origins.Acting(c), j, jobs.Decision(d))
}

// decisionOf reads a decision, as JSON or as a form.
func decisionOf(c *fiber.Ctx) (d decision, err error) {
	if len(c.Body()) == 0 || c.Get(fiber.HeaderContentType) == "" {
		return d, nil
	}
	if err := content.Unambiguous(c); err != nil {
		return d, err
	}
	if err := c.BodyParser(&d); err != nil {
		return d, ehi.Errorf(ehi.Invalid, `The body must be empty, or hold a "reason" and "contents", as JSON or as a form`)
	}
	return d, nil
}

func (s *Server) handleAdminDelete(c *fiber.Ctx) error {
	if err := s.deleteJob(c); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Export deleted"})
}

// deleteJob deletes the request's job at an administrator's wish.
func (s *Server) deleteJob(c *fiber.Ctx) error {
	j, err := s.jobRecord(c)
	if err != nil {
		return err
	}
	return s.jobs.Delete(c.UserContext(), s.Origins.Acting(c), j)
}

// handleSweep tells what the janitor would remove, and waits for an administrator's word to.
func (s *Server) handleSweep(c *fiber.Ctx) error {
	waiting := s.Sweeps.SweepsWaiting()
	return c.JSON(fiber.Map{"files": waiting["files"], "records": waiting["records"], "exports": waiting["exports"]})
}

// handleAllowSweep gives that word, for as much as waits now.
func (s *Server) handleAllowSweep(c *fiber.Ctx) error {
	waiting := s.Sweeps.SweepsWaiting()
	s.Sweeps.AllowSweep()
	said := fmt.Sprintf("let the janitor remove the files of %d jobs, and the records of tasks of %d, "+
		"whose own records are gone, and make %d exports anew that lack records of tasks",
		waiting["files"], waiting["records"], waiting["exports"])
	s.Log.Warn(said, "by", request.AdministratorName(c))
	s.trail.Record(c, nil, ehi.Event{Action: ehi.ActionAdministrate, Detail: said})
	return s.handleSweep(c)
}

// handleLogLevel tells how much is logged.
func (s *Server) handleLogLevel(c *fiber.Ctx) error {
	if s.Level == nil {
		return ehi.Errorf(ehi.Unsupported, "The log's level is fixed here")
	}
	return c.JSON(fiber.Map{"level": s.Level.Level().String()})
}

// handleSetLogLevel changes how much is logged, until the process ends: debug has a line for each request.
func (s *Server) handleSetLogLevel(c *fiber.Ctx) error {
	var in struct {
		Level string `json:"level" form:"level"`
	}
	var level slog.Level
	if err := content.Unambiguous(c); err != nil {
		return err
	}
	if err := c.BodyParser(&in); err != nil || level.UnmarshalText([]byte(in.Level)) != nil {
		return ehi.Errorf(ehi.Invalid, `The body must hold a level: debug, info, warn or error`)
	}
	if s.Level == nil {
		return ehi.Errorf(ehi.Unsupported, "The log's level is fixed here")
	}
	s.Level.Set(level)
	s.Log.Info("the log's level was changed", "level", level, "by", request.AdministratorName(c))
	s.trail.Record(c, nil, ehi.Event{Action: ehi.ActionAdministrate, Detail: "log level " + level.String()})
	return s.handleLogLevel(c)
}

// handleAdminLogin opens a session (EHI-10). A wrong name and a wrong password are answered alike.
func (s *Server) handleAdminLogin(c *fiber.Ctx) error {
	var in struct {
		Username string `json:"username" form:"username"`
		Password string `json:"password" form:"password"`
		Code     string `json:"code" form:"code"`
	}
	if content.Unambiguous(c) == nil {
		_ = c.BodyParser(&in) // what holds no name and password is a wrong log-in as any other
	}
	who, err := s.admins.SignIn(c, in.Username, in.Password, in.Code)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"username": who.Name})
}

func (s *Server) handleAdminLogout(c *fiber.Ctx) error {
	if err := s.admins.LogOut(c); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Logout successful"})
}
