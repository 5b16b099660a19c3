package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTestlogTellsFailuresAndListsSkippedTests(t *testing.T) {
	in := strings.Join([]string{
		`{"Action":"build-output","ImportPath":"p/b","Output":"b.go:1: undefined\n"}`,
		`{"Action":"run","Package":"p/a","Test":"TestGood"}`,
		`{"Action":"output","Package":"p/a","Test":"TestGood",` +
			`"Output":"    a_test.go:3: chatter\n"}`,
		`{"Action":"pass","Package":"p/a","Test":"TestGood"}`,
		`{"Action":"output","Package":"p/a","Test":"TestTwo","Output":"=== RUN   TestTwo\n"}`,
		`{"Action":"output","Package":"p/a","Test":"TestOne","Output":"    tools_test.go:24: npm ` +
			`is absent\n"}`,
		`{"Action":"output","Package":"p/a","Test":"TestTwo","Output":"    other_test.go:9: npm ` +
			`is absent\n"}`,
		`{"Action":"output","Package":"p/a","Test":"TestTwo",` +
			`"Output":"--- SKIP: TestTwo (0.00s)\n"}`,
		`{"Action":"skip","Package":"p/a","Test":"TestTwo"}`,
		`{"Action":"skip","Package":"p/a","Test":"TestOne"}`,
		`{"Action":"output","Package":"p/a","Test":"TestBad","Output":"    a_test.go:8: wrong\n"}`,
		`{"Action":"fail","Package":"p/a","Test":"TestBad"}`,
		`{"Action":"output","Package":"p/a","Output":"FAIL\tp/a\t0.1s\n"}`,
		`{"Action":"fail","Package":"p/a"}`,
		`{"Action":"output","Package":"p/c","Output":"?   \tp/c\t[no test files]\n"}`,
		`{"Action":"output","Package":"p/d","Output":"PASS\n"}`,
		`{"Action":"output","Package":"p/d","Output":"ok  \tp/d\t0.2s\n"}`,
		`go: something else`,
	}, "\n") + "\n"
	var out strings.Builder
	skipped, failed, err := read(strings.NewReader(in), &out)
	if err != nil || !failed {
		t.Errorf("failed is %v, %v", failed, err)
	}
	want := "b.go:1: undefined\n    a_test.go:8: wrong\nFAIL\tp/a\t0.1s\nok  \tp/d\t0.2s\ngo: " +
		"something else\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("npm is absent\n  p/a TestOne\n  p/a TestTwo\n", skipped); d != "" {
		t.Error(d)
	}
}

// A process that a timeout or a panic ends leaves tests without an end. What they said is all that
// tells why.
func TestTestlogPrintsTestsThatNeverEnded(t *testing.T) {
	in := `{"Action":"output","Package":"p/a","Test":"TestHung","Output":"panic: timed out\n"}` + "\n" +
		`{"Action":"output","Package":"p/a","Output":"FAIL\tp/a\t60s\n"}` + "\n" +
		`{"Action":"fail","Package":"p/a"}` + "\n"
	var out strings.Builder
	if _, failed, err := read(strings.NewReader(in), &out); err != nil || !failed {
		t.Errorf("failed is %v, %v", failed, err)
	}
	if d := cmp.Diff("FAIL\tp/a\t60s\npanic: timed out\n", out.String()); d != "" {
		t.Error(d)
	}
}

func TestTestlogTakesAGoodRun(t *testing.T) {
	var out strings.Builder
	skipped, failed, err := read(strings.NewReader(`{"Action":"pass","Package":"p"}`), &out)
	if skipped != "" || failed || err != nil || out.String() != "" {
		t.Errorf("%q, %v, %v, %q", skipped, failed, err, out.String())
	}
}
