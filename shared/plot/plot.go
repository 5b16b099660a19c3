// Package plot draws line charts as SVG within an HTML page, without scripts or external
// resources. The page's template includes the definitions of Template and calls {{template
// "plot" .}} with a Plot. Its style sheet includes {{template "plot style"}}.
package plot

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Plot is a line chart.
type Plot struct {
	Title  string
	X, Y   Axis
	Series []Series
}

// Axis is one axis of a chart.
type Axis struct {
	Label string
	Scale Scale
	// Format formats the value of a tick; nil means a plain number.
	Format func(float64) string
}

// Scale is the scale of an axis.
type Scale int

const (
	Linear Scale = iota
	Logarithmic
	Nines // for percentages: the logarithm of the distance to 100
	Time  // seconds since the epoch: linear, not starting at zero
)

// Series is a line through points. A point whose y is NaN interrupts it.
type Series struct {
	Name   string
	Points [][2]float64
}

//go:embed plot.html
var text string

// Template defines "plot" and "plot style".
var Template = template.Must(template.New("").Parse(text))

// Size of the drawing, and the margins for labels.
const (
	plotWidth, plotHeight = 860, 300
	plotLeft, plotBottom  = 70, 40
	plotTop, plotRight    = 12, 28
)

// Colour returns the colour of line i. The colours are distinguishable for colour-blind people
// (Okabe and Ito).
func (Plot) Colour(i int) string {
	return []string{
		"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f",
	}[i%7]
}

// along maps a value to its scale.
func (s Scale) along(v float64) float64 {
	switch s {
	case Logarithmic:
		return math.Log10(max(v, 0.001))
	case Nines:
		return -math.Log10(1 - min(v, 99.995)/100)
	}
	return v
}

// ends returns the smallest and the largest coordinate of all points, on the axis' scale.
func (p Plot) ends(coordinate int, s Scale) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, line := range p.Series {
		for _, at := range line.Points {
			if math.IsNaN(at[1]) {
				continue
			}
			v := s.along(at[coordinate])
			low, high = min(low, v), max(high, v)
		}
	}
	switch {
	case low > high:
		return 0, 1
	case s == Linear:
		low = min(low, 0)
	case s == Logarithmic:
		low, high = math.Floor(low), math.Ceil(high)
	}
	if high == low {
		high = low + 1
	}
	return low, high
}

// xs returns the mapping from values to x coordinates.
func (p Plot) xs() func(v float64) float64 {
	low, high := p.ends(0, p.X.Scale)
	return func(v float64) float64 {
		return plotLeft + (p.X.Scale.along(v)-low)/(high-low)*(plotWidth-plotLeft-plotRight)
	}
}

func (p Plot) ys() func(v float64) float64 {
	low, high := p.ends(1, p.Y.Scale)
	return func(v float64) float64 {
		return plotHeight - plotBottom -
			(p.Y.Scale.along(v)-low)/(high-low)*(plotHeight-plotBottom-plotTop)
	}
}

// Paths returns the points of a line as polylines, one for each uninterrupted part.
func (p Plot) Paths(s Series) (parts []string) {
	var b strings.Builder
	x, y := p.xs(), p.ys()
	for _, at := range s.Points {
		if !math.IsNaN(at[1]) {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(at[0]), y(at[1]))
		} else if b.Len() > 0 {
			parts = append(parts, b.String())
			b.Reset()
		}
	}
	if b.Len() > 0 {
		parts = append(parts, b.String())
	}
	return parts
}

// timeSteps are the possible intervals between two ticks of time, in seconds.
var timeSteps = []float64{
	1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 7 * 86400,
}

// tick is a labelled position on an axis.
type tick struct {
	At    float64
	Label string
}

// XTicks returns the ticks of the x axis.
func (p Plot) XTicks() []tick { return p.X.place(p.ticks(0, p.X.Scale), p.xs()) }

// YTicks returns the ticks of the y axis.
func (p Plot) YTicks() []tick { return p.Y.place(p.ticks(1, p.Y.Scale), p.ys()) }

func (a Axis) place(values []float64, at func(float64) float64) (out []tick) {
	format := a.Format
	if format == nil {
		format = func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 32) }
	}
	for _, v := range values {
		out = append(out, tick{at(v), format(v)})
	}
	return out
}

func (p Plot) ticks(coordinate int, s Scale) (out []float64) {
	low, high := p.ends(coordinate, s)
	switch s {
	case Time:
		step := timeSteps[len(timeSteps)-1]
		i := slices.IndexFunc(timeSteps, func(step float64) bool { return (high-low)/step <= 6 })
		if i >= 0 {
			step = timeSteps[i]
		}
		for v := math.Ceil(low/step) * step; v <= high; v += step {
			out = append(out, v)
		}
		return out
	case Nines:
		return []float64{10, 50, 90, 99, 99.9, 99.99}
	case Logarithmic:
		for e := low; e <= high; e++ {
			out = append(out, math.Pow(10, e))
		}
		return out
	}
	step := math.Pow(10, math.Floor(math.Log10(high-low)))
	for _, finer := range []float64{2, 2.5} {
		if (high-low)/step < 5 {
			step /= finer
		}
	}
	for v := math.Ceil(low/step) * step; v <= high+step/1000; v += step {
		out = append(out, v)
	}
	return out
}
