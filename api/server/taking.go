package server

import "time"

// slowest is the rate that a client has to take its answers at, in bytes a second. It counts over the
// time that a client may stall, so that one on a bad network may take nothing for some of it.
const slowest = 1 << 10

// taking is how a client takes what is sent to it, over all that is written to its connection: a client
// that takes nothing is not helped by answers that still fit into the socket's buffer. What was due
// when the time began, or as much as the slowest client takes in it, has to be taken when it ends.
type taking struct {
	most time.Duration
	sent int64     // bytes that were written to the socket
	by   time.Time // when the client has to have taken what is due
	due  int64     // of all bytes that are sent
}

// goesOn reports whether there may be a further write, of next bytes. unsent tells how many of those
// that were written the client has not taken; it is asked in the second half of the time only.
func (t *taking) goesOn(now time.Time, next int, unsent func() int64) bool {
	if now.Before(t.by.Add(-t.most / 2)) {
		return true
	}
	taken := t.sent - unsent()
	if taken < t.due {
		return now.Before(t.by)
	}
	t.by = now.Add(t.most)
	t.due = min(t.sent+int64(next), taken+max(1, int64(t.most.Seconds()*slowest)))
	return true
}
