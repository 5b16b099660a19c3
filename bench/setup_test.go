package bench

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/sources"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

const (
	// childEnv makes the test binary a server on the data folder that it names.
	childEnv = "EHI_BENCH_SERVE"
	// profileEnv names a file for the server's CPU profile.
	profileEnv = "EHI_BENCH_CPUPROFILE"
)

func TestMain(m *testing.M) {
	if data := os.Getenv(childEnv); data != "" {
		if err := serve(data); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve runs the server with the defaults of its command line until standard input ends.
func serve(data string) error {
	if path := os.Getenv(profileEnv); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close() // written by StopCPUProfile, which comes first
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	cfg, err := node.Defaults()
	if err != nil {
		return err
	}
	cfg.Addr = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.Background())
	n, err := node.Open(ctx, cfg, data, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), node.Options{})
	if err != nil {
		cancel()
		return err
	}
	fmt.Println(n.URL)
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // ends with the parent
		cancel()
	}()
	err = n.Run(ctx)
	if e := n.Close(); err == nil {
		err = e
	}
	return err
}

// process is a server under measurement.
type process struct {
	cmd     *exec.Cmd
	client  *client.Client // holds the patient's token
	patient string
	total   int64 // resources of the patient's full export
}

// startServer starts a server whose store holds a patient of about 600 resources, and stops it with the benchmark.
func startServer(b *testing.B) *process {
	b.Helper()
	data := b.TempDir()
	patient := generate(b, data)
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe), patient: patient}
	p.cmd.Env = append(os.Environ(), childEnv+"="+data)
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
	b.Cleanup(func() {
		_ = stdin.Close() // the end of its input stops the server
		if err := p.cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	open := client.New(strings.TrimSpace(url))
	b.Cleanup(open.Close)
	if p.client, _, err = open.Authorize(b.Context(), patient); err != nil {
		b.Fatal(err)
	}
	for _, e := range p.export(b).Output {
		p.total += e.Count
	}
	return p
}

// generate fills a store and returns the patient whose record is nearest to 600 resources.
func generate(b *testing.B, data string) string {
	b.Helper()
	store, err := sources.Store(sources.Config{Data: data})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := store.Generate(b.Context(), synthetic.Config{Patients: 10, Seed: 1}, time.Now(), func(int, int) {}); err != nil {
		b.Fatal(err)
	}
	list, err := store.Patients(b.Context(), 10)
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

// manifest polls until the manifest is there; pause is the time between two polls.
func (p *process) manifest(b *testing.B, j client.Job, pause time.Duration) *ehi.Manifest {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	m, err := p.client.Wait(ctx, j.StatusURL, pause)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// rssPeak is the most memory that the server has had resident, in MiB; 0 where the system does not tell.
func (p *process) rssPeak() float64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				return 0
			}
			return kib / 1024
		}
	}
	return 0
}

// cpuSeconds is the processor time that the server has used.
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

// syncDisk waits until what others wrote before is on the disk, so that a measurement does not pay for it.
func syncDisk() { syscall.Sync() }
