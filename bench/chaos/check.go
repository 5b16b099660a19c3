package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/bench/verify"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// mostKept is the number of finished jobs that a fleet keeps. A new one displaces the oldest.
const mostKept = 40

// keep keeps a finished job for checks in later rounds.
func (f *fleet) keep(j job) {
	f.keeping.Lock()
	defer f.keeping.Unlock()
	f.kept = append(f.kept, j)
}

// check waits until everything is consistent after a round, and reports what is not.
func (f *fleet) check(ctx context.Context) error {
	began := time.Now()
	var took []string
	lap := func(step string) {
		d := time.Since(began)
		began = time.Now()
		if took = append(took, fmt.Sprintf("%s %.1f s", step, d.Seconds())); d > 3*time.Second {
			took = append(took, fmt.Sprintf("since %v", f.waits.last()))
		}
	}
	defer func() { f.took = strings.Join(took, ", ") }()
	if err := f.ready(ctx); err != nil {
		return err
	}
	lap("ready")
	limit, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	b, err := bus.Open(limit, bus.Config{Flags: bus.Flags{URL: f.natsURL}, AckWait: f.AckWait})
	if err != nil {
		return fmt.Errorf("look at the state: %w", err)
	}
	defer b.Close()
	err = f.eventually(ctx, func(ctx context.Context) error { return f.ended(ctx, b) })
	if err != nil {
		return fmt.Errorf("stuck: %w", err)
	}
	lap("all ended")
	if err := f.clean(ctx, b); err != nil {
		return err
	}
	if err := f.verifyKept(ctx); err != nil {
		return err
	}
	lap("verified again")
	for _, in := range []struct {
		what  string
		step  string
		order func(context.Context, *bus.Bus) error
	}{
		{"left behind", "files", f.filesInOrder},
		{"left behind", "records", f.recordsInOrder},
		{"the figures do not agree", "figures", f.figuresInOrder},
	} {
		err := f.eventually(ctx, func(ctx context.Context) error { return in.order(ctx, b) })
		if err != nil {
			return fmt.Errorf("%s: %w", in.what, err)
		}
		lap(in.step)
	}
	return nil
}

func all(bus.Summary) bool { return true }

// ended reports whether all jobs have ended and no command is left.
func (f *fleet) ended(ctx context.Context, b *bus.Bus) error {
	for _, s := range b.Jobs.List(all) {
		if s.Status == ehi.Requested || s.Status == ehi.Aborted {
			return fmt.Errorf("job %s is still %s", s.ID, s.Status)
		}
	}
	for _, lane := range ehi.Lanes() {
		if n, err := b.Queued(ctx, lane); err != nil || n > 0 {
			return errors.Join(err, fmt.Errorf("%d commands are left in the lane %s", n, lane))
		}
	}
	return nil
}

// clean deletes the jobs that no user follows: their kick-off was never answered, or their user
// saw them fail.
func (f *fleet) clean(ctx context.Context, b *bus.Bus) error {
	u := &user{fleet: f, rng: rand.New(rand.NewPCG(f.Seed, 0))}
	limit, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	admin, err := u.adminLogin(limit)
	if err != nil {
		return fmt.Errorf("an administrator cannot log in: %w", err)
	}
	known := map[string]bool{}
	for _, j := range f.kept {
		known[j.id] = true
	}
	for _, s := range b.Jobs.List(all) {
		if known[s.ID] {
			continue
		}
		err := f.eventually(ctx, func(ctx context.Context) error {
			a, err := admin.Do(ctx, "DELETE", "/admin/jobs/"+s.ID, nil)
			if err == nil && a.Status != 200 && a.Status != 404 {
				err = verify.Wrongf("DELETE of job %s by an administrator: %d %.300s", s.ID,
					a.Status, a.Body)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyKept checks that finished jobs are unchanged, whatever has been killed since.
func (f *fleet) verifyKept(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	u := &user{fleet: f, rng: rand.New(rand.NewPCG(f.Seed, 1))}
	for len(f.kept) > mostKept {
		if err := u.remove(ctx, f.kept[0]); err != nil {
			return err
		}
		f.kept = f.kept[1:]
	}
	for range min(5, len(f.kept)) {
		j := f.kept[u.rng.IntN(len(f.kept))]
		if _, err := u.download(ctx, j); err != nil {
			return fmt.Errorf("a finished job: %w", err)
		}
		if err := u.counted(ctx, j); err != nil {
			return fmt.Errorf("a finished job: %w", err)
		}
	}
	return nil
}

// counted compares a job's counts with the truth: nothing counts twice, even if it was done
// twice.
func (u *user) counted(ctx context.Context, j job) error {
	a, err := u.expect(ctx, http.StatusOK, j.token, http.MethodGet, "/jobs/"+j.id+"/metadata", nil)
	if err != nil {
		return err
	}
	var told struct {
		Counts map[string]int64 `json:"counts"`
		Bytes  int64            `json:"bytes"`
	}
	if err := json.Unmarshal(a.Body, &told); err != nil {
		return err
	}
	var bytes int64
	want := map[string]int64{}
	for typ, t := range j.want {
		want[typ], bytes = t.Lines, bytes+t.Bytes
	}
	if !maps.Equal(told.Counts, want) || told.Bytes != bytes {
		return verify.Wrongf("job %s counts %v and %d bytes, of %v and %d", j.id, told.Counts,
			told.Bytes, want, bytes)
	}
	return nil
}

// filesInOrder checks that the exports folder contains exactly the files that records name.
func (f *fleet) filesInOrder(ctx context.Context, b *bus.Bus) error {
	want := map[string]bool{}
	for _, s := range b.Jobs.List(all) {
		j, err := b.Jobs.Get(ctx, s.ID)
		if err != nil {
			return err
		}
		for _, a := range j.Attachments {
			want[j.ID+"."+a.Object] = true
		}
		for n := range j.Tasks {
			task, _, err := b.Tasks.Get(ctx, j.ID, n)
			if err != nil {
				return err
			}
			if !task.Committed {
				return fmt.Errorf("task %d of the finished job %s is not committed", n, j.ID)
			}
			for _, file := range task.Files {
				want[j.ID+"."+file.Object] = true
			}
			for link := range task.Links {
				want[j.ID+"."+files.LinkName(n, task.Attempt, link)] = true
			}
		}
	}
	store, err := local.Open(local.Config{Root: f.exports()})
	if err != nil {
		return err
	}
	err = store.Walk(func(job string, stored []files.Stored) error {
		for _, s := range stored {
			if !want[job+"."+s.Name] {
				return fmt.Errorf("no record names the file %s of job %s", s.Name, job)
			}
			delete(want, job+"."+s.Name)
		}
		return nil
	})
	if err == nil && len(want) > 0 {
		err = fmt.Errorf("lost files: %v", slices.Sorted(maps.Keys(want)))
	}
	return err
}

// recordsInOrder looks for task records whose job is gone.
func (f *fleet) recordsInOrder(ctx context.Context, b *bus.Bus) error {
	keys, err := f.watch.kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return err
	}
	for _, key := range keys {
		job, _, _ := strings.Cut(key, ".")
		if _, known := b.Jobs.Summary(job); !known {
			return fmt.Errorf("there is a record of task %s, and no job", key)
		}
	}
	return nil
}

// figuresInOrder compares each API's metrics with the state.
func (f *fleet) figuresInOrder(ctx context.Context, b *bus.Bus) error {
	want := map[string]float64{
		`ehi_workers_busy{lane="interactive"}`:  0,
		`ehi_workers_busy{lane="bulk"}`:         0,
		`ehi_queue_pending{lane="interactive"}`: 0,
		`ehi_queue_pending{lane="bulk"}`:        0,
		"ehi_mailbox_slabs":                     0,
	}
	for _, s := range b.Jobs.List(all) {
		want[fmt.Sprintf("ehi_jobs{status=%q}", s.Status)]++
	}
	for n, c := range f.clients {
		a, err := c.Do(ctx, "GET", "/metrics", nil)
		if err != nil {
			return err
		}
		got := map[string]float64{}
		for lines := bufio.NewScanner(bytes.NewReader(a.Body)); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), " ")
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				got[name] = v
			}
			if strings.HasPrefix(name, "ehi_jobs{") && want[name] == 0 && got[name] != 0 {
				return fmt.Errorf("api-%d tells %s %v, and there is none", n, name, got[name])
			}
		}
		for name, v := range want {
			if got[name] != v {
				return fmt.Errorf("api-%d tells %s %v, where it is %v", n, name, got[name], v)
			}
		}
	}
	return nil
}

// finish deletes the kept jobs, so that nothing remains.
func (f *fleet) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	u := &user{fleet: f, rng: rand.New(rand.NewPCG(f.Seed, 2))}
	for _, j := range f.kept {
		if _, err := u.download(ctx, j); err != nil {
			return fmt.Errorf("a finished job: %w", err)
		}
		if err := u.remove(ctx, j); err != nil {
			return err
		}
	}
	f.kept = nil
	if err := f.check(ctx); err != nil {
		return err
	}
	store, err := local.Open(local.Config{Root: f.exports()})
	if err != nil {
		return err
	}
	return store.Walk(func(job string, stored []files.Stored) error {
		return fmt.Errorf("%d files of job %s are left", len(stored), job)
	})
}
