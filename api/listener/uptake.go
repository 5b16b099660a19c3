package listener

import "time"

// slowest is the minimum rate at which a client must read its responses, in bytes per second. It
// is averaged over the time that a client may stall, because a client on a bad network may read
// nothing for part of it.
const slowest = 1 << 10

// uptake measures how a client reads what is sent to it, over all responses on its connection: a
// client that reads nothing gains nothing from responses that still fit into the socket's
// buffer. Each period has an amount that the client must read by its end: everything
// outstanding, or what the slowest client reads in that time, whichever is less.
type uptake struct {
	within time.Duration // length of a period
	sent   int64         // bytes written to the socket
	by     time.Time     // end of the period
	due    int64         // how many of all bytes the client must have read by then
}

// goesOn reports whether next more bytes may be written. unsent returns how many written bytes
// the client has not read; it is called only in the second half of the period.
func (u *uptake) goesOn(now time.Time, next int, unsent func() int64) bool {
	if now.Before(u.by.Add(-u.within / 2)) {
		return true
	}
	read := u.sent - unsent()
	if read < u.due {
		return now.Before(u.by)
	}
	u.by = now.Add(u.within)
	u.due = min(u.sent+int64(next), read+max(1, int64(u.within.Seconds()*slowest)))
	return true
}
