package progress

import (
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"ehi-server/shared/ehi"
)

// Book is the latest news of running exports. It remembers the latest 4096 of them; one that it has
// forgotten is unknown until its next message.
type Book struct {
	latest *lru.Cache[string, ehi.Progress]
	stop   func() error
	listen atomic.Pointer[func(job string)]
}

// Source publishes the progress of exports (bus.Bus).
type Source interface {
	// OnProgress calls f with each message from now on, until stop is called.
	OnProgress(f func(ehi.Progress)) (stop func() error, err error)
}

// NewBook is an empty book that follows nothing.
func NewBook() (*Book, error) {
	latest, err := lru.New[string, ehi.Progress](4096)
	return &Book{latest: latest, stop: func() error { return nil }}, err
}

// Follow is a book that follows a source, until Stop.
func Follow(source Source) (*Book, error) {
	b, err := NewBook()
	if err != nil {
		return nil, err
	}
	b.stop, err = source.OnProgress(b.Note)
	return b, err
}

// Stop ends the following.
func (b *Book) Stop() error { return b.stop() }

// Note keeps a message, and tells the listener.
func (b *Book) Note(p ehi.Progress) {
	b.latest.Add(p.Job, p)
	if tell := b.listen.Load(); tell != nil {
		(*tell)(p.Job)
	}
}

// OnNews calls f with the job of each message from now on, until stop is called. A book has one
// such listener at a time.
func (b *Book) OnNews(f func(job string)) (stop func()) {
	b.listen.Store(&f)
	return func() { b.listen.Store(nil) }
}

// Of is the latest news of a job, if it is known.
func (b *Book) Of(job string) (_ ehi.Progress, known bool) { return b.latest.Peek(job) }
