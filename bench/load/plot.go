package main

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// plot is a diagram of lines. The page draws it as SVG, so that it needs no script and nothing from elsewhere.
type plot struct {
	Title  string
	X, Y   axis
	Series []series
}

type axis struct {
	Label string
	Scale scale
}

// scale is how values lie along an axis.
type scale int

const (
	linear scale = iota
	logarithmic
	nines // percent: the logarithm of what is left to 100
)

type series struct {
	Name   string
	Points [][2]float64
}

// Size of the drawing, and the room around the lines for labels.
const (
	plotWidth, plotHeight = 860, 300
	plotLeft, plotBottom  = 70, 40
	plotTop, plotRight    = 12, 28
)

// Colour is that of line i: distinguishable also without red and green (Okabe and Ito).
func (plot) Colour(i int) template.CSS {
	return template.CSS([]string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f"}[i%7])
}

// along puts a value on its scale.
func (s scale) along(v float64) float64 {
	switch s {
	case logarithmic:
		return math.Log10(max(v, 0.001))
	case nines:
		return -math.Log10(1 - min(v, 99.995)/100)
	}
	return v
}

// ends are the least and the greatest of all points, on the axis' scale.
func (p plot) ends(coordinate int, s scale) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, line := range p.Series {
		for _, at := range line.Points {
			v := s.along(at[coordinate])
			low, high = min(low, v), max(high, v)
		}
	}
	switch {
	case low > high:
		return 0, 1
	case s == linear:
		low = min(low, 0)
	case s == logarithmic:
		low, high = math.Floor(low), math.Ceil(high)
	}
	if high == low {
		high = low + 1
	}
	return low, high
}

// xs puts values where they are drawn.
func (p plot) xs() func(v float64) float64 {
	low, high := p.ends(0, p.X.Scale)
	return func(v float64) float64 {
		return plotLeft + (p.X.Scale.along(v)-low)/(high-low)*(plotWidth-plotLeft-plotRight)
	}
}

func (p plot) ys() func(v float64) float64 {
	low, high := p.ends(1, p.Y.Scale)
	return func(v float64) float64 {
		return plotHeight - plotBottom - (p.Y.Scale.along(v)-low)/(high-low)*(plotHeight-plotBottom-plotTop)
	}
}

// Path is a line's points for a polyline.
func (p plot) Path(s series) string {
	var b strings.Builder
	x, y := p.xs(), p.ys()
	for _, at := range s.Points {
		fmt.Fprintf(&b, "%.1f,%.1f ", x(at[0]), y(at[1]))
	}
	return b.String()
}

// tick is a labelled place on an axis.
type tick struct {
	At    float64
	Label string
}

// XTicks are the labels below.
func (p plot) XTicks() []tick { return place(p.ticks(0, p.X.Scale), p.xs()) }

// YTicks are the labels at the left.
func (p plot) YTicks() []tick { return place(p.ticks(1, p.Y.Scale), p.ys()) }

func place(values []float64, at func(float64) float64) (out []tick) {
	for _, v := range values {
		out = append(out, tick{at(v), strconv.FormatFloat(v, 'f', -1, 32)})
	}
	return out
}

func (p plot) ticks(coordinate int, s scale) (out []float64) {
	low, high := p.ends(coordinate, s)
	switch s {
	case nines:
		return []float64{10, 50, 90, 99, 99.9, 99.99}
	case logarithmic:
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
