package server

import (
	"log/slog"
	"sync/atomic"

	"ehi-server/api/condition"
	"ehi-server/exporter/jobs"
)

// readiness reports whether the process can do its work.
type readiness struct {
	jobs      *jobs.Service
	condition *condition.Watch
	log       *slog.Logger
	lacking   atomic.Pointer[string] // why it was not ready at the last look; "" if it was
}

// Ready finds out by doing some of the work (see condition.Watch). It logs each reason once,
// however often it is called.
func (r *readiness) Ready() error {
	err := r.jobs.Working()
	if err == nil {
		err = r.condition.Ready()
	}
	why := ""
	if err != nil {
		why = err.Error()
	}
	if before := r.lacking.Swap(&why); why != "" && (before == nil || *before != why) {
		r.log.Warn("not ready", "err", err)
	}
	return err
}
