package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ehi-server/api/client"
	"ehi-server/exporter/synthetic"
)

const (
	// heldEnv is the number of polls that BenchmarkHeldPolls holds concurrently. The default,
	// 200, only shows that it works. Each poll takes a file descriptor here and one in the
	// server.
	heldEnv = "EHI_BENCH_HELD"
	// heldLooked is how long the idle server is measured.
	heldLooked = 3 * time.Second
	// heldSettled is a pause before that measurement. The work of the server during the pause (a
	// garbage collection) counts as part of opening the polls.
	heldSettled = 2 * time.Second
	// heldLimit bounds each step.
	heldLimit = time.Minute
)

// BenchmarkHeldPolls holds EHI_BENCH_HELD status requests for one job concurrently by Prefer:
// wait, each on its own connection. It reports what they cost to open, and what they cost while
// nothing happens (idle-core-% is the same server before they are opened). Then it finishes the
// job, and reports how many requests are answered with the manifest, and when the last one is.
// Finally it holds as many requests again and closes their connections: places-free-ms is the
// time until the server notices.
func BenchmarkHeldPolls(b *testing.B) {
	n := heldCount(b)
	made := synthetic.Config{Patients: 2, Resources: 20, Seed: seed(b)}
	p := startOn(b, b.TempDir(), fmt.Sprintf("EHI_MAX_HELD=%d", n), "EHI_MAX_HOLD=10m",
		fmt.Sprintf("EHI_MAX_CONNECTIONS=%d", n+100), // plus the benchmark's own requests
		fmt.Sprintf("EHI_SOURCE=synthetic:patients=%d,resources=%d,seed=%d", made.Patients,
			made.Resources, made.Seed))
	patient := made.PatientID(1)
	var err error
	if p.client, _, err = p.open.Authorize(b.Context(), patient); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.holdPolls(b, patient, n)
	}
}

// heldCount returns the value of heldEnv.
func heldCount(b *testing.B) int {
	b.Helper()
	s := os.Getenv(heldEnv)
	if s == "" {
		return 200
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		b.Fatalf("%s is %q", heldEnv, s)
	}
	return n
}

// holdPolls runs one operation of BenchmarkHeldPolls.
func (p *process) holdPolls(b *testing.B, patient string, n int) {
	b.Helper()
	b.ReportMetric(p.busy(b), "idle-core-%")
	rss, cpu := p.rss(), p.cpuSeconds()
	j := p.waiting(b, patient)
	began := time.Now()
	polls := openPolls(b, p.client, j, n)
	p.awaitHeld(b, n)
	b.ReportMetric(p.metric(b, "ehi_http_requests_held"), "held")
	b.ReportMetric(ms(time.Since(began)), "open-ms")
	pause(b, heldSettled)
	b.ReportMetric((p.cpuSeconds()-cpu)*1000, "open-cpu-ms")
	b.ReportMetric(p.busy(b), "held-core-%")
	b.ReportMetric(p.rss(), "rss-MB")
	b.ReportMetric((p.rss()-rss)*1024/float64(n), "KiB/poll")

	answered, last := p.endPolls(b, j, polls)
	b.ReportMetric(float64(answered), "answered")
	b.ReportMetric(ms(last), "last-ms")
	if answered != n {
		b.Errorf("%d of %d held polls were answered with the manifest", answered, n)
	}
	closeAll(polls)
	p.hangUp(b, patient, n)
}

// hangUp holds n polls, closes all their connections, and reports when their places are free.
func (p *process) hangUp(b *testing.B, patient string, n int) {
	b.Helper()
	j := p.waiting(b, patient)
	polls := openPolls(b, p.client, j, n)
	p.awaitHeld(b, n)
	began := time.Now()
	closeAll(polls)
	p.awaitHeld(b, 0)
	b.ReportMetric(ms(time.Since(began)), "places-free-ms")
	if err := p.client.Delete(b.Context(), j.StatusURL); err != nil {
		b.Fatal(err)
	}
}

// waiting returns a job that waits for its form, and for no approval after that.
func (p *process) waiting(b *testing.B, patient string) client.Job {
	b.Helper()
	j, err := p.client.KickOff(b.Context(), "/auto-approve", patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	return j
}

// busy returns the share of one processor core, in percent, that the idle server uses.
func (p *process) busy(b *testing.B) float64 {
	b.Helper()
	cpu, began := p.cpuSeconds(), time.Now()
	pause(b, heldLooked)
	return (p.cpuSeconds() - cpu) * 100 / time.Since(began).Seconds()
}

// awaitHeld waits until the server holds n requests.
func (p *process) awaitHeld(b *testing.B, n int) {
	b.Helper()
	for end := time.Now().Add(heldLimit); ; pause(b, 10*time.Millisecond) {
		held := int(p.metric(b, "ehi_http_requests_held"))
		if held == n {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%d requests are held, not %d", held, n)
		}
	}
}

// openPolls polls a job's status n times, each on its own connection.
func openPolls(b *testing.B, c *client.Client, j client.Job, n int) []net.Conn {
	b.Helper()
	at, err := url.Parse(j.StatusURL)
	if err != nil {
		b.Fatal(err)
	}
	request := []byte("GET " + at.Path + " HTTP/1.1\r\nHost: " + at.Host +
		"\r\nAuthorization: Bearer " +
		c.Token + "\r\nAccept: application/json\r\nPrefer: wait=600\r\n\r\n")
	polls := make([]net.Conn, n)
	for i := range polls {
		if polls[i], err = net.Dial("tcp", at.Host); err != nil {
			b.Fatal(err)
		}
		if _, err := polls[i].Write(request); err != nil {
			b.Fatal(err)
		}
	}
	return polls
}

func closeAll(polls []net.Conn) {
	for _, c := range polls {
		_ = c.Close() // everything was read
	}
}

// endPolls submits a job's form and reads the answers to its polls. It returns how many have the
// manifest, and the time until the last one.
func (p *process) endPolls(
	b *testing.B, j client.Job, polls []net.Conn,
) (answered int, last time.Duration) {
	b.Helper()
	var group errgroup.Group
	var count atomic.Int64
	for _, c := range polls {
		group.Go(func() error {
			err := readManifest(c)
			if err == nil {
				count.Add(1)
			}
			return err
		})
	}
	began := time.Now()
	form := map[string]any{"parameters": map[string]any{"visits": map[string]any{"enabled": true}}}
	a, err := p.client.Submit(b.Context(), j.ID, form)
	if err != nil || a.Status != http.StatusOK {
		b.Fatalf("the form: %+v, %v", a, err)
	}
	if err := group.Wait(); err != nil {
		b.Error(err)
	}
	return int(count.Load()), time.Since(began)
}

// readManifest reads the answer to a poll, which must be the manifest.
func readManifest(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(heldLimit)); err != nil {
		return err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && (r.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"output"`))) {
		err = fmt.Errorf("a held poll is answered %s: %s", r.Status, body)
	}
	return err
}
