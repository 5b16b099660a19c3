package server

import (
	"container/heap"
	"container/list"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"

	"ehi-server/api/request"

	"github.com/valyala/fasthttp"
)

// openConns bounds the connections that are open, and shares them out among the addresses that they come
// from. A connection is busy once a request has come as a whole, until its answer is sent; until then it
// is idle, also in its handshake, or while its client sends a head or a body byte by byte.
//
// When there is hardly room for a new one, an idle one is closed: of the address that has most
// connections, the one that has been idle for longest. An address that opens many so displaces its own,
// however fast it opens and resets them: nothing of an address that has fewer is closed for it. Without
// any that may be closed the new one is refused. Who is being served is never closed.
type openConns struct {
	most    int                           // all together; 0: any number
	each    int                           // of one address; 0: any number
	limited func(address netip.Addr) bool // whether an address has a limit

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
	at     int // its place in openConns.idle
}

// open is how many of a peer's connections take up room.
func (p *peer) open() int { return p.n - p.ending }

// first is the connection of a peer that has been idle for longest; there is one.
func (p *peer) first() *unstalledConn {
	c, _ := p.idle.Front().Value.(*unstalledConn)
	return c
}

func newOpenConns(most, each int, limited func(netip.Addr) bool) *openConns {
	if most > 0 {
		each = min(each, max(1, most/2)) // one address never has them all
	}
	return &openConns{most: most, each: each, limited: limited, peers: map[string]*peer{}}
}

// What a connection is refused for, as metrics name it.
const (
	ofAddress = "address"     // its address has its share
	noPlace   = "connections" // there is no room at all
)

// reserve is the part of all connections that is kept for new ones: the hundredth, and one at least. A
// larger one would close connections whose requests are on their way while many others are held.
const reserve = 100

// fill is how many connections there may be before idle ones are closed.
func (o *openConns) fill() int { return o.most - max(1, o.most/reserve) }

// workers is how many connections the HTTP server has to do with at most, with those that were closed to
// make room whose end it has not noticed yet; 0: any number.
func (o *openConns) workers() int { return 4 * o.most }

// admit counts a connection that was opened. rest are those to close for it; why is what it is refused
// for, "" where it is let in.
func (o *openConns) admit(c *unstalledConn) (rest []*unstalledConn, why string) {
	name, limited := o.whose(c)
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.peers[name]
	if p == nil {
		p = &peer{name: name, idle: list.New(), at: -1}
	}
	if limited && p.n >= o.each {
		return nil, ofAddress
	}
	if o.most > 0 {
		if p.ending >= o.most || o.n >= o.workers() {
			return nil, noPlace // the server is behind with what was closed
		}
		for o.n-o.ending >= o.fill() {
			c := o.surplus(p)
			if c == nil {
				break
			}
			rest = append(rest, c)
		}
		if o.n-o.ending >= o.most {
			return rest, noPlace
		}
	}
	o.peers[name] = p
	p.n++
	o.n++
	c.peer = p
	o.rest(c, true)
	return rest, ""
}

// whose names the address of a connection, and tells whether it has a limit.
func (o *openConns) whose(c net.Conn) (name string, limited bool) {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return "", false
	}
	address := at.Addr().Unmap()
	return request.Network(address.String()), o.each > 0 && o.limited(address)
}

// surplus takes the connection to close for a new one of p, nil for none: of the address that has most,
// p with the new one among them. The lock is held.
func (o *openConns) surplus(p *peer) *unstalledConn {
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
	c := most.first()
	c.cut = true
	o.ending++
	most.ending++
	o.rest(c, false)
	return c
}

// leave notes that a connection was closed.
func (o *openConns) leave(c *unstalledConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.left = true
	o.rest(c, false)
}

// forget stops counting a connection that the HTTP server is done with. One that was merely closed
// still takes up the server's room until whoever reads from it has noticed.
func (o *openConns) forget(c *unstalledConn) {
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
	o.rest(c, false)
	if c.peer.n == 0 {
		delete(o.peers, c.peer.name)
	}
}

// rest notes whether a connection is idle from now on, and puts its address into its place; the lock is
// held.
func (o *openConns) rest(c *unstalledConn, idle bool) {
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
func (o *openConns) note(conn net.Conn, idle bool) {
	c := ours(conn)
	if c == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest(c, idle)
}

// ours is the listener's connection below one of the HTTP server's, nil for another.
func ours(conn net.Conn) *unstalledConn {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	c, _ := conn.(*unstalledConn)
	return c
}

// changed hears from the HTTP server how a connection stands: a head that begins to come, or an answer
// that was sent, makes it idle anew.
func (o *openConns) changed(conn net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateActive, fasthttp.StateIdle:
		o.note(conn, true)
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		if c := ours(conn); c != nil {
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
	return r[i].first().since < r[j].first().since
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
