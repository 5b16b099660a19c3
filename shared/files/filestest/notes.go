package filestest

import (
	"io"
	"slices"
	"testing"
	"time"

	"ehi-server/shared/files"
)

// Two identities of states.
const (
	stateA = "AAAAAAAAAAAAAAAAAAAAAAAAAA"
	stateB = "BBBBBBBBBBBBBBBBBBBBBBBBBB"
)

// both calls f with the store, and with the same store as another process opens it.
func both(t *testing.T, s Opened, f func(files.Store)) {
	t.Helper()
	f(s)
	f(s.Again(t))
}

func identity(t *testing.T, s Opened) {
	for _, want := range []string{"", stateA, stateA, stateB} {
		if want != "" {
			if err := s.SetIdentity(want); err != nil {
				t.Fatal(err)
			}
		}
		both(t, s, func(s files.Store) {
			if got, err := s.Identity(); err != nil || got != want {
				t.Errorf("it is of %q, not of %q: %v", got, want, err)
			}
		})
	}
}

func reached(t *testing.T, s Opened) {
	for i, want := range [][]uint64{nil, {1}, {1 << 63, 2, 18446744073709551615}, nil, {3, 4}} {
		if i > 0 {
			if err := s.SetReached(want); err != nil {
				t.Fatal(err)
			}
		}
		both(t, s, func(s files.Store) {
			if got, err := s.Reached(); err != nil || !slices.Equal(got, want) {
				t.Errorf("reached: %v, not %v: %v", got, want, err)
			}
		})
	}
}

func served(t *testing.T, s Opened) {
	wantInstants(t, s, files.Store.SetServed, files.Store.Served)
}

func scrubbed(t *testing.T, s Opened) {
	wantInstants(t, s, files.Store.SetScrubbed, files.Store.Scrubbed)
}

// wantInstants checks that every process reads the last time that was stored.
func wantInstants(
	t *testing.T, s Opened,
	set func(files.Store, time.Time) error, get func(files.Store) (time.Time, error),
) {
	t.Helper()
	first := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, want := range []time.Time{{}, first, first.Add(time.Hour)} {
		if !want.IsZero() {
			if err := set(s, want); err != nil {
				t.Fatal(err)
			}
		}
		both(t, s, func(s files.Store) {
			if got, err := get(s); err != nil || !got.Equal(want) {
				t.Errorf("it is %v, not %v: %v", got, want, err)
			}
		})
	}
}

func orphans(t *testing.T, s Opened) {
	first := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for i := range 3 {
		both(t, s, func(s files.Store) {
			now := first.Add(time.Duration(i) * time.Hour)
			if since, err := s.OrphanSince("job", now); err != nil || !since.Equal(first) {
				t.Errorf("since %v: %v", since, err)
			}
		})
	}
	wantJobs(t, s, files.Store.Orphans, "job")
	wantJobs(t, s, files.Store.Recalls)
	for range 2 {
		if err := s.Adopted("job"); err != nil {
			t.Error(err)
		}
	}
	wantJobs(t, s, files.Store.Orphans)
}

func recalls(t *testing.T, s Opened) {
	for range 2 {
		if err := s.NoteRecall("job"); err != nil {
			t.Fatal(err)
		}
	}
	wantJobs(t, s, files.Store.Recalls, "job")
	wantJobs(t, s, files.Store.Orphans)
	for range 2 {
		if err := s.ForgetRecall("job"); err != nil {
			t.Fatal(err)
		}
	}
	wantJobs(t, s, files.Store.Recalls)
}

// wantJobs checks that every process reads exactly these jobs.
func wantJobs(t *testing.T, s Opened, noted func(files.Store) ([]string, error), want ...string) {
	t.Helper()
	both(t, s, func(s files.Store) {
		if got, err := noted(s); err != nil || !slices.Equal(got, want) {
			t.Errorf("noted: %q, not %q: %v", got, want, err)
		}
	})
}

func proofs(t *testing.T, s Opened) {
	var drawn []string
	for i := range 4 {
		last := ""
		if i > 0 {
			last = drawn[i-1]
		}
		text, err := s.DrawProof(last)
		if err != nil || slices.Contains(drawn, text) {
			t.Fatalf("%q, %v", text, err)
		}
		drawn = append(drawn, text)
		there := slices.Sorted(slices.Values(drawn[max(0, i-1):]))
		both(t, s, func(s files.Store) {
			if got := s.Proofs(); !slices.Equal(got, there) {
				t.Errorf("%q are there, not %q", got, there)
			}
			for _, text := range drawn {
				if has, err := s.HasProof(text); err != nil || has != slices.Contains(there, text) {
					t.Errorf("has %s: %v, %v", text, has, err)
				}
			}
		})
	}
	for _, text := range []string{"", "..", "../identity", drawn[3] + "A", drawn[3][1:]} {
		if has, err := s.HasProof(text); err != nil || has {
			t.Errorf("has %q: %v, %v", text, has, err)
		}
	}
}

func lock(t *testing.T, s Opened) {
	if s.Unlocked {
		t.Skip("a lock is not to be had here")
	}
	again := s.Again(t)
	for range 2 {
		held, err := s.TryLock("one")
		if err != nil || held == nil {
			t.Fatalf("it is not to be had: %v", err)
		}
		if other, err := again.TryLock("one"); err != nil || other != nil {
			t.Errorf("two have it: %v", err)
		}
		other, err := again.TryLock("two")
		if err != nil || other == nil {
			t.Fatalf("another one is not to be had: %v", err)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		if err := held.Close(); err != nil {
			t.Error(err)
		}
	}
}

func held(t *testing.T, s Opened) {
	for range 2 {
		var holds []io.Closer
		both(t, s, func(s files.Store) {
			held, err := s.Hold()
			if err != nil {
				t.Fatal(err)
			}
			holds = append(holds, held)
		})
		for _, h := range holds {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
