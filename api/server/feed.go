package server

import (
	"bufio"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/progress"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// feed tells administrators' pages which jobs change, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). What
// changes within gather is one event, made once for all pages. It names jobs by id and says how they stand, and nothing of patients.
type feed struct {
	jobs     *bus.Jobs
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
	// maxChanges is how many jobs an event names; of more it says only that there are many.
	maxChanges = 2000
	// maxPages is how many pages can follow at once.
	maxPages = 1000
	// pageBacklog is how many events wait for a slow page before it is left to ask again.
	pageBacklog = 16
	// heartbeat keeps proxies from closing a quiet stream; pageLife is about when a page has to come again, so that its session is checked.
	heartbeat = 15 * time.Second
	pageLife  = 5 * time.Minute
)

// newFeed starts to follow jobs; stop ends it and all pages' streams.
func newFeed(jobs *bus.Jobs, progress *progress.Book) *feed {
	f := &feed{jobs: jobs, progress: progress, changed: map[string]struct{}{}, pages: map[chan []byte]struct{}{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	f.stops = []func(){jobs.OnChange(f.note), progress.OnNews(f.note)}
	go f.run()
	return f
}

// note remembers that a job changed, while somebody wants to know.
func (f *feed) note(job string) {
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
	default: // it is awake
	}
}

func (f *feed) run() {
	defer close(f.done)
	for range f.wake {
		time.Sleep(gather)
		f.tell()
	}
}

// change is how a job stands: its id, status and, while it runs, percent that are done. A job that is gone has no status.
type change struct {
	ID      string     `json:"id"`
	Status  ehi.Status `json:"status,omitempty"`
	Percent int        `json:"percent,omitempty"`
}

// tell sends what changed to all pages. One that is too slow is left out: its stream ends, and it asks again.
func (f *feed) tell() {
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

func (f *feed) standing(id string) change {
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

// drop ends a page's stream; the lock is held.
func (f *feed) drop(page chan []byte) {
	if _, there := f.pages[page]; there {
		delete(f.pages, page)
		close(page)
		telemetry.PagesOpen.Dec()
	}
}

// join adds a page. Errors: ehi.Transient where there are too many, or the server is being stopped.
func (f *feed) join() (events <-chan []byte, leave func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || len(f.pages) >= maxPages {
		return nil, nil, ehi.Errorf(ehi.Transient, "No more pages can follow changes at the moment; ask again")
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

// stop ends all streams; it can be called again.
func (f *feed) stop() {
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

// handleEvents is the stream that a page follows.
func (s *Server) handleEvents(c *fiber.Ctx) error {
	events, leave, err := s.feed.join()
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set("X-Accel-Buffering", "no") // nginx shall pass each event on at once
	s.sender.SendChunked(c, func(w *bufio.Writer) error {
		defer leave()
		beat := time.NewTicker(heartbeat)
		defer beat.Stop()
		over := time.NewTimer(pageLife + rand.N(pageLife/5)) // not all of them at once
		defer over.Stop()
		next := []byte("retry: 2000\n\n")
		for {
			if _, err := w.Write(next); err != nil {
				return err
			}
			if err := w.Flush(); err != nil {
				return err // the page is closed
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
	})
	return nil
}
