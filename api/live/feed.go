package live

import (
	"bufio"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/api/progress"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// Feed tells pages which jobs change, as server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html). It collects changes for a
// moment and sends one event to all pages. An event has the IDs and states of jobs, but nothing
// about patients.
type Feed struct {
	jobs     Jobs
	progress *progress.Book

	mu      sync.Mutex
	changed map[string]struct{}
	pages   map[chan []byte]struct{}
	ended   bool

	wake  chan struct{}
	stops []func()
	done  chan struct{}
}

const (
	// gather is how long changes are collected for one event.
	gather = 100 * time.Millisecond
	// maxChanges is the maximum number of jobs in an event. An event with more changes says only
	// that there are many.
	maxChanges = 2000
	// maxPages is the maximum number of pages that follow at once.
	maxPages = 1000
	// pageBacklog is the number of events that may wait for a slow page. After that its stream
	// ends, and the page connects again.
	pageBacklog = 16
	// heartbeat keeps proxies from closing a quiet stream.
	heartbeat = 15 * time.Second
	// pageLife is the approximate lifetime of a stream. Then the page connects again, and its
	// session is checked.
	pageLife = 5 * time.Minute
)

// Jobs reports changes and states of jobs (bus.Jobs).
type Jobs interface {
	// OnChange calls f with the ID of each job that changes, until stop is called.
	OnChange(f func(job string)) (stop func())
	// Summary returns the state of a job, if it is known.
	Summary(job string) (bus.Summary, bool)
}

// NewFeed starts following jobs. Stop ends it and all streams.
func NewFeed(jobs Jobs, book *progress.Book) *Feed {
	f := &Feed{
		jobs:     jobs,
		progress: book,
		changed:  map[string]struct{}{},
		pages:    map[chan []byte]struct{}{},
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	f.stops = []func(){jobs.OnChange(f.note), book.OnNews(f.note)}
	go f.run()
	return f
}

// note records that a job changed, if any page follows.
func (f *Feed) note(job string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pages) == 0 || f.ended {
		return
	}
	if len(f.changed) <= maxChanges {
		f.changed[job] = struct{}{}
	}
	select {
	case f.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (f *Feed) run() {
	defer close(f.done)
	for range f.wake {
		time.Sleep(gather)
		f.tell()
	}
}

// change is the state of a job: its ID, its status and, while it runs, the completed percentage.
// A deleted job has no status.
type change struct {
	ID      string     `json:"id"`
	Status  ehi.Status `json:"status,omitempty"`
	Percent int        `json:"percent,omitempty"`
}

// tell sends the changes to all pages. The stream of a page that is too slow ends, and the page
// connects again.
func (f *Feed) tell() {
	f.mu.Lock()
	ids := f.changed
	f.changed = map[string]struct{}{}
	f.mu.Unlock()
	news := struct {
		Many bool     `json:"many,omitempty"`
		Jobs []change `json:"jobs,omitempty"`
	}{Many: len(ids) > maxChanges}
	if !news.Many {
		for id := range ids {
			news.Jobs = append(news.Jobs, f.standing(id))
		}
	}
	data, err := json.Marshal(news)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	event := append(append([]byte("event: jobs\ndata: "), data...), "\n\n"...)
	f.mu.Lock()
	defer f.mu.Unlock()
	for page := range f.pages {
		select {
		case page <- event:
		default:
			telemetry.PagesDropped.Inc()
			f.drop(page)
		}
	}
}

func (f *Feed) standing(id string) change {
	s, known := f.jobs.Summary(id)
	if !known || s.Status == ehi.Aborted {
		return change{ID: id}
	}
	c := change{ID: id, Status: s.Status}
	if p, running := f.progress.Of(id); running && s.Status == ehi.Requested {
		c.Percent = p.Percent()
	}
	return c
}

// drop ends a page's stream. The lock must be held.
func (f *Feed) drop(page chan []byte) {
	if _, there := f.pages[page]; there {
		delete(f.pages, page)
		close(page)
		telemetry.PagesOpen.Dec()
	}
}

// join adds a page. Errors: ehi.Transient if there are too many, or the server is stopping.
func (f *Feed) join() (events <-chan []byte, leave func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || len(f.pages) >= maxPages {
		return nil, nil, ehi.Errorf(ehi.Transient,
			"Too many pages follow changes at the moment; try again later")
	}
	page := make(chan []byte, pageBacklog)
	f.pages[page] = struct{}{}
	telemetry.PagesOpen.Inc()
	return page, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.drop(page)
	}, nil
}

// Stop ends all streams. It can be called more than once.
func (f *Feed) Stop() {
	f.mu.Lock()
	already := f.ended
	f.ended = true
	for page := range f.pages {
		f.drop(page)
	}
	f.mu.Unlock()
	if already {
		return
	}
	for _, stop := range f.stops {
		stop()
	}
	close(f.wake)
	<-f.done
}

// Stream adds a page. The returned function writes the page's events until the page closes, is
// too slow or has reached pageLife, or until Stop. The caller must call it once. Errors:
// ehi.Transient if there are too many pages, or the server is stopping.
func (f *Feed) Stream() (write func(*bufio.Writer) error, err error) {
	events, leave, err := f.join()
	if err != nil {
		return nil, err
	}
	return func(w *bufio.Writer) error {
		defer leave()
		return send(w, events)
	}, nil
}

// send writes a page's events until the page closes, the events end, or the page has reached its
// lifetime.
func send(w *bufio.Writer, events <-chan []byte) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	// spread, so that not all pages reconnect at once
	over := time.NewTimer(pageLife + rand.N(pageLife/5))
	defer over.Stop()
	next := []byte("retry: 2000\n\n")
	for {
		if _, err := w.Write(next); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err // the page has closed
		}
		var open bool
		select {
		case next, open = <-events:
			if !open {
				return nil
			}
		case <-beat.C:
			next = []byte(": still here\n\n")
		case <-over.C:
			return nil
		}
	}
}
