package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

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
	Problems     string // what could not be asked
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
	out.Stored, out.Free = s.Bus.Jobs.Stored(), free
	if err := errors.Join(append(problems, err, e)...); err != nil {
		out.Problems = err.Error()
	}
	return out
}

// handleStaffSystem shows how the server does.
func (s *Server) handleStaffSystem(c *fiber.Ctx) error {
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	return s.staffRender(c, "system", "system", "System", fiber.Map{
		"State": s.state(c), "Plots": s.samples.plots(), "Version": telemetry.Version(), "Host": host, "PID": os.Getpid(), "Up": age(time.Since(began)), "Words": statusWords,
		"Ready": s.ready(c), "Goroutines": runtime.NumGoroutine(),
	})
}

// handleStaffClients lists the registered clients.
func (s *Server) handleStaffClients(c *fiber.Ctx) error { return s.renderClients(c, fiber.Map{}) }

func (s *Server) renderClients(c *fiber.Ctx, data fiber.Map) error {
	list, err := s.Auth.Clients(c.UserContext())
	if err != nil {
		return err
	}
	data["Clients"], data["Kinds"], data["Sandbox"] = list, []auth.Kind{auth.Public, auth.Symmetric, auth.Asymmetric}, s.Sandbox
	return s.staffRender(c, "clients", "clients", "Clients", data)
}

// handleStaffChangeClient adds a client, gives it a new secret, or removes it.
func (s *Server) handleStaffChangeClient(c *fiber.Ctx) error {
	ctx, id := c.UserContext(), c.FormValue("id")
	switch c.FormValue("do") {
	case "add":
		in := auth.Client{
			ID: strings.TrimSpace(id), Name: c.FormValue("name"), Kind: auth.Kind(c.FormValue("kind")), RedirectURIs: strings.Fields(c.FormValue("redirects")), Scope: strings.Join(strings.Fields(c.FormValue("scope")), " "),
			JWKSURI: strings.TrimSpace(c.FormValue("jwks_uri")), JWKS: json.RawMessage(strings.TrimSpace(c.FormValue("jwks"))), CreatedBy: agent(c),
		}
		client, secret, err := s.Auth.AddClient(ctx, in)
		if err = s.administrate(c, err, "add client "+client.ID); ehi.CodeOf(err) == ehi.Invalid || ehi.CodeOf(err) == ehi.Conflict {
			c.Status(http.StatusBadRequest)
			return s.renderClients(c, fiber.Map{"Problem": err.Error(), "In": in, "Redirects": c.FormValue("redirects")})
		}
		if err != nil {
			return err
		}
		return s.renderClients(c, fiber.Map{"Added": client, "Secret": secret})
	case "rotate":
		secret, err := s.Auth.RotateSecret(ctx, id)
		if err := s.administrate(c, err, "rotate the secret of a client"); err != nil {
			return err
		}
		client, err := s.Auth.Client(ctx, id)
		if err != nil {
			return err
		}
		return s.renderClients(c, fiber.Map{"Added": client, "Secret": secret})
	case "remove":
		if err := s.administrate(c, s.Auth.RemoveClient(ctx, id), "remove a client"); err != nil {
			return err
		}
		return c.Redirect(staffBase+"/clients", http.StatusSeeOther)
	}
	return errNoSuchChange
}

var errNoSuchChange = ehi.Errorf(ehi.Invalid, "There is no such change")

// handleStaffAccounts lists the accounts.
func (s *Server) handleStaffAccounts(c *fiber.Ctx) error { return s.renderAccounts(c, fiber.Map{}) }

func (s *Server) renderAccounts(c *fiber.Ctx, data fiber.Map) error {
	list, err := s.Auth.Accounts(c.UserContext())
	if err != nil {
		return err
	}
	data["Accounts"], data["Roles"] = list, auth.Roles()
	return s.staffRender(c, "accounts", "accounts", "Accounts", data)
}

// handleStaffChangeAccount adds an account, sets its password, or removes it.
func (s *Server) handleStaffChangeAccount(c *fiber.Ctx) error {
	ctx, kind, name := c.UserContext(), c.FormValue("kind"), strings.TrimSpace(c.FormValue("username"))
	var err error
	done := ""
	switch c.FormValue("do") {
	case "add":
		in := auth.Account{Name: name, Role: auth.Role(c.FormValue("role")), Patient: strings.TrimSpace(c.FormValue("patient"))}
		if in.Patient != "" {
			in.Role = ""
			_, err = s.Source.Patient(ctx, in.Patient)
		}
		if err == nil {
			_, err = s.Auth.AddAccount(ctx, in, c.FormValue("password"))
		}
		err, done = s.administrate(c, err, "add account of kind "+in.Kind()), "The account was added."
	case "password":
		err, done = s.administrate(c, s.Auth.SetPassword(ctx, kind, name, c.FormValue("password")), "set the password of an account of kind "+kind), "The password was set; sessions from before are void."
	case "remove":
		err, done = s.administrate(c, s.Auth.RemoveAccount(ctx, kind, name), "remove an account of kind "+kind), "The account was removed."
	default:
		return errNoSuchChange
	}
	if err != nil {
		status, _, text := s.describe(c, err)
		c.Status(status)
		return s.renderAccounts(c, fiber.Map{"Problem": text, "Username": name, "Patient": c.FormValue("patient")})
	}
	return s.renderAccounts(c, fiber.Map{"Message": done})
}
