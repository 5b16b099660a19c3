package bus_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/logtest"
)

// A record that is gone though nobody has deleted its job, as of a damaged block, is said to be;
// a job that was deleted is not.
func TestAJobWhoseRecordIsGoneIsSaid(t *testing.T) {
	o, log := newOutside(t), &logtest.Book{}
	b, err := bus.Open(t.Context(), bus.Config{
		Flags: bus.Flags{URL: o.s.ClientURL(), Dial: bus.Dial{Wait: 30 * time.Second}},
		Log:   slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for _, id := range []string{"lost", "deleted"} {
		j := &ehi.Job{
			Version:   ehi.RecordVersion,
			ID:        id,
			Lane:      ehi.Interactive,
			Status:    ehi.Requested,
			CreatedAt: time.Now(),
		}
		if err := b.Jobs.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	_, err = b.Jobs.Update(t.Context(), "deleted", func(j *ehi.Job) error {
		return j.SetStatus(ehi.Aborted)
	})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := o.js().Stream(t.Context(), "KV_"+bus.JobRecords)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"lost", "deleted"} {
		err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV."+bus.JobRecords+"."+id))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Jobs.Get(t.Context(), id); ehi.CodeOf(err) != ehi.NotFound {
			t.Errorf("%s: %v", id, err)
		}
	}
	const said = "nobody is known to have deleted it"
	text := log.String()
	if strings.Count(text, said) != 1 || !strings.Contains(text, "job=lost was=requested") {
		t.Errorf("it is said: %s", text)
	}
}
