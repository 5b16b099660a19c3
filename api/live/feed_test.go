package live

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ehi-server/api/progress"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table has the states of a test's jobs by ID.
type table map[string]bus.Summary

func (table) OnChange(func(job string)) (stop func()) { return func() {} }

func (j table) Summary(id string) (bus.Summary, bool) {
	s, known := j[id]
	return s, known
}

// feed returns a Feed of a test's jobs that stops at the end of the test.
func feed(t *testing.T, jobs table) *Feed {
	t.Helper()
	book, err := progress.NewBook()
	if err != nil {
		t.Fatal(err)
	}
	f := NewFeed(jobs, book)
	t.Cleanup(f.Stop)
	return f
}

// next returns the next event of a page, which must come soon.
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

// Changes within a moment are one event for all pages. Deleted jobs have no status, and very
// many changes are not listed.
func TestTheFeedGathersChanges(t *testing.T) {
	f := feed(t, table{"a-job": {Status: ehi.AwaitingInput}})
	one, leave, err := f.join()
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := f.join()
	if err != nil {
		t.Fatal(err)
	}
	f.note("a-job")
	f.note("never-there")
	for _, page := range []<-chan []byte{one, two} {
		seen := map[string]ehi.Status{}
		for len(seen) < 2 {
			event, _ := next(t, page)
			var news struct{ Jobs []change }
			data, ok := strings.CutPrefix(strings.TrimSpace(event), "event: jobs\ndata: ")
			if !ok || json.Unmarshal([]byte(data), &news) != nil {
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
	leave() // again, which has no effect
	if _, open := next(t, one); open {
		t.Error("a page that has left is told more")
	}
	for i := range maxChanges + 10 {
		f.note(strconv.Itoa(i))
	}
	for event := ""; !strings.Contains(event, `"many":true`); event, _ = next(t, two) {
		if strings.Count(event, `"id"`) > maxChanges {
			t.Fatalf("an event of %d bytes", len(event))
		}
	}
}

// A page that does not read must connect again, and delays nobody. After Stop, no page is
// accepted.
func TestTheFeedLeavesSlowPages(t *testing.T) {
	f := feed(t, nil)
	slow, _, err := f.join()
	if err != nil {
		t.Fatal(err)
	}
	for range pageBacklog + 1 {
		f.tell()
	}
	events := 0
	for range slow {
		events++
	}
	if events != pageBacklog {
		t.Errorf("%d events waited, not %d", events, pageBacklog)
	}
	quick, _, err := f.join()
	if err != nil {
		t.Fatal(err)
	}
	f.Stop()
	if _, open := next(t, quick); open {
		t.Error("the stream goes on after the stop")
	}
	if _, _, err := f.join(); ehi.CodeOf(err) != ehi.Transient {
		t.Errorf("after the stop: %v", err)
	}
	f.note("late") // no page follows
}
