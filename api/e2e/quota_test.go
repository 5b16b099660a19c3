package e2e

import (
	"net/http"
	"strings"

	"ehi-server/api/client"
)

// kick kicks off an export of a patient.
func (w *world) kick(c *client.Client, base, patient string) *client.Answer {
	w.t.Helper()
	return w.do(c, "POST", base+"/fhir/Patient/"+patient+"/$ehi-export", "Accept",
		"application/fhir+json")
}

// usedUp requires that a response is the refusal by a quota.
func (w *world) usedUp(a *client.Answer, quota string) {
	w.t.Helper()
	w.want(a, http.StatusTooManyRequests, "The quota "+quota+" is used up")
	if !strings.Contains(string(a.Body), `"resourceType":"OperationOutcome"`) ||
		a.Header.Get("Retry-After") == "" {
		w.t.Errorf("%v %s", a.Header, a.Body)
	}
}
