package grafana_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"ehi-server/deploy/grafana"
	"ehi-server/shared/golden"
	"ehi-server/shared/telemetry"
)

// The files from which Grafana is provisioned match the dashboards in this package.
func TestRenderedDashboardsAreUpToDate(t *testing.T) {
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(grafana.Boards()) {
		t.Errorf("%d files, %d dashboards", len(files), len(grafana.Boards()))
	}
	for _, b := range grafana.Boards() {
		want, err := b.Render()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("dashboards", b.ID+".json")
		golden.Check(t, path, string(want))
		if wrong := againstSchema(want); wrong != "" {
			t.Errorf("%s: %s", path, wrong)
		}
		if againstSchema(
			[]byte(strings.Replace(string(want), `"graphTooltip"`, `"graphTooltips"`, 1))) == "" {
			t.Errorf("%s: the schema knows a field that there is not", path)
		}
	}
}

// againstSchema returns how a dashboard deviates from Grafana's schema, as defined by its SDK:
// unknown and missing fields.
func againstSchema(data []byte) string {
	//lint:ignore SA1019 see Render
	var d dashboard.Dashboard
	// The SDK's errors are lists of their own type: an empty one is not nil.
	if err := d.UnmarshalJSONStrict(data); err != nil && err.Error() != "" {
		return err.Error()
	}
	if err := d.Validate(); err != nil {
		return err.Error()
	}
	return ""
}

// Every panel asks a question, says how to read the answer and in which unit, and uses existing
// metrics of the chosen instances.
func TestPanelsAreWellFormed(t *testing.T) {
	known := map[string]bool{}
	for _, d := range telemetry.Definitions() {
		known[d.Name] = true
	}
	shown := map[string]bool{}
	for _, b := range grafana.Boards() {
		for _, p := range b.Panels {
			if !strings.HasSuffix(p.Title, "?") || len(p.About) < 10 || p.Unit == "" ||
				len(p.Queries) == 0 {
				t.Errorf("%s: %+v", b.ID, p)
			}
			for _, q := range p.Queries {
				if !strings.Contains(q.Expr, `instance=~"$instance"`) &&
					!strings.Contains(q.Expr, `run=~"$run"`) || q.Legend == "" {
					t.Errorf("%s, %s: %+v", b.ID, p.Title, q)
				}
				for _, name := range regexp.MustCompile(`\behi_\w+`).FindAllString(q.Expr, -1) {
					name = strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum")
					if !known[name] {
						t.Errorf("%s, %s: nobody tells %s", b.ID, p.Title, name)
					}
					shown[name] = true
				}
			}
		}
	}
	for _, unshown := range []string{"ehi_build_info", "ehi_load_run_start_timestamp_seconds"} {
		shown[unshown] = true // the variables and marks use them
	}
	for name := range known {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}
