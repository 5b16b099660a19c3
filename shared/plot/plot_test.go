package plot_test

import (
	"math"
	"strings"
	"testing"

	"ehi-server/shared/plot"
)

// A line is broken where its points are, and lies within the drawing on every scale.
func TestLinesAreDrawnWithinTheDiagram(t *testing.T) {
	line := plot.Series{
		Name:   "<a>",
		Points: [][2]float64{{10, 1}, {20, 100}, {0, math.NaN()}, {80, 50}, {90, 99}},
	}
	for _, x := range []plot.Scale{plot.Linear, plot.Nines, plot.Time} {
		for _, y := range []plot.Scale{plot.Linear, plot.Logarithmic} {
			var page strings.Builder
			p := plot.Plot{
				Title:  "T",
				X:      plot.Axis{Scale: x},
				Y:      plot.Axis{Scale: y, Format: func(float64) string { return "tick" }},
				Series: []plot.Series{line},
			}
			if err := plot.Template.ExecuteTemplate(&page, "plot", p); err != nil {
				t.Fatal(err)
			}
			n := strings.Count(page.String(), "<polyline")
			if n != 2 || !strings.Contains(page.String(), "&lt;a&gt;") ||
				!strings.Contains(page.String(), ">tick<") {
				t.Errorf("scales %d and %d draw %d lines: %s", x, y, n, page.String())
			}
			if strings.Contains(page.String(), "NaN") || strings.Contains(page.String(), "-1.") {
				t.Errorf("scales %d and %d leave the diagram: %s", x, y, page.String())
			}
		}
	}
}

// A diagram without points is an empty one.
func TestADiagramWithoutPointsIsEmpty(t *testing.T) {
	p := plot.Plot{Series: []plot.Series{{Name: "none"}}}
	if got := p.Paths(p.Series[0]); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if len(p.YTicks()) == 0 {
		t.Error("the axis has no ticks")
	}
}
