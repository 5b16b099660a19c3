package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// action is what a user does with an export.
type action string

const (
	exportAll action = "export" // the whole flow, with verified downloads
	pollOnly  action = "poll"   // kick off and poll until the manifest is available
	abortIt   action = "abort"  // kick off and delete immediately
	// the whole flow for all patients, by a backend service
	population action = "population"
)

// The shares if the command line sets none.
var (
	usualMix  = mix{{exportAll, 70}, {pollOnly, 20}, {abortIt, 10}}
	nativeMix = mix{{exportAll, 60}, {pollOnly, 20}, {abortIt, 10}, {population, 10}}
)

var actions = []action{exportAll, pollOnly, abortIt, population}

// mix holds the shares of actions.
type mix []share

type share struct {
	action action
	weight int
}

// UnmarshalText parses export=70,poll=20,abort=10.
func (m *mix) UnmarshalText(text []byte) error {
	*m = nil
	for _, part := range strings.Split(string(text), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		weight, err := strconv.Atoi(value)
		a := action(name)
		if err != nil || weight < 0 || !slices.Contains(actions, a) {
			return fmt.Errorf("%q is no share such as export=70; there are %v", part, actions)
		}
		*m = append(*m, share{a, weight})
	}
	if m.total() == 0 {
		return fmt.Errorf("the mix %q has nothing in it", text)
	}
	return nil
}

// String returns the mix in the form that UnmarshalText parses.
func (m mix) String() string {
	parts := make([]string, len(m))
	for i, s := range m {
		parts[i] = fmt.Sprintf("%s=%d", s.action, s.weight)
	}
	return strings.Join(parts, ",")
}

func (m mix) total() (n int) {
	for _, s := range m {
		n += s.weight
	}
	return n
}

// draw chooses an action by its share.
func (m mix) draw(r *rand.Rand) action {
	n := r.IntN(m.total())
	for _, s := range m {
		if n -= s.weight; n < 0 {
			return s.action
		}
	}
	return m[0].action
}

// objective is a goal for a run: a percentile or the maximum of a step's latency, or the number
// of errors.
type objective struct {
	text    string
	step    step
	percent float64       // 100 is the maximum
	limit   time.Duration // of a latency
	errors  int64         // if step is ""
}

// UnmarshalText parses p99-status=50ms, max-flow=10s or errors=0.
func (o *objective) UnmarshalText(text []byte) (err error) {
	o.text = string(text)
	name, value, found := strings.Cut(o.text, "=")
	if name == "errors" && found {
		o.errors, err = strconv.ParseInt(value, 10, 64)
		return err
	}
	quantile, of, _ := strings.Cut(name, "-")
	o.step = step(of)
	if o.limit, err = time.ParseDuration(value); err != nil || !o.step.known() {
		return fmt.Errorf("%q is no objective such as p99-status=50ms; steps are %v", text, steps)
	}
	if quantile == "max" {
		o.percent = 100
		return nil
	}
	o.percent, err = strconv.ParseFloat(strings.TrimPrefix(quantile, "p"), 64)
	if err != nil || !strings.HasPrefix(quantile, "p") || o.percent <= 0 || o.percent > 100 {
		return fmt.Errorf("%q is no percentile such as p99.9 or max", quantile)
	}
	return nil
}
