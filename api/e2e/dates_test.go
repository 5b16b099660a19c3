package e2e

import (
	"testing"
	"time"
)

// within is the oracle of date limits: a Period with both ends overlaps [from, to], each widened
// by its precision.
func within(t *testing.T, period map[string]any, span [2]string) bool {
	t.Helper()
	parse := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	begin, end := parse(period["start"].(string)), parse(period["end"].(string))
	limit := func(s string, last bool) time.Time {
		for layout, width := range map[string][3]int{
			"2006":       {1, 0, 0},
			"2006-01":    {0, 1, 0},
			"2006-01-02": {0, 0, 1},
		} {
			if at, err := time.Parse(layout, s); err == nil {
				if last {
					return at.AddDate(width[0], width[1], width[2]).Add(-time.Nanosecond)
				}
				return at
			}
		}
		return parse(s)
	}
	return (span[0] == "" || !end.Before(limit(span[0], false))) &&
		(span[1] == "" || !begin.After(limit(span[1], true)))
}
