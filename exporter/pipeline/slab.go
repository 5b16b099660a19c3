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

// SlabBytes is how many bytes of lines a slab gathers before it is sent on.
const SlabBytes = 256 << 10

// mailboxCapacity is how many slabs wait for an actor, or for all that share its work.
const mailboxCapacity = 4

// kind is what a file holds: resources of one type; with errors OperationOutcomes about what
// could not be exported; with an empty type the blocks of an export that is organized by
// patient.
type kind struct {
	typ    string
	errors bool
}

// slab is whole lines of one kind.
type slab struct {
	kind
	data  []byte
	lines int64
	// where each line ends that was added, before its newline; nothing of what was put together
	// otherwise
	ends []int
	// passage is held by a slab of one large line until it is recycled; nil for any other.
	passage passage
	// begins says that the first line is the header of a patient's block: a new file may begin
	// here.
	begins bool
}

var pool = sync.Pool{New: func() any { return &slab{data: make([]byte, 0, 32<<10)} }}

func newSlab(k kind) *slab {
	s := pool.Get().(*slab)
	s.kind, s.data, s.lines, s.ends, s.begins = k, s.data[:0], 0, s.ends[:0], false
	return s
}

// add appends a line.
func (s *slab) add(line []byte) {
	s.data = append(append(slices.Grow(s.data, len(line)+1), line...), '\n')
	s.ends = append(s.ends, len(s.data)-1)
	s.lines++
}

// added iterates over the lines that were added, without their newlines.
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

// passage lets one slab with a large line through a pipeline at a time.
type passage chan struct{}

// leave lets the next large line through.
func (s *slab) leave() {
	if s.passage != nil {
		<-s.passage
		s.passage = nil
	}
}

// resources is how many lines are resources of the export: the header of a patient's block is none.
func (s *slab) resources() int64 {
	if s.begins {
		return s.lines - 1
	}
	return s.lines
}

// recycle gives a slab back; one that a huge line has blown up goes to the heap instead.
func (s *slab) recycle() {
	s.leave()
	if cap(s.data) <= 2*SlabBytes {
		pool.Put(s)
	}
}

// mailbox is an actor's bounded inbox. Its upstream sends and closes; the actor receives.
type mailbox struct {
	slabs chan *slab
	meters
}

// meters are the metrics of the mailboxes of one kind of actor.
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

// send gives s away. When ctx ends first, s is recycled and ctx's error returned.
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

// each calls f with every slab until the upstream closes the mailbox, f fails or ctx ends. f
// owns its slab.
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

// receive takes the next slab; nil where there is none any more.
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

// drain recycles what nobody received; both ends have returned.
func (m mailbox) drain() {
	m.capacity.Sub(float64(cap(m.slabs)))
	for s := range m.slabs {
		m.depth.Dec()
		s.recycle()
	}
}

// turns is the mailboxes of several actors that share work out: each gets a slab in its turn.
// Where each sends one slab on for every one that it received, whoever receives from them in
// their turn has all slabs in the order of the first sender.
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

// turn is the mailbox whose turn it is.
func (t *turns) turn() mailbox {
	m := t.mailboxes[t.next]
	t.next = (t.next + 1) % len(t.mailboxes)
	return m
}

func (t *turns) send(ctx context.Context, s *slab) error { return t.turn().send(ctx, s) }

// close says that nothing more is sent.
func (t *turns) close() {
	for _, m := range t.mailboxes {
		close(m.slabs)
	}
}

// each is that of a mailbox. It ends with the first one that is closed: after that one's last
// slab no other has any.
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
