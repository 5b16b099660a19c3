package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

const (
	// childEnv makes the test binary a server on the named data folder.
	childEnv = "EHI_BENCH_SERVE"
	// natsEnv makes it a NATS server on the named folder.
	natsEnv = "EHI_BENCH_NATS"
	// importEnv makes it import into the named data folder, from the folder in importFromEnv.
	importEnv, importFromEnv = "EHI_BENCH_IMPORT", "EHI_BENCH_IMPORT_FROM"
	// unsummedEnv disables the checksums of the server's files.
	unsummedEnv = "EHI_BENCH_UNSUMMED"
	// profileEnv names a file for the server's CPU profile.
	profileEnv = "EHI_BENCH_CPUPROFILE"
	// seedEnv sets the seed of the records, to repeat a run.
	seedEnv = "EHI_BENCH_SEED"
)

// drawn is the random seed of this run's records, unless seedEnv is set. Nothing can be tuned
// for these records.
var drawn = rand.Uint64N(1_000_000)

// seed returns the seed of synthetic records.
func seed(b *testing.B) uint64 {
	b.Helper()
	s := os.Getenv(seedEnv)
	if s == "" {
		return drawn
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		b.Fatalf("%s: %v", seedEnv, err)
	}
	return n
}

func TestMain(m *testing.M) {
	for name, child := range map[string]func(data string) error{
		childEnv:  serve,
		natsEnv:   serveNATS,
		importEnv: importAll,
	} {
		if data := os.Getenv(name); data != "" {
			if err := child(data); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	if os.Getenv(seedEnv) == "" {
		fmt.Fprintf(os.Stderr, "records as of %s=%d\n", seedEnv, drawn)
	}
	os.Exit(m.Run())
}

// profile records a CPU profile until stop is called, if profileEnv is set.
func profile() (stop func(), err error) {
	path := os.Getenv(profileEnv)
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a truncated profile cannot be opened
	}, pprof.StartCPUProfile(f)
}

// importAll imports as the command does.
func importAll(data string) error {
	stop, err := profile()
	if err != nil {
		return err
	}
	defer stop()
	debug.SetMemoryLimit(kinds.ImportMemory)
	before, begin := ownCPU(), time.Now()
	store, err := kinds.Store(kinds.Config{Data: data, Bulk: true})
	if err != nil {
		return err
	}
	rep, err := store.Import(context.Background(), []string{os.Getenv(importFromEnv)},
		source.ImportOptions{Now: time.Now()})
	if err == nil && rep.Problems > 0 {
		err = fmt.Errorf("%d problems: %v", rep.Problems, rep.Bad)
	}
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(imported{
		Took: time.Since(begin),
		CPU:  ownCPU() - before,
	})
}

// imported is a process's report on its import: the elapsed time and the processor time.
type imported struct{ Took, CPU time.Duration }

// ownCPU returns the processor time of this process so far.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // cannot happen for RUSAGE_SELF
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// serve runs the server with the defaults of its command line until standard input ends.
func serve(data string) error {
	stop, err := profile()
	if err != nil {
		return err
	}
	defer stop()
	cfg, err := node.Defaults()
	if err != nil {
		return err
	}
	cfg.Addr = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.Background())
	n, err := node.Open(ctx, cfg, data,
		slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		node.Options{UnsummedFiles: os.Getenv(unsummedEnv) != ""})
	if err != nil {
		cancel()
		return err
	}
	fmt.Println(n.URL)
	go func() {
		untilParentEnds()
		cancel()
	}()
	err = n.Run(ctx)
	if e := n.Close(); err == nil {
		err = e
	}
	return err
}

// serveNATS runs a NATS server until standard input ends.
func serveNATS(dir string) error {
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	b, err := bus.Open(context.Background(), bus.Config{
		StoreDir: dir,
		Flags:    bus.Flags{Listen: addr},
		AckWait:  3 * time.Second,
	})
	if err != nil {
		return err
	}
	defer b.Close()
	fmt.Println("nats://" + addr)
	untilParentEnds()
	return nil
}

// freeAddress returns an unused address.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func untilParentEnds() { _, _ = os.Stdin.Read(make([]byte, 1)) }

// process is a server under measurement.
type process struct {
	cmd     *exec.Cmd
	stop    func(b *testing.B) // ends it; further calls do nothing
	killed  bool
	data    string
	open    *client.Client // without a token
	client  *client.Client // has the patient's token
	patient string
	total   int64 // number of resources in the patient's full export
}

// startServer starts a server with a patient of about 600 resources, and stops it with the
// benchmark.
func startServer(b *testing.B, env ...string) *process {
	b.Helper()
	data := b.TempDir()
	patient := generate(b, data)
	p := startOn(b, data, env...)
	p.authorize(b, patient)
	return p
}

// startOn starts a server on a data folder. env are command line settings as EHI_NAME=value.
// Polls are not throttled, because a benchmark polls more often than a client may.
func startOn(b *testing.B, data string, env ...string) *process {
	b.Helper()
	return startBinary(b, self(b), data, env...)
}

// self returns the path of this test binary.
func self(b *testing.B) string {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	return exe
}

// startBinary is startOn with another build of this test binary.
func startBinary(b *testing.B, exe, data string, env ...string) *process {
	b.Helper()
	p := &process{data: data}
	url := p.spawn(b, exe, append([]string{childEnv + "=" + data, "EHI_POLL_BURST=0"}, env...)...)
	p.open = client.New(url)
	b.Cleanup(p.open.Close)
	return p
}

// spawn runs a build of this test binary as a child until the benchmark ends, and returns the
// first line of its output.
func (p *process) spawn(b *testing.B, exe string, env ...string) string {
	b.Helper()
	p.cmd = exec.Command(exe)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	wait := sync.OnceValue(func() error {
		_ = stdin.Close() // the end of its input stops the server
		return p.cmd.Wait()
	})
	p.stop = func(b *testing.B) {
		b.Helper()
		if err := wait(); err != nil && !p.killed {
			b.Error(err)
		}
	}
	b.Cleanup(func() { p.stop(b) })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// kill sends SIGKILL.
func (p *process) kill(b *testing.B) {
	b.Helper()
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil {
		b.Fatal(err)
	}
	p.stop(b)
}

// authorize gets the patient's token, and counts the resources of the record.
func (p *process) authorize(b *testing.B, patient string) {
	b.Helper()
	var err error
	if p.client, _, err = p.open.Authorize(b.Context(), patient); err != nil {
		b.Fatal(err)
	}
	p.patient = patient
	for _, e := range p.export(b).Output {
		p.total += e.Count
	}
}

// service returns a backend service's client.
func (p *process) service(b *testing.B) *client.Client {
	b.Helper()
	c, err := p.open.Service(b.Context(), "test_client_secret", "system/*.rs system/$ehi-export")
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// candidates is the number of patients among which the one with about 600 resources is chosen.
const candidates = 30

// generate fills a store and returns the patient whose number of resources is closest to 600.
func generate(b *testing.B, data string) string {
	b.Helper()
	store, err := kinds.Store(kinds.Config{Data: data})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := store.Generate(b.Context(), synthetic.Config{Patients: candidates, Seed: seed(b)},
		time.Now(), func(int, int) {}); err != nil {
		b.Fatal(err)
	}
	list, err := store.Patients(b.Context(), candidates)
	if err != nil {
		b.Fatal(err)
	}
	best, distance := "", int64(1<<62)
	for _, p := range list {
		r, err := store.Open(b.Context(), p.ID)
		if err != nil {
			b.Fatal(err)
		}
		if d := r.Total() - 600; max(d, -d) < distance {
			best, distance = p.ID, max(d, -d)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return best
}

const noForm = "/no-form/auto-approve"

// export runs one export to its manifest.
func (p *process) export(b *testing.B) *ehi.Manifest {
	b.Helper()
	j, err := p.client.KickOff(b.Context(), noForm, p.patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	return p.manifest(b, j, 500*time.Microsecond)
}

// manifest polls until the manifest is available; pause is the time between two polls.
func (p *process) manifest(b *testing.B, j client.Job, pause time.Duration) *ehi.Manifest {
	b.Helper()
	return waitFor(b, p.client, j, pause)
}

func waitFor(b *testing.B, c *client.Client, j client.Job, pause time.Duration) *ehi.Manifest {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	m, err := c.Wait(ctx, j.StatusURL, pause)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// rssPeak returns the server's peak resident memory in MiB; 0 if the system does not report it.
func (p *process) rssPeak() float64 { return p.memory("VmHWM:") }

// rss returns the server's resident memory in MiB.
func (p *process) rss() float64 { return p.memory("VmRSS:") }

func (p *process) memory(field string) float64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				return 0
			}
			return kib / 1024
		}
	}
	return 0
}

// forgetPeak resets rssPeak (proc(5), clear_refs).
func (p *process) forgetPeak() {
	// if it fails, the peak includes what came before
	_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "clear_refs"),
		[]byte("5"), 0)
}

// metric reads one of the server's metrics.
func (p *process) metric(b *testing.B, name string) float64 {
	b.Helper()
	a, err := p.open.Do(b.Context(), "GET", "/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(a.Body)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				b.Fatal(err)
			}
			return v
		}
	}
	b.Fatalf("the server has no metric %s", name)
	return 0
}

// cpuSeconds returns the processor time that the server has used.
func (p *process) cpuSeconds() float64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "stat"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64) // the kernel writes numbers
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

// syncDisk waits until earlier writes are on the disk, so that they do not affect a measurement.
func syncDisk() { syscall.Sync() }
