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
)

// Config is what Conns is told once, at start.
type Config struct {
	// Most is how many connections may be open in all; 0 sets no limit.
	Most int
	// PerAddress is how many connections one address may have open, at most half of Most; 0 sets no
	// limit. IPv6 addresses count by networks of 64 bits.
	PerAddress int
	// Exempt reports whether PerAddress does not apply to an address; nil: it applies to all.
	Exempt func(netip.Addr) bool
	// Stall is how long a client may read less than a kilobyte a second of its answers before its
	// connection is cut.
	Stall time.Duration
	// OnChange is called with 1 for each connection that opens and -1 for each that closes; nil: it
	// is not called.
	OnChange func(change int64)
	// Full is what a client reads if there is no room for its connection, unless it expects TLS.
	Full []byte
	// TLS is how connections are secured; nil: not at all.
	TLS *tls.Config
	// Log is told if no connection can be accepted for a moment.
	Log *slog.Logger
}

// Conns limits the open connections, and shares them out among the addresses that they come from. A
// connection is busy once a request has come as a whole, until its answer is sent. Until then it is
// idle, also during its handshake, or while its client sends a head or a body byte by byte.
//
// When there is hardly room for a new connection, an idle one is closed: of the address that has
// the most connections, the one that has been idle for longest. An address that opens many
// therefore displaces its own, however fast it opens and resets them: nothing of an address that
// has fewer is closed for it. If none may be closed, the new one is refused. Busy connections are
// never closed.
type Conns struct {
	Config

	listening struct {
		sync.Mutex
		ln    net.Listener
		ended bool
	}

	mu     sync.Mutex
	n      int // those that the HTTP server is not done with
	ending int // those among them that were closed to make room
	peers  map[string]*peer
	idle   resting
	clock  uint64
}

// peer is an address, or of IPv6 a network of 64 bits, that has connections.
type peer struct {
	name   string
	n      int // those that the HTTP server is not done with
	ending int // those among them that were closed to make room
	idle   *list.List
	at     int // its place in Conns.idle
}

// open is how many of a peer's connections take up room.
func (p *peer) open() int { return p.n - p.ending }

// longestIdle is the connection of a peer that has been idle for longest; there is one.
func (p *peer) longestIdle() *conn {
	c, _ := p.idle.Front().Value.(*conn)
	return c
}

// New makes an empty table of connections; Close ends its listener.
func New(config Config) *Conns {
	if config.Most > 0 { // one address never has them all
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

// Listen returns a listener that accepts the connections of ln within the limits. It may be called
// once. ok is false after Close: the caller then closes ln itself.
//
// A shutdown may come while the HTTP server is only about to serve. It finds nothing to shut down
// there; Close, which ends the listener, then ends the serving.
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

// Close ends the listener, and has a later Listen refuse. It leaves open connections alone. It can
// be called again.
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

// Why a connection is refused, as metrics name it.
const (
	addressFull = "address"     // its address has its share
	allFull     = "connections" // there is no room at all
)

// reserve is the part of all connections that is kept for new ones: the hundredth, and one at
// least. A larger one would close connections whose requests are on their way while many others are
// held.
const reserve = 100

// fill is how many connections there may be before idle ones are closed.
func (o *Conns) fill() int { return o.Most - max(1, o.Most/reserve) }

// Workers is how many connections the HTTP server has to handle at most. They include those that
// were closed to make room and whose end it has not noticed yet; 0: any number.
func (o *Conns) Workers() int { return 4 * o.Most }

// admit counts a connection that was opened. rest are those to close for it; why is the reason for
// which it is refused, "" if it is let in.
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
			return nil, allFull // the server is behind with what was closed
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

// owner names the address of a connection, and tells whether it has a limit.
func (o *Conns) owner(c net.Conn) (name string, limited bool) {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return "", false
	}
	from := at.Addr().Unmap()
	return address.Network(from), o.PerAddress > 0 && !o.Exempt(from)
}

// surplus chooses the connection to close for a new one of p, nil for none: it belongs to the
// address that has most, where p counts with the new one. The lock is held.
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

// leave notes that a connection was closed.
func (o *Conns) leave(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.left = true
	o.setIdle(c, false)
}

// forget stops counting a connection that the HTTP server is done with. One that was merely closed
// still takes up the server's room until the goroutine that reads from it has noticed.
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

// setIdle notes whether a connection is idle from now on, and puts its address into its place; the
// lock is held.
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

// note notes whether a connection is idle from now on.
func (o *Conns) note(of net.Conn, idle bool) {
	c := unwrap(of)
	if c == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.setIdle(c, idle)
}

// Busy notes that a request has come as a whole on one of the HTTP server's connections: it is not
// closed to make room for others until its answer is sent.
func (o *Conns) Busy(of net.Conn) { o.note(of, false) }

// unwrap is the listener's connection below one of the HTTP server's, nil for another.
func unwrap(of net.Conn) *conn {
	if secured, ok := of.(*tls.Conn); ok {
		of = secured.NetConn()
	}
	c, _ := of.(*conn)
	return c
}

// Changed is the HTTP server's ConnState: it hears how a connection stands. A head that begins to
// come, or an answer that was sent, makes it idle anew.
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

// resting are the addresses that have idle connections, as a heap: first the one that has most
// connections, and of several the one whose connection has been idle for longest.
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
