package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	"ehi-server/shared/telemetry"
)

// step is a part of a flow that is timed.
type step string

// The steps, in the order of a flow.
const (
	authorize step = "authorize"
	kickOff   step = "kick-off"
	status    step = "status"   // one poll
	complete  step = "complete" // from the answer to the kick-off until that with the manifest
	download  step = "download" // one file of the manifest, to its last byte
	native    step = "native"   // one document, table or archive, with the verification
	remove    step = "delete"
	// the whole flow; in an open model from its scheduled start, not from when a user was free
	flow step = "flow"
)

var steps = []step{authorize, kickOff, status, complete, download, native, remove, flow}

func (s step) known() bool { return slices.Contains(steps, s) }

// Latencies are recorded from a microsecond to an hour, with three significant digits.
const (
	leastMicros = 1
	mostMicros  = int64(time.Hour / time.Microsecond)
	digits      = 3
)

// recorder collects the measurements of all users.
type recorder struct {
	meters
	mu       sync.Mutex
	began    time.Time
	hist     map[step]*hdrhistogram.Histogram
	errors   map[string]int64 // by kind
	refused  map[step]int64   // 429 and 503 with Retry-After, which the user followed
	seconds  []second
	flows    map[action]int64 // successful ones
	states   map[string]int   // jobs by state, as known to the users
	files    int64
	lines    int64
	bytes    int64
	wrong    int64
	native   nativeResult
	examples []string // some of the errors
}

// second is what happened in one second of the run.
type second struct {
	Flows    int64          `json:"flows"`
	Requests int64          `json:"requests"`
	Bytes    int64          `json:"bytes"`
	Errors   int64          `json:"errors"`
	States   map[string]int `json:"states"` // jobs at its end
}

func newRecorder(began time.Time, m meters) *recorder {
	r := &recorder{
		meters:  m,
		began:   began,
		hist:    map[step]*hdrhistogram.Histogram{},
		errors:  map[string]int64{},
		refused: map[step]int64{},
		flows:   map[action]int64{},
		states:  map[string]int{},
	}
	for _, s := range steps {
		r.hist[s] = hdrhistogram.New(leastMicros, mostMicros, digits)
	}
	return r
}

// now returns the current second. The caller holds the lock.
func (r *recorder) now() *second {
	n := int(time.Since(r.began) / time.Second)
	for len(r.seconds) <= n {
		if last := len(r.seconds) - 1; last >= 0 {
			r.seconds[last].States = r.copyStates()
		}
		r.seconds = append(r.seconds, second{})
	}
	return &r.seconds[n]
}

func (r *recorder) copyStates() map[string]int {
	out := make(map[string]int, len(r.states))
	for k, v := range r.states {
		if v != 0 {
			out[k] = v
		}
	}
	return out
}

// took records a successful step.
func (r *recorder) took(s step, d time.Duration) {
	telemetry.LoadStepSeconds.WithLabelValues(r.run, string(s)).Observe(d.Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	// cannot fail within its bounds
	_ = r.hist[s].RecordValue(min(max(d.Microseconds(), leastMicros), mostMicros))
	if s != flow && s != complete {
		r.now().Requests++
	}
}

// ended counts a successful flow.
func (r *recorder) ended(a action) {
	telemetry.LoadFlows.WithLabelValues(r.run, string(a)).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flows[a]++
	r.now().Flows++
}

// move changes the state of a job in the counts; "" is before its kick-off and after its end.
func (r *recorder) move(from, to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now()
	if from != "" {
		r.states[from]--
		telemetry.LoadJobs.WithLabelValues(r.run, from).Dec()
	}
	if to != "" {
		r.states[to]++
		telemetry.LoadJobs.WithLabelValues(r.run, to).Inc()
	}
}

func (r *recorder) refuse(s step) {
	telemetry.LoadRefused.WithLabelValues(r.run, string(s)).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[s]++
}

// got counts a verified file.
func (r *recorder) got(lines, bytes int64) {
	telemetry.LoadResources.WithLabelValues(r.run).Add(float64(lines))
	telemetry.LoadBytes.WithLabelValues(r.run).Add(float64(bytes))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files++
	r.lines += lines
	r.bytes += bytes
	r.now().Bytes += bytes
}

// verified counts the native content of an export.
func (r *recorder) verified(c verify.Content) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.native.Files += c.Files
	r.native.Archives += c.Archives
	r.native.Resumed += c.Resumed
	r.native.Documents += c.Documents.Lines
	r.native.Rows += c.Rows()
	r.native.Bytes += c.Bytes
}

// failed counts an error of a step by its kind.
func (r *recorder) failed(s step, err error) {
	telemetry.LoadFailed.WithLabelValues(r.run, string(s), kindOf(err)).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, verify.ErrWrong) {
		r.wrong++
		if s == native {
			r.native.Wrong++
		}
	}
	r.errors[string(s)+": "+kindOf(err)]++
	r.now().Errors++
	if len(r.examples) < 20 {
		r.examples = append(r.examples, fmt.Sprintf("%s: %v", s, err))
	}
}

// kindOf assigns an error to one of a few classes.
func kindOf(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return fmt.Sprintf("status %d", e.Status)
	}
	var timeout net.Error
	switch {
	case errors.Is(err, verify.ErrWrong):
		return "verification"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return "time-out"
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return "cut off"
	}
	return "connection"
}
