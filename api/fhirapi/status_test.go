package fhirapi

import (
	"math"
	"testing"

	"ehi-server/shared/ehi"
)

// EHI-4: the progress text of a running export is short, and correct even if the total is
// unknown.
func TestEHI4ProgressIsTold(t *testing.T) {
	for _, c := range []struct {
		progress ehi.Progress
		known    bool
		counts   bool
		want     string
	}{
		{ehi.Progress{}, false, true, "requested: the export is queued, 0% done"},
		{ehi.Progress{Done: 5, Total: 20}, true, true, "requested: 25% done, 5 of 20 resources"},
		{ehi.Progress{Total: 20}, true, true, "requested: 0% done, 0 of 20 resources"},
		{ehi.Progress{Done: 79565}, true, true, "requested: 79565 resources done"},
		{ehi.Progress{Done: math.MaxInt64 / 100, Total: math.MaxInt64 / 100}, true, true,
			"requested: 99% done, 92233720368547758 of 92233720368547758 resources"},
		{ehi.Progress{Done: 5, Total: 20}, true, false, "requested: 25% done"},
		{ehi.Progress{Done: 79565}, true, false, "requested: the export is running"},
	} {
		if got := patientProgress(c.progress, c.known, c.counts); got != c.want || len(got) >= 100 {
			t.Errorf("%+v: %s", c.progress, got)
		}
	}
}
