package listener

import (
	"container/heap"
	"container/list"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"ehi-server/api/address"
	"ehi-server/shared/settings"
)

// Flags are the settings of Conns.
type Flags struct {
	// Most is the maximum number of open connections; 0 for no limit.
	Most int `name:"max-connections" help:"Maximum number of open connections. The server answers further ones with 503 and closes them." default:"8192" env:"EHI_MAX_CONNECTIONS" range:"1..1000000"`
	// PerAddress is the maximum number of open connections per address, at most half of Most; 0
	// for no limit. An IPv6 address counts as its /64 network. -1, which Resolved replaces, stands
	// for the limit of the server's mode.
	PerAddress int `name:"address-connections" help:"Maximum number of open connections per client address (IPv6: per /64 network), at most half of --max-connections. Loopback and --trusted-proxies are exempt. 0: no limit; -1: 500 in production mode, no limit in the sandbox." default:"-1" env:"EHI_ADDRESS_CONNECTIONS" range:"-1.."`
	// Stall is how long a client may read less than a kilobyte per second of its responses
	// before its connection is closed.
	Stall time.Duration `name:"write-stall" help:"Time after which the server closes a connection whose client reads less than a kilobyte per second." default:"60s" env:"EHI_WRITE_STALL" range:"100ms..24h"`
}

// Resolved returns the flags of a sandbox, which limits no address by default, or of a production
// server.
func (f Flags) Resolved(sandbox bool) Flags {
	f.PerAddress = settings.ByMode(f.PerAddress, 500, sandbox)
	return f
}

// Config is the configuration of Conns.
type Config struct {
	Flags
	// Exempt reports whether PerAddress does not apply to an address; nil if it applies to all.
	Exempt func(netip.Addr) bool
	// OnChange is called with 1 for each connection that opens and -1 for each that closes; nil
	// for none.
	OnChange func(change int64)
	// Full is the response to a connection for which there is no room, unless the client expects
	// TLS.
	Full []byte
	// TLS is the TLS configuration of connections; nil for plain HTTP.
	TLS *tls.Config
	// Log receives a warning if connections cannot be accepted for a moment.
	Log *slog.Logger
}

// Conns limits the open connections and shares them out among client addresses. A connection is
// busy from the time its request has arrived completely until the response is sent. Otherwise it
// is idle, also during its handshake or while a client sends a head or a body byte by byte.
//
// When there is hardly room for a new connection, Conns closes an idle one: of the address with
// the most connections, the one that has been idle for longest. An address that opens many
// connections therefore displaces only its own, however fast it opens and resets them; addresses
// with fewer connections lose none. If no connection may be closed, the new one is refused. Busy
// connections are never closed.
type Conns struct {
	Config

	listening struct {
		sync.Mutex
		ln    net.Listener
		ended bool
	}

	mu     sync.Mutex
	n      int // connections that the HTTP server has not finished with
	ending int // of these, closed to make room
	peers  map[string]*peer
	idle   resting
	clock  uint64
}

// peer is a client address (for IPv6, a /64 network) with connections.
type peer struct {
	name   string
	n      int // connections that the HTTP server has not finished with
	ending int // of these, closed to make room
	idle   *list.List
	at     int // index in Conns.idle
}

// open returns how many connections of a peer take up room.
func (p *peer) open() int { return p.n - p.ending }

// longestIdle returns the connection of a peer that has been idle for longest; it must have one.
func (p *peer) longestIdle() *conn {
	c, _ := p.idle.Front().Value.(*conn)
	return c
}

// New returns Conns without connections. Close ends its listener.
func New(config Config) *Conns {
	if config.Most > 0 { // one address never has all connections
		config.PerAddress = min(config.PerAddress, max(1, config.Most/2))
	}
	if config.Exempt == nil {
		config.Exempt = func(netip.Addr) bool { return false }
	}
	if config.OnChange == nil {
		config.OnChange = func(int64) {}
	}
	return &Conns{Config: config, peers: map[string]*peer{}}
}

// Listen returns a listener that accepts the connections of ln within the limits. Call it only
// once. ok is false after Close; the caller then closes ln itself.
//
// A shutdown may come just before the HTTP server starts to serve. The shutdown then finds
// nothing to stop, but Close ends the listener, which ends the serving.
func (o *Conns) Listen(ln net.Listener) (_ net.Listener, ok bool) {
	o.listening.Lock()
	defer o.listening.Unlock()
	o.listening.ln = ln
	if o.listening.ended {
		return nil, false
	}
	plain := limited{Listener: ln, conns: o}
	if o.TLS == nil {
		plain.full = o.Full
		return plain, true
	}
	return tls.NewListener(plain, o.TLS), true // a client that expects TLS cannot read Full
}

// Close ends the listener, and makes a later Listen refuse. It leaves open connections alone. It
// can be called more than once.
func (o *Conns) Close() error {
	o.listening.Lock()
	defer o.listening.Unlock()
	o.listening.ended = true
	if o.listening.ln == nil {
		return nil
	}
	if err := o.listening.ln.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Reasons for refusing a connection, as labels of metrics.
const (
	addressFull = "address"     // the address has reached its limit
	allFull     = "connections" // all connections are in use
)

// reserve determines the part of all connections that is kept for new ones: a hundredth, and at
// least one. A larger part would close connections whose requests are on their way while many
// others are held.
const reserve = 100

// fill returns the number of connections from which idle ones are closed.
func (o *Conns) fill() int { return o.Most - max(1, o.Most/reserve) }

// Workers returns the maximum number of connections that the HTTP server has to handle; 0 for
// any number. It includes connections that were closed to make room and whose end the server has
// not noticed yet.
func (o *Conns) Workers() int { return 4 * o.Most }

// admit counts a new connection. rest are the connections to close for it. why is the reason for
// refusing it; "" if it is accepted.
func (o *Conns) admit(c *conn) (rest []*conn, why string) {
	name, limited := o.owner(c)
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.peers[name]
	if p == nil {
		p = &peer{name: name, idle: list.New(), at: -1}
	}
	if limited && p.n >= o.PerAddress {
		return nil, addressFull
	}
	if o.Most > 0 {
		if p.ending >= o.Most || o.n >= o.Workers() {
			return nil, allFull // the server has not caught up with closed connections
		}
		for o.n-o.ending >= o.fill() {
			c := o.surplus(p)
			if c == nil {
				break
			}
			rest = append(rest, c)
		}
		if o.n-o.ending >= o.Most {
			return rest, allFull
		}
	}
	o.peers[name] = p
	p.n++
	o.n++
	c.peer = p
	o.setIdle(c, true)
	return rest, ""
}

// owner returns the address of a connection, and whether it has a limit.
func (o *Conns) owner(c net.Conn) (name string, limited bool) {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return "", false
	}
	from := at.Addr().Unmap()
	return address.Network(from), o.PerAddress > 0 && !o.Exempt(from)
}

// surplus returns the connection to close for a new one of p; nil for none. It belongs to the
// address with the most connections, counting the new one for p. The lock must be held.
func (o *Conns) surplus(p *peer) *conn {
	if len(o.idle) == 0 {
		return nil
	}
	most := o.idle[0]
	switch own := p.open() + 1; {
	case most.open() >= own:
	case p.idle.Len() > 0:
		most = p
	default:
		return nil
	}
	c := most.longestIdle()
	c.cut = true
	o.ending++
	most.ending++
	o.setIdle(c, false)
	return c
}

// leave records that a connection was closed.
func (o *Conns) leave(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.left = true
	o.setIdle(c, false)
}

// forget stops counting a connection that the HTTP server has finished with. A connection that
// was merely closed still takes up room in the server until the goroutine that reads from it has
// noticed.
func (o *Conns) forget(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.gone {
		return
	}
	c.gone = true
	c.peer.n--
	o.n--
	if c.cut {
		c.peer.ending--
		o.ending--
	}
	o.setIdle(c, false)
	if c.peer.n == 0 {
		delete(o.peers, c.peer.name)
	}
}

// setIdle records whether a connection is idle, and moves its address to its new position. The
// lock must be held.
func (o *Conns) setIdle(c *conn, idle bool) {
	p := c.peer
	if c.idle != nil {
		p.idle.Remove(c.idle)
		c.idle = nil
	}
	if idle && !c.left && !c.gone {
		o.clock++
		c.since = o.clock
		c.idle = p.idle.PushBack(c)
	}
	switch {
	case p.idle.Len() == 0 && p.at >= 0:
		heap.Remove(&o.idle, p.at)
	case p.idle.Len() > 0 && p.at < 0:
		heap.Push(&o.idle, p)
	case p.at >= 0:
		heap.Fix(&o.idle, p.at)
	}
}

// note records whether a connection is idle.
func (o *Conns) note(of net.Conn, idle bool) {
	c := unwrap(of)
	if c == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.setIdle(c, idle)
}

// Busy records that a complete request has arrived on a connection of the HTTP server. The
// connection is not closed to make room until the response is sent.
func (o *Conns) Busy(of net.Conn) { o.note(of, false) }

// unwrap returns the listener's connection below one of the HTTP server's; nil for another.
func unwrap(of net.Conn) *conn {
	if secured, ok := of.(*tls.Conn); ok {
		of = secured.NetConn()
	}
	c, _ := of.(*conn)
	return c
}

// Changed is the ConnState callback of the HTTP server. When a head begins to arrive, or a
// response was sent, the connection is idle again.
func (o *Conns) Changed(of net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateActive, fasthttp.StateIdle:
		o.note(of, true)
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		if c := unwrap(of); c != nil {
			o.forget(c)
		}
	}
}

// resting is a heap of the addresses with idle connections: first the one with the most
// connections, and among equals the one whose connection has been idle for longest.
type resting []*peer

func (r resting) Len() int { return len(r) }

func (r resting) Less(i, j int) bool {
	if a, b := r[i].open(), r[j].open(); a != b {
		return a > b
	}
	return r[i].longestIdle().since < r[j].longestIdle().since
}

func (r resting) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].at, r[j].at = i, j
}

func (r *resting) Push(p any) {
	added, _ := p.(*peer)
	added.at = len(*r)
	*r = append(*r, added)
}

func (r *resting) Pop() any {
	last := len(*r) - 1
	p := (*r)[last]
	(*r)[last] = nil
	*r, p.at = (*r)[:last], -1
	return p
}
