package server

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/session"
	"ehi-server/api/trail"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Each route of administrators says what it leaves in the audit trail; one that does not say it cannot
// be registered (see Server.register).

// leaving is what a route leaves in the audit trail.
type leaving struct {
	// reads is whether the route itself records that its answer was read; else its handler records an
	// event of action.
	reads  bool
	action ehi.Action
	// nothing is why there is no event, "" where there is one.
	nothing string
}

// leaves is the trail of a route whose handler records an event.
func leaves(action ehi.Action) leaving { return leaving{action: action} }

// read is the trail of a route that shows names, choices or withheld counts of patients.
var read = leaving{reads: true, action: ehi.ActionRead}

// Why routes leave nothing.
var (
	noPerson = leaving{nothing: "it shows nothing of a person, and changes nothing"}
	aForm    = leaving{nothing: "it shows a form, and changes nothing"}
)

// trails is what each route of administrators leaves.
var trails = map[string]leaving{
	"GET /admin":                             read,
	"GET /admin/ui/login":                    aForm,
	"POST /admin/ui/login":                   leaves(ehi.ActionLogIn),
	"GET /admin/ui/login/code":               aForm,
	"POST /admin/ui/login/code":              leaves(ehi.ActionLogIn),
	"POST /admin/ui/login/openid":            {nothing: "it leads to the provider; the way back leaves the event"},
	"GET /admin/ui/login/openid/callback":    leaves(ehi.ActionLogIn),
	"GET /admin/ui/prove":                    aForm,
	"POST /admin/ui/prove":                   leaves(ehi.ActionLogIn),
	"GET /admin/ui/second-factor":            aForm,
	"POST /admin/ui/second-factor":           leaves(ehi.ActionAdministrate),
	"POST /admin/ui/logout":                  leaves(ehi.ActionLogOut),
	"GET /admin/ui/events":                   noPerson,
	"GET /admin/ui/jobs":                     read,
	"POST /admin/ui/jobs":                    leaves(ehi.ActionApprove),
	"GET /admin/ui/jobs/:id":                 read,
	"POST /admin/ui/jobs/:id":                leaves(ehi.ActionApprove),
	"POST /admin/ui/jobs/:id/remove-file":    leaves(ehi.ActionDetach),
	"POST /admin/ui/jobs/:id/delete":         leaves(ehi.ActionDelete),
	"GET /admin/ui/jobs/:id/files":           read,
	"GET /admin/ui/jobs/:id/files/:file":     leaves(ehi.ActionRead),
	"GET /admin/ui/jobs/:id/documents/:file": leaves(ehi.ActionRead),
	"GET /admin/ui/system":                   noPerson,
	"GET /admin/ui/clients":                  noPerson,
	"POST /admin/ui/clients":                 leaves(ehi.ActionAdministrate),
	"GET /admin/ui/accounts":                 read,
	"POST /admin/ui/accounts":                leaves(ehi.ActionAdministrate),
	"GET /admin/ui/audit":                    leaves(ehi.ActionAudit),

	"GET /jobs/:id/metadata": read,

	"POST /admin/login":                                leaves(ehi.ActionLogIn),
	"GET /admin/logout":                                leaves(ehi.ActionLogOut),
	"GET /admin/jobs":                                  read,
	"GET /admin/jobs/:id":                              read,
	"GET /admin/debug":                                 noPerson,
	"GET /admin/log-level":                             noPerson,
	"POST /admin/jobs/:id/approve":                     leaves(ehi.ActionApprove),
	"POST /admin/jobs/:id/reject":                      leaves(ehi.ActionReject),
	"POST /admin/jobs/:id/add-files":                   leaves(ehi.ActionAttach),
	"POST /admin/jobs/:id/remove-files":                leaves(ehi.ActionDetach),
	"DELETE /admin/jobs/:id":                           leaves(ehi.ActionDelete),
	"POST /admin/import":                               leaves(ehi.ActionImport),
	"GET /admin/backup":                                leaves(ehi.ActionBackup),
	"GET /admin/audit":                                 leaves(ehi.ActionAudit),
	"GET /admin/sweep":                                 noPerson,
	"POST /admin/sweep":                                leaves(ehi.ActionAdministrate),
	"PUT /admin/log-level":                             leaves(ehi.ActionAdministrate),
	"GET /admin/debug/pprof":                           noPerson,
	"GET /admin/clients":                               noPerson,
	"POST /admin/clients":                              leaves(ehi.ActionAdministrate),
	"GET /admin/clients/:id":                           noPerson,
	"DELETE /admin/clients/:id":                        leaves(ehi.ActionAdministrate),
	"POST /admin/clients/:id/rotate":                   leaves(ehi.ActionAdministrate),
	"GET /admin/accounts":                              read,
	"POST /admin/accounts":                             leaves(ehi.ActionAdministrate),
	"PUT /admin/accounts/:kind/:name":                  leaves(ehi.ActionAdministrate),
	"DELETE /admin/accounts/:kind/:name":               leaves(ehi.ActionAdministrate),
	"GET /admin/keys":                                  noPerson,
	"POST /admin/keys/rotate":                          leaves(ehi.ActionAdministrate),
	"DELETE /admin/accounts/:kind/:name/second-factor": leaves(ehi.ActionAdministrate),
}

// trailOf is the trail of a route that is of administrators, or lets them pass beside others. A route
// without one cannot be registered.
func trailOf(method, path string) (t leaving, ofStaff, declared bool) {
	r, _ := ruleOf(method, path)
	if !r.staff && path != "/admin" && !strings.HasPrefix(path, "/admin/") {
		return leaving{}, false, true
	}
	t, declared = trails[method+" "+path]
	return t, true, declared
}

// nameOf names a client as the trail does. What was typed and is no client's is not echoed.
func (s *Server) nameOf(c *fiber.Ctx, id string) string {
	client, err := s.Auth.Client(c.UserContext(), id)
	if err != nil {
		return "that is not known"
	}
	return client.ID + " (" + client.Name + ")"
}

// removeClient removes a client, and what it has begun.
func (s *Server) removeClient(c *fiber.Ctx, id string) error {
	what := "remove client " + s.nameOf(c, id)
	if err := s.trail.Change(c, s.Auth.RemoveClient(c.UserContext(), id), what); err != nil {
		return err
	}
	return s.jobs.EndNow(c.UserContext())
}

// rotateSecret gives a client a new secret.
func (s *Server) rotateSecret(c *fiber.Ctx, id string) (secret string, err error) {
	secret, err = s.Auth.RotateSecret(c.UserContext(), id)
	return secret, s.trail.Change(c, err, "rotate the secret of client "+s.nameOf(c, id))
}

// addAccount adds an account. One that was refused is not named: what was typed may be a password.
func (s *Server) addAccount(c *fiber.Ctx, in auth.Account, password string) (auth.Account, error) {
	a, err := in, error(nil)
	if in.Patient != "" {
		_, err = s.Source.Patient(c.UserContext(), in.Patient)
	}
	if err == nil {
		a, err = s.Auth.AddAccount(c.UserContext(), in, password)
	}
	if err != nil {
		return a, s.trail.Change(c, err, "add account of kind "+in.Kind())
	}
	return a, s.trail.Change(c, nil, "add "+described(a))
}

// described names an account that there is.
func described(a auth.Account) string {
	if a.Patient != "" {
		return "account " + a.Name + " of kind patient"
	}
	return "account " + a.Name + " of kind admin, role " + string(a.Role)
}

// accountOf finds an account, to name it.
func (s *Server) accountOf(c *fiber.Ctx, kind, name string) (a auth.Account, known bool) {
	if kind == session.ByAccount {
		return s.Auth.Administrator(name)
	}
	a, err := s.Auth.PatientAccount(c.UserContext(), name)
	return a, err == nil
}

// changeOf does something to an account, and records it with the account's name where there is one.
func (s *Server) changeOf(c *fiber.Ctx, what, kind, name string, do func() error) error {
	a, known := s.accountOf(c, kind, name)
	if !known {
		a = auth.Account{}
	}
	err := do()
	e := ehi.Event{Action: ehi.ActionAdministrate, Patient: a.Patient, Detail: what + " account that is not known"}
	if known {
		e.Detail = what + " " + described(a)
	}
	if err != nil {
		e.Detail += ": " + trail.Reason(err)
	}
	if s.trail.Record(c, err, e); err != nil {
		return err
	}
	s.authority.NoteEnded()
	return s.jobs.EndNow(c.UserContext())
}

// setPassword gives an account a new password.
func (s *Server) setPassword(c *fiber.Ctx, kind, name, password string) error {
	return s.changeOf(c, "set the password of", kind, name, func() error {
		return s.Auth.SetPassword(c.UserContext(), kind, name, password)
	})
}

// removeAccount removes an account, and ends what it has let in.
func (s *Server) removeAccount(c *fiber.Ctx, kind, name string) error {
	return s.changeOf(c, "remove", kind, name, func() error {
		return s.Auth.RemoveAccount(c.UserContext(), kind, name)
	})
}
