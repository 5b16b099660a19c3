package standalone

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"ehi-server/shared/telemetry"
)

// checkTime bounds one readiness check.
const checkTime = 5 * time.Second

// watch serves /metrics, /healthz and /readyz until stop is called. ready checks everything that
// the worker depends on.
func watch(
	addr string, log *slog.Logger, ready func(context.Context) error,
) (stop func() error, err error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", telemetry.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTime)
		defer cancel()
		if err := ready(ctx); err != nil {
			log.Warn("not ready", "err", err)
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	url, stop, err := telemetry.Serve(addr, mux)
	if err == nil {
		log.Info("watching", "url", url)
	}
	return stop, err
}
