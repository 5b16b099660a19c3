package pairing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// Member is this process's exporter as a member of its server's fleet. It is safe for concurrent
// use.
type Member struct {
	Parts
	own   *Server // the server in this process, or nil
	id    string
	host  string
	since time.Time
	wake  chan struct{}
	news  chan struct{} // signals that the roster entry has changed

	mu       sync.Mutex
	heard    bool // it is known whether there are terms
	terms    *ehi.Terms
	revision uint64 // of terms
	limits   ehi.Limits
	joined   uint64 // the revision of this exporter's roster entry; 0 until it has joined
	joinedAt time.Time
	found    []ehi.Mismatch
	changed  time.Time
	admitted bool
	pass     context.Context // ends with the admission
	revoke   context.CancelFunc
	opened   chan struct{} // closed when admitted
}

// ErrMismatch means that this exporter does not belong to its server.
var ErrMismatch = errors.New("this exporter does not belong to the server, and takes no commands")

const (
	// lookEvery is the interval of checks that no event triggers: the exports folder.
	lookEvery = time.Second
	// answerTime is how long a server may take to write a text for an exporter that has joined.
	// After that, the existing text suffices, because exporters keep working while their server
	// is down.
	answerTime = 5 * time.Second
)

// Join returns a new Member; Run lets it join. own is the server in this process, or nil.
func Join(p Parts, own *Server) *Member {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	now := time.Now().UTC()
	return &Member{Parts: p, own: own, id: rand.Text(), host: host, since: now, changed: now,
		wake: make(chan struct{}, 1), news: make(chan struct{}, 1), opened: make(chan struct{})}
}

// Run keeps checking whether the exporter belongs to the server, until ctx ends.
func (m *Member) Run(ctx context.Context) error {
	defer m.Source.OnRecords(m.rouse)()
	defer m.Bus.OnReopen(m.rouse)()
	var stop func()
	for ctx.Err() == nil && stop == nil {
		var err error
		if stop, err = m.Bus.Fleet.FollowTerms(ctx, m.told); err != nil && ctx.Err() == nil {
			stop = nil
			m.Log.Warn("follow what the server asks of its exporters", "err", err)
			pause(ctx, time.Second)
		}
	}
	m.mu.Lock()
	m.heard = true
	m.mu.Unlock()
	var roster sync.WaitGroup
	roster.Go(func() { m.announce(ctx) })
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		m.look()
		select {
		case <-m.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	roster.Wait()
	if stop != nil {
		stop()
	}
	m.mu.Lock()
	m.admit(false)
	m.mu.Unlock()
	return nil
}

func (m *Member) rouse() { signal(m.wake) }

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// told handles new terms.
func (m *Member) told(t *ehi.Terms, revision uint64) {
	m.mu.Lock()
	m.terms, m.revision = t, revision
	m.mu.Unlock()
	m.rouse()
}

// announce keeps this exporter's roster entry alive until ctx ends.
func (m *Member) announce(ctx context.Context) {
	tick := time.NewTicker(presenceEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		revision, err := m.Bus.Fleet.Join(ctx, m.self())
		if err != nil && ctx.Err() == nil {
			m.Log.Warn("tell the server that this exporter is there", "err", err)
			pause(ctx, time.Second)
			continue
		}
		m.mu.Lock()
		if m.joined == 0 && err == nil {
			m.joined, m.joinedAt = revision, time.Now()
		}
		m.mu.Unlock()
		m.rouse()
		select {
		case <-m.news:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if err := m.Bus.Fleet.Leave(leave, m.id); err != nil {
		// the server notices when the entry expires
		m.Log.Debug("take leave of the server", "err", err)
	}
}

// self returns this exporter's roster entry.
func (m *Member) self() ehi.Exporter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ehi.Exporter{
		ID:         m.id,
		Name:       m.Name,
		Host:       m.host,
		Address:    m.Bus.Address(),
		Since:      m.since,
		Embedded:   m.own != nil,
		Mismatches: m.found,
		Changed:    m.changed,
	}
}

// look compares this exporter with its server, and admits or excludes the workers.
func (m *Member) look() {
	m.mu.Lock()
	heard, present := m.heard, m.present()
	answered := m.own != nil ||
		m.joined > 0 && (m.revision > m.joined || time.Since(m.joinedAt) > answerTime)
	m.mu.Unlock()
	if !heard && present == nil {
		return
	}
	if present != nil {
		m.mu.Lock()
		m.limits = present.Limits
		m.mu.Unlock()
		m.Files.SetSpillBytes(present.Limits.SpillBytes)
	}
	m.set(m.compare(present), answered)
}

// present returns the terms that count, or nil. The caller holds mu. The terms of a server in
// this process are current, without a round trip through NATS.
func (m *Member) present() *ehi.Terms {
	if m.own != nil && m.own.IsAuthor() {
		t := m.own.Terms()
		return &t
	}
	return m.terms
}

// compare returns the differences between this exporter and the terms.
func (m *Member) compare(t *ehi.Terms) []ehi.Mismatch {
	if t == nil {
		return []ehi.Mismatch{{What: ehi.NoTerms, Server: "nothing said yet", Exporter: "waits"}}
	}
	own := ehi.Traits{
		Records: m.Source.Records(),
		Files:   t.Files,
		Rules:   m.rules(),
		Build:   ehi.RecordVersion,
	}
	if m.own != nil && t.ID == m.own.id {
		// it is the same source, which may be changing at this moment
		own.Records = t.Records
	}
	switch there, err := m.Files.HasProof(t.Files); {
	case err != nil:
		own.Files = err.Error()
	case !there:
		own.Files = fmt.Sprintf("not in %s, which has %v", m.Files.Root(), m.Files.Proofs())
	}
	return t.Compare(own)
}

// set stores the result of a comparison. answered reports whether the server has noticed this
// exporter.
func (m *Member) set(found []ehi.Mismatch, answered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(found, m.found) {
		if !slices.EqualFunc(found, m.found,
			func(a, b ehi.Mismatch) bool { return a.What == b.What }) {
			m.tell(found)
		}
		m.found, m.changed = slices.Clone(found), time.Now().UTC()
		signal(m.news)
	}
	m.admit(len(found) == 0 && answered)
}

// admit admits the workers or excludes them. The caller holds mu.
func (m *Member) admit(belongs bool) {
	switch {
	case belongs && !m.admitted:
		m.admitted = true
		m.pass, m.revoke = context.WithCancel(context.Background())
		close(m.opened)
		m.Log.Info("this exporter belongs to the server, and takes commands")
	case !belongs && m.admitted:
		m.admitted = false
		m.revoke()
		m.opened = make(chan struct{})
	}
}

// tell logs the differences and updates the metrics. The caller holds mu.
func (m *Member) tell(found []ehi.Mismatch) {
	for _, what := range ehi.Differences() {
		differs := 0.0
		if slices.ContainsFunc(found, func(f ehi.Mismatch) bool { return f.What == what }) {
			differs = 1
		}
		telemetry.ExporterMismatch.WithLabelValues(what).Set(differs)
	}
	for _, f := range found {
		m.Log.Error("this exporter does not belong to the server, and takes no commands", "differs",
			f.What, "server", f.Server, "exporter", f.Exporter)
	}
}

// Admitted waits until the exporter belongs to its server. The returned context ends when the
// exporter no longer belongs, or with ctx. The caller must call done. Errors: ctx's.
func (m *Member) Admitted(ctx context.Context) (pass context.Context, done func(), err error) {
	for {
		m.mu.Lock()
		admission, opened := m.pass, m.opened
		in := m.admitted
		m.mu.Unlock()
		if in {
			pass, cancel := context.WithCancel(ctx)
			unbind := context.AfterFunc(admission, cancel)
			return pass, func() { unbind(); cancel() }, nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// Confirm checks now whether the exporter belongs to the server. Errors: ErrMismatch, with the
// differences.
func (m *Member) Confirm(context.Context) error {
	m.look()
	return m.Check()
}

// Check returns the result of the last comparison. Errors: ErrMismatch, with the differences.
func (m *Member) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.admitted:
		return nil
	case len(m.found) == 0:
		return fmt.Errorf("%w: it waits for the server to take note of it", ErrMismatch)
	}
	var all []string
	for _, f := range m.found {
		all = append(all, f.String())
	}
	return fmt.Errorf("%w: %s", ErrMismatch, strings.Join(all, "; "))
}

// Limits returns the server's limits for exports, as last published.
func (m *Member) Limits() ehi.Limits {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.limits
}

// Accepts checks that records are the server's current ones. Errors: ErrMismatch; those of NATS.
func (m *Member) Accepts(ctx context.Context, r ehi.Records) error {
	if m.own != nil && m.own.IsAuthor() {
		if have := m.Source.Records(); r.Identity != have.Identity {
			return fmt.Errorf("%w: its records are %v, and the server's are %v", ErrMismatch, r,
				have)
		}
		return nil
	}
	t, err := m.Bus.Fleet.Terms(ctx)
	if err != nil {
		return err
	}
	if t == nil || t.Records != r {
		m.rouse()
		return fmt.Errorf("%w: its records are %v, and not the server's", ErrMismatch, r)
	}
	return nil
}
