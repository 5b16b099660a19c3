package abuse

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
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

// records are where failures are counted: abuse.<a or c>.<hash of the address or client>.
var records = subject.KindOf("abuse")

// offender is an address or a client, as the record of its failures.
type offender = subject.Subject

func addressOffender(at netip.Addr) offender {
	return records.Of("a", request.Digest(address.Network(at)))
}

func clientOffender(id string) offender { return records.Of("c", request.Digest(id)) }

// Limits say how many failures are too many.
type Limits struct {
	// PerAddress and PerClient are how many requests of an address, and of a client, may fail
	// within Window before further ones are refused; 0 sets no limit. IPv6 addresses count by
	// networks of 64 bits.
	PerAddress, PerClient int
	Window                time.Duration
}

// Config is what Failures is told once, at start.
type Config struct {
	Limits
	// Bucket keeps the counts: they hold for all processes, and each of them follows the bucket.
	Bucket *kv.Bucket
	// Address is where a request comes from.
	Address func(*fiber.Ctx) netip.Addr
	// Log is told if a failure cannot be counted.
	Log *slog.Logger
}

// Failures knows how many requests of each address and client have failed.
type Failures struct {
	Config
	tally kv.Tally
	mu    sync.Mutex
	known map[offender]kv.Window
	stop  func()
}

// Follow begins to follow the counts; Stop ends it.
func Follow(config Config) (*Failures, error) {
	f := &Failures{
		Config: config,
		tally:  kv.Tally{Bucket: config.Bucket, Now: now},
		known:  map[offender]kv.Window{},
	}
	var err error
	f.stop, err = config.Bucket.Follow(context.Background(), records.Match("", ""), f.apply, nil)
	return f, err
}

// Stop ends the following. It can be called once.
func (f *Failures) Stop() { f.stop() }

func (f *Failures) apply(e kv.Entry) {
	who := e.Key
	var w kv.Window
	if e.Deleted || json.Unmarshal(e.Value, &w) != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.known, who)
		return
	}
	f.note(who, w)
}

// note keeps the higher count: news of an older one may come later.
func (f *Failures) note(who offender, w kv.Window) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.known[who]; known.Until.Equal(w.Until) && known.Count > w.Count {
		return
	}
	f.known[who] = w
}

// wait is how long an offender has to wait, 0 if it need not.
func (f *Failures) wait(who offender, limit int) time.Duration {
	if limit <= 0 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w, at := f.known[who], now()
	if w.Count >= int64(limit) && at.Before(w.Until) {
		return w.Until.Sub(at)
	}
	return 0
}

// count counts a failure. Others may count at the same time, here or in another process.
func (f *Failures) count(ctx context.Context, who offender) error {
	w, _, err := f.tally.Add(ctx, who, 1, 0, f.Window)
	if err == nil {
		f.note(who, w)
	}
	return err
}

// key is where a request keeps a fact, in Fiber's Locals.
type key int

const (
	clientKey key = iota // the client, once it is known
	statusKey            // the status of a refused form, whose answer is a redirect
)

// Limit is middleware for routes that people guess at. It refuses an address that has failed too
// often, and counts the failures of address and client. Errors: ehi.Throttled, and those of the
// handlers.
func (f *Failures) Limit(c *fiber.Ctx) error {
	if f.PerAddress <= 0 && f.PerClient <= 0 {
		return c.Next()
	}
	from := addressOffender(f.Address(c))
	if err := f.refuse(c, "address", from, f.PerAddress); err != nil {
		return err
	}
	err := c.Next()
	if !isFailure(c, err) {
		return err
	}
	ctx := c.UserContext()
	var counting error
	if f.PerAddress > 0 {
		counting = f.count(ctx, from)
	}
	if client, _ := c.Locals(clientKey).(string); client != "" && f.PerClient > 0 {
		counting = errors.Join(counting, f.count(ctx, clientOffender(client)))
	}
	if counting != nil {
		f.Log.Warn("count a failure", "err", counting)
	}
	return err
}

// LimitClient refuses a client that has failed too often, and remembers it for Limit, which counts
// the request for it if it fails. Errors: ehi.Throttled.
func (f *Failures) LimitClient(c *fiber.Ctx, client string) error {
	if client == "" || f.PerClient <= 0 {
		return nil
	}
	if err := f.refuse(c, "client", clientOffender(client), f.PerClient); err != nil {
		return err
	}
	c.Locals(clientKey, client)
	return nil
}

// Charge counts a request as a failure of its address, whatever its answer will be. ok is false,
// and nothing is counted, if the address has failed too often already.
func (f *Failures) Charge(c *fiber.Ctx) (ok bool, err error) {
	if f.PerAddress <= 0 {
		return true, nil
	}
	from := addressOffender(f.Address(c))
	if f.wait(from, f.PerAddress) > 0 {
		return false, nil
	}
	err = f.count(c.UserContext(), from)
	return err == nil, err
}

// refuse is the answer to an offender, nil if there is nothing against it.
func (f *Failures) refuse(c *fiber.Ctx, what string, who offender, limit int) error {
	wait := f.wait(who, limit)
	if wait == 0 {
		return nil
	}
	telemetry.AbuseRefused.WithLabelValues(what).Inc()
	return TooMany(c, wait, "Too many requests of this "+what+" have failed")
}

// TooMany makes the answer a refusal that says when to come back. Errors: ehi.Throttled, always.
func TooMany(c *fiber.Ctx, wait time.Duration, text string) error {
	text += "; try again in " + SetRetryAfter(c, wait) + " s"
	return ehi.Errorf(ehi.Throttled, "%s", text)
}

// SetRetryAfter says when to come back, in full seconds, which it returns.
func SetRetryAfter(c *fiber.Ctx, wait time.Duration) (seconds string) {
	seconds = strconv.Itoa(int((wait + time.Second - 1) / time.Second))
	c.Set(fiber.HeaderRetryAfter, seconds)
	return seconds
}

// NoteStatus notes the status that a refused form of a page amounts to: its answer is a redirect.
// http.StatusUnauthorized counts as a failure.
func NoteStatus(c *fiber.Ctx, status int) { c.Locals(statusKey, status) }

// isFailure reports whether a request failed by what it brought along: wrong credentials, codes,
// tokens or IDs. The server's own faults and its limits do not count: nobody guesses by them.
func isFailure(c *fiber.Ctx, err error) bool {
	if bus.IsAway(err) {
		return false
	}
	if e, ok := errors.AsType[*auth.Error](err); ok {
		return e.Status() < http.StatusInternalServerError
	}
	switch ehi.CodeOf(err) {
	case "": // a form that leads back to its page, such as that of the sign-in
		return c.Locals(statusKey) == http.StatusUnauthorized
	case ehi.Invalid, ehi.Unauthenticated, ehi.Forbidden, ehi.NotFound:
		return true
	}
	return false
}

// now is the time, in UTC as in all records.
func now() time.Time { return time.Now().UTC() }
