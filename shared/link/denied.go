package link

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Denied says that the permissions of this process's user at NATS lack what it needs. NATS tells
// so beside the request, which itself has no answer.
type Denied struct {
	Subject string
	// Listen is whether it is listening that is denied, else it is publishing.
	Listen bool
}

func (d Denied) Error() string {
	what, list := "publish to", "publish"
	if d.Listen {
		what, list = "listen to", "subscribe"
	}
	return fmt.Sprintf(
		"the permissions of this process's user at NATS do not let it %s %s: allow that "+
			"(permissions, %s) for the user",
		what, d.Subject, list)
}

// deniedText is how NATS says it.
var deniedText = regexp.MustCompile(
	`Permissions Violation for (Publish|Subscription) (?:to|with Reply of) "([^"]+)"`)

// deniedBy reads a denial from an error of the connection.
func deniedBy(err error) (d Denied, ok bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return d, false
	}
	m := deniedText.FindStringSubmatch(err.Error())
	if m == nil {
		return d, false
	}
	return Denied{Subject: m[2], Listen: m[1] == "Subscription"}, true
}

// denials are what NATS does not let this process listen to, and who is told of each denial.
type denials struct {
	mu   sync.Mutex
	deaf map[Denied]bool
	told map[int]func(Denied)
	last int
	// again has the connection made anew: what was not let listen once does not by itself when
	// it may.
	again *time.Timer
}

const (
	// mostDenied bounds how many are kept.
	mostDenied = 100
	// listenAgain is after what time it is tried again to listen.
	listenAgain = 15 * time.Second
)

// deny tells of a denial.
func (l *Link) deny(conn *nats.Conn, d Denied) {
	s := &l.denied
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.told {
		f(d)
	}
	if !d.Listen {
		return
	}
	if s.deaf == nil {
		s.deaf = map[Denied]bool{}
	}
	if len(s.deaf) < mostDenied {
		s.deaf[d] = true
	}
	if s.again == nil {
		s.again = time.AfterFunc(listenAgain,
			func() { _ = conn.ForceReconnect() }) // a closed connection is replaced anyway
	}
}

// forgive forgets what was not let listen: it was tried again over a new connection.
func (l *Link) forgive() {
	s := &l.denied
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.deaf)
	s.rest()
}

// rest ends the timer.
func (s *denials) rest() {
	if s.again != nil {
		s.again.Stop()
		s.again = nil
	}
}

// Deaf says what NATS does not let this process listen to; nil where that is nothing.
func (l *Link) Deaf() error {
	s := &l.denied
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []error
	for _, d := range slices.SortedFunc(maps.Keys(s.deaf), func(a,
		b Denied) int {
		return strings.Compare(a.Subject, b.Subject)
	}) {
		all = append(all, d)
	}
	return errors.Join(all...)
}

// Permitted returns a context that ends, with a Denied as its cause, as soon as NATS denies what
// is needed: what is asked for then has no answer. The caller calls done.
func (l *Link) Permitted(
	ctx context.Context, needed func(Denied) bool,
) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &l.denied
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = map[int]func(Denied){}
	}
	s.last++
	key := s.last
	s.told[key] = func(d Denied) {
		if needed(d) {
			cancel(d)
		}
	}
	return ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.told, key)
		cancel(nil)
	}
}

// IsDenied tells by its error that NATS has denied something.
func IsDenied(err error) bool {
	_, is := errors.AsType[Denied](err)
	return is
}
