// Command testlog reads the output of go test -json and prints what a person wants to see: a
// line for each package, the complete output of failed tests, and the number of passed ones. It
// writes the skipped tests and their reasons to a given file, so that a run can end with them.
// It exits with status 1 if a test failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ... | testlog FILE")
		os.Exit(2)
	}
	skipped, failed, err := read(os.Stdin, os.Stdout)
	if err == nil {
		err = os.WriteFile(os.Args[1], []byte(skipped), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

// event is a line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

// read prints what matters and returns the skipped tests, grouped by reason.
func read(r io.Reader, w io.Writer) (skipped string, failed bool, err error) {
	said := map[[2]string]*strings.Builder{} // by package and test, until the test ends
	reasons := map[string][]string{}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 {
			if err == io.EOF { // a test that has no end says where its process ended
				return grouped(reasons), failed, unfinished(w, said)
			}
			return "", failed, err
		}
		var e event
		if json.Unmarshal(line, &e) != nil { // output of go itself
			if _, err := w.Write(line); err != nil {
				return "", failed, err
			}
			continue
		}
		if err := e.handle(w, said, reasons); err != nil {
			return "", failed, err
		}
		failed = failed || e.Action == "fail" || e.Action == "build-fail"
	}
}

// unfinished passes on what tests said that never ended: a timeout or a panic in one of them.
func unfinished(w io.Writer, said map[[2]string]*strings.Builder) error {
	byName := func(a, b [2]string) int { return strings.Compare(a[0]+" "+a[1], b[0]+" "+b[1]) }
	for _, key := range slices.SortedFunc(maps.Keys(said), byName) {
		if _, err := io.WriteString(w, said[key].String()); err != nil {
			return err
		}
	}
	return nil
}

// handle collects a test's output until the test ends.
func (e event) handle(
	w io.Writer, said map[[2]string]*strings.Builder, reasons map[string][]string,
) error {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		_, err := io.WriteString(w, e.Output)
		return err
	case "output":
		if e.Test == "" {
			return e.ofPackage(w)
		}
		if said[key] == nil {
			said[key] = &strings.Builder{}
		}
		said[key].WriteString(e.Output)
	case "fail", "skip", "pass":
		out := said[key]
		delete(said, key)
		if out == nil || e.Action == "pass" {
			return nil
		}
		if e.Action == "skip" {
			why := reason(out.String())
			reasons[why] = append(reasons[why], e.Package+" "+e.Test)
			return nil
		}
		_, err := io.WriteString(w, out.String())
		return err
	}
	return nil
}

// ofPackage prints output that belongs to no single test: a result, a panic, a race. It prints
// nothing for packages without tests.
func (e event) ofPackage(w io.Writer) error {
	if e.Output == "PASS\n" || strings.HasPrefix(e.Output, "?") {
		return nil
	}
	_, err := io.WriteString(w, e.Output)
	return err
}

var place = regexp.MustCompile(`^\S+_test\.go:\d+: `)

// reason returns the output of a skipped test on one line.
func reason(said string) string {
	var why []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			why = append(why, place.ReplaceAllString(line, ""))
		}
	}
	if len(why) == 0 {
		return "no reason"
	}
	return strings.Join(why, " ")
}

// grouped lists reasons with their tests.
func grouped(reasons map[string][]string) string {
	var out strings.Builder
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(&out, "%.300s\n", why)
		slices.Sort(reasons[why])
		for _, test := range reasons[why] {
			fmt.Fprintf(&out, "  %s\n", test)
		}
	}
	return out.String()
}
