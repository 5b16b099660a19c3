package listener

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// HangUps reports when the other side closes a connection while nobody reads from it. The kernel
// watches, so a connection costs nothing until then.
type HangUps struct {
	epoll *os.File // watched by the runtime's poller
	done  chan struct{}

	mu   sync.Mutex
	last int32
	gone map[int32]chan struct{} // by the number under which the kernel knows the connection
}

// NewHangUps starts watching. Close ends it.
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

// Close stops watching. Nobody may watch a connection during Close or later.
func (h *HangUps) Close() {
	_ = h.epoll.Close() // it was only read from
	<-h.done
}

// run passes on the kernel's events until Close.
func (h *HangUps) run(raw syscall.RawConn) {
	defer close(h.done)
	events := make([]unix.EpollEvent, 128)
	for {
		var n int
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0) // an interrupted call is repeated
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
// before anybody reads from the connection again. For a connection that cannot be watched, the
// channel is never closed.
func (h *HangUps) Watch(c net.Conn) (gone <-chan struct{}, forget func()) {
	raw := rawConn(c)
	if raw == nil {
		return nil, func() {}
	}
	number, told := h.number()
	err := raw.Control(func(fd uintptr) {
		// An event has the number, not the descriptor, which another connection may have by
		// then.
		e := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: number}
		_ = h.control(unix.EPOLL_CTL_ADD, fd, &e) // if the kernel refuses, the wait ends later
	})
	if err != nil { // closed on this side
		h.tell(number)
	}
	return told, func() {
		h.forget(number)
		_ = raw.Control(func(fd uintptr) { // the kernel forgets closed descriptors
			_ = h.control(unix.EPOLL_CTL_DEL, fd, nil) // and does not know those that it refused
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

// number returns a number that no watched connection has.
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
