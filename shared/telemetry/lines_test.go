package telemetry

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A log that nobody reads holds nobody up: what is too much is dropped and counted, and what was
// kept comes in order and in whole lines as soon as somebody reads.
func TestALogThatNobodyReadsHoldsNobodyUp(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before := testutil.ToFloat64(LogDropped)
	l := newLines(w)
	const written = 30_000
	for n := range written {
		fmt.Fprintf(l, "line %d %s\n", n, strings.Repeat("x", 100))
	}
	if l.Flush(time.Millisecond) {
		t.Error("all of it is written, and nobody reads")
	}
	dropped := int(testutil.ToFloat64(LogDropped) - before)
	if dropped == 0 || dropped == written {
		t.Fatalf("%d of %d lines were dropped", dropped, written)
	}
	read := bufio.NewScanner(r)
	for n := range written - dropped {
		want := fmt.Sprintf("line %d %s", n, strings.Repeat("x", 100))
		if !read.Scan() || read.Text() != want {
			t.Fatalf("line %d is %.40q, %v", n, read.Text(), read.Err())
		}
	}
	if !l.Flush(10 * time.Second) {
		t.Error("not all is written")
	}
	fmt.Fprintln(l, "further")
	if !read.Scan() || read.Text() != "further" {
		t.Errorf("what came later: %q", read.Text())
	}
	l.Flush(10 * time.Second)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
