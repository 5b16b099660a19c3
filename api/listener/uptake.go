package listener

import "time"

// slowest is the rate at which a client has to read its answers, in bytes a second. It is averaged
// over the time that a client may stall: one on a bad network may read nothing for part of it.
const slowest = 1 << 10

// uptake measures how a client reads what is sent to it, over everything that is written to its
// connection: a client that reads nothing gains nothing by answers that still fit into the socket's
// buffer. Each period sets an amount that is due at its end: everything that is outstanding, or as
// much as the slowest client reads in that time, whichever is less.
type uptake struct {
	within time.Duration // how long a period is
	sent   int64         // bytes that were written to the socket
	by     time.Time     // when the period ends
	due    int64         // how many of all bytes the client has to have read by then
}

// goesOn reports whether next more bytes may be written. unsent tells how many of those that were
// written the client has not read; it is called in the second half of the period only.
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
