package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
)

func check(t *testing.T, b *Bus) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return b.Check(ctx)
}

// What Check writes is in no list, and tells nobody of a job.
func TestACheckLeavesNoRecord(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	heard := make(chan string, 10)
	stop := b.Jobs.OnChange(func(id string) { heard <- id })
	defer stop()
	for range 3 {
		if err := check(t, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, bucket := range []string{bucketJobs, bucketTasks, bucketAuth} {
		err := b.Entries(t.Context(), bucket, func(e Entry) error {
			return fmt.Errorf("bucket %s lists %s", bucket, e.Key)
		})
		if err != nil {
			t.Error(err)
		}
	}
	record, err := json.Marshal(ehi.Job{Version: ehi.RecordVersion, ID: "told"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = kv.Open(b.link, bucketJobs).Put(t.Context(), records.Of("told"), record)
	if err != nil {
		t.Fatal(err)
	}
	if id := <-heard; id != "told" {
		t.Errorf("heard of a job %s", id)
	}
}

// A lane that listens to other subjects is named, and one that takes commands is left as it is.
func TestACheckOffersACommandToEachLane(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := check(t, b); err != nil {
		t.Fatal(err)
	}
	for _, lane := range ehi.Lanes() {
		if n, _, err := b.Backlog(t.Context(), lane); err != nil || n != 0 {
			t.Errorf("lane %s after a check: %d commands, %v", lane, n, err)
		}
		stream := b.lanes.get(lane).stream
		is, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		config := is.Config
		config.Subjects = []string{"elsewhere." + string(lane)}
		if _, err := b.link.Streams().UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		err = check(t, b)
		if err == nil ||
			!strings.Contains(err.Error(), "lane "+string(lane)+": it takes no commands") {
			t.Errorf("lane %s listens elsewhere: %v", lane, err)
		}
		if _, err := b.link.Streams().UpdateStream(t.Context(), is.Config); err != nil {
			t.Fatal(err)
		}
		if err := check(t, b); err != nil {
			t.Errorf("lane %s listens again: %v", lane, err)
		}
	}
}
