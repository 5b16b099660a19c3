// Command load runs real exports against any server of the EHI Export or Bulk Data API, with a
// configurable concurrency. It verifies the downloads, and reports latencies by step.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// config is the command line. kong fills it from flags and EHI_LOAD_* variables.
type config struct {
	URL           string        `help:"Origin of the server." default:"http://127.0.0.1:8888" name:"url" env:"EHI_LOAD_URL"`
	KickOff       string        `help:"Path of the kick-off; {patient} stands for a patient's id." default:"/no-form/auto-approve/fhir/Patient/{patient}/$ehi-export" env:"EHI_LOAD_KICK_OFF"`
	Method        string        `help:"Method of the kick-off." enum:"POST,GET" default:"POST" env:"EHI_LOAD_METHOD"`
	Patients      int           `help:"How many patients to export; they are found by a bulk export of the type Patient." default:"10" env:"EHI_LOAD_PATIENTS"`
	Patient       []string      `help:"Ids of the patients to export, in place of --patients." env:"EHI_LOAD_PATIENT"`
	Auth          string        `help:"How to get tokens: sandbox (the patient's, by the shortcut of this server's sandbox), service (client_credentials), token, or none." enum:"sandbox,service,token,none" default:"sandbox" env:"EHI_LOAD_AUTH"`
	Secret        string        `help:"Secret of the backend service test_client_id." default:"test_client_secret" env:"EHI_LOAD_SECRET"`
	Token         string        `help:"Bearer token of --auth token." env:"EHI_LOAD_TOKEN"`
	Serve         string        `help:"Run a server in this process, with the records of this source (synthetic:patients=20,native=mixed), in place of --url." placeholder:"SOURCE" env:"EHI_LOAD_SERVE"`
	Native        bool          `help:"Export documents and tables as files and as ZIP archives by turns, download half of the archives in two parts, and export populations, too." env:"EHI_LOAD_NATIVE"`
	Population    string        `help:"Path of the kick-off of a population." default:"/auto-approve/fhir/$ehi-export" env:"EHI_LOAD_POPULATION"`
	Mix           mix           `help:"Shares of what users do: export (the whole flow), poll (kick off, and poll to the end), abort (kick off and delete), population (the whole flow for all patients). Default: export=70,poll=20,abort=10; with --native: export=60,poll=20,abort=10,population=10." env:"EHI_LOAD_MIX"`
	Concurrency   int           `help:"Users at once." default:"16" env:"EHI_LOAD_CONCURRENCY"`
	Rate          float64       `help:"Flows begun a second, whatever the server does (open model); 0: each user begins one when the last is done (closed model)." env:"EHI_LOAD_RATE"`
	Duration      time.Duration `help:"How long flows are begun; those under way are finished." default:"60s" env:"EHI_LOAD_DURATION"`
	FlowTimeout   time.Duration `help:"Time that one flow may take." default:"5m" env:"EHI_LOAD_FLOW_TIMEOUT"`
	Pause         time.Duration `help:"Time between two polls; 0: as Retry-After tells." env:"EHI_LOAD_PAUSE"`
	SLO           []objective   `help:"Objective, such as p99-status=50ms, max-flow=10s or errors=0; it can be given several times." name:"slo" env:"EHI_LOAD_SLO"`
	JSON          string        `help:"File for the result as JSON." name:"json" env:"EHI_LOAD_JSON"`
	HTML          string        `help:"File for the report, one self-contained page." name:"html" env:"EHI_LOAD_HTML"`
	RunName       string        `help:"Name of the run, by which Prometheus and Grafana tell it from others. Default: when it began." name:"run" env:"EHI_LOAD_RUN"`
	MetricsAddr   string        `help:"Address to serve /metrics of the run on; where it was looked at, the run's end waits up to a minute to be seen too. Default: none." env:"EHI_LOAD_METRICS_ADDR"`
	Seed          uint64        `help:"The same seed draws the same flows." default:"1" env:"EHI_LOAD_SEED"`
	Quiet         bool          `help:"No progress bar." env:"EHI_LOAD_QUIET"`
	DownloadUsers int           `help:"Files of one export that are downloaded at once." default:"4" env:"EHI_LOAD_DOWNLOAD_USERS"`
}

// errFailed makes the process exit with status 1 after a run that missed an objective or
// received a wrong file.
var errFailed = errors.New("the run failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var c config
	k := kong.Parse(&c, kong.Name("load"),
		kong.Description("Load generator for EHI and bulk data servers"), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

// Run runs the load, writes the reports and checks the objectives. An interrupt ends it early,
// with a report of what was done.
func (c *config) Run(ctx context.Context) (err error) {
	if c.Serve != "" {
		url, stop, err := host(ctx, c.Serve, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		c.URL = url
	}
	result, err := drive(ctx, c)
	if err != nil {
		return err
	}
	result.print(os.Stdout)
	if err := result.save(c.JSON, c.HTML); err != nil {
		return err
	}
	if result.Failed() {
		return errFailed
	}
	return nil
}

func (c *config) validate() error {
	if c.Mix == nil {
		c.Mix = usualMix
		if c.Native {
			c.Mix = nativeMix
		}
	}
	switch {
	case c.Concurrency < 1 || c.Duration <= 0 || c.Rate < 0 || c.DownloadUsers < 1:
		return errors.New(
			"--concurrency, --download-users and --duration must be positive, --rate not negative")
	case c.Auth == "token" && c.Token == "":
		return errors.New("--auth token needs --token")
	case len(c.Patient) == 0 && c.Patients < 1:
		return fmt.Errorf("--patients %d: at least one is needed", c.Patients)
	}
	return nil
}
