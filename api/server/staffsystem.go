package server

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/page"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// laneState is how a lane's queue and workers do.
type laneState struct {
	Name            ehi.Lane
	Pending         uint64
	InHand, Waiting int
	Oldest          string
}

// statusState is how many jobs are in a status, and since when.
type statusState struct {
	Name   ehi.Status
	Jobs   int
	Oldest string
}

// streamState is what a stream holds.
type streamState struct {
	Name           string
	Records, Bytes int64
}

// systemState is what the server is doing.
type systemState struct {
	Lanes        []laneState
	Statuses     []statusState
	Streams      []streamState
	Stored, Free int64
	Waiting      map[string]int // what the keeper would remove, see Sweeps
	Exporters    []ehi.Exporter // that have joined
	Problems     string         // what could not be asked
}

func (s *Server) state(c *fiber.Ctx) systemState {
	ctx, at := c.UserContext(), now()
	var problems []error
	var out systemState
	for _, name := range ehi.Lanes() {
		n, since, err := s.Bus.Backlog(ctx, name)
		inHand, waiting, e := s.Bus.Hands(ctx, name)
		problems = append(problems, err, e)
		out.Lanes = append(out.Lanes, laneState{name, n, inHand, waiting, sinceText(at, since)})
	}
	standing := s.Bus.Jobs.ByStatus()
	for _, name := range ehi.Statuses() {
		if name == ehi.Aborted { // on its way out
			continue
		}
		out.Statuses = append(out.Statuses, statusState{name, standing[name].Jobs, sinceText(at, standing[name].Oldest)})
	}
	streams, err := s.Bus.Usage(ctx)
	free, e := s.Files.Free()
	for _, u := range streams {
		out.Streams = append(out.Streams, streamState{u.Stream, int64(u.Records), int64(u.Bytes)})
	}
	exporters, unheard := s.exporters(ctx)
	out.Exporters, problems = exporters, append(problems, unheard)
	out.Waiting = s.Sweeps.SweepsWaiting()
	out.Stored, out.Free = s.Bus.Jobs.Stored(), free
	if err := errors.Join(append(problems, err, e)...); err != nil {
		out.Problems = err.Error()
	}
	return out
}

// exportersTime is how long the roster of exporters may take.
const exportersTime = 2 * time.Second

// exporters lists the exporters that have joined.
func (s *Server) exporters(ctx context.Context) ([]ehi.Exporter, error) {
	ctx, cancel := context.WithTimeout(ctx, exportersTime)
	defer cancel()
	return s.Bus.Fleet.Exporters(ctx)
}

// handleStaffSystem shows how the server does.
func (s *Server) handleStaffSystem(c *fiber.Ctx) error {
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	unready := make(chan error, 1)
	go func() { unready <- s.readiness.Ready() }() // it waits for NATS too, and ends by itself
	state := s.state(c)
	damaged, err := s.damagedFiles(c.UserContext(), "")
	if err != nil {
		state.Problems = strings.TrimPrefix(state.Problems+"\n"+err.Error(), "\n")
	}
	return s.adminPages.render(c, "system", "system", "System", fiber.Map{
		"Damaged": damaged,
		"State":   state, "Plots": s.samples.Plots(),
		"Version": telemetry.Version(), "Host": host, "PID": os.Getpid(),
		"Up": age(time.Since(began)), "Words": statusWords,
		"Unready": <-unready, "Rescue": s.Condition.Rescue(), "Goroutines": runtime.NumGoroutine(),
	})
}

// handleStaffClients lists the registered clients.
func (s *Server) handleStaffClients(c *fiber.Ctx) error {
	list, err := s.Auth.Clients(c.UserContext())
	if err != nil {
		return err
	}
	list, pages := paged(c, list, func(one auth.Client, s search) bool { return s.name(one.Name) || s.id(one.ID) })
	kinds := []auth.Kind{auth.Public, auth.Symmetric, auth.Asymmetric}
	return s.adminPages.render(c, "clients", "clients", "Clients", fiber.Map{"Clients": list, "Pages": pages, "Kinds": kinds, "Sandbox": s.Sandbox})
}

const staffClients, staffAccounts = staffBase + "/clients", staffBase + "/accounts"

// handleStaffChangeClient adds a client, gives it a new secret, or removes it.
func (s *Server) handleStaffChangeClient(c *fiber.Ctx) error {
	done, err := s.changeClient(c)
	if err != nil {
		return s.adminPages.again(c, staffClients, err)
	}
	return s.adminPages.leave(c, staffClients, done)
}

func (s *Server) changeClient(c *fiber.Ctx) (done staffFlash, err error) {
	id := strings.TrimSpace(page.Field(c, "id"))
	var client auth.Client
	var secret string
	switch page.Field(c, "do") {
	case "add":
		client, secret, err = s.clients.Add(c, newClient(c))
	case "rotate":
		client, secret, err = s.clients.RotateSecret(c, id)
	case "remove":
		done.Message = "The client was removed."
		return done, s.clients.Remove(c, id)
	default:
		err = errNoSuchChange
	}
	done.Added = &addedClient{client.ID, client.Name, secret}
	return done, err
}

// newClient is the client that a form describes.
func newClient(c *fiber.Ctx) auth.Client {
	return auth.Client{
		ID:           strings.TrimSpace(page.Field(c, "id")),
		Name:         page.Field(c, "name"),
		Kind:         auth.Kind(page.Field(c, "kind")),
		RedirectURIs: strings.Fields(page.Field(c, "redirects")),
		Scope:        strings.Join(strings.Fields(page.Field(c, "scope")), " "),
		JWKSURI:      strings.TrimSpace(page.Field(c, "jwks_uri")),
		JWKS:         json.RawMessage(strings.TrimSpace(page.Field(c, "jwks"))),
		MaySkipForm:  page.IsTick(page.Field(c, "may_skip_form")), MaySkipReview: page.IsTick(page.Field(c, "may_skip_review")),
	}
}

var errNoSuchChange = ehi.Errorf(ehi.Invalid, "There is no such change")

// handleStaffAccounts lists the accounts.
func (s *Server) handleStaffAccounts(c *fiber.Ctx) error {
	list, err := s.Auth.Accounts(c.UserContext())
	if err != nil {
		return err
	}
	list, pages := paged(c, list, func(one auth.Account, s search) bool {
		return s.name(one.Name) || s.id(one.Name) || s.id(one.Patient) || s.id(string(one.Role))
	})
	return s.adminPages.render(c, "accounts", "accounts", "Accounts", fiber.Map{
		"Accounts": list, "Pages": pages, "Roles": auth.Roles(), "Configured": s.Auth.Configured(s.AdminUser),
	})
}

// handleStaffChangeAccount adds an account, sets its password, resets its second factor, or removes it.
func (s *Server) handleStaffChangeAccount(c *fiber.Ctx) error {
	done, err := s.changeAccount(c)
	if err != nil {
		if ehi.CodeOf(err) == ehi.NotFound { // a patient who is not in the records is the form's fault
			err = ehi.Errorf(ehi.Invalid, "%s", err.Error())
		}
		return s.adminPages.again(c, staffAccounts, err)
	}
	return s.adminPages.leave(c, staffAccounts, staffFlash{Flash: page.Flash{Message: done}})
}

func (s *Server) changeAccount(c *fiber.Ctx) (done string, err error) {
	kind, name := page.Field(c, "kind"), strings.TrimSpace(page.Field(c, "username"))
	switch page.Field(c, "do") {
	case "add":
		in := auth.Account{Name: name, Role: auth.Role(page.Field(c, "role")), Patient: strings.TrimSpace(page.Field(c, "patient"))}
		if in.Patient != "" {
			in.Role = ""
		}
		_, err = s.accounts.Add(c, in, page.Field(c, "password"))
		return "The account was added.", err
	case "password":
		return "The password was set; sessions from before are void.",
			s.accounts.SetPassword(c, kind, name, page.Field(c, "password"))
	case "reset-second-factor":
		if kind != session.ByAccount && kind != session.ByConfig {
			return "", auth.ErrNoAccount
		}
		return "The second factor was reset; sessions from before are void.",
			s.accounts.ResetSecondFactor(c, kind, name)
	case "remove":
		return "The account was removed.", s.accounts.Remove(c, kind, name)
	}
	return "", errNoSuchChange
}
