package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"ehi-server/shared/telemetry"
)

// meters publishes the metrics of one run for Prometheus, labelled with its name.
type meters struct{ run string }

// begun publishes the settings of the run.
func (m meters) begun(c *config, at time.Time) {
	telemetry.LoadRun.WithLabelValues(m.run, c.URL, c.Mix.String(), strconv.Itoa(c.Concurrency),
		strconv.FormatFloat(c.Rate, 'g', -1, 64)).Set(float64(at.Unix()))
}

// scraped is a /metrics handler that knows the time of the last scrape.
type scraped struct {
	metrics http.Handler
	mu      sync.Mutex
	next    chan struct{} // closed by the next scrape
	ever    atomic.Bool
}

// ServeHTTP implements http.Handler.
func (s *scraped) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.metrics.ServeHTTP(w, r)
	s.ever.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.next)
	s.next = make(chan struct{})
}

// lastScrape is how long a finished run waits for a last scrape, if it was scraped before.
const lastScrape = time.Minute

// serve serves the metrics of the run; stop waits until its end has been scraped.
func (c *config) serve(ctx context.Context) (stop func() error, err error) {
	s := &scraped{metrics: telemetry.LoadHandler(), next: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s)
	url, end, err := telemetry.Serve(c.MetricsAddr, mux)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "metrics of the run %s: %s/metrics\n", c.RunName, url)
	return func() error {
		s.mu.Lock()
		next := s.next
		s.mu.Unlock()
		if s.ever.Load() {
			select {
			case <-next:
			case <-ctx.Done():
			case <-time.After(lastScrape):
			}
		}
		return end()
	}, nil
}
