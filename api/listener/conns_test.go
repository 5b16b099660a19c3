package listener

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/shared/logtest"

	"pgregory.net/rapid"
)

// named is a connection from an address that does nothing else.
type named struct {
	net.Conn
	from net.Addr
}

func (n named) RemoteAddr() net.Addr { return n.from }
func (named) Close() error           { return nil }

// table is a table of connections with a simple count of them for comparison.
type table struct {
	*Conns
	next  int
	conns []*conn // connections that the HTTP server has not finished with
	busy  map[*conn]bool
	shut  map[*conn]bool
}

// opened counts the connections of an address that take up room.
func (m *table) opened(address string) (n int) {
	for _, c := range m.conns {
		if !c.cut && c.RemoteAddr().(*net.TCPAddr).IP.String() == address {
			n++
		}
	}
	return n
}

// idling reports whether an address has a connection that may be closed.
func (m *table) idling(address string) bool {
	return slices.ContainsFunc(m.conns, func(c *conn) bool {
		return !m.shut[c] && !m.busy[c] && c.RemoteAddr().(*net.TCPAddr).IP.String() == address
	})
}

// addresses are the client addresses. The last two have no limit.
var addresses = []string{
	"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "127.0.0.1", "127.0.0.2",
}

// Whatever connections open, reset, send and receive: there are never more than the limit, an
// address with a limit never has more than its share, no busy connection is closed, no
// connection is closed for an address with more connections than its owner, and an address
// without connections is accepted whenever one with more is idle.
func TestConnectionsAreSharedOutAmongAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most, each := rapid.IntRange(2, 30).Draw(t, "most"), rapid.IntRange(0, 20).Draw(t, "each")
		m := &table{
			Conns: New(Config{
				Flags:  Flags{Most: most, PerAddress: each},
				Exempt: netip.Addr.IsLoopback,
			}),
			busy: map[*conn]bool{},
			shut: map[*conn]bool{},
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { m.check(t) },
			"open": func(t *rapid.T) {
				m.opens(t, rapid.SampledFrom(addresses).Draw(t, "address"))
			},
			"churn":  func(t *rapid.T) { m.opens(t, addresses[0]) },
			"ask":    func(t *rapid.T) { m.notes(t, true) },
			"answer": func(t *rapid.T) { m.notes(t, false) },
			"reset": func(t *rapid.T) {
				if c := m.any(t); c != nil {
					_ = c.Close()
					m.shut[c] = true
				}
			},
			"end": func(t *rapid.T) {
				if c := m.any(t); c != nil {
					_ = c.Close()
					m.forget(c)
					m.conns = slices.DeleteFunc(m.conns, func(o *conn) bool { return o == c })
				}
			},
		})
	})
}

func (m *table) any(t *rapid.T) *conn {
	if len(m.conns) == 0 {
		return nil
	}
	return rapid.SampledFrom(m.conns).Draw(t, "connection")
}

// notes makes a request arrive on some connection, or completes one.
func (m *table) notes(t *rapid.T, busy bool) {
	if c := m.any(t); c != nil && !m.shut[c] {
		m.note(c, !busy)
		m.busy[c] = busy
	}
}

// opens opens a connection from an address.
func (m *table) opens(t *rapid.T, address string) {
	m.next++
	from := &net.TCPAddr{IP: net.ParseIP(address), Port: 1000 + m.next}
	c := newConn(named{from: from}, m.Conns)
	own, before := m.opened(address)+1, map[string]int{}
	larger := false
	for _, other := range addresses {
		before[other] = m.opened(other)
		larger = larger || before[other] >= own && other != address && m.idling(other)
	}
	rest, why := m.admit(c)
	for _, closed := range rest {
		of := closed.RemoteAddr().(*net.TCPAddr).IP.String()
		if m.busy[closed] || m.shut[closed] {
			t.Fatal("a connection is closed that is being served, or not there any more")
		}
		switch { // they are closed one after the other; each decision counts the remaining ones
		case of == address:
			own--
		case before[of] < own:
			t.Fatalf("for %s, which has %d, one of %s is closed, which has %d",
				address, own, of, before[of])
		}
		before[of]--
		_ = closed.Close()
		m.shut[closed] = true
	}
	switch {
	case why == "":
		m.conns = append(m.conns, c)
	case why == allFull && larger && m.n < m.Workers() && m.peers[address] == nil:
		t.Fatalf("%s has none, and is not let in beside %v", address, before)
	}
}

func (m *table) check(t *rapid.T) {
	if open := m.Conns.n - m.ending; open > m.Most || open < 0 {
		t.Fatalf("%d are open of %d", open, m.Most)
	}
	of := map[string]int{}
	for _, c := range m.conns {
		of[c.RemoteAddr().(*net.TCPAddr).IP.String()]++
	}
	for address, n := range of {
		free := m.PerAddress == 0 || netip.MustParseAddr(address).IsLoopback()
		if !free && (n > m.PerAddress || n > max(1, m.Most/2)) {
			t.Fatalf("%s has %d", address, n)
		}
	}
	if total := len(m.conns); total != m.n {
		t.Fatalf("%d are counted, there are %d", m.n, total)
	}
	for i, p := range m.Conns.idle {
		if p.at != i || p.idle.Len() == 0 || i > 0 && m.Conns.idle.Less(i, (i-1)/2) {
			t.Fatal("the addresses are out of order")
		}
	}
}

// A client that reads a kilobyte per second continues, in any bursts within the time. One that
// reads less or nothing is cut off within twice the time, however little is sent to it at once.
func TestAClientThatReadsTooLittleIsCutOff(t *testing.T) {
	const most = time.Minute
	nothing := func(time.Duration) int64 { return 0 }
	everything := func(time.Duration) int64 { return 1 << 40 }
	aMegabyte := func(time.Duration) int64 { return 1 << 20 }
	perSecond := func(bytes float64) func(time.Duration) int64 {
		return func(d time.Duration) int64 { return int64(d.Seconds() * bytes) }
	}
	inBursts := func(d time.Duration) int64 {
		return perSecond(10240)(d.Truncate(40 * time.Second))
	}
	for _, c := range []struct {
		name  string
		write int           // bytes per write
		every time.Duration // between writes
		// takes returns how many bytes the client has read by then, at most what was sent.
		takes func(after time.Duration) int64
		ends  bool
	}{
		{"nothing, of large writes", 32 << 10, time.Second, nothing, true},
		{"nothing, of small writes that fit the buffer", 10, 50 * time.Second, nothing, true},
		{"a byte a second", 4 << 10, 10 * time.Second, perSecond(1), true},
		{"the first megabyte, then nothing", 32 << 10, time.Second, aMegabyte, true},
		{"ten kilobytes a second", 32 << 10, 3 * time.Second, perSecond(10240), false},
		{"ten kilobytes a second in bursts", 32 << 10, 3 * time.Second, inBursts, false},
		{"all, of small writes", 10, 50 * time.Second, everything, false},
		{"all, of large writes", 1 << 20, 50 * time.Second, everything, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			begun := time.Now()
			stall := uptake{within: most}
			for d := time.Duration(0); d < time.Hour; d += c.every {
				unsent := func() int64 { return max(0, stall.sent-c.takes(d)) }
				if !stall.goesOn(begun.Add(d), c.write, unsent) {
					if !c.ends {
						t.Errorf("cut after %s", d)
					}
					return
				}
				if unsent() < 4<<20 { // otherwise the write waits
					stall.sent += int64(c.write)
				}
			}
			if c.ends {
				t.Error("it goes on after an hour")
			}
		})
	}
}

// A client that reads nothing, or hardly anything, of many small responses is cut off; a slow
// one is not. No single response waits for long.
func TestAStalledClientIsCutOffOverAllItsAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		read func(net.Conn) error
		ends bool
	}{
		{"nothing", func(net.Conn) error { return nil }, true},
		{"a few bytes", func(conn net.Conn) error {
			_, err := conn.Read(make([]byte, 16))
			return err
		}, true},
		{"slowly", func(conn net.Conn) error {
			_, err := conn.Read(make([]byte, 256<<10))
			return err
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			most, long := time.Second, 60*time.Second
			if !c.ends {
				most, long = 5*time.Second, 12*time.Second // this machine may be busy
			}
			client, served := narrow(t, most)
			over := make(chan error, 1)
			go func() {
				for answer := make([]byte, 500); ; {
					if _, err := served.Write(answer); err != nil {
						over <- err
						return
					}
				}
			}()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			late := time.After(long)
			for {
				select {
				case err := <-over:
					if !c.ends {
						t.Errorf("cut off: %v", err)
					}
					return
				case <-late:
					if c.ends {
						t.Error("it is there still")
					}
					_ = served.Close()
					<-over
					return
				case <-tick.C:
					if err := c.read(client); err != nil && !c.ends {
						t.Fatal(fmt.Errorf("read: %w", err))
					}
				}
			}
		})
	}
}

// narrow returns a connection whose client may stall for the time most, with small buffers.
func narrow(t *testing.T, most time.Duration) (client, served net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := client.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	limited, _ := New(Config{Flags: Flags{Stall: most}}).Listen(ln)
	if served, err = limited.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = served.Close() })
	return client, served
}

// lackingListener fails like the listener of a process with too many open files.
type lackingListener struct {
	net.Listener
	fails int
}

func (l *lackingListener) Accept() (net.Conn, error) {
	if l.fails--; l.fails >= 0 {
		err := os.NewSyscallError("accept4", syscall.EMFILE)
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: err}
	}
	return l.Listener.Accept()
}

// A process that lacks open files or memory for a moment accepts connections again afterwards.
func TestALackOfOpenFilesEndsNoListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // closed below
	var book logtest.Book
	log := slog.New(slog.NewTextHandler(&book, nil))
	served, _ := New(Config{
		Flags: Flags{Stall: time.Minute},
		Log:   log,
	}).Listen(&lackingListener{ln, 3})
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // read only
	conn, err := served.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	said := book.String()
	if strings.Count(said, "\n") != 1 || !strings.Contains(said, syscall.EMFILE.Error()) {
		t.Errorf("the log says %q, want one line", said)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := served.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v", err)
	}
}

// An address may have its share of connections and no more. Closing one makes room for another.
func TestOneAddressHasItsShareOfConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := New(Config{Flags: Flags{Most: 100, PerAddress: 3, Stall: time.Minute}})
	served, _ := open.Listen(ln)
	accepted := make(chan net.Conn, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := served.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	defer func() {
		_ = ln.Close()
		<-done
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	var first net.Conn
	for i := range 3 {
		dial()
		if c := <-accepted; i == 0 {
			first = c
		}
	}
	fourth := dial()
	if err := fourth.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = fourth.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("a fourth connection is served")
	}
	_ = first.Close()
	open.forget(first.(*conn)) // as the HTTP server does when it has noticed
	dial()
	<-accepted
}
