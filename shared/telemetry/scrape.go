package telemetry

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

var samplers struct {
	sync.Mutex
	next int
	of   map[int]func()
}

// OnScrape calls f at each scrape before the metrics are read, until stop is called. f sets
// Sampled metrics.
func OnScrape(f func()) (stop func()) {
	samplers.Lock()
	defer samplers.Unlock()
	if samplers.of == nil {
		samplers.of = map[int]func(){}
	}
	n := samplers.next
	samplers.next++
	samplers.of[n] = f
	return func() {
		samplers.Lock()
		defer samplers.Unlock()
		delete(samplers.of, n)
	}
}

// Handler serves GET /metrics as text, as OpenMetrics with exemplars, or as protobuf with native
// histograms, depending on the Accept header.
func Handler() http.Handler {
	return handler(Registry)
}

// LoadHandler is Handler for the load generator, without the metrics of a server.
func LoadHandler() http.Handler {
	return handler(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all, err := Registry.Gather()
		return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool {
			return strings.HasPrefix(f.GetName(), "ehi_") &&
				!strings.HasPrefix(f.GetName(), "ehi_load_")
		}), err
	}))
}

func handler(g prometheus.Gatherer) http.Handler {
	metrics := promhttp.HandlerFor(g, promhttp.HandlerOpts{EnableOpenMetrics: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		samplers.Lock()
		for _, f := range samplers.of {
			f()
		}
		samplers.Unlock()
		metrics.ServeHTTP(w, r)
	})
}

// headerTime bounds how long the header of a request may take.
const headerTime = 5 * time.Second

// Serve serves h at an address until stop is called.
func Serve(addr string, h http.Handler) (url string, stop func() error, err error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTime}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	return "http://" + ln.Addr().String(), func() error {
		err := server.Close()
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	}, nil
}
