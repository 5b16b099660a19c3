package source_test

import (
	"testing"

	"ehi-server/exporter/source"
)

func TestReportsOfSeveralFilesAddUp(t *testing.T) {
	var sum source.Report
	for _, to := range []string{"a", "b"} {
		r := source.Report{Files: 1, Counts: map[string]int64{"Patient": 2}}
		r.Rename("Patient", source.Renamed{Count: 1, From: "1", To: to})
		sum.Add(r)
	}
	want := (source.Renamed{Count: 2, From: "1", To: "a"})
	if sum.Renamed["Patient"] != want || sum.Resources() != 4 {
		t.Errorf("the sum is %+v", sum)
	}
}
