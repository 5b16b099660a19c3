package bus

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ehi-server/shared/telemetry"
)

// natsLog is the Logger of the embedded NATS. It logs and counts warnings and errors, and drops
// messages about routine work.
type natsLog struct {
	log *slog.Logger

	mu     sync.Mutex
	budget map[string]*logBudget // by level
	now    func() time.Time

	unopened map[string]string // what it said of streams that it could not open, by their names

	doing atomic.Pointer[string] // what it said last of its daily work
	fatal atomic.Pointer[string] // what it said first that it cannot go on with
}

// logBudget bounds the lines of one level: logBurst at once, and one more each logEvery.
type logBudget struct {
	left       int
	since      time.Time
	suppressed int
}

const (
	logBurst = 20
	logEvery = 3 * time.Second
)

// The levels of telemetry.NATSLog.
const (
	warned = "warn"
	failed = "error"
)

func newNATSLog(log *slog.Logger) *natsLog {
	// from the start on, so that the first one counts
	for _, level := range []string{warned, failed} {
		telemetry.NATSLog.WithLabelValues(level)
	}
	return &natsLog{log: log, budget: map[string]*logBudget{}, now: time.Now}
}

// Noticef stores what the server is doing, for the error of a start that takes too long.
func (l *natsLog) Noticef(format string, v ...any) {
	said := withoutKeys(strings.TrimSpace(fmt.Sprintf(format, v...)))
	l.doing.Store(&said)
}

func (l *natsLog) Debugf(string, ...any) {}
func (l *natsLog) Tracef(string, ...any) {}

// last is what NATS was doing when it was heard of last.
func (l *natsLog) last() string {
	if said := l.doing.Load(); said != nil {
		return *said
	}
	return "nothing"
}

// Warnf also keeps which stream NATS could not open, and why: it goes on without it.
func (l *natsLog) Warnf(format string, v ...any) {
	if at := unopened.FindStringSubmatch(fmt.Sprintf(format, v...)); at != nil {
		l.mu.Lock()
		if l.unopened == nil {
			l.unopened = map[string]string{}
		}
		l.unopened[at[1]] = at[2]
		l.mu.Unlock()
	}
	l.say(warned, slog.LevelWarn, format, v)
}

// unopened is how NATS says that of a stream.
var unopened = regexp.MustCompile(`^\s*Error recreating stream "([^"]+)": (.+)$`)

// whyUnopened is what NATS said of a stream that it could not open; "" where it said nothing.
func (l *natsLog) whyUnopened(stream string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unopened[stream]
}

func (l *natsLog) Errorf(format string, v ...any) { l.say(failed, slog.LevelError, format, v) }

// Fatalf is told what NATS cannot go on with. The process goes on: Failed and readiness tell the
// rest.
func (l *natsLog) Fatalf(format string, v ...any) {
	said := withoutKeys(fmt.Sprintf(format, v...))
	l.fatal.CompareAndSwap(nil, &said)
	l.say(failed, slog.LevelError, format, v)
}

// gaveUp is what NATS cannot go on with, "" where it goes on.
func (l *natsLog) gaveUp() string {
	if said := l.fatal.Load(); said != nil {
		return *said
	}
	return ""
}

func (l *natsLog) say(name string, level slog.Level, format string, v []any) {
	telemetry.NATSLog.WithLabelValues(name).Inc()
	suppressed, ok := l.allow(name)
	if !ok {
		return
	}
	args := []any{"says", withoutKeys(fmt.Sprintf(format, v...))}
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	l.log.Log(context.Background(), level, "the embedded NATS", args...)
}

// allow reports whether a line of a level may be logged, and how many before it were not.
func (l *natsLog) allow(name string) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.budget[name]
	if b == nil {
		b = &logBudget{left: logBurst, since: now}
		l.budget[name] = b
	}
	if more := int(now.Sub(b.since) / logEvery); more > 0 {
		b.left = min(logBurst, b.left+more)
		b.since = b.since.Add(time.Duration(more) * logEvery)
	}
	if b.left == 0 {
		b.suppressed++
		return 0, false
	}
	b.left--
	suppressed, b.suppressed = b.suppressed, 0
	return suppressed, true
}

// ours is a subject of this project from its bucket or kind on: keys are made of the ids of
// patients, jobs and accounts, and of hashes of tokens.
var ours = regexp.MustCompile(`(\$KV\.ehi_[a-z]+|\behi\.[a-z]+)\.[^\s"'\])}]+`)

// withoutKeys takes the keys of records out of a line.
func withoutKeys(line string) string { return ours.ReplaceAllString(line, "$1.(key)") }
