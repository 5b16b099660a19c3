// Package grafana defines the dashboards for the server's metrics. They are written here and
// rendered to dashboards/*.json, from which Grafana is provisioned. `go test ./deploy/grafana
// -update` renders them again.
package grafana

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// Board is one dashboard.
type Board struct {
	// ID is the dashboard's uid and its file's name.
	ID, Title, About string
	Panels           []Panel
	// Runs marks the beginnings of runs of the load generator.
	Runs bool
}

// Panel is one question and the queries that answer it.
type Panel struct {
	// Title is the question. About says how to read the answer, and how to react.
	Title, About string
	// Unit is one of Grafana's units: s, ops, Bps, bytes, short, percentunit.
	Unit    string
	Queries []Query
	// Warn and Bad are the values from which the answer is yellow and red; 0 for none.
	Warn, Bad float64
	// Stacked stacks the answers to the queries.
	Stacked bool
}

// Query is one PromQL expression. $instance, $lane, $type and $run stand for the viewer's
// choice. Idle means that a server under ordinary load has no data for it.
type Query struct {
	Expr, Legend string
	Idle         bool
}

// Render returns the dashboard as Grafana's JSON.
func (b Board) Render() ([]byte, error) {
	//lint:ignore SA1019 the newer schema is taken by the newest Grafana only, this one by every one that is provisioned with files
	d := dashboard.NewDashboardBuilder(b.Title).Uid(b.ID).Description(b.About).Tags([]string{
		"ehi",
	}).Refresh("10s").Time("now-30m", "now").
		Timezone(common.TimeZoneBrowser).Readonly().Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").
			Type("prometheus")).
		Link(dashboard.NewDashboardLinkBuilder("EHI").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{"ehi"}).AsDropdown(true).KeepTime(true).IncludeVars(true))
	for _, v := range variables {
		if b.uses(v.name) {
			d.WithVariable(dashboard.NewQueryVariableBuilder(v.name).Label(v.label).
				Datasource(source()).Multi(true).IncludeAll(true).AllValue(".+").
				Query(dashboard.StringOrMap{
					String: cog.ToPtr(v.values),
				}).Refresh(dashboard.VariableRefreshOnTimeRangeChanged))
		}
	}
	if b.Runs {
		d.Annotation(dashboard.NewAnnotationQueryBuilder().Name("Runs").Datasource(source()).
			Enable(true).IconColor("purple").
			Expr(`ehi_load_run_start_timestamp_seconds{run=~"$run"} * 1000`).UseValueForTime(true).
			TitleFormat("{{run}}").TextFormat(
			"{{url}}, {{mix}}, concurrency {{concurrency}}, rate {{rate}}"))
	}
	for _, p := range b.Panels {
		d.WithPanel(p.build())
	}
	built, err := d.Build()
	if err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", b.ID, err)
	}
	data, err := json.MarshalIndent(built, "", "  ")
	return append(data, '\n'), err
}

// variables are the viewer's choices. A dashboard has those that its queries use.
var variables = []struct{ name, label, values string }{
	{"instance", "Instance", "label_values(ehi_build_info, instance)"},
	{"lane", "Lane", "label_values(ehi_queue_pending, lane)"},
	{"type", "Resource type", "label_values(ehi_pipeline_bytes_total, type)"},
	{"run", "Run", "label_values(ehi_load_run_start_timestamp_seconds, run)"},
}

func (b Board) uses(variable string) bool {
	for _, p := range b.Panels {
		for _, q := range p.Queries {
			if strings.Contains(q.Expr, `"$`+variable+`"`) {
				return true
			}
		}
	}
	return false
}

// source returns the data source that the viewer chose.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("$datasource")}
}

func (p Panel) build() *timeseries.PanelBuilder {
	t := timeseries.NewPanelBuilder().Title(p.Title).Description(p.About).Unit(p.Unit).Min(0).
		Height(8).Span(12).Datasource(source()).
		LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeTable).
			Placement(common.LegendPlacementBottom).ShowLegend(true).Calcs([]string{
			"lastNotNull", "max",
		})).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(
			common.SortOrderDescending)).
		Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(
			dashboard.ThresholdsModeAbsolute).Steps(p.steps()))
	if p.Warn > 0 || p.Bad > 0 {
		t.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(
			common.GraphThresholdsStyleModeDashed))
	}
	if p.Stacked {
		t.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
	}
	for _, q := range p.Queries {
		t.WithTarget(prometheus.NewDataqueryBuilder().Expr(q.Expr).LegendFormat(q.Legend))
	}
	return t
}

func (p Panel) steps() []dashboard.Threshold {
	steps := []dashboard.Threshold{{Color: "green"}}
	if p.Warn > 0 {
		steps = append(steps, dashboard.Threshold{Color: "yellow", Value: cog.ToPtr(p.Warn)})
	}
	if p.Bad > 0 {
		steps = append(steps, dashboard.Threshold{Color: "red", Value: cog.ToPtr(p.Bad)})
	}
	return steps
}
