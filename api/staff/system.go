package staff

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/plot"
	"ehi-server/shared/telemetry"
)

// Setting is one line of the configuration, as administrators see it. Of a secret it says only that
// it is set.
type Setting struct{ Flag, Value string }

// began is about when the process started.
var began = time.Now()

// Lanes are the queues of commands (bus.Bus).
type Lanes interface {
	// Backlog is how many commands of a lane wait, and since when the oldest does.
	Backlog(ctx context.Context, lane ehi.Lane) (n uint64, since time.Time, err error)
	// InHand is how many commands of a lane workers have, and how many workers ask for one.
	InHand(ctx context.Context, lane ehi.Lane) (inHand, waiting int, err error)
	// Usage is what the streams hold.
	Usage(ctx context.Context) ([]bus.Usage, error)
}

// Totals count the jobs (bus.Jobs).
type Totals interface {
	ByStatus() map[ehi.Status]bus.StatusCount
	// Stored is how many bytes the files of all jobs have.
	Stored() int64
}

// Fleet is the exporters that have joined (bus.Fleet).
type Fleet interface {
	Exporters(ctx context.Context) ([]ehi.Exporter, error)
}

// Disk is what the files of exports are on (files.Store).
type Disk interface {
	// Free is how many bytes are free.
	Free() (int64, error)
}

// Samples are the latest figures of the process (live.Samples).
type Samples interface{ Plots() []plot.Plot }

// Readiness finds out whether the process can do its work.
type Readiness interface{ Ready() error }

// Condition is whether the process does all of its work (condition.Watch).
type Condition interface {
	// Rescue is why the process is in rescue mode; nil where it is not.
	Rescue() error
}

// System shows administrators how the server is doing, and the configuration of the process.
type System struct {
	Pages     *Pages
	Lanes     Lanes
	Totals    Totals
	Fleet     Fleet
	Disk      Disk
	Sweeps    Sweeps
	Damages   Damages
	Samples   Samples
	Readiness Readiness
	Condition Condition
	Settings  []Setting
}

// Routes registers the pages.
func (h *System) Routes(r Router) {
	r.OnPage("GET", Base+"/system", h.Pages.guarded(), h.handleSystem)
	r.On("GET", "/admin/debug", h.handleDebug)
}

// laneState is how a lane's queue and workers are doing.
type laneState struct {
	Name            ehi.Lane
	Pending         uint64
	InHand, Waiting int
	Oldest          string
}

// statusState is how many jobs are in a status, and since when the oldest is.
type statusState struct {
	Name   ehi.Status
	Jobs   int
	Oldest string
}

// streamState is what a stream holds.
type streamState struct {
	Name           string
	Records, Bytes int64
}

// systemState is what the server is doing.
type systemState struct {
	Lanes        []laneState
	Statuses     []statusState
	Streams      []streamState
	Stored, Free int64
	Waiting      map[string]int // for an administrator's permission (see Sweeps)
	Exporters    []ehi.Exporter // that have joined
	Problems     string         // of finding all this out
}

func (h *System) state(c *fiber.Ctx) systemState {
	ctx, at := c.UserContext(), now()
	var problems []error
	var out systemState
	for _, name := range ehi.Lanes() {
		n, since, err := h.Lanes.Backlog(ctx, name)
		inHand, waiting, e := h.Lanes.InHand(ctx, name)
		problems = append(problems, err, e)
		out.Lanes = append(out.Lanes, laneState{name, n, inHand, waiting, sinceText(at, since)})
	}
	standing := h.Totals.ByStatus()
	for _, name := range ehi.Statuses() {
		if name == ehi.Aborted { // about to be gone
			continue
		}
		out.Statuses = append(out.Statuses, statusState{
			name, standing[name].Jobs, sinceText(at, standing[name].Oldest),
		})
	}
	streams, err := h.Lanes.Usage(ctx)
	free, e := h.Disk.Free()
	for _, u := range streams {
		out.Streams = append(out.Streams, streamState{u.Stream, int64(u.Records), int64(u.Bytes)})
	}
	exporters, unheard := h.exporters(ctx)
	out.Exporters, problems = exporters, append(problems, unheard)
	out.Waiting = h.Sweeps.SweepsWaiting()
	out.Stored, out.Free = h.Totals.Stored(), free
	if err := errors.Join(append(problems, err, e)...); err != nil {
		out.Problems = err.Error()
	}
	return out
}

// exportersTime is how long the list of exporters may take.
const exportersTime = 2 * time.Second

// exporters lists the exporters that have joined.
func (h *System) exporters(ctx context.Context) ([]ehi.Exporter, error) {
	ctx, cancel := context.WithTimeout(ctx, exportersTime)
	defer cancel()
	return h.Fleet.Exporters(ctx)
}

// hostName is what the machine is called.
func hostName() string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "a host without a name"
}

// handleSystem shows how the server is doing.
func (h *System) handleSystem(c *fiber.Ctx) error {
	unready := make(chan error, 1)
	go func() { unready <- h.Readiness.Ready() }() // it waits for NATS too, and ends by itself
	state := h.state(c)
	damaged, err := listDamaged(c.UserContext(), h.Damages, "")
	if err != nil {
		state.Problems = strings.TrimPrefix(state.Problems+"\n"+err.Error(), "\n")
	}
	return h.Pages.render(c, "system", "system", "System", fiber.Map{
		"Damaged":    damaged,
		"State":      state,
		"Plots":      h.Samples.Plots(),
		"Version":    telemetry.Version(),
		"Host":       hostName(),
		"PID":        os.Getpid(),
		"Up":         age(time.Since(began)),
		"Words":      statusWords,
		"Unready":    <-unready,
		"Rescue":     h.Condition.Rescue(),
		"Goroutines": runtime.NumGoroutine(),
	})
}

// handleDebug shows what the process is doing, and its configuration.
func (h *System) handleDebug(c *fiber.Ctx) error {
	state := h.state(c)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return h.Pages.render(c, "debug", "system", "What this process is doing", fiber.Map{
		"Version":     telemetry.Version(),
		"Go":          runtime.Version(),
		"PID":         os.Getpid(),
		"Host":        hostName(),
		"Up":          time.Since(began).Round(time.Second),
		"State":       state,
		"Goroutines":  runtime.NumGoroutine(),
		"Heap":        m.HeapInuse,
		"Collections": m.NumGC,
		"Paused":      time.Duration(m.PauseTotalNs).Round(time.Microsecond),
		"Settings":    h.Settings,
	})
}
