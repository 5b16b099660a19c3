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

// Denied means that this process's NATS user lacks a permission. NATS reports it separately from
// the request, which gets no answer.
type Denied struct {
	Subject string
	// Listen reports whether subscribing was denied, and not publishing.
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

// deniedText matches the message of NATS.
var deniedText = regexp.MustCompile(
	`Permissions Violation for (Publish|Subscription) (?:to|with Reply of) "([^"]+)"`)

// deniedBy extracts a denial from an error of the connection.
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

// denials holds the subscriptions that NATS denied, and who is told about each denial.
type denials struct {
	mu   sync.Mutex
	deaf map[Denied]bool
	told map[int]func(Denied)
	last int
	// again triggers a reconnection: a denied subscription does not start working by itself when
	// it is permitted.
	again *time.Timer
}

const (
	// mostDenied is how many denials are kept.
	mostDenied = 100
	// listenAgain is the pause before denied subscriptions are retried.
	listenAgain = 15 * time.Second
)

// deny records a denial and reports it.
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

// forgive forgets the denied subscriptions: a new connection retries them.
func (l *Link) forgive() {
	s := &l.denied
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.deaf)
	s.rest()
}

// rest stops the timer.
func (s *denials) rest() {
	if s.again != nil {
		s.again.Stop()
		s.again = nil
	}
}

// DeniedSubscriptions returns the denied subscriptions as an error, or nil.
func (l *Link) DeniedSubscriptions() error {
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

// Permitted returns a context that is cancelled, with a Denied as its cause, when NATS denies a
// needed operation: its request gets no answer. The caller calls done.
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

// IsDenied reports whether an error is a denial by NATS.
func IsDenied(err error) bool {
	_, is := errors.AsType[Denied](err)
	return is
}
