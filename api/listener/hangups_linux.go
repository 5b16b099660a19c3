package listener

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// HangUps tells when the other side of a connection closes it while nobody reads from it. The
// kernel watches: a connection costs nothing until that happens.
type HangUps struct {
	epoll *os.File // itself watched by the runtime's poller
	done  chan struct{}

	mu   sync.Mutex
	last int32
	gone map[int32]chan struct{} // by the number that the kernel knows the connection by
}

// NewHangUps starts to watch; Close ends it.
func NewHangUps() (*HangUps, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch connections: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("watch connections: %w", err)
	}
	h := &HangUps{
		epoll: os.NewFile(uintptr(fd), "epoll"),
		done:  make(chan struct{}),
		gone:  map[int32]chan struct{}{},
	}
	raw, err := h.epoll.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("watch connections: %w", err)
	}
	go h.run(raw)
	return h, nil
}

// Close ends the watching. Nobody may watch a connection at that time or later.
func (h *HangUps) Close() {
	_ = h.epoll.Close() // it was only read from
	<-h.done
}

// run passes on what the kernel says, until Close.
func (h *HangUps) run(raw syscall.RawConn) {
	defer close(h.done)
	events := make([]unix.EpollEvent, 128)
	for {
		var n int
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0) // an interrupted call is made again
			return n > 0
		})
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			h.tell(e.Fd)
		}
	}
}

func (h *HangUps) tell(number int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if gone, watched := h.gone[number]; watched {
		close(gone)
		delete(h.gone, number)
	}
}

// Watch returns a channel that is closed when the other side closes the connection. Call forget
// before anybody reads from the connection again. A connection that cannot be watched never seems
// gone.
func (h *HangUps) Watch(c net.Conn) (gone <-chan struct{}, forget func()) {
	raw := rawConn(c)
	if raw == nil {
		return nil, func() {}
	}
	number, told := h.number()
	err := raw.Control(func(fd uintptr) {
		// An event carries the number, not the descriptor: that may be another connection's by
		// then.
		e := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: number}
		_ = h.control(unix.EPOLL_CTL_ADD, fd, &e) // if the kernel refuses, the wait just ends later
	})
	if err != nil { // closed on this side
		h.tell(number)
	}
	return told, func() {
		h.forget(number)
		_ = raw.Control(func(fd uintptr) { // the kernel forgets what is closed
			_ = h.control(unix.EPOLL_CTL_DEL, fd, nil) // and what it refused it never knew
		})
	}
}

// control changes what the kernel watches.
func (h *HangUps) control(op int, fd uintptr, e *unix.EpollEvent) (err error) {
	raw, err := h.epoll.SyscallConn()
	if err != nil {
		return err
	}
	closed := raw.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), op, int(fd), e) })
	if closed != nil {
		return closed
	}
	return err
}

// number finds a number that no watched connection has.
func (h *HangUps) number() (int32, chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for taken := true; taken; {
		h.last++
		_, taken = h.gone[h.last]
	}
	told := make(chan struct{})
	h.gone[h.last] = told
	return h.last, told
}

func (h *HangUps) forget(number int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.gone, number)
}
