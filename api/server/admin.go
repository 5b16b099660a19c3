package server

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/auth"
	"ehi-server/exporter/worker"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
	"ehi-server/shared/tracing"
)

// handleAdminLogin opens a session (EHI-10). A wrong name and a wrong password are answered alike.
func (s *Server) handleAdminLogin(c *fiber.Ctx) error {
	var in struct {
		Username string `json:"username" form:"username"`
		Password string `json:"password" form:"password"`
	}
	if err := c.BodyParser(&in); err != nil {
		return ehi.Errorf(ehi.Invalid, "The body must hold username and password, as JSON or as a form")
	}
	who, err := s.checkAdmin(c, in.Username, in.Password)
	s.audit(c, err, ehi.Event{Action: ehi.ActionLogIn, Agent: "admin " + known(err, in.Username)})
	if err != nil {
		telemetry.Logins.WithLabelValues("admin", "refused").Inc()
		return err
	}
	telemetry.Logins.WithLabelValues("admin", "ok").Inc()
	if err := logIn(c, s.admins, who); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"username": who["name"]})
}

// known is a name that may be written down: one that was not found may be anything, also a password in the wrong field.
func known(err error, name string) string {
	if err != nil {
		return "(unknown)"
	}
	return name
}

// checkAdmin finds out who logs in, and what his session says. The administrator of the configuration goes before an account of his name.
func (s *Server) checkAdmin(c *fiber.Ctx, name, password string) (who map[string]string, err error) {
	if s.AdminPassword != "" && name == s.AdminUser {
		if err := s.Auth.LogInByConfig(c.UserContext(), s.AdminUser, s.AdminPassword, name, password); err != nil {
			return nil, locked(c, err)
		}
		return map[string]string{"name": name, "by": byConfig}, nil
	}
	a, err := s.Auth.LogIn(c.UserContext(), "admin", name, password)
	if err != nil {
		return nil, locked(c, err)
	}
	return map[string]string{"name": a.Name, "changed": changed(a)}, nil
}

// changed is when an account's password was last set, as sessions note it.
func changed(a auth.Account) string { return a.Changed.Format(time.RFC3339Nano) }

// locked turns the refusal of a locked account into an answer that says when to come back.
func locked(c *fiber.Ctx, err error) error {
	l, ok := errors.AsType[*auth.Locked](err)
	if !ok {
		return err
	}
	telemetry.AbuseRefused.WithLabelValues("account").Inc()
	return tooMany(c, l.For, "Too many wrong passwords for this name")
}

func (s *Server) handleAdminLogout(c *fiber.Ctx) error {
	name, _, err := s.administrator(c)
	if err != nil {
		return err
	}
	if name != "" {
		s.audit(c, nil, ehi.Event{Action: ehi.ActionLogOut, Agent: "admin " + name})
	}
	if err := logOut(c, s.admins, "sid"); err != nil {
		return err
	}
	return c.JSON(fiber.Map{"message": "Logout successful"})
}

// jobJSON is a job as administrators and the form's client see it (EHI-10).
type jobJSON struct {
	ID             string            `json:"id"`
	Patient        ehi.Patient       `json:"patient"`
	Level          string            `json:"level"` // patient, patients, group, system
	Group          string            `json:"group,omitempty"`
	Manifest       json.RawMessage   `json:"manifest"`
	Status         ehi.Status        `json:"status"`
	CreatedAt      int64             `json:"createdAt"`   // ms since 1970
	CompletedAt    int64             `json:"completedAt"` // ms since 1970, 0 while it is not completed
	Parameters     any               `json:"parameters"`
	Authorizations any               `json:"authorizations"`
	Attachments    []fhir.Attachment `json:"attachments"`
	AutoApprove    bool              `json:"autoApprove"`
	Progress       string            `json:"progress,omitempty"`
	Counts         map[string]int64  `json:"counts"`
	Withheld       map[string]int64  `json:"withheld"`
	Approvals      []string          `json:"approvals,omitempty"` // of four eyes
	Error          string            `json:"error,omitempty"`
}

func (s *Server) jobJSON(c *fiber.Ctx, j *ehi.Job) jobJSON {
	out := jobJSON{
		ID: j.ID, Patient: j.Patient, Level: j.Level.Kind(), Group: j.Group, Manifest: json.RawMessage("null"), Status: j.Status, CreatedAt: j.CreatedAt.UnixMilli(), AutoApprove: j.AutoApprove,
		Attachments: []fhir.Attachment{}, Counts: orEmpty(j.Counts), Withheld: orEmpty(j.Withheld), Approvals: j.Approvals, Error: j.Error,
	}
	if !j.CompletedAt.IsZero() {
		out.CompletedAt = j.CompletedAt.UnixMilli()
	}
	out.Parameters, out.Authorizations = j.Form.MarshalWire()
	for _, a := range j.Attachments {
		out.Attachments = append(out.Attachments, s.wireAttachment(c, j, a))
	}
	if !j.Status.Settled() {
		out.Progress = s.progressText(j)
	}
	return out
}

// withManifest adds the manifest to a job whose files are there.
func (s *Server) withManifest(c *fiber.Ctx, j *ehi.Job) (jobJSON, error) {
	out := s.jobJSON(c, j)
	if j.Status != ehi.Retrieved && j.Status != ehi.Approved {
		return out, nil
	}
	var err error
	out.Manifest, err = s.manifest(c, j)
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
		return j.Status != ehi.Aborted && (status == "" || j.Status == status) && (j.ExpiresAt.IsZero() || at.Before(j.ExpiresAt))
	}, c.Query("after"), limit)
	out := make([]jobJSON, 0, len(list))
	for _, entry := range list {
		j, err := s.Bus.Jobs.Peek(c.UserContext(), entry.ID)
		if ehi.CodeOf(err) == ehi.NotFound { // deleted meanwhile
			continue
		}
		if err != nil {
			return err
		}
		out = append(out, s.jobJSON(c, j))
	}
	return c.JSON(out)
}

func (s *Server) handleAdminJob(c *fiber.Ctx) error {
	j, err := s.jobRecord(c)
	return s.sendJob(c, j, err)
}

func (s *Server) handleApprove(c *fiber.Ctx) error {
	return s.decide(c, ehi.ActionApprove, func(j *ehi.Job) error {
		if s.FourEyes {
			return j.ApproveByTwo(adminOf(c), now(), s.FileTTL)
		}
		return j.Approve(adminOf(c), now(), s.FileTTL)
	})
}

func (s *Server) handleReject(c *fiber.Ctx) error {
	return s.decide(c, ehi.ActionReject, func(j *ehi.Job) error { return j.Reject(adminOf(c), now()) })
}

func (s *Server) decide(c *fiber.Ctx, action ehi.Action, change func(*ehi.Job) error) error {
	before, err := s.jobRecord(c)
	if err != nil {
		return err
	}
	var retrieved time.Time
	j, err := s.Bus.Jobs.Update(c.UserContext(), c.Params("id"), func(j *ehi.Job) error {
		retrieved = j.CompletedAt
		return change(j)
	})
	s.audit(c, err, aboutJob(action, before))
	if err == nil && j.Status != ehi.Retrieved { // not the first of two approvals
		telemetry.JobsEnded.WithLabelValues(j.Level.Kind(), string(j.Status)).Inc()
		s.Log.Info("job decided", "job", j.ID, "status", j.Status, "by", adminOf(c), "request", requestID(c))
		tracing.Observe(c.UserContext(), telemetry.JobPhase.WithLabelValues("review", string(j.Lane)), now().Sub(retrieved))
	}
	return s.sendJob(c, j, err)
}

func (s *Server) handleAdminDelete(c *fiber.Ctx) error {
	j, err := s.jobRecord(c)
	if err != nil {
		return err
	}
	err = worker.Delete(c.UserContext(), s.Bus, s.Files, j.ID, nil)
	s.audit(c, err, aboutJob(ehi.ActionDelete, j))
	if err != nil {
		return err
	}
	s.Log.Info("job deleted", "job", j.ID, "by", adminOf(c), "request", requestID(c))
	return c.JSON(fiber.Map{"message": "Export deleted"})
}

// maxAttachmentName is the longest name of a document, in bytes.
const maxAttachmentName = 90

// maxAttachments bounds the attachments of one job, so that its record stays small.
const maxAttachments = 100

// handleAddFiles stores documents beside an export (EHI-11). The upload is streamed to the disk part by part.
func (s *Server) handleAddFiles(c *fiber.Ctx) error {
	j, err := s.jobRecord(c)
	if err != nil {
		return err
	}
	if err := j.CanAttach(); err != nil {
		return err
	}
	_, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil || params["boundary"] == "" {
		return errNoAttachments
	}
	added, err := s.storeParts(c, j, multipart.NewReader(s.upload(c), params["boundary"]))
	if err == nil && len(added) == 0 {
		err = errNoAttachments
	}
	id, patient := j.ID, j.Patient.ID
	if err == nil {
		j, err = s.listAttachments(c, id, added)
	}
	if err != nil && !bus.IsAway(err) { // where NATS did not answer, the job may list them: then the janitor sees to it
		for _, a := range added {
			err = errors.Join(err, s.Files.RemoveAttachment(id, a.Object))
		}
	}
	s.audit(c, err, ehi.Event{Action: ehi.ActionAttach, Job: id, Patient: patient})
	return s.sendJob(c, j, err)
}

var errNoAttachments = ehi.Errorf(ehi.Invalid, `Called "addFiles" without uploaded "attachments"`)

// storeParts streams each file of the field "attachments" to the store. What it stored is returned also with an error.
func (s *Server) storeParts(c *fiber.Ctx, j *ehi.Job, r *multipart.Reader) (added []ehi.Attachment, err error) {
	taken := map[string]bool{}
	for _, a := range j.Attachments {
		taken[a.Name] = true
	}
	for {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return added, nil
		}
		if err != nil {
			return added, brokenBody(c, err)
		}
		if part.FormName() != "attachments" || part.FileName() == "" {
			continue
		}
		if len(added) == s.AttachmentsPerCall || len(taken) == maxAttachments {
			return added, ehi.Errorf(ehi.Invalid, "At most %d attachments a call and %d an export can be added", s.AttachmentsPerCall, maxAttachments)
		}
		a, err := s.storePart(c, j.ID, uniqueName(part.FileName(), taken), part)
		if err != nil {
			return added, err
		}
		taken[a.Name] = true
		added = append(added, a)
	}
}

func (s *Server) storePart(c *fiber.Ctx, job, name string, part *multipart.Part) (ehi.Attachment, error) {
	head := make([]byte, 512)
	n, err := io.ReadFull(part, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return ehi.Attachment{}, brokenBody(c, err)
	}
	a := ehi.Attachment{Name: name, ContentType: sniff(head[:n], name), CreatedAt: now().Truncate(time.Millisecond)}
	a.Object, a.Size, a.SHA1, err = s.Files.PutAttachment(job, io.MultiReader(strings.NewReader(string(head[:n])), part), s.AttachmentBytes)
	switch {
	case errors.Is(err, files.ErrTooLarge):
		return a, ehi.Errorf(ehi.TooLarge, "The file %q is larger than %d bytes", name, s.AttachmentBytes)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		return a, brokenBody(c, err)
	case files.IsFull(err):
		return a, errors.Join(errNoSpace, err)
	}
	return a, err
}

// sniff tells a content type by the bytes, and by the name's ending where they say nothing particular. What the uploader
// claims is not asked.
func sniff(head []byte, name string) string {
	t := http.DetectContentType(head)
	if strings.HasPrefix(t, "text/html") { // never as a page of this origin
		return "text/plain; charset=utf-8"
	}
	if t == "application/octet-stream" || strings.HasPrefix(t, "text/plain") {
		switch byName := mime.TypeByExtension(path.Ext(name)); {
		case strings.Contains(byName, "html"), strings.Contains(byName, "script"), strings.Contains(byName, "svg"):
		case byName != "":
			return byName
		}
	}
	return t
}

// uniqueName cleans an uploaded name of paths, control characters and quotes, and numbers it where it is taken.
func uniqueName(name string, taken map[string]bool) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r == '"', r == unicode.ReplacementChar:
			return -1
		case r > unicode.MaxASCII: // a header's file name is ASCII
			return '_'
		}
		return r
	}, name)
	name = strings.TrimLeft(strings.TrimSpace(name), ".")
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if stem == "" {
		stem = "attachment"
	}
	ext = ext[:min(len(ext), 20)]
	stem = stem[:min(len(stem), maxAttachmentName-len(ext)-8)]
	for n, candidate := 1, stem+ext; ; n++ {
		if !taken[candidate] {
			return candidate
		}
		candidate = stem + "-" + strconv.Itoa(n) + ext
	}
}

// listAttachments adds stored documents to the job's record, if it still takes them.
func (s *Server) listAttachments(c *fiber.Ctx, id string, added []ehi.Attachment) (*ehi.Job, error) {
	return s.Bus.Jobs.Update(c.UserContext(), id, func(j *ehi.Job) error {
		if err := j.CanAttach(); err != nil {
			return err
		}
		for _, a := range added {
			if _, clash := j.Attachment(a.Name); clash {
				return ehi.Errorf(ehi.Transient, "Another upload took the name %q; try again", a.Name)
			}
		}
		j.Attachments = append(slices.Clip(j.Attachments), added...)
		return nil
	})
}

// handleRemoveFiles removes documents by name (EHI-11).
func (s *Server) handleRemoveFiles(c *fiber.Ctx) error {
	var in struct {
		Params []string `json:"params"`
	}
	if err := c.BodyParser(&in); err != nil || len(in.Params) == 0 {
		return ehi.Errorf(ehi.Invalid, `The body must be JSON with the names of attachments in "params"`)
	}
	if _, err := s.jobRecord(c); err != nil {
		return err
	}
	var removed []string
	j, err := s.Bus.Jobs.Update(c.UserContext(), c.Params("id"), func(j *ehi.Job) error {
		if err := j.CanAttach(); err != nil {
			return err
		}
		for _, name := range in.Params {
			if _, ok := j.Attachment(name); !ok {
				return ehi.Errorf(ehi.NotFound, "There is no attachment %q", name)
			}
		}
		removed = nil
		var kept []ehi.Attachment
		for _, a := range j.Attachments {
			if slices.Contains(in.Params, a.Name) {
				removed = append(removed, a.Object)
			} else {
				kept = append(kept, a)
			}
		}
		j.Attachments = kept
		return nil
	})
	if err != nil {
		return err
	}
	for _, object := range removed {
		err = errors.Join(err, s.Files.RemoveAttachment(j.ID, object))
	}
	s.audit(c, err, aboutJob(ehi.ActionDetach, j))
	return s.sendJob(c, j, err)
}

func escapeName(name string) string { return url.PathEscape(name) }

func unescapeName(name string) string {
	if n, err := url.PathUnescape(name); err == nil {
		return n
	}
	return name
}

// instant renders a time, "" for none.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fhir.FormatInstant(t)
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
	if err := c.BodyParser(&in); err != nil || level.UnmarshalText([]byte(in.Level)) != nil {
		return ehi.Errorf(ehi.Invalid, `The body must hold a level: debug, info, warn or error`)
	}
	if s.Level == nil {
		return ehi.Errorf(ehi.Unsupported, "The log's level is fixed here")
	}
	s.Level.Set(level)
	s.Log.Info("the log's level was changed", "level", level, "by", adminOf(c))
	s.audit(c, nil, ehi.Event{Action: ehi.ActionAdministrate, Detail: "log level " + level.String()})
	return s.handleLogLevel(c)
}
