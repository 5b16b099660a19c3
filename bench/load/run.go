package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	"ehi-server/shared/ehi"
)

// order is a scheduled flow.
type order struct {
	action  action
	patient string    // "" for a population
	due     time.Time // the scheduled start
	// packaging is the _package of the kick-off; "" for the server's default.
	packaging ehi.Packaging
	resume    bool // archives are downloaded in two parts
}

// drive runs the load and returns the measurements.
func drive(ctx context.Context, c *config) (_ *result, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	open := client.New(strings.TrimSuffix(c.URL, "/"))
	defer open.Close()
	patients := c.Patient
	if len(patients) == 0 {
		if patients, err = find(ctx, open, c); err != nil {
			return nil, fmt.Errorf("find patients (name them by --patient): %w", err)
		}
	}
	began := time.Now()
	if c.RunName == "" {
		c.RunName = began.UTC().Format(time.RFC3339)
	}
	m := meters{c.RunName}
	m.begun(c, began)
	if c.MetricsAddr != "" {
		stop, e := c.serve(ctx)
		if e != nil {
			return nil, e
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	rec, sums, pages := newRecorder(began, m), newSums(), &verify.Pages{}
	orders := make(chan order)
	var users sync.WaitGroup
	for range c.Concurrency {
		users.Go(func() {
			u := user{config: c, open: open, rec: rec, sums: sums, pages: pages}
			for o := range orders {
				if c.Rate == 0 {
					o.due = time.Now()
				}
				u.run(ctx, o)
			}
		})
	}
	bar := c.watch(rec)
	c.issue(ctx, patients, began, orders)
	close(orders)
	users.Wait()
	bar()
	return newResult(c, patients, rec, time.Since(began)), nil
}

// order draws a flow.
func (c *config) order(random *rand.Rand, patients []string) order {
	o := order{action: c.Mix.draw(random), patient: patients[random.IntN(len(patients))]}
	if c.Native {
		o.packaging = [...]ehi.Packaging{ehi.PackageFiles, ehi.PackageZIP}[random.IntN(2)]
		o.resume = random.IntN(2) == 0
	}
	if o.action == population {
		o.patient, o.packaging = "", ""
	}
	return o
}

// issue hands out orders until the time is up: at scheduled times in an open model, otherwise as
// soon as a user is free.
func (c *config) issue(
	ctx context.Context, patients []string, began time.Time, orders chan<- order,
) {
	random := rand.New(rand.NewPCG(c.Seed, 0))
	end := time.NewTimer(c.Duration)
	defer end.Stop()
	for n := 0; ; n++ {
		o := c.order(random, patients)
		if c.Rate > 0 {
			o.due = began.Add(time.Duration(float64(n) / c.Rate * float64(time.Second)))
			if o.due.Sub(began) >= c.Duration || client.Sleep(ctx, time.Until(o.due)) != nil {
				return
			}
			select { // even if late: each scheduled flow runs, and its wait counts
			case orders <- o:
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case orders <- o:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// watch shows a progress bar with the results so far; stop removes it.
func (c *config) watch(rec *recorder) (stop func()) {
	if c.Quiet {
		return func() {}
	}
	bar := progressbar.NewOptions64(int64(c.Duration/time.Second),
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(false))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				bar.Describe(rec.summary())
				// a failure to draw the bar does not matter
				_ = bar.Set64(min(int64(time.Since(rec.began)/time.Second), bar.GetMax64()))
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		fmt.Fprintln(os.Stderr)
	}
}

// summary returns the state of the run in one line.
func (r *recorder) summary() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var flows, failed int64
	for _, n := range r.flows {
		flows += n
	}
	for _, n := range r.errors {
		failed += n
	}
	return fmt.Sprintf("%d flows, %d MB, %d errors, jobs %v", flows, r.bytes/1e6, failed,
		r.copyStates())
}
