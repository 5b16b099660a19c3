// Command storm damages the server's files at random and checks the server's reaction. Each
// round copies a data folder with records and finished exports. Before the server starts, or
// while it runs, a file or folder is removed, or files are truncated, partly zeroed, or have
// bits flipped. Only three outcomes are allowed: everything is as before; the server refuses to
// start with a message that names the damage; or the affected export or record is reported as
// damaged. Anything else is a fault: different content, other people's data, demo patients, the
// removal of an intact file, a panic, a hang.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// config is the command line. kong fills it from flags and EHI_STORM_* variables.
type config struct {
	Rounds   int           `help:"Rounds, each with one or a few damages." default:"20" env:"EHI_STORM_ROUNDS"`
	Seed     uint64        `help:"The same seed draws the same damages; 0 draws one." env:"EHI_STORM_SEED"`
	Patients int           `help:"Patients of the record store." default:"3" env:"EHI_STORM_PATIENTS"`
	Limit    time.Duration `help:"How long a start, a stop or an answer may take." default:"15s" env:"EHI_STORM_LIMIT"`
	Only     int           `help:"Run only this round of the seed; -1: all." default:"-1" env:"EHI_STORM_ONLY"`
	Dir      string        `help:"Folder for data and logs. Default: a temporary one. The folder of a round with a fault is kept." env:"EHI_STORM_DIR"`
	Built    string        `help:"Folder with commands that are built already." env:"EHI_TEST_BUILT"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var c config
	k := kong.Parse(&c, kong.Name("storm"),
		kong.Description("Damages data folders of the EHI export server"), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

// Run runs the rounds and prints the results. Errors: rounds with faults.
func (c *config) Run(ctx context.Context) (err error) {
	if c.Rounds < 1 || c.Patients < 1 {
		return errors.New("--rounds and --patients must be positive")
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1_000_000) + 1
	}
	dir := c.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "ehi-storm-*"); err != nil {
			return err
		}
	}
	fmt.Printf("seed %d, data and logs in %s\n", c.Seed, dir)
	binary := filepath.Join(c.Built, "api")
	if c.Built == "" {
		binary = filepath.Join(dir, "api")
		out, err := exec.CommandContext(ctx, "go", "build", "-o", binary,
			"ehi-server/api").CombinedOutput()
		if err != nil {
			return fmt.Errorf("build the server: %w: %s", err, out)
		}
	}
	s, err := prepare(ctx, c, dir, binary)
	if err != nil {
		return fmt.Errorf("prepare the data: %w", err)
	}
	outcomes, faulty := map[string]int{}, 0
	for n := range c.Rounds {
		if c.Only >= 0 && n != c.Only {
			continue
		}
		r := &round{
			storm: s,
			rng:   rand.New(rand.NewPCG(c.Seed, uint64(n))),
			dir:   filepath.Join(dir, fmt.Sprintf("round-%d", n)),
		}
		if err := r.run(ctx); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		outcomes[r.outcome()]++
		if len(r.faults) == 0 {
			if err := os.RemoveAll(r.dir); err != nil {
				return err
			}
			continue
		}
		faulty++
		fmt.Printf("round %d: %s\n", n, r.done)
		for _, f := range r.faults {
			fmt.Printf("    %s\n", f)
		}
	}
	total := 0
	for _, name := range slices.SortedFunc(maps.Keys(outcomes),
		func(a, b string) int { return cmp.Compare(outcomes[b], outcomes[a]) }) {
		fmt.Printf("%6d  %s\n", outcomes[name], name)
		total += outcomes[name]
	}
	fmt.Printf("%6d  rounds, %d with faults (seed %d)\n", total, faulty, c.Seed)
	if faulty > 0 {
		return fmt.Errorf("%d rounds with faults; their folders are in %s", faulty, dir)
	}
	if c.Dir == "" {
		return os.RemoveAll(dir)
	}
	return nil
}
