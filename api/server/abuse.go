package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/address"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

// Limits are of failures, not of requests: who does nothing wrong is never held up, at whatever rate, and costs no write. The counts are records
// of the authorization server's bucket, so that they hold for all processes, each of which follows them.

// abuseRecords are where failures are counted: abuse.<a or c>.<hash of the address or client>.
var abuseRecords = subject.KindOf("abuse")

// offender is an address or a client, as the record of its failures.
type offender = subject.Subject

func addressOffender(address string) offender { return abuseRecords.Of("a", request.Digest(address)) }
func clientOffender(id string) offender       { return abuseRecords.Of("c", request.Digest(id)) }

// abuseBook knows everybody's failures.
type abuseBook struct {
	tally kv.Tally
	mu    sync.Mutex
	of    map[offender]kv.Window
	stop  func()
}

func followAbuse(bucket *kv.Bucket) (*abuseBook, error) {
	b := &abuseBook{tally: kv.Tally{Bucket: bucket, Now: now}, of: map[offender]kv.Window{}}
	var err error
	b.stop, err = bucket.Follow(context.Background(), abuseRecords.Match("", ""), b.apply, nil)
	return b, err
}

func (b *abuseBook) apply(e kv.Entry) {
	who := e.Key
	var m kv.Window
	if e.Deleted || json.Unmarshal(e.Value, &m) != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.of, who)
		return
	}
	b.note(who, m)
}

// note keeps the higher count: news of an older one may come later.
func (b *abuseBook) note(who offender, m kv.Window) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known := b.of[who]; known.Until.Equal(m.Until) && known.Count > m.Count {
		return
	}
	b.of[who] = m
}

// wait is how long an offender has to wait, 0 where it need not.
func (b *abuseBook) wait(who offender, limit int) time.Duration {
	if limit <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m, at := b.of[who], now()
	if m.Count >= int64(limit) && at.Before(m.Until) {
		return m.Until.Sub(at)
	}
	return 0
}

// failed counts a failure. Others may count at the same time, here or in another process.
func (b *abuseBook) failed(ctx context.Context, who offender, window time.Duration) error {
	w, _, err := b.tally.Add(ctx, who, 1, 0, window)
	if err == nil {
		b.note(who, w)
	}
	return err
}

// abuserKey is where the client of a request is kept, once it is known.
const abuserKey = "abuser"

// limitFailures refuses an address that has failed too often on the routes that people guess at, and counts the failures of address and
// client there.
func (s *Server) limitFailures(c *fiber.Ctx) error {
	if s.AddressFailures <= 0 && s.ClientFailures <= 0 {
		return c.Next()
	}
	from := addressOffender(address.Network(s.Origins.Address(c)))
	if err := s.heldUp(c, "address", from, s.AddressFailures); err != nil {
		return err
	}
	err := c.Next()
	if !failure(c, err) {
		return err
	}
	ctx := c.UserContext()
	var counting error
	if s.AddressFailures > 0 {
		counting = s.abuse.failed(ctx, from, s.FailureWindow)
	}
	if client, _ := c.Locals(abuserKey).(string); client != "" && s.ClientFailures > 0 {
		counting = errors.Join(counting, s.abuse.failed(ctx, clientOffender(client), s.FailureWindow))
	}
	if counting != nil {
		s.Log.Warn("count a failure", "err", counting)
	}
	return err
}

// limitClient refuses a client that has failed too often, and remembers it for limitFailures.
func (s *Server) limitClient(c *fiber.Ctx, client string) error {
	if client == "" || s.ClientFailures <= 0 {
		return nil
	}
	if err := s.heldUp(c, "client", clientOffender(client), s.ClientFailures); err != nil {
		return err
	}
	c.Locals(abuserKey, client)
	return nil
}

// heldUp is the answer to an offender, nil where there is nothing against it.
func (s *Server) heldUp(c *fiber.Ctx, what string, who offender, limit int) error {
	wait := s.abuse.wait(who, limit)
	if wait == 0 {
		return nil
	}
	telemetry.AbuseRefused.WithLabelValues(what).Inc()
	return tooMany(c, wait, "Too many requests of this "+what+" have failed")
}

// tooMany is a 429 that says when to come back.
func tooMany(c *fiber.Ctx, wait time.Duration, text string) error {
	seconds := strconv.Itoa(int((wait + time.Second - 1) / time.Second))
	c.Set(fiber.HeaderRetryAfter, seconds)
	return ehi.Errorf(ehi.Throttled, "%s; try again in %s s", text, seconds)
}

// failureKey is where the status is kept that a refused form of a page amounts to: its answer is a redirect.
const failureKey = "failure"

func noteFailure(c *fiber.Ctx, status int) { c.Locals(failureKey, status) }

// failure reports whether a request failed by what it brought along: wrong credentials, codes, tokens, ids. The server's own faults and
// its limits are nobody's guess.
func failure(c *fiber.Ctx, err error) bool {
	if bus.IsAway(err) {
		return false
	}
	if e, ok := errors.AsType[*auth.Error](err); ok {
		return e.Status() < http.StatusInternalServerError
	}
	switch ehi.CodeOf(err) {
	case "": // a form that leads back to its page, such as the log-in's
		return c.Locals(failureKey) == http.StatusUnauthorized
	case ehi.Invalid, ehi.Unauthenticated, ehi.Forbidden, ehi.NotFound:
		return true
	}
	return false
}
