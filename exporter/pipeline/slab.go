package pipeline

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ehi-server/shared/telemetry"
)

// SlabBytes is the size of a slab in bytes before it is sent.
const SlabBytes = 256 << 10

// mailboxCapacity is how many slabs may wait for an actor, or for all actors that share its
// work.
const mailboxCapacity = 4

// kind is the content of a file: resources of one type. If errors is set, OperationOutcomes
// about what could not be exported. If the type is empty, the blocks of an export by patient.
type kind struct {
	typ    string
	errors bool
}

// slab holds complete lines of one kind.
type slab struct {
	kind
	data  []byte
	lines int64
	// ends holds the end of each line of add, before its newline; it is empty for a slab that
	// was built otherwise.
	ends []int
	// passage is held by a slab with one large line until it is recycled; nil for other slabs.
	passage passage
	// begins means that the first line is the header of a patient's block, so a new file may
	// start here.
	begins bool
	// stands means that lines have stand-ins for data of attachments (source.Moved).
	stands bool
}

var pool = sync.Pool{New: func() any { return &slab{data: make([]byte, 0, 32<<10)} }}

func newSlab(k kind) *slab {
	s := pool.Get().(*slab)
	s.kind, s.data, s.lines, s.ends = k, s.data[:0], 0, s.ends[:0]
	s.begins, s.stands = false, false
	return s
}

// add appends a line.
func (s *slab) add(line []byte) {
	s.data = append(append(slices.Grow(s.data, len(line)+1), line...), '\n')
	s.ends = append(s.ends, len(s.data)-1)
	s.lines++
}

// added iterates over the lines of add without their newlines.
func (s *slab) added() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		from := 0
		for _, end := range s.ends {
			if !yield(s.data[from:end]) {
				return
			}
			from = end + 1
		}
	}
}

// passage is a semaphore that admits one slab with a large line to a pipeline.
type passage chan struct{}

// leave releases the passage.
func (s *slab) leave() {
	if s.passage != nil {
		<-s.passage
		s.passage = nil
	}
}

// resources returns the number of lines that are resources. The header of a patient's block is
// not.
func (s *slab) resources() int64 {
	if s.begins {
		return s.lines - 1
	}
	return s.lines
}

// recycle returns a slab to the pool, unless a huge line has made it too large.
func (s *slab) recycle() {
	s.leave()
	if cap(s.data) <= 2*SlabBytes {
		pool.Put(s)
	}
}

// mailbox is the bounded queue of an actor. Its upstream sends and closes; the actor receives.
type mailbox struct {
	slabs chan *slab
	meters
}

// meters holds the metrics of the mailboxes of one kind of actor.
type meters struct {
	depth, capacity   prometheus.Gauge
	blocked, received prometheus.Counter
}

func metersOf(actor string) meters {
	return meters{
		telemetry.MailboxDepth.WithLabelValues(actor),
		telemetry.MailboxCapacity.WithLabelValues(actor),
		telemetry.MailboxBlocked.WithLabelValues(actor),
		telemetry.PipelineSlabs.WithLabelValues(actor),
	}
}

var ofReviewer, ofReleaser, ofRouter, ofWriter = metersOf("reviewer"), metersOf("releaser"),
	metersOf("router"), metersOf("writer")

func newMailbox(m meters, capacity int) mailbox {
	m.capacity.Add(float64(capacity))
	return mailbox{make(chan *slab, capacity), m}
}

// send transfers s. If ctx ends first, send recycles s and returns the error of ctx.
func (m mailbox) send(ctx context.Context, s *slab) error {
	m.depth.Inc() // before it can be received
	select {
	case m.slabs <- s:
		return nil
	default:
	}
	start := time.Now()
	defer func() { m.blocked.Add(time.Since(start).Seconds()) }()
	select {
	case m.slabs <- s:
		return nil
	case <-ctx.Done():
		m.depth.Dec()
		s.recycle()
		return ctx.Err()
	}
}

// each calls f with every slab until the mailbox is closed, f fails or ctx ends. f takes
// ownership of its slab.
func (m mailbox) each(ctx context.Context, f func(*slab) error) error {
	for {
		s, err := m.receive(ctx)
		if s == nil {
			return err
		}
		if err := f(s); err != nil {
			return err
		}
	}
}

// receive returns the next slab, or nil after the last one.
func (m mailbox) receive(ctx context.Context) (*slab, error) {
	select {
	case s, open := <-m.slabs:
		if !open {
			return nil, nil
		}
		m.depth.Dec()
		m.received.Inc()
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// drain recycles the slabs that nobody received, after both sides have returned.
func (m mailbox) drain() {
	m.capacity.Sub(float64(cap(m.slabs)))
	for s := range m.slabs {
		m.depth.Dec()
		s.recycle()
	}
}

// turns distributes slabs round-robin among the mailboxes of several actors. If each actor sends
// one slab for every one that it receives, a receiver that reads from them in the same order
// gets the slabs in the sender's order.
type turns struct {
	mailboxes []mailbox
	next      int
}

func newTurns(m meters, n int) *turns {
	t := &turns{}
	for range n {
		t.mailboxes = append(t.mailboxes, newMailbox(m, max(1, mailboxCapacity/n)))
	}
	return t
}

// turn returns the next mailbox.
func (t *turns) turn() mailbox {
	m := t.mailboxes[t.next]
	t.next = (t.next + 1) % len(t.mailboxes)
	return m
}

func (t *turns) send(ctx context.Context, s *slab) error { return t.turn().send(ctx, s) }

// close closes all mailboxes.
func (t *turns) close() {
	for _, m := range t.mailboxes {
		close(m.slabs)
	}
}

// each calls f with every slab in order. It ends at the first closed mailbox: no other one has
// slabs after its last.
func (t *turns) each(ctx context.Context, f func(*slab) error) error {
	for {
		s, err := t.turn().receive(ctx)
		if s == nil {
			return err
		}
		if err := f(s); err != nil {
			return err
		}
	}
}

func (t *turns) drain() {
	for _, m := range t.mailboxes {
		m.drain()
	}
}
