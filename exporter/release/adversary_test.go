package release_test

import (
	"errors"
	"flag"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ehi-server/exporter/release"
	"ehi-server/exporter/release/adversarial"
	"ehi-server/shared/ehi"
)

var (
	adversaryRecords = flag.Int("adversary.records", 1000,
		"how many adversarial records are made and released")
	adversaryJudge = flag.String("adversary.judge", "both",
		"who looks at what left: oracle, judge or both")
)

// EHI-9: for any record, no marker of a withheld resource leaves, and nothing that must be
// released is missing: neither a resource, nor a Reference to one, nor an entry that describes
// it.
func TestEHI9NoMarkerOfTheWithheldLeavesAnAdversarialRecord(t *testing.T) {
	records, lines, markers, found := 0, 0, 0, 0
	t.Cleanup(func() {
		if found > 0 {
			t.Logf("found after %d records", found)
		}
	})
	// Run everything in one check: with a given seed, another check would draw the same records
	// again.
	checks := flag.Lookup("rapid.checks").Value
	before := checks.String()
	t.Cleanup(func() { _ = checks.Set(before) }) // it was its value
	if err := checks.Set(strconv.Itoa(*adversaryRecords)); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		record := adversarial.Draw(t, adversarial.Options{})
		choices := adversarial.DrawChoices(t)
		decision := record.Decide(choices)
		out := adversaryReview(t, choices.Form(), rapid.Bool().Draw(t, "resolved"), record.Others(),
			record.Lines())
		records++
		if err := judged(record, decision, choices, out); err != nil {
			if found == 0 {
				found = records
			}
			t.Fatalf("%v\nof\n%s\nby %+v left\n%s", err, strings.Join(record.Lines(), "\n"),
				choices, strings.Join(out, "\n"))
		}
		lines, markers = lines+len(record.Resources), markers+len(decision.Markers())
	})
	if t.Failed() {
		return
	}
	t.Logf("%d records, %d resources, %d markers: none leaked, nothing missing", records, lines,
		markers)
}

// judged asks the oracle, which knows what may and what must be released, and the judge, which
// knows what must never leave.
func judged(
	r *adversarial.Record, d *adversarial.Decision, c adversarial.Choices, out []string,
) (err error) {
	if *adversaryJudge != "judge" {
		err = d.Check(out)
	}
	if *adversaryJudge != "oracle" {
		err = errors.Join(err, r.Judge(c, out))
	}
	return err
}

func adversaryReview(
	t *rapid.T, f *ehi.ReleaseForm, resolved bool, beside []adversarial.Other, lines []string,
) []string {
	rules, err := shippedRules()
	if err != nil {
		t.Fatal(err)
	}
	p, err := rules.Policy(f, ehi.KickOff{})
	if err != nil {
		t.Fatal(err)
	}
	var others []release.Other
	for _, o := range beside {
		others = append(others, release.Other(o))
	}
	r := release.DecidedLooking(t, p, resolved, len(lines)%2 == 0, others, lines...)
	out, x := make([]string, len(lines)), r.Releaser()
	for i, l := range lines {
		line, ok, err := x.Release([]byte(l))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			out[i] = string(line)
		}
	}
	return out
}
