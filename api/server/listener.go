package server

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"ehi-server/shared/telemetry"
)

// unstalled is a listener whose connections are cut where their client takes nothing of an answer for
// too long. A limit on the whole answer would cut large downloads that move. What passes is counted.
type unstalled struct {
	net.Listener
	most  time.Duration
	count func(change int64) // is told of each connection that opens or closes
	open  *openConns
}

// Accept implements net.Listener.
func (l unstalled) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &unstalledConn{Conn: conn, most: l.most, count: l.count, open: l.open}
		if !l.open.admit(c) {
			_ = conn.Close() // nothing was sent: whoever opens so many is not told
			continue
		}
		telemetry.HTTPConnections.Inc()
		l.count(1)
		l.open.makeRoom()
		l.open.awaitRoom(patience)
		return c, nil
	}
}

type unstalledConn struct {
	net.Conn
	most   time.Duration
	count  func(change int64)
	open   *openConns
	closed sync.Once

	// Of openConns, under its lock.
	from string        // the address that it counts for, "" for one without a limit
	idle *list.Element // its place while no request of it is being answered
	left bool          // whether it was closed
	gone bool          // whether the HTTP server is done with it
	cut  bool          // whether it was closed to make room
}

// Read implements net.Conn.
func (c *unstalledConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	telemetry.HTTPReceived.Add(float64(n))
	return n, err
}

// Write implements net.Conn.
func (c *unstalledConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.most)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	telemetry.HTTPSent.Add(float64(n))
	return n, err
}

// Close implements net.Conn.
func (c *unstalledConn) Close() error {
	c.closed.Do(func() {
		telemetry.HTTPConnections.Dec()
		c.count(-1)
		c.open.leave(c)
	})
	return c.Conn.Close()
}

// openConns bounds those that are open: how many of one address, and how many all together do
// nothing. One is busy once a request has come as a whole, until its answer is sent; until then it is
// idle, also while its client sends a head or a body byte by byte. When there is hardly room for more,
// the one is closed that has been idle for longest: whoever opens connections and says nothing
// displaces his own kind, and nobody who is being served.
type openConns struct {
	most    int                           // all together; 0: any number
	each    int                           // of one address; 0: any number
	limited func(address netip.Addr) bool // whether an address has a limit

	mu     sync.Mutex
	n      int // those that the HTTP server is not done with
	ending int // those among them that were closed to make room
	of     map[string]int
	idle   *list.List    // of *unstalledConn, the longest idle first
	ended  chan struct{} // has room for one word that the server is done with one more
}

func newOpenConns(most, each int, limited func(netip.Addr) bool) *openConns {
	return &openConns{most: most, each: each, limited: limited, of: map[string]int{}, idle: list.New(), ended: make(chan struct{}, 1)}
}

// admit counts a connection that was opened; ok is false where its address has too many.
func (o *openConns) admit(c *unstalledConn) (ok bool) {
	from := ""
	if o.each > 0 {
		at, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err == nil && o.limited(at.Addr().Unmap()) {
			from = network(at.Addr().Unmap().String())
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if from != "" {
		if o.of[from] >= o.each {
			telemetry.Refused.WithLabelValues("address").Inc()
			return false
		}
		o.of[from]++
	}
	o.n++
	c.from, c.idle = from, o.idle.PushBack(c)
	return true
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
	o.rest(c, false)
	o.n--
	if c.cut {
		o.ending--
	}
	select {
	case o.ended <- struct{}{}:
	default:
	}
	if c.from == "" {
		return
	}
	if o.of[c.from]--; o.of[c.from] == 0 {
		delete(o.of, c.from)
	}
}

// reserve is the part of all connections that is kept for new ones: the hundredth, and one at least. A larger one
// would close connections whose requests are on their way while many others are held.
const reserve = 100

// makeRoom closes connections that have been idle for longest while there is hardly room for new ones.
func (o *openConns) makeRoom() {
	for {
		c := o.surplus()
		if c == nil {
			return
		}
		telemetry.IdleClosed.Inc()
		_ = c.Close() // its client said nothing
	}
}

// patience is how long a new connection waits for those that were closed to make room for it.
const patience = time.Second

// awaitRoom waits until the HTTP server is done with enough of the connections that makeRoom closed, d at most: it
// would refuse the new one while their ends are still being noticed.
func (o *openConns) awaitRoom(d time.Duration) {
	if !o.short() {
		return
	}
	late := time.NewTimer(d)
	defer late.Stop()
	for o.short() {
		select {
		case <-o.ended:
		case <-late.C:
			return
		}
	}
}

// short reports whether there is hardly room, and more to come soon.
func (o *openConns) short() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending > 0 && o.n > o.fill()
}

// fill is how many connections there may be before idle ones are closed; the lock is held.
func (o *openConns) fill() int { return o.most - max(1, o.most/reserve) }

// surplus is a connection to close, nil for none. It is idle no longer.
func (o *openConns) surplus() *unstalledConn {
	o.mu.Lock()
	defer o.mu.Unlock()
	front := o.idle.Front()
	if o.most <= 0 || o.n-o.ending <= o.fill() || front == nil || front == o.idle.Back() {
		return nil // the last one has just come
	}
	c, _ := front.Value.(*unstalledConn)
	o.rest(c, false)
	c.cut = true
	o.ending++
	return c
}

// rest notes whether a connection is idle from now on; the lock is held.
func (o *openConns) rest(c *unstalledConn, idle bool) {
	if c.idle != nil {
		o.idle.Remove(c.idle)
		c.idle = nil
	}
	if idle && !c.left {
		c.idle = o.idle.PushBack(c)
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
