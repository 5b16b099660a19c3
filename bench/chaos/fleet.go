package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"ehi-server/api/client"
	"ehi-server/shared/files"
)

// shape is the composition of a fleet.
type shape struct {
	name string
	// apart means that NATS is a process of its own. Otherwise it is embedded in the only API.
	apart bool
	// servers is the number of NATS servers in a cluster. 0 means a single server, or an
	// embedded one.
	servers int
	// apis has the number of workers of each API process; exporters is the number of stand-alone
	// workers.
	apis      []int
	exporters int
}

var shapes = []shape{
	{name: "NATS, two APIs and two exporters", apart: true, apis: []int{2, 0}, exporters: 2},
	{name: "one server and two exporters", apis: []int{2}, exporters: 2},
	{name: "one server alone", apis: []int{4}},
}

// fleet is the set of processes of one shape, with their folders.
type fleet struct {
	*config
	binaries binaries
	dir      string
	shape    shape
	totals   *totals

	natsURL   string
	all       []*process
	apis      []*process
	clients   []*client.Client // one for each API, without a token
	truth     *truth
	keeping   sync.Mutex
	kept      []job // finished jobs of earlier rounds, to be checked again
	watch     *recoveries
	probe     string // a token for kick-offs that test whether any is accepted
	intruders intruders
	waits     waits  // what it waits for, or waited for last
	took      string // how long each step of the last check took
}

// exports returns the folder that all processes share.
func (f *fleet) exports() string { return filepath.Join(f.dir, "api-0", files.Folder) }

// live runs the rounds first <= n < last, and then stops the fleet gracefully.
func (f *fleet) live(ctx context.Context, store string, truth *truth, first, last int) (err error) {
	f.truth = truth
	fmt.Printf("fleet: %s\n", f.shape.name)
	if err := f.compose(store); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range f.all {
		group.Go(func() error { return p.supervise(context.WithoutCancel(ctx)) })
	}
	defer func() {
		err = errors.Join(err, f.shutDown(err == nil), group.Wait())
		if err != nil {
			for _, p := range f.all {
				fmt.Fprintln(os.Stderr, p.tail())
			}
		}
	}()
	for _, p := range f.apis {
		f.clients = append(f.clients, client.New(p.url))
	}
	if err := f.ready(ctx); err != nil {
		return err
	}
	if f.watch, err = watchRecoveries(f.natsURL, f.totals); err != nil {
		return err
	}
	defer f.watch.close()
	for n := first; n < last && f.totals.more(f.Duration); n++ {
		what := fmt.Sprintf("round %d", n)
		err := f.bounded(ctx, what, func(ctx context.Context) error { return f.round(ctx, n) })
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return f.bounded(ctx, "the end", f.finish)
}

// compose sets up folders and command lines. A process keeps its address when it is restarted.
func (f *fleet) compose(store string) error {
	if err := f.intruders.settle(filepath.Join(f.dir, "wrong"), store); err != nil {
		return err
	}
	nats, err := freeAddress()
	if err != nil {
		return err
	}
	f.natsURL = "nats://" + nats
	if f.shape.servers > 0 {
		if f.natsURL, err = f.composeServers(); err != nil {
			return err
		}
	}
	if f.shape.apart {
		host, port, err := net.SplitHostPort(nats)
		if err != nil {
			return err
		}
		f.add("nats", f.binaries.nats, "--jetstream", "--store_dir", filepath.Join(f.dir, "nats"),
			"--addr", host, "--port", port)
	}
	var base string
	for n, workers := range f.shape.apis {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		if n == 0 {
			base = "http://" + addr
		}
		name := fmt.Sprintf("api-%d", n)
		data := filepath.Join(f.dir, name)
		if err := copyStore(store, data); err != nil {
			return err
		}
		if n > 0 { // every process writes to the first one's exports folder
			if err := os.Symlink(f.exports(), filepath.Join(data, files.Folder)); err != nil {
				return err
			}
		} else if err := os.Mkdir(f.exports(), 0o700); err != nil {
			return err
		}
		args := []string{
			"serve", "--data", data, "--addr", addr, "--base-url", base, "--workers",
			fmt.Sprint(workers), "--ack-wait", f.AckWait.String(),
			"--task-bytes", "1000000", "--spill-bytes", "50000", "--keeper-every", "1s",
			"--poll-burst", "0", "--drain", "5s", "--client-bulk-jobs", "1000", "--orphan-grace",
			"0s",
		}
		if f.shape.apart || f.shape.servers > 0 {
			args = append(args, "--nats", f.natsURL)
		} else {
			args = append(args, "--nats-listen", nats)
		}
		p := f.add(name, f.binaries.api, args...)
		p.url = "http://" + addr
		f.apis = append(f.apis, p)
	}
	for n := range f.shape.exporters {
		name := fmt.Sprintf("exporter-%d", n)
		data := filepath.Join(f.dir, name)
		if err := copyStore(store, data); err != nil {
			return err
		}
		f.add(name, f.binaries.exporter, "--nats", f.natsURL, "--data", data, "--exports",
			f.exports(), "--workers", "2", "--drain", "5s")
	}
	return nil
}

func (f *fleet) add(name, path string, args ...string) *process {
	p := &process{
		name:   name,
		path:   path,
		args:   args,
		log:    filepath.Join(f.dir, name+".log"),
		ending: make(chan ending),
		revive: make(chan struct{}),
		exits:  &f.totals.exits,
	}
	f.all = append(f.all, p)
	return p
}

// freeAddress returns an unused address.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// ready waits until every API is ready.
func (f *fleet) ready(ctx context.Context) error {
	for n, c := range f.clients {
		err := f.eventually(ctx, func(ctx context.Context) error {
			a, err := c.Do(ctx, "GET", "/readyz", nil)
			if err == nil && a.Status != 200 {
				err = fmt.Errorf("/readyz answers %d", a.Status)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("api-%d is not ready: %w", n, err)
		}
	}
	return nil
}

// eventually repeats try until it succeeds or patience ends.
func (f *fleet) eventually(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, requestTime)
		err := try(attempt)
		end()
		if err == nil {
			return nil
		}
		f.waits.noted(err)
		if client.Sleep(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("still so after %v: %w", f.Patience, err)
		}
	}
}

// roundLimit is the maximum duration of a round. Each of its waits has a limit, and they follow
// one another.
func (f *fleet) roundLimit() time.Duration { return f.Faults + 12*f.Patience }

// bounded runs do. If do does not end within the limit of a round, bounded prints what it waits
// for and all goroutines, and ends the process.
func (f *fleet) bounded(ctx context.Context, what string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.roundLimit(), fmt.Errorf("%s hangs", what))
	defer cancel()
	hangs := time.AfterFunc(f.roundLimit()+stopTime, func() {
		fmt.Fprintf(os.Stderr, "%s does not end, seed %d; it waited last for: %v\n", what, f.Seed,
			f.waits.last())
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2) // for diagnosis
		for _, p := range f.all {
			fmt.Fprintln(os.Stderr, p.tail())
			if pid := p.pid.Load(); pid != 0 {
				_ = syscall.Kill(int(pid), sigkill) // it may have ended
			}
		}
		os.Exit(1)
	})
	defer hangs.Stop()
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w; it waited last for: %w", context.Cause(ctx), err, f.waits.last())
	}
	return err
}

// waits records what was last waited for.
type waits struct {
	mu  sync.Mutex
	err error
}

func (w *waits) noted(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func (w *waits) last() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return cmp.Or(w.err, errNothing)
}

var errNothing = errors.New("nothing")

// round lets users work while faults happen, waits until both are done, and checks the state.
func (f *fleet) round(ctx context.Context, n int) error {
	began := time.Now()
	users, end := context.WithTimeout(ctx, f.Faults+f.Patience)
	defer end()
	calm := make(chan struct{}) // closed when no further fault begins
	var group errgroup.Group
	for u := range f.Users {
		group.Go(func() error {
			return (&user{
				fleet: f,
				rng:   rand.New(rand.NewPCG(f.Seed, uint64(n)<<16|uint64(u))),
			}).work(users, calm)
		})
	}
	faults, err := f.fault(ctx, n, rand.New(rand.NewPCG(f.Seed, uint64(n)<<16|0xffff)))
	close(calm)
	if err := errors.Join(err, group.Wait()); err != nil {
		return err
	}
	flows := time.Since(began)
	if err := f.check(ctx); err != nil {
		return err
	}
	if err := f.intruders.told(f.watch.names()); err != nil {
		return err
	}
	f.totals.rounds.Add(1)
	fmt.Printf("round %d: %s; flows ended after %.1f s, in order after %.1f s (%s)\n", n, faults,
		flows.Seconds(), time.Since(began).Seconds(), f.took)
	return nil
}

// fault causes the faults of a round.
func (f *fleet) fault(ctx context.Context, n int, r *rand.Rand) (told string, err error) {
	if f.shape.servers > 0 {
		return f.killServers(ctx, n, r)
	}
	return f.disturb(ctx, r), nil
}

// shutDown stops every process, exporters first. If clean is true, each must exit with status 0.
func (f *fleet) shutDown(clean bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	var wg sync.WaitGroup
	for i := len(f.all) - 1; i >= 0; i-- {
		p := f.all[i]
		isNATS := p.path == f.binaries.nats
		if isNATS {
			wg.Wait()
		}
		wg.Go(func() { p.end(ctx, ending{signal: sigterm, last: true, clean: clean && !isNATS}) })
	}
	wg.Wait()
	for _, c := range f.clients {
		c.Close()
	}
	return ctx.Err()
}
