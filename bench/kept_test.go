package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ehi-server/api/client"
	"ehi-server/exporter/synthetic"
)

// jobCount returns the number of jobs to keep: EHI_BENCH_JOBS, or 1,000 if it is not set.
func jobCount(b *testing.B) int {
	n := 1000
	if s := os.Getenv("EHI_BENCH_JOBS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatalf("EHI_BENCH_JOBS: %v", err)
		}
	}
	return n
}

// BenchmarkKeptJobs starts EHI_BENCH_JOBS exports as fast as the server accepts them and waits
// until all are finished. It reads pages of fifty jobs from the administrator's list while the
// jobs run, afterwards, and after a restart. An operation is a page. rss-MB is the process's
// peak memory up to then.
func BenchmarkKeptJobs(b *testing.B) {
	made := synthetic.Config{Patients: 100, Resources: 20, Seed: seed(b)}
	env := []string{
		fmt.Sprintf("EHI_SOURCE=synthetic:patients=%d,resources=%d,seed=%d", made.Patients,
			made.Resources, made.Seed),
		"EHI_CLIENT_JOBS=100000000",
		"EHI_MAX_QUEUE=100000000",
	}
	p := startOn(b, b.TempDir(), env...)
	id := made.PatientID(1)
	patient, _, err := p.open.Authorize(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	n := jobCount(b)
	start := time.Now()
	last := p.kickOff(b, patient, id, n)
	b.Run("working", func(b *testing.B) {
		p.pages(b)
		b.ReportMetric(float64(n-p.finished(b)), "left-jobs")
	})
	waitFor(b, patient, last, 20*time.Millisecond)
	// wait for those that started before the last one
	for end := time.Now().Add(time.Minute); p.finished(b) < n; {
		if time.Now().After(end) {
			b.Fatalf("%d of %d exports finished", p.finished(b), n)
		}
	}
	took := time.Since(start)
	b.Run("finished", func(b *testing.B) {
		p.pages(b)
		b.ReportMetric(float64(n)/took.Seconds(), "jobs/s")
	})
	p.stop(b)
	p = startOn(b, p.data, env...)
	b.Run("restarted", func(b *testing.B) {
		if kept := p.finished(b); kept != n {
			b.Fatalf("%d of %d finished exports are there after a restart", kept, n)
		}
		p.pages(b)
	})
}

// kickOff starts n exports that need no approval over 16 connections, and one more at the end,
// which it returns.
func (p *process) kickOff(b *testing.B, c *client.Client, patient string, n int) client.Job {
	b.Helper()
	var next atomic.Int64
	var group errgroup.Group
	for range kickers {
		group.Go(func() error {
			for next.Add(1) < int64(n) {
				if _, err := c.KickOff(b.Context(), noForm, patient, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	last, err := c.KickOff(b.Context(), noForm, patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	return last
}

// finished returns the number of approved exports.
func (p *process) finished(b *testing.B) int {
	b.Helper()
	return int(p.metric(b, `ehi_jobs{status="approved"}`))
}

// pages reads b.N pages of the administrator's list.
func (p *process) pages(b *testing.B) {
	b.Helper()
	admin, err := p.open.AdminLogin(b.Context(), "admin", "admin-password")
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		a, err := admin.Do(b.Context(), http.MethodGet, "/admin/jobs?limit=50", nil)
		took = append(took, time.Since(start))
		var list []client.AdminJob
		if err == nil {
			err = json.Unmarshal(a.Body, &list)
		}
		if err != nil || len(list) != 50 {
			b.Fatalf("%d jobs on a page of 50: %v", len(list), err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(p.rssPeak(), "rss-MB")
}
