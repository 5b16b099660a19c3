package progress

import (
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"ehi-server/shared/ehi"
)

// Book has the latest progress of running exports. It remembers 4096 of them. An export that it
// has forgotten is unknown until its next message.
type Book struct {
	latest *lru.Cache[string, ehi.Progress]
	stop   func() error
	listen atomic.Pointer[func(job string)]
}

// Source publishes the progress of exports (bus.Bus).
type Source interface {
	// OnProgress calls f with each later message, until stop is called.
	OnProgress(f func(ehi.Progress)) (stop func() error, err error)
}

// NewBook returns an empty book that follows nothing.
func NewBook() (*Book, error) {
	latest, err := lru.New[string, ehi.Progress](4096)
	return &Book{latest: latest, stop: func() error { return nil }}, err
}

// Follow returns a book that follows a source until Stop.
func Follow(source Source) (*Book, error) {
	b, err := NewBook()
	if err != nil {
		return nil, err
	}
	b.stop, err = source.OnProgress(b.Note)
	return b, err
}

// Stop stops following.
func (b *Book) Stop() error { return b.stop() }

// Note stores a message and calls the listener.
func (b *Book) Note(p ehi.Progress) {
	b.latest.Add(p.Job, p)
	if tell := b.listen.Load(); tell != nil {
		(*tell)(p.Job)
	}
}

// OnNews calls f with the job of each later message, until stop is called. A book has at most
// one listener.
func (b *Book) OnNews(f func(job string)) (stop func()) {
	b.listen.Store(&f)
	return func() { b.listen.Store(nil) }
}

// Of returns the latest progress of a job, if it is known.
func (b *Book) Of(job string) (_ ehi.Progress, known bool) { return b.latest.Peek(job) }
