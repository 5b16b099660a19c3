package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"ehi-server/shared/plot"
)

// result is the outcome of a run; --json writes it. Times are in milliseconds unless a name says
// otherwise.
type result struct {
	URL      string             `json:"url"`
	KickOff  string             `json:"kickOff"`
	Model    string             `json:"model"`
	Patients int                `json:"patients"`
	Began    time.Time          `json:"began"`
	Seconds  float64            `json:"seconds"`
	Flows    map[action]int64   `json:"flows"` // successful ones
	Files    int64              `json:"files"`
	Lines    int64              `json:"lines"`
	Bytes    int64              `json:"bytes"`
	Wrong    int64              `json:"wrong"` // answers that violate the specification
	Native   nativeResult       `json:"native"`
	Errors   map[string]int64   `json:"errors"`
	Refused  map[step]int64     `json:"refused"` // 429 and 503, followed by another attempt
	Steps    []stepResult       `json:"steps"`
	Seconds1 []second           `json:"perSecond"`
	SLO      []objectiveOutcome `json:"slo"`
	Examples []string           `json:"examples,omitempty"`
}

// nativeResult counts the documents and tables of all exports that were right.
type nativeResult struct {
	Files     int64 `json:"files"` // loose ones, archives, and those in archives
	Archives  int64 `json:"archives"`
	Resumed   int64 `json:"resumed"` // archives that were downloaded in two parts
	Documents int64 `json:"documents"`
	Rows      int64 `json:"rows"`
	Bytes     int64 `json:"bytes"` // downloaded
	Wrong     int64 `json:"wrong"` // exports whose native content is wrong
}

type stepResult struct {
	Step  step    `json:"step"`
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
	// Curve is the latency at some percentiles, for the plot.
	Curve []point `json:"curve"`
}

// point is a percentile and its latency.
type point struct {
	Percent float64 `json:"percent"`
	Millis  float64 `json:"ms"`
}

type objectiveOutcome struct {
	Objective string `json:"objective"`
	Measured  string `json:"measured"`
	Kept      bool   `json:"kept"`
}

// curve lists the percentiles of the plot, evenly spaced in the logarithm of the rest to 100 %.
var curve = []float64{
	0.1, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 92.5, 95, 97, 98, 99, 99.5, 99.7, 99.9, 99.95,
	99.99,
}

func newResult(c *config, patients []string, rec *recorder, took time.Duration) *result {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if last := len(rec.seconds) - 1; last >= 0 {
		rec.seconds[last].States = rec.copyStates()
	}
	r := &result{
		URL:      c.URL,
		KickOff:  c.Method + " " + c.KickOff,
		Patients: len(patients),
		Began:    rec.began.UTC(),
		Seconds:  took.Seconds(),
		Flows:    rec.flows,
		Files:    rec.files,
		Lines:    rec.lines,
		Bytes:    rec.bytes,
		Wrong:    rec.wrong,
		Native:   rec.native,
		Errors:   rec.errors,
		Refused:  rec.refused,
		Seconds1: rec.seconds,
		Examples: rec.examples,
		SLO:      []objectiveOutcome{},
		Model:    fmt.Sprintf("closed, %d users", c.Concurrency),
	}
	if c.Rate > 0 {
		r.Model = fmt.Sprintf("open, %g flows a second, at most %d users", c.Rate, c.Concurrency)
	}
	for _, s := range steps {
		h := rec.hist[s]
		if h.TotalCount() == 0 {
			continue
		}
		at := func(percent float64) float64 { return float64(h.ValueAtQuantile(percent)) / 1000 }
		one := stepResult{
			Step:  s,
			Count: h.TotalCount(),
			Mean:  h.Mean() / 1000,
			P50:   at(50),
			P90:   at(90),
			P99:   at(99),
			P999:  at(99.9),
			Max:   float64(h.Max()) / 1000,
		}
		for _, p := range curve {
			one.Curve = append(one.Curve, point{p, at(p)})
		}
		r.Steps = append(r.Steps, one)
	}
	for _, o := range c.SLO {
		r.SLO = append(r.SLO, o.outcome(rec))
	}
	return r
}

// outcome evaluates an objective. An objective for a step that never succeeded is missed.
func (o objective) outcome(rec *recorder) objectiveOutcome {
	out := objectiveOutcome{Objective: o.text}
	if o.step == "" {
		var n int64
		for _, k := range rec.errors {
			n += k
		}
		out.Measured, out.Kept = fmt.Sprint(n), n <= o.errors
		return out
	}
	h := rec.hist[o.step]
	d := time.Duration(h.ValueAtQuantile(o.percent)) * time.Microsecond
	out.Measured, out.Kept = d.String(), h.TotalCount() > 0 && d <= o.limit
	return out
}

// Failed reports whether an objective was missed or an answer was wrong.
func (r *result) Failed() bool {
	return r.Wrong > 0 ||
		slices.ContainsFunc(r.SLO, func(o objectiveOutcome) bool { return !o.Kept })
}

// print writes the result as a table.
func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, %d patients, %.1f s\n", r.URL, r.Model, r.Patients, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "step\tcount\tp50 ms\tp90 ms\tp99 ms\tp99.9 ms\tmax ms\t")
	for _, s := range r.Steps {
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", s.Step, s.Count, s.P50, s.P90,
			s.P99, s.P999, s.Max)
	}
	_ = t.Flush() // a failure to print does not change the result
	fmt.Fprintf(w,
		"flows %v; %d files, %d lines, %.1f MB verified, %d wrong; refused and tried again %v; "+
			"errors %v\n",
		r.Flows, r.Files, r.Lines, float64(r.Bytes)/1e6, r.Wrong, r.Refused, r.Errors)
	if n := r.Native; n != (nativeResult{}) {
		fmt.Fprintf(w, "native content: %d files with %d archives, of which %d were resumed; "+
			"%d documents, %d rows, %.1f MB verified, %d wrong\n",
			n.Files, n.Archives, n.Resumed, n.Documents, n.Rows, float64(n.Bytes)/1e6, n.Wrong)
	}
	for _, e := range r.Examples {
		fmt.Fprintln(w, "  ", e)
	}
	for _, o := range r.SLO {
		verdict := "kept"
		if !o.Kept {
			verdict = "BROKEN"
		}
		fmt.Fprintf(w, "objective %s: %s, measured %s\n", o.Objective, verdict, o.Measured)
	}
}

// save writes the requested files.
func (r *result) save(jsonPath, htmlPath string) error {
	if jsonPath != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(jsonPath, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if htmlPath == "" {
		return nil
	}
	f, err := os.Create(htmlPath)
	if err != nil {
		return err
	}
	err = page.Execute(f, r)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

//go:embed report.html
var pageText string

var page = template.Must(template.Must(plot.Template.Clone()).New("report").Funcs(template.FuncMap{
	"sum": total,
	"mb":  func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) },
}).Parse(pageText))

func total(m map[action]int64) (n int64) {
	for _, k := range m {
		n += k
	}
	return n
}

// The plots of the page follow.

// Latencies plots the latency of each step by percentile.
func (r *result) Latencies() plot.Plot {
	p := plot.Plot{
		Title: "Latency by percentile",
		X:     plot.Axis{Label: "percent of requests", Scale: plot.Nines},
		Y:     plot.Axis{Label: "ms", Scale: plot.Logarithmic},
	}
	for _, s := range r.Steps {
		line := plot.Series{Name: string(s.Step)}
		for _, c := range s.Curve {
			line.Points = append(line.Points, [2]float64{c.Percent, c.Millis})
		}
		p.Series = append(p.Series, line)
	}
	return p
}

// Throughput plots what was done in each second.
func (r *result) Throughput() plot.Plot {
	return r.overTime("Throughput", "a second", map[string]func(second) float64{
		"flows":         func(s second) float64 { return float64(s.Flows) },
		"MB downloaded": func(s second) float64 { return float64(s.Bytes) / 1e6 },
		"errors":        func(s second) float64 { return float64(s.Errors) },
	})
}

// Requests plots the successful requests of each second.
func (r *result) Requests() plot.Plot {
	return r.overTime("Requests", "a second", map[string]func(second) float64{
		"requests": func(s second) float64 { return float64(s.Requests) },
	})
}

// States plots the jobs by state at the end of each second.
func (r *result) States() plot.Plot {
	of := map[string]func(second) float64{}
	for _, s := range r.Seconds1 {
		for name := range s.States {
			of[name] = func(s second) float64 { return float64(s.States[name]) }
		}
	}
	return r.overTime("Jobs by state", "jobs", of)
}

func (r *result) overTime(title, unit string, of map[string]func(second) float64) plot.Plot {
	p := plot.Plot{Title: title, X: plot.Axis{Label: "seconds"}, Y: plot.Axis{Label: unit}}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		line := plot.Series{Name: name}
		for at, s := range r.Seconds1 {
			line.Points = append(line.Points, [2]float64{float64(at), of[name](s)})
		}
		p.Series = append(p.Series, line)
	}
	return p
}

// Title returns the page's title.
func (r *result) Title() string {
	return "Load on " + strings.TrimPrefix(strings.TrimPrefix(r.URL, "https://"), "http://")
}
