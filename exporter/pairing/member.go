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

// Member is this process's exporter towards its server. It is safe for use by many goroutines.
type Member struct {
	Parts
	own   *Server // the server within this process, nil where there is none
	id    string
	host  string
	since time.Time
	wake  chan struct{}
	news  chan struct{} // the roster is to be told

	mu       sync.Mutex
	heard    bool // whether it is known if there are terms
	terms    *ehi.Terms
	revision uint64 // of terms
	limits   ehi.Limits
	joined   uint64 // the revision at which this one joined; 0 until then
	joinedAt time.Time
	found    []ehi.Mismatch
	changed  time.Time
	admitted bool
	pass     context.Context // ends with the admission
	revoke   context.CancelFunc
	opened   chan struct{} // closed when admitted
}

// ErrMismatch says that this exporter does not belong to its server.
var ErrMismatch = errors.New("this exporter does not belong to the server, and takes no commands")

const (
	// lookEvery is the pause between two looks at what no event tells of: the folder of the
	// exports.
	lookEvery = time.Second
	// answerTime is how long a server may take to draw a text for an exporter that has joined.
	// Where none answers, the one that is there has to do: exporters go on while their server is
	// away.
	answerTime = 5 * time.Second
)

// Join makes an exporter; Run lets it join. own is the server within this process, nil where
// there is none.
func Join(p Parts, own *Server) *Member {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	now := time.Now().UTC()
	return &Member{Parts: p, own: own, id: rand.Text(), host: host, since: now, changed: now,
		wake: make(chan struct{}, 1), news: make(chan struct{}, 1), opened: make(chan struct{})}
}

// Run keeps looking whether the exporter belongs, until ctx ends.
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

// told is told the terms.
func (m *Member) told(t *ehi.Terms, revision uint64) {
	m.mu.Lock()
	m.terms, m.revision = t, revision
	m.mu.Unlock()
	m.rouse()
}

// announce says in the roster that this exporter is there, until ctx ends.
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
		m.Log.Debug("take leave of the server", "err", err) // it finds out
	}
}

// self is this exporter as the roster has it.
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

// look compares this exporter with its server, and lets workers in or keeps them out.
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

// present is the terms that count, nil where there are none; mu is held. Those of this process's
// own server are as of now: nothing has to go to NATS and back.
func (m *Member) present() *ehi.Terms {
	if m.own != nil && m.own.IsAuthor() {
		t := m.own.Terms()
		return &t
	}
	return m.terms
}

// compare lists in what this exporter differs from terms.
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
		// one and the same source, which may be changing at this very moment
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

// set takes in what was found. answered is whether the server has taken note of this exporter.
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

// admit lets workers in, or keeps them out; mu is held.
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

// tell says it in the log and in metrics that something else differs than before; mu is held.
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

// Admitted waits until the exporter belongs to its server. The context that it returns ends when
// it does not any more, or with ctx; the caller calls done. Errors: ctx's.
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

// Confirm makes sure that the exporter belongs at this moment. Errors: ErrMismatch, with what
// differs.
func (m *Member) Confirm(context.Context) error {
	m.look()
	return m.Check()
}

// Check tells what was found last. Errors: ErrMismatch, with what differs.
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

// Limits are what exports are made within: the server's, as they were told last.
func (m *Member) Limits() ehi.Limits {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.limits
}

// Accepts makes sure that records are those that the server has at this moment. Errors:
// ErrMismatch; others are NATS'.
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
