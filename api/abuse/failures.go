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
	"ehi-server/shared/settings"
	"ehi-server/shared/subject"
	"ehi-server/shared/telemetry"
)

// records is the kind of the records with the counts: abuse.<a or c>.<hash of the address or
// client>.
var records = subject.KindOf("abuse")

// offender is an address or a client, as the subject of a record.
type offender = subject.Subject

func addressOffender(at netip.Addr) offender {
	return records.Of("a", request.Digest(address.Network(at)))
}

func clientOffender(id string) offender { return records.Of("c", request.Digest(id)) }

// Limits are the numbers of failures that are allowed.
type Limits struct {
	// PerAddress and PerClient are the numbers of requests of an address and of a client that
	// may fail within Window before further requests are refused; 0 for no limit. An IPv6
	// address counts as its /64 network.
	PerAddress int           `name:"address-failures" help:"Limit for failed sign-ins, authorizations, token requests and kick-offs of one address in --failure-window. Further requests get 429. 0: no limit; -1: 100 in production mode, no limit in the sandbox." default:"-1" env:"EHI_ADDRESS_FAILURES" range:"-1.."`
	PerClient  int           `name:"client-failures" help:"Limit for failed requests of one client in --failure-window, as for --address-failures. 0: no limit; -1: 500 in production mode, no limit in the sandbox." default:"-1" env:"EHI_CLIENT_FAILURES" range:"-1.."`
	Window     time.Duration `name:"failure-window" help:"Time window in which failures are counted." default:"1m" env:"EHI_FAILURE_WINDOW" range:"0s..24h"`
}

// Resolved returns the limits of a sandbox, which has none by default, or of a production server.
func (l Limits) Resolved(sandbox bool) Limits {
	l.PerAddress = settings.ByMode(l.PerAddress, 100, sandbox)
	l.PerClient = settings.ByMode(l.PerClient, 500, sandbox)
	return l
}

// Config is the configuration of Failures.
type Config struct {
	Limits
	// Bucket stores the counts. All processes share and follow it.
	Bucket *kv.Bucket
	// Address returns where a request comes from.
	Address func(*fiber.Ctx) netip.Addr
	// Log receives an error if a failure cannot be counted.
	Log *slog.Logger
}

// Failures counts the failed requests of each address and client.
type Failures struct {
	Config
	tally kv.Tally
	mu    sync.Mutex
	known map[offender]kv.Window
	stop  func()
}

// Follow starts following the counts. Stop ends it.
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

// Stop stops following the counts. Call it only once.
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

// note stores a count unless a higher one is known, because updates may arrive late.
func (f *Failures) note(who offender, w kv.Window) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.known[who]; known.Until.Equal(w.Until) && known.Count > w.Count {
		return
	}
	f.known[who] = w
}

// wait returns how long an offender must wait; 0 if it need not.
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

// count counts a failure. Other requests and processes may count at the same time.
func (f *Failures) count(ctx context.Context, who offender) error {
	w, _, err := f.tally.Add(ctx, who, 1, 0, f.Window)
	if err == nil {
		f.note(who, w)
	}
	return err
}

// key is the type of keys in Fiber's Locals.
type key int

const (
	clientKey key = iota // the client, once known
	statusKey            // the status of a rejected form, whose response is a redirect
)

// Limit is middleware for routes on which clients could guess secrets. It refuses an address
// with too many failures, and counts the failures of addresses and clients. Errors:
// ehi.Throttled, and those of the handlers.
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

// LimitClient refuses a client with too many failures. It also remembers the client for Limit,
// which counts the request if it fails. Errors: ehi.Throttled.
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

// Charge counts a request as a failure of its address, whatever its response. ok is false, and
// nothing is counted, if the address already has too many failures.
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

// refuse returns the error for an offender; nil if it is below the limit.
func (f *Failures) refuse(c *fiber.Ctx, what string, who offender, limit int) error {
	wait := f.wait(who, limit)
	if wait == 0 {
		return nil
	}
	telemetry.AbuseRefused.WithLabelValues(what).Inc()
	return TooMany(c, wait, "Too many requests from this "+what+" have failed")
}

// TooMany sets Retry-After and returns ehi.Throttled.
func TooMany(c *fiber.Ctx, wait time.Duration, text string) error {
	text += "; try again in " + SetRetryAfter(c, wait) + " s"
	return ehi.Errorf(ehi.Throttled, "%s", text)
}

// SetRetryAfter sets Retry-After in whole seconds and returns the number.
func SetRetryAfter(c *fiber.Ctx, wait time.Duration) (seconds string) {
	seconds = strconv.Itoa(int((wait + time.Second - 1) / time.Second))
	c.Set(fiber.HeaderRetryAfter, seconds)
	return seconds
}

// NoteStatus records the status of a form that was rejected: its response is a redirect.
// http.StatusUnauthorized counts as a failure.
func NoteStatus(c *fiber.Ctx, status int) { c.Locals(statusKey, status) }

// isFailure reports whether a request failed because of what the client sent: wrong credentials,
// codes, tokens or IDs. Failures and limits of the server do not count, because they reveal
// nothing to a guesser.
func isFailure(c *fiber.Ctx, err error) bool {
	if bus.IsAway(err) {
		return false
	}
	if e, ok := errors.AsType[*auth.Error](err); ok {
		return e.Status() < http.StatusInternalServerError
	}
	switch ehi.CodeOf(err) {
	case "": // a form that redirects back to its page, such as sign-in
		return c.Locals(statusKey) == http.StatusUnauthorized
	case ehi.Invalid, ehi.Unauthenticated, ehi.Forbidden, ehi.NotFound:
		return true
	}
	return false
}

// now returns the time in UTC, as in all records.
func now() time.Time { return time.Now().UTC() }
