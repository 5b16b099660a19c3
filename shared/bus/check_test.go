package bus

import (
	"context"
	"encoding/json"
	"fmt"
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
		err := b.Entries(t.Context(), bucket, func(e Entry) error { return fmt.Errorf("bucket %s lists %s", bucket, e.Key) })
		if err != nil {
			t.Error(err)
		}
	}
	record, err := json.Marshal(ehi.Job{Version: ehi.RecordVersion, ID: "told"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Open(b.link, bucketJobs).Put(t.Context(), records.Of("told"), record); err != nil {
		t.Fatal(err)
	}
	if id := <-heard; id != "told" {
		t.Errorf("heard of a job %s", id)
	}
}
