// Command report draws the dashboards without Grafana. It sends every query of every panel to a
// Prometheus, and writes one self-contained page.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"ehi-server/deploy/grafana"
	"ehi-server/shared/plot"
)

// config is the command line.
type config struct {
	Prometheus     string        `help:"URL of the Prometheus." default:"http://127.0.0.1:9090"`
	Last           time.Duration `help:"How far back the report goes from --until." default:"30m"`
	Until          time.Time     `help:"End of the report, in RFC 3339. Default: now."`
	ScrapeInterval time.Duration `help:"How often that Prometheus scrapes the server: rates are taken over four times as long, at least." default:"5s"`
	Instance       string        `help:"Regular expression of the instances that are drawn." default:".+"`
	Runs           string        `help:"Regular expression of the runs of bench/load that are drawn." name:"run" default:".+"`
	Out            string        `help:"File to write." default:"report.html"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var c config
	k := kong.Parse(&c, kong.Name("report"),
		kong.Description("The dashboards as a page, without Grafana"), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

// Run writes the page. Errors: the Prometheus does not answer, or rejects a query.
func (c *config) Run(ctx context.Context) error {
	client, err := api.NewClient(api.Config{Address: c.Prometheus})
	if err != nil {
		return err
	}
	if c.Until.IsZero() {
		c.Until = time.Now()
	}
	r := report{Until: c.Until.UTC(), From: c.Until.Add(-c.Last).UTC(), Prometheus: c.Prometheus}
	for _, b := range grafana.Boards() {
		drawn, err := c.board(ctx, v1.NewAPI(client), b)
		if err != nil {
			return err
		}
		r.Boards = append(r.Boards, drawn)
	}
	f, err := os.Create(c.Out)
	if err != nil {
		return err
	}
	return errors.Join(page.Execute(f, r), f.Close())
}

// report is the data of the page.
type report struct {
	From, Until time.Time
	Prometheus  string
	Boards      []board
}

type board struct {
	grafana.Board
	Drawn []panel
	Marks []mark
}

// mark is the beginning of a run of bench/load.
type mark struct {
	Name, About string
	At          time.Time
}

type panel struct {
	grafana.Panel
	Plot plot.Plot
	// Unseen is the number of smaller lines that are left out.
	Unseen int
}

// points is the approximate number of points across a diagram.
const points = 200

// mostLines is the number of lines in a diagram that can be distinguished.
const mostLines = 7

func (c *config) board(ctx context.Context, prometheus v1.API, b grafana.Board) (board, error) {
	out := board{Board: b}
	if b.Runs {
		began, _, _, err := prometheus.Query(ctx,
			c.fill(`max by (run, url, mix, concurrency, rate) `+
				`(last_over_time(ehi_load_run_start_timestamp_seconds{run=~"$run"}[$__range]))`),
			c.Until)
		if err != nil {
			return out, fmt.Errorf("runs: %w", err)
		}
		for _, s := range began.(model.Vector) {
			l := s.Metric
			out.Marks = append(out.Marks, mark{
				string(l["run"]),
				fmt.Sprintf("%s, %s, concurrency %s, rate %s", l["url"], l["mix"], l["concurrency"],
					l["rate"]),
				time.Unix(int64(s.Value), 0).UTC(),
			})
		}
		slices.SortFunc(out.Marks, func(a, b mark) int { return a.At.Compare(b.At) })
	}
	for _, p := range b.Panels {
		drawn := panel{
			Panel: p,
			Plot: plot.Plot{
				Title: p.Title,
				X:     plot.Axis{Scale: plot.Time, Format: c.clock},
				Y: plot.Axis{
					Label:  label(p.Unit),
					Format: func(v float64) string { return inUnit(v, p.Unit) },
				},
			},
		}
		for _, q := range p.Queries {
			lines, err := c.lines(ctx, prometheus, q)
			if err != nil {
				return out, fmt.Errorf("%s, %s: %w", b.Title, p.Title, err)
			}
			drawn.Plot.Series = append(drawn.Plot.Series, lines...)
		}
		slices.SortStableFunc(drawn.Plot.Series, func(a, b plot.Series) int {
			return cmp.Compare(highest(b), highest(a))
		})
		if n := len(drawn.Plot.Series); n > mostLines {
			drawn.Unseen, drawn.Plot.Series = n-mostLines, drawn.Plot.Series[:mostLines]
		}
		out.Drawn = append(out.Drawn, drawn)
	}
	return out, nil
}

// step returns the time between two points.
func (c *config) step() time.Duration {
	return max(time.Second, (c.Last / points).Round(time.Second))
}

// fill replaces the variables by the viewer's choices, as Grafana does.
func (c *config) fill(expr string) string {
	rate := max(4*c.ScrapeInterval, c.step()+c.ScrapeInterval)
	return strings.NewReplacer("$__rate_interval", seconds(rate), "$__range", seconds(c.Last),
		"$instance", c.Instance, "$run", c.Runs, "$lane", ".+", "$type", ".+").Replace(expr)
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d/time.Second)) + "s" }

// lines returns the answers to a query over the time of the report.
func (c *config) lines(
	ctx context.Context, prometheus v1.API, q grafana.Query,
) (out []plot.Series, err error) {
	answer, _, _, err := prometheus.QueryRange(ctx, c.fill(q.Expr), v1.Range{
		Start: c.Until.Add(-c.Last),
		End:   c.Until,
		Step:  c.step(),
	})
	if err != nil {
		return nil, err
	}
	matrix, ok := answer.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("the answer is a %v", answer.Type())
	}
	for _, stream := range matrix {
		line := plot.Series{Name: legend(q.Legend, stream.Metric)}
		for i, v := range stream.Values {
			if i > 0 && v.Timestamp.Sub(stream.Values[i-1].Timestamp) > c.step() {
				line.Points = append(line.Points, [2]float64{0, math.NaN()})
			}
			if f := float64(v.Value); !math.IsNaN(f) && !math.IsInf(f, 0) {
				line.Points = append(line.Points, [2]float64{float64(v.Timestamp) / 1000, f})
			}
		}
		if len(line.Points) > 0 {
			out = append(out, line)
		}
	}
	return out, nil
}

// legend replaces {{label}} by the labels' values.
func legend(format string, labels model.Metric) string {
	for name, value := range labels {
		format = strings.ReplaceAll(format, "{{"+string(name)+"}}", string(value))
	}
	return format
}

func highest(s plot.Series) (most float64) {
	for _, p := range s.Points {
		most = max(most, p[1])
	}
	return most
}

// clock formats a position on the time axis.
func (c *config) clock(v float64) string {
	format := "15:04:05"
	if c.Last > 24*time.Hour {
		format = "01-02 15:04"
	}
	return time.Unix(int64(v), 0).UTC().Format(format)
}

// inUnit formats a value in one of Grafana's units.
func inUnit(v float64, unit string) string {
	switch unit {
	case "s":
		if v == 0 {
			return "0"
		}
		if abs := math.Abs(v); abs >= 120 {
			return strings.Replace(
				time.Duration(v*float64(time.Second)).Round(time.Second).String(), "m0s", "m", 1)
		} else if abs < 0.001 {
			return short(v*1e6) + " µs"
		} else if abs < 1 {
			return short(v*1e3) + " ms"
		}
		return short(v) + " s"
	case "percentunit":
		return short(v*100) + " %"
	case "bytes", "Bps":
		return scaled(v, "B", "kB", "MB", "GB", "TB")
	}
	return scaled(v, "", "k", "M", "G")
}

func scaled(v float64, units ...string) string {
	n := 0
	for math.Abs(v) >= 1000 && n < len(units)-1 {
		v /= 1000
		n++
	}
	return strings.TrimSpace(short(v) + " " + units[n])
}

// label returns the axis label for a unit whose values do not show it.
func label(unit string) string {
	switch unit {
	case "ops", "reqps", "Bps":
		return "a second"
	}
	return ""
}

// short formats a number with at most three significant digits.
func short(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }

//go:embed report.html
var pageText string

var page = template.Must(template.Must(plot.Template.Clone()).New("report").Funcs(template.FuncMap{
	"value": inUnit,
}).Parse(pageText))
