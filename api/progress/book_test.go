package progress

import (
	"testing"

	"ehi-server/shared/ehi"
)

// A book has the latest message of each job, and calls its listener for each until it is
// stopped.
func TestABookKnowsTheLatestNews(t *testing.T) {
	b, err := NewBook()
	if err != nil {
		t.Fatal(err)
	}
	if _, known := b.Of("a"); known {
		t.Error("a job is known of which nothing was told")
	}
	var heard []string
	stop := b.OnNews(func(job string) { heard = append(heard, job) })
	b.Note(ehi.Progress{Job: "a", Done: 1, Total: 4})
	b.Note(ehi.Progress{Job: "b", Done: 2, Total: 4})
	b.Note(ehi.Progress{Job: "a", Done: 3, Total: 4})
	stop()
	b.Note(ehi.Progress{Job: "b", Done: 4, Total: 4})
	for job, done := range map[string]int64{"a": 3, "b": 4} {
		if p, known := b.Of(job); !known || p.Done != done {
			t.Errorf("%s: %+v, %v", job, p, known)
		}
	}
	if len(heard) != 3 || heard[0] != "a" || heard[1] != "b" || heard[2] != "a" {
		t.Errorf("the listener heard of %v", heard)
	}
	if err := b.Stop(); err != nil {
		t.Error(err)
	}
}
