package server

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ehi-server/shared/ehi"
)

func TestMain(m *testing.M) {
	// fasthttp starts this once a process, for its Date header, and never ends it.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// next is the next event of a page, which has to come soon.
func next(t *testing.T, page <-chan []byte) (event string, open bool) {
	t.Helper()
	select {
	case e, open := <-page:
		return string(e), open
	case <-time.After(10 * time.Second):
		t.Fatal("no event within ten seconds")
	}
	return "", false
}

// What changes within a moment is one event for every page; jobs that are gone have no status; very many changes are not listed.
func TestTheFeedGathersChanges(t *testing.T) {
	s := routed(t)
	one, leave, err := s.feed.join()
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := s.feed.join()
	if err != nil {
		t.Fatal(err)
	}
	j := &ehi.Job{Version: ehi.RecordVersion, ID: "a-job", ClientID: "c", Lane: ehi.Interactive, Status: ehi.AwaitingInput, Patient: ehi.Patient{ID: "p", Name: "Somebody"}, CreatedAt: now()}
	if err := s.Bus.Jobs.Create(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	s.feed.note("never-there")
	for _, page := range []<-chan []byte{one, two} {
		seen := map[string]ehi.Status{}
		for len(seen) < 2 {
			event, _ := next(t, page)
			var news struct{ Jobs []change }
			data, ok := strings.CutPrefix(strings.TrimSpace(event), "event: jobs\ndata: ")
			if !ok || json.Unmarshal([]byte(data), &news) != nil || strings.Contains(event, "Somebody") {
				t.Fatalf("%q", event)
			}
			for _, c := range news.Jobs {
				seen[c.ID] = c.Status
			}
		}
		if seen["a-job"] != ehi.AwaitingInput || seen["never-there"] != "" {
			t.Errorf("%v", seen)
		}
	}
	leave()
	leave() // again, which is nothing
	if _, open := next(t, one); open {
		t.Error("a page that has left is told more")
	}
	for i := range maxChanges + 10 {
		s.feed.note(strconv.Itoa(i))
	}
	for event := ""; !strings.Contains(event, `"many":true`); event, _ = next(t, two) {
		if strings.Count(event, `"id"`) > maxChanges {
			t.Fatalf("an event of %d bytes", len(event))
		}
	}
}

// A page that does not read is left to ask again, and holds nobody up; after the stop no page is let in.
func TestTheFeedLeavesSlowPages(t *testing.T) {
	s := routed(t)
	slow, _, err := s.feed.join()
	if err != nil {
		t.Fatal(err)
	}
	for range pageBacklog + 1 {
		s.feed.tell()
	}
	events := 0
	for range slow {
		events++
	}
	if events != pageBacklog {
		t.Errorf("%d events waited, not %d", events, pageBacklog)
	}
	quick, _, err := s.feed.join()
	if err != nil {
		t.Fatal(err)
	}
	s.feed.stop()
	if _, open := next(t, quick); open {
		t.Error("the stream goes on after the stop")
	}
	if _, _, err := s.feed.join(); ehi.CodeOf(err) != ehi.Transient {
		t.Errorf("after the stop: %v", err)
	}
	s.feed.note("late") // nobody is there
}

func TestAgesAreInTheirLargestUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "<1 s", 59 * time.Second: "59 s", 90 * time.Second: "1 min", 47 * time.Hour: "47 h", 72 * time.Hour: "3 days"} {
		if got := age(d); got != want {
			t.Errorf("%v is %q, not %q", d, got, want)
		}
	}
}

// The addresses of a list keep its filters, and begin at its first page but for the page itself.
func TestAListsAddresses(t *testing.T) {
	f := jobFilter{Status: ehi.Retrieved, Search: "a & b", Sort: "name", Page: 3}
	for _, c := range []struct{ got, want string }{
		{f.With("status", ""), "/admin/ui/jobs?q=a+%26+b&sort=name"}, {f.Next(), "/admin/ui/jobs?page=4&q=a+%26+b&sort=name&status=retrieved"}, {jobFilter{Sort: "newest", Page: 2}.Previous(), "/admin/ui/jobs"},
		{f.With("client", "c"), "/admin/ui/jobs?client=c&q=a+%26+b&sort=name&status=retrieved"},
	} {
		if c.got != c.want {
			t.Errorf("%s, not %s", c.got, c.want)
		}
	}
}
