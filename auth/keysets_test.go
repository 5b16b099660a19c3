package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/segmentio/encoding/json"
)

// keyHost serves a client's key set, whose only key is a. Its clock is that of the fetcher too.
type keyHost struct {
	url     string
	sets    *keySets
	header  http.Header
	down    atomic.Bool
	fetches atomic.Int64
	passed  atomic.Int64 // on the clock
}

func newKeyHost(t *testing.T, header http.Header) *keyHost {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwk.Import(private.Public())
	if err == nil {
		err = key.Set(jwk.KeyIDKey, "a")
	}
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"keys": []any{key}})
	if err != nil {
		t.Fatal(err)
	}
	h := &keyHost{header: header}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.fetches.Add(1)
		for name, values := range h.header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		if h.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(body) // a test that reads it sees what is missing
	}))
	t.Cleanup(s.Close)
	begin := time.Now()
	h.url = s.URL
	h.sets, err = newKeySets(ranges("127.0.0.0/8"), func() time.Time {
		return begin.Add(time.Duration(h.passed.Load()))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.sets.close)
	return h
}

// has reports whether a key is found after some time, counted from the beginning.
func (h *keyHost) has(t *testing.T, after time.Duration, kid string) bool {
	t.Helper()
	h.passed.Store(int64(after))
	set, err := h.sets.get(t.Context(), h.url, kid)
	if err != nil {
		return false
	}
	_, has := set.LookupKeyID(kid)
	return has
}

// SMART App Launch 2.2, "Signature Verification": keys are fetched again once their Cache-Control
// header says so, but not more often than every 30 s, and after 15 minutes in any case.
func TestSMART5ClientsKeysAreCachedAsTheirHeaderAllows(t *testing.T) {
	for what, c := range map[string]struct {
		control []string // the values of the header
		age     string
		serves  time.Duration // the keys of the first fetch, for that long
	}{
		"no header":             {nil, "", keySetFresh},
		"no limit":              {[]string{"public"}, "", keySetFresh},
		"a minute":              {[]string{"public, MAX-AGE=60"}, "", time.Minute},
		"a minute in quotes":    {[]string{`max-age="60"`}, "", time.Minute},
		"in two headers":        {[]string{"public", "max-age=60"}, "", time.Minute},
		"the shorter of two":    {[]string{"max-age=90,max-age=60"}, "", time.Minute},
		"a minute, 20 s ago":    {[]string{"max-age=60"}, "20", 40 * time.Second},
		"a minute, an hour ago": {[]string{"max-age=60"}, "3600", keySetPause},
		"a day":                 {[]string{"max-age=86400"}, "", keySetFresh},
		"beyond all bounds":     {[]string{"max-age=1" + strings.Repeat("0", 40)}, "", keySetFresh},
		"a second":              {[]string{"max-age=1"}, "", keySetPause},
		"nothing":               {[]string{"max-age="}, "", keySetPause},
		"no number":             {[]string{"max-age=soon"}, "", keySetPause},
		"no-store":              {[]string{"no-store"}, "", keySetPause},
		"no-cache, a day":       {[]string{"max-age=86400, no-cache"}, "", keySetPause},
	} {
		t.Run(what, func(t *testing.T) {
			header := http.Header{"Cache-Control": c.control}
			header.Set("Age", c.age)
			h := newKeyHost(t, header)
			for _, step := range []struct {
				after   time.Duration
				fetches int64
			}{{0, 1}, {c.serves - time.Second, 1}, {c.serves + time.Second, 2}} {
				if !h.has(t, step.after, "a") || h.fetches.Load() != step.fetches {
					t.Errorf("after %v there were %d fetches, want %d",
						step.after, h.fetches.Load(), step.fetches)
				}
			}
		})
	}
}

// If the keys cannot be fetched again, the old ones are used for a day, or for as long as their
// Cache-Control header allows.
func TestSMART5ClientsKeysExpire(t *testing.T) {
	for what, c := range map[string]struct {
		header http.Header
		last   time.Duration
	}{
		"no header": {nil, keySetStale},
		"an hour":   {http.Header{"Cache-Control": {"max-age=3600"}}, time.Hour},
		"a week":    {http.Header{"Cache-Control": {"max-age=604800"}}, keySetStale},
		"no-store":  {http.Header{"Cache-Control": {"no-store"}}, keySetPause},
	} {
		t.Run(what, func(t *testing.T) {
			h := newKeyHost(t, c.header)
			if !h.has(t, 0, "a") {
				t.Fatal("they cannot be fetched")
			}
			h.down.Store(true)
			if !h.has(t, c.last-time.Second, "a") {
				t.Errorf("after %v they are gone", c.last-time.Second)
			}
			// the fetch that failed a moment ago is not repeated at once
			if h.has(t, c.last+time.Second, "a") || h.has(t, c.last+keySetPause, "a") {
				t.Errorf("after %v they are still used", c.last+time.Second)
			}
			h.down.Store(false)
			if !h.has(t, c.last+2*keySetPause, "a") {
				t.Error("they are not fetched again")
			}
		})
	}
}

// An unknown key ID leads to one fetch every 30 s, however many assertions name one.
func TestUnknownKeysAreAskedForOnceInAWhile(t *testing.T) {
	h := newKeyHost(t, nil)
	for round := range 3 {
		h.passed.Store(int64(round) * int64(keySetPause))
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				set, err := h.sets.get(t.Context(), h.url, strconv.Itoa(i))
				if err != nil || set.Len() != 1 {
					t.Errorf("there are %v, %v", set, err)
				}
			})
		}
		all.Wait()
		if got := h.fetches.Load(); got != int64(round)+1 {
			t.Fatalf("round %d: %d fetches", round, got)
		}
	}
}

// A host that does not answer holds up no assertion of another client, and the cache is bounded.
func TestClientsKeysDoNotWaitForEachOther(t *testing.T) {
	h := newKeyHost(t, nil)
	held := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		<-held
	}))
	defer slow.Close()
	var waiting sync.WaitGroup
	for i := range 20 {
		waiting.Go(func() {
			if _, err := h.sets.get(t.Context(), slow.URL+"/"+strconv.Itoa(i), "a"); err == nil {
				t.Error("a host that is held up answers")
			}
		})
	}
	if !h.has(t, 0, "a") {
		t.Error("the keys of a host that answers are not found")
	}
	close(held)
	waiting.Wait()
	for i := range 2 * keySetsKept {
		h.sets.byURL.Add(strconv.Itoa(i), keySet{})
	}
	if n := h.sets.byURL.Len(); n != keySetsKept {
		t.Errorf("%d sets are kept", n)
	}
}
