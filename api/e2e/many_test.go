package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// One request removes a client with thousands of exports, however slow NATS is. The exports are
// closed to the client immediately, and deleted in the background.
func TestAClientOfThousandsOfExportsIsRemoved(t *testing.T) {
	t.Parallel()
	const many = 3000
	p, w, nats := overWire(t, func(c *node.Config) { c.Keeper.Every = time.Hour })
	c := auth.Client{ID: "busy", Name: "Busy", RedirectURIs: []string{appRedirect}, Scope: appScope}
	if _, _, err := p.admin.AddClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC()
	for i := range many {
		j := &ehi.Job{
			Version:   ehi.RecordVersion,
			ID:        fmt.Sprintf("busy-%d", i),
			Level:     ehi.OnePatient,
			Operation: ehi.EHIExport,
			ClientID:  "busy",
			Patient:   ehi.Patient{ID: p.ann},
			Lane:      ehi.Interactive,
			Status:    ehi.AwaitingInput,
			WithForm:  true, CreatedAt: at, ExpiresAt: at.Add(time.Hour), Tasks: 1,
		}
		if err := nats.Jobs.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	left := func(b *bus.Bus) (n int) { // without a list, which would be sorted for each look
		b.Jobs.List(func(j bus.Summary) bool {
			if j.ClientID == "busy" {
				n++
			}
			return false
		})
		return n
	}
	await(t, "news of the exports", func() bool { return left(p.node.Bus) == many })
	admin := p.staff("ada")
	w.Slow(2 * time.Millisecond)
	began := time.Now()
	p.want(p.do(admin, "DELETE", "/admin/clients/busy"), http.StatusOK, "")
	took, rest := time.Since(began), left(nats)
	if took > 6*time.Second {
		t.Errorf("the removal took %v", took)
	}
	if rest == 0 {
		t.Error("all exports were deleted within the request: this tries nothing")
	}
	p.want(p.do(admin, "DELETE", "/admin/clients/busy"), http.StatusNotFound, "")
	w.Slow(0)
	for n := rest; n > 0; { // as long as there is progress
		await(t, "the end of more exports", func() bool { return left(nats) < n })
		n = left(nats)
	}
	t.Logf("answered after %v with %d of %d exports left, which were gone after %v", took, rest,
		many, time.Since(began))
}
