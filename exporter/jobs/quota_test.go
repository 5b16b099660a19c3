package jobs

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/shared/bus"
	"ehi-server/shared/kv"
)

// twoProcesses returns two connections to one NATS.
func twoProcesses(t *testing.T) (one, other *bus.Bus) {
	t.Helper()
	one, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(one.Close)
	if other, err = bus.Open(t.Context(),
		bus.Config{Flags: bus.Flags{URL: one.ClientURL()}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	return one, other
}

// counts returns the tallies of two processes in one bucket. clock is their clock, which stands
// still.
func counts(t *testing.T) (one, other kv.Tally, clock *atomic.Pointer[time.Time]) {
	t.Helper()
	a, b := twoProcesses(t)
	at := time.Now()
	clock = new(atomic.Pointer[time.Time])
	clock.Store(&at)
	one = kv.Tally{Bucket: a.Auth, Now: func() time.Time { return *clock.Load() }}
	return one, kv.Tally{Bucket: b.Auth, Now: one.Now}, clock
}

// A process that has read a count, and then loses the last unit to another process, is refused.
// This holds for the first count of a holder and for later ones.
func TestTheLastOfAQuotaIsTakenOnce(t *testing.T) {
	one, other, clock := counts(t)
	who := quota{name: "client-kick-offs", holder: "somebody"}.key()
	take := func(by kv.Tally, limit int64) (taken bool) {
		t.Helper()
		w, wait, err := by.Add(t.Context(), who, 1, limit, time.Hour)
		if err != nil || w.Count != limit {
			t.Errorf("%+v of %d, %v", w, limit, err)
		}
		return wait == 0
	}
	for limit := range int64(5) {
		between := false
		late := kv.Tally{Bucket: one.Bucket, Now: func() time.Time { // it has read the count
			if !between {
				between = true
				if !take(other, limit+1) {
					t.Error("it was taken before")
				}
			}
			return *clock.Load()
		}}
		if take(late, limit+1) || !between {
			t.Errorf("the last of %d was taken twice", limit+1)
		}
	}
}

// Two processes reserve bytes at the same time. Each counts the other's reservations, and
// together they never reserve more than the limit.
func TestReservationsAreRightForAllProcesses(t *testing.T) {
	a, b := twoProcesses(t)
	one, other := &Service{Deps: Deps{Bus: a}}, &Service{Deps: Deps{Bus: b}}
	reserve := func(by *Service, holder, job string, most int, before func()) (done bool) {
		q := quota{name: "client-bytes", holder: holder}
		done, err := by.updateReservations(t.Context(), q, func(all map[string]reservation) bool {
			before()
			if len(all) >= most {
				return false
			}
			all[job] = reservation{Bytes: 1}
			return true
		})
		if err != nil {
			t.Error(err)
		}
		return done
	}
	nothing := func() {}
	for i := range 3 {
		between := false
		if reserve(one, "somebody", "late", i+1, func() {
			if !between {
				between = true
				if !reserve(other, "somebody", "job"+strconv.Itoa(i), i+1, nothing) {
					t.Error("there was no room before")
				}
			}
		}) {
			t.Errorf("the last of %d was reserved twice", i+1)
		}
	}
	const most = 20
	var n atomic.Int64
	var all sync.WaitGroup
	for i := range 2 * most {
		all.Go(func() {
			by := one
			if i%2 == 0 {
				by = other
			}
			if reserve(by, "another", strconv.Itoa(i), most, nothing) {
				n.Add(1)
			}
		})
	}
	all.Wait()
	if n.Load() != most || reserve(one, "another", "one more", most, nothing) {
		t.Errorf("%d of %d were reserved", n.Load(), most)
	}
}

// Two processes count at the same time and never exceed the limit. The count is released at the
// end of the window, and not earlier.
func TestAQuotaIsRightForAllProcessesAndEndsWithItsWindow(t *testing.T) {
	one, other, clock := counts(t)
	who := quota{name: "client-kick-offs", holder: "somebody"}.key()
	const limit = 20
	round := func() (taken int64, longest time.Duration) {
		var (
			n    atomic.Int64
			wait atomic.Int64
			all  sync.WaitGroup
		)
		for i := range 2 * limit {
			all.Go(func() {
				by := one
				if i%2 == 0 {
					by = other
				}
				switch _, w, err := by.Add(t.Context(), who, 1, limit, time.Hour); {
				case err != nil:
					t.Error(err)
				case w == 0:
					n.Add(1)
				default:
					wait.Store(int64(w))
				}
			})
		}
		all.Wait()
		return n.Load(), time.Duration(wait.Load())
	}
	if n, wait := round(); n != limit || wait != time.Hour {
		t.Errorf("%d of %d were counted; the others are to wait for %s", n, limit, wait)
	}
	later := func(d time.Duration) {
		at := clock.Load().Add(d)
		clock.Store(&at)
	}
	later(time.Hour - time.Second)
	if n, wait := round(); n != 0 || wait != time.Second {
		t.Errorf("a second before the end: %d, wait %s", n, wait)
	}
	later(time.Second)
	if n, _ := round(); n != limit {
		t.Errorf("in the next window: %d", n)
	}
	_, wait, err := one.Add(t.Context(), quota{name: "client-kick-offs", holder: "another"}.key(),
		1,
		limit, time.Hour)
	if err != nil || wait != 0 {
		t.Errorf("another one: %s, %v", wait, err)
	}
}

// Requests that fail are not counted.
func TestFailedRequestsDoNotCountAgainstAQuota(t *testing.T) {
	one, _, _ := counts(t)
	who := quota{name: "patient-exports", holder: "somebody"}.key()
	for range 5 {
		for _, n := range []int64{1, -1} {
			if _, wait, err := one.Add(t.Context(), who, n, 1, time.Hour); err != nil || wait != 0 {
				t.Fatalf("%s, %v", wait, err)
			}
		}
	}
}
