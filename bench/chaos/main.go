// Command chaos shows that no fault loses, blocks or falsifies an export. It starts a fleet of
// real processes (API, NATS, stand-alone exporters) and lets users run complete flows against
// it. Meanwhile it kills, stops, starves and restarts the processes at random. It compares every
// downloaded byte with the record store, and checks all of the server's guarantees after each
// round of faults.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// config is the command line. kong fills it from flags and EHI_CHAOS_* variables.
type config struct {
	Rounds      int           `help:"Rounds of faults." default:"20" env:"EHI_CHAOS_ROUNDS"`
	Duration    time.Duration `help:"No round is begun after this time; 0: all are." env:"EHI_CHAOS_DURATION"`
	FleetRounds int           `help:"Rounds that one fleet lives for; the next one has another shape." default:"10" env:"EHI_CHAOS_FLEET_ROUNDS"`
	Cluster     int           `help:"Rounds after those, in each of which one or two servers of a cluster of three NATS servers are killed." default:"0" env:"EHI_CHAOS_CLUSTER"`
	NATS        string        `help:"Version of NATS servers. Default: the embedded one's." env:"EHI_CHAOS_NATS"`
	Seed        uint64        `help:"The same seed draws the same faults and flows; 0 draws one." env:"EHI_CHAOS_SEED"`
	Faults      time.Duration `help:"How long a round's faults are begun." default:"5s" env:"EHI_CHAOS_FAULTS"`
	Patience    time.Duration `help:"Time in which everything has to be in order after a round's last fault." default:"60s" env:"EHI_CHAOS_PATIENCE"`
	Users       int           `help:"Users at once." default:"12" env:"EHI_CHAOS_USERS"`
	Patients    int           `help:"Patients of the record store, about 600 resources each." default:"20" env:"EHI_CHAOS_PATIENTS"`
	AckWait     time.Duration `help:"The servers' --ack-wait." default:"2500ms" env:"EHI_CHAOS_ACK_WAIT"`
	Dir         string        `help:"Folder for data and logs. Default: a temporary one, which is kept after a failure." env:"EHI_CHAOS_DIR"`
	Built       string        `help:"Folder with commands that are built already." env:"EHI_TEST_BUILT"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var c config
	k := kong.Parse(&c, kong.Name("chaos"),
		kong.Description("Fault harness of the EHI export server"), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

// Run runs the rounds and reports the results. Errors: any guarantee that the server violated.
func (c *config) Run(ctx context.Context) (err error) {
	if c.Rounds < 0 || c.Cluster < 0 || c.Rounds+c.Cluster < 1 || c.FleetRounds < 1 ||
		c.Users < 1 || c.Patients < 1 {
		return errors.New(
			"--fleet-rounds, --users, --patients and a number of rounds must be positive")
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1_000_000) + 1
	}
	dir := c.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "ehi-chaos-*"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(dir)
			}
		}()
	}
	fmt.Printf("seed %d, data and logs in %s\n", c.Seed, dir)
	binaries, err := build(ctx, filepath.Join(dir, "bin"), c.NATS, c.Built)
	if err != nil {
		return err
	}
	store := filepath.Join(dir, "store")
	truth, err := prepare(ctx, store, c.Patients, c.Seed)
	if err != nil {
		return fmt.Errorf("prepare the record store: %w", err)
	}
	t := &totals{began: time.Now()}
	defer func() { t.print(os.Stdout) }()
	for first := 0; first < c.Rounds && t.more(c.Duration); first += c.FleetRounds {
		f := &fleet{
			config:   c,
			binaries: binaries,
			dir:      filepath.Join(dir, fmt.Sprintf("fleet-%d", first/c.FleetRounds)),
			shape:    shapes[first/c.FleetRounds%len(shapes)],
			totals:   t,
		}
		err := f.liveAndLeave(ctx, store, truth, first, min(c.Rounds, first+c.FleetRounds))
		if err != nil {
			return err
		}
	}
	if c.Cluster == 0 {
		return nil
	}
	f := &fleet{
		config:   c,
		binaries: binaries,
		dir:      filepath.Join(dir, "cluster"),
		shape:    clustered,
		totals:   t,
	}
	return f.liveAndLeave(ctx, store, truth, 0, c.Cluster)
}

// liveAndLeave runs live and then removes the folder, unless something failed.
func (f *fleet) liveAndLeave(
	ctx context.Context, store string, truth *truth, first, last int,
) error {
	if err := f.live(ctx, store, truth, first, last); err != nil {
		return fmt.Errorf("%w (seed %d, logs in %s)", err, f.Seed, f.dir)
	}
	return os.RemoveAll(f.dir)
}
