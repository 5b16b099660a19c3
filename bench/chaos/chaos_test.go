package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ehi-server/bench/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An export that differs from the store in any way is detected.
func TestAWrongExportIsFoundOut(t *testing.T) {
	of := func(lines ...string) (t verify.Tally) {
		for _, l := range lines {
			t.Line([]byte(l + "\n"))
		}
		return t
	}
	want := export{"Patient": of("a"), "Observation": of("b", "c")}
	for name, c := range map[string]struct {
		got   export
		right bool
	}{
		"the same":    {export{"Patient": of("a"), "Observation": of("c", "b")}, true},
		"a type lost": {export{"Patient": of("a")}, false},
		"a type more": {
			export{"Patient": of("a"), "Observation": of("b", "c"), "Claim": of("d")},
			false,
		},
		"a line lost":      {export{"Patient": of("a"), "Observation": of("b")}, false},
		"a line twice":     {export{"Patient": of("a"), "Observation": of("b", "c", "c")}, false},
		"a byte different": {export{"Patient": of("a"), "Observation": of("b", "d")}, false},
		"types mixed up":   {export{"Patient": of("b"), "Observation": of("a", "c")}, false},
		"nothing":          {export{}, false},
	} {
		err := want.compare(c.got)
		if (err == nil) != c.right || err != nil && !errors.Is(err, verify.ErrWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A seed always draws the same faults, and in the long run every kind of them.
func TestASeedDrawsTheSameFaults(t *testing.T) {
	f := &fleet{config: &config{AckWait: time.Second}}
	draw := func(seed uint64) (names string, kinds map[string]bool) {
		r := rand.New(rand.NewPCG(seed, 0))
		kinds = map[string]bool{}
		for range 200 {
			kind := drawFault(r)
			kind.draw(f, r)
			kinds[kind.name] = true
			names += fmt.Sprint(kind.name, r.Uint64(), " ")
		}
		return names, kinds
	}
	first, kinds := draw(7)
	if second, _ := draw(7); first != second {
		t.Error("one seed drew two different runs")
	}
	if other, _ := draw(8); first == other {
		t.Error("two seeds drew the same run")
	}
	if len(kinds) != len(faults) {
		t.Errorf("only %v were drawn", kinds)
	}
}
