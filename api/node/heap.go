package node

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// heapLimit is the soft limit of the Go heap. It grows with the open connections: what they take
// is live, and under a limit that leaves no room for it the collector runs without a pause and
// frees nothing.
type heapLimit struct {
	base       int64 // bytes, without the connections
	connection int64 // bytes that an open connection takes

	open atomic.Int64
	room atomic.Int64 // for how many connections the limit has room
	mu   sync.Mutex   // held while the limit changes
}

const (
	// connectionStep is by how many connections the limit grows: the world stops for each change.
	connectionStep = 256
	// connectionState is what an open connection takes beside the buffer that its request's head is
	// read into, in bytes: a stack, and a request and its answer.
	connectionState = 16 << 10
)

// newHeapLimit sets the limit; maxHeader is the largest head of a request.
func newHeapLimit(base int64, maxHeader int) *heapLimit {
	h := &heapLimit{base: base, connection: int64(maxHeader) + connectionState}
	debug.SetMemoryLimit(base)
	return h
}

// count adjusts the limit to a number of opened connections, or of closed ones if change is
// negative. It does nothing to a nil limit.
func (h *heapLimit) count(change int64) {
	if h == nil {
		return
	}
	if room := h.open.Add(change) / connectionStep * connectionStep; h.fits(room) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	room := h.open.Load() / connectionStep * connectionStep
	if h.fits(room) {
		return
	}
	h.room.Store(room)
	debug.SetMemoryLimit(h.base + room*h.connection)
}

// fits reports whether the limit may stay: one step too many is left, so that a connection that
// comes and goes changes nothing.
func (h *heapLimit) fits(room int64) bool {
	spare := h.room.Load() - room
	return spare == 0 || spare == connectionStep
}
