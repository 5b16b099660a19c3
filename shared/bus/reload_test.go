package bus

import (
	"testing"

	"ehi-server/shared/ehi"
	"ehi-server/shared/subject"
)

// A record that was changed while the keys of its bucket came is not among them, and is there
// all the same; one that is behind what NATS had told before counts as it is now.
func TestAReloadForgetsOnlyWhatIsGone(t *testing.T) {
	b, err := Open(t.Context(), Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for _, id := range []string{"kept", "missed", "gone", "behind"} {
		err := b.Jobs.Create(t.Context(), &ehi.Job{
			Version: ehi.RecordVersion,
			ID:      id,
			Status:  ehi.AwaitingInput,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Jobs.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	// as if its deletion, and a rolled-back revision, had not been heard of
	b.Jobs.index.gone.Purge()
	b.Jobs.index.apply("gone", cached{job: &ehi.Job{ID: "gone", Status: ehi.Requested}, rev: 1})
	b.Jobs.index.apply("behind", cached{
		job: &ehi.Job{ID: "behind", Status: ehi.Requested},
		rev: 1 << 40,
	})
	kept, _ := b.Jobs.Summary("kept")
	b.Jobs.reloaded(map[subject.Subject]uint64{
		records.Of("kept"):    kept.rev,
		records.Of("behind"):  kept.rev,
		records.Of("another"): 1 << 50,
	})
	got := map[string]ehi.Status{}
	for _, s := range b.Jobs.List(func(Summary) bool { return true }) {
		got[s.ID] = s.Status
	}
	if len(got) != 3 || got["kept"] != ehi.AwaitingInput || got["missed"] != ehi.AwaitingInput ||
		got["behind"] != ehi.AwaitingInput {
		t.Errorf("after the reload: %v", got)
	}
	for _, id := range []string{"kept", "missed", "behind"} {
		if _, err := b.Jobs.Peek(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
