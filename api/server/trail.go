package server

import (
	"strings"

	"ehi-server/shared/ehi"
)

// Each route of administrators says what it leaves in the audit trail; one that does not say it
// cannot be registered (see Server.register).

// leaving is what a route leaves in the audit trail.
type leaving struct {
	// reads is whether the route itself records that its answer was read; else its handler
	// records an event of action.
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
	"GET /admin":                read,
	"GET /admin/ui/login":       aForm,
	"POST /admin/ui/login":      leaves(ehi.ActionLogIn),
	"GET /admin/ui/login/code":  aForm,
	"POST /admin/ui/login/code": leaves(ehi.ActionLogIn),
	"POST /admin/ui/login/openid": {
		nothing: "it leads to the provider; the way back leaves the event",
	},
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
	"POST /admin/ui/jobs/:id/held":           leaves(ehi.ActionRelease),
	"GET /admin/ui/system":                   noPerson,
	"GET /admin/ui/clients":                  noPerson,
	"POST /admin/ui/clients":                 leaves(ehi.ActionAdministrate),
	"GET /admin/ui/accounts":                 read,
	"POST /admin/ui/accounts":                leaves(ehi.ActionAdministrate),
	"GET /admin/ui/audit":                    leaves(ehi.ActionAudit),

	"GET /admin/ui/jobs/:id/held/documents/:file": leaves(ehi.ActionRead),
	"GET /admin/ui/jobs/:id/held/tables/:file":    leaves(ehi.ActionRead),

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
	"GET /admin/jobs/:id/held":                         read,
	"POST /admin/jobs/:id/held":                        leaves(ehi.ActionRelease),
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

// trailOf is the trail of a route that is of administrators, or lets them pass beside others. A
// route without one cannot be registered.
func trailOf(method, path string) (t leaving, ofStaff, declared bool) {
	r, _ := ruleOf(method, path)
	if !r.staff && path != "/admin" && !strings.HasPrefix(path, "/admin/") {
		return leaving{}, false, true
	}
	t, declared = trails[method+" "+path]
	return t, true, declared
}
