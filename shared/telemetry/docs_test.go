package telemetry_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/shared/golden"
	"ehi-server/shared/telemetry"
)

// docs/metrics.md lists exactly the metrics that there are.
func TestTheDocumentedMetricsAreThoseThatThereAre(t *testing.T) {
	var want strings.Builder
	want.WriteString("# Metrics\n\nWhat `GET /metrics` tells, of the server and of a stand-alone " +
		"exporter (`--metrics-addr`), besides the Go runtime's (`go_*`) and the process's " +
		"(`process_*`). Histograms have classic buckets, and native ones\nwhere Prometheus asks " +
		"for them. `go test ./shared/telemetry -update` writes this table.\n\n| metric | type | " +
		"labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, d := range telemetry.Definitions() {
		labels := "`" + strings.Join(d.Labels, "`, `") + "`"
		if len(d.Labels) == 0 {
			labels = ""
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", d.Name, d.Type, labels, d.Help)
	}
	golden.Check(t, "../../docs/metrics.md", want.String())
}

// Names follow Prometheus' conventions.
func TestNamesFollowTheConventions(t *testing.T) {
	for _, d := range telemetry.Definitions() {
		if !strings.HasPrefix(d.Name, "ehi_") ||
			(d.Type == "counter") != strings.HasSuffix(d.Name, "_total") ||
			d.Type == "histogram" && !strings.HasSuffix(d.Name, "_seconds") {
			t.Errorf("%s is a %s", d.Name, d.Type)
		}
		if !strings.HasSuffix(d.Help, ".") {
			t.Errorf("%s: the help is no sentence: %s", d.Name, d.Help)
		}
	}
}
