package dictionary

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Diagram is a drawing of tables and of how they lead to each other. Lengths are in pixels.
type Diagram struct {
	Title string
	// Text says in words what the drawing shows.
	Text          string
	Width, Height int
	Boxes         []Box
	Lines         []Line
	Heads         []Head
}

// Box stands for a table, for the patient, or for several tables.
type Box struct {
	X, Y, Width, Height int
	Name, Note          string // the two lines in it; Note may be ""
	Link                string // "" for none
	Full                string // the whole name, if Name is cut
	Kind                string // lookup, self, patient, more or ""
}

// Line joins boxes.
type Line struct {
	Path string // of SVG
	Way  bool   // whether it leads to the patient
}

// Head is the heading of a part of a drawing.
type Head struct {
	X, Y int
	Text string
}

const (
	diagramWidth = 960
	boxWidth     = 216
	boxHeight    = 30
	noteHeight   = 46 // of a box with a note
	boxGap       = 12
	indent       = 28
	// nameLength and noteLength are how many letters fit into a box.
	nameLength, noteLength = 27, 30
	// mostDrawn is up to how many tables each one is drawn.
	mostDrawn = 400
)

// TextX is where the text of a box begins.
func (b Box) TextX() int { return b.X + 10 }

// TextY is the base line of the name.
func (b Box) TextY() int { return b.Y + 19 }

// NoteY is the base line of the note.
func (b Box) NoteY() int { return b.Y + 36 }

func (b Box) middle() int { return b.Y + b.Height/2 }

func tableBox(t *Table, x, y int) Box {
	box := Box{X: x, Y: y, Width: boxWidth, Height: boxHeight, Link: pageOf(t)}
	if box.Name = shorten(t.Name, nameLength); box.Name != t.Name {
		box.Full = t.Name
	}
	if t.Lookup {
		box.Kind = "lookup"
	}
	return box
}

// pageOf is the path of a table's page.
func pageOf(t *Table) string { return "/docs/ehi/tables/" + t.Name }

// shorten returns at most n letters of a text.
func shorten(text string, n int) string {
	if letters := []rune(text); len(letters) > n {
		return string(letters[:n-1]) + "…"
	}
	return text
}

// Overview draws all tables: a tree by the ways that lead to the patient, and the look-up tables.
func (b *Book) Overview() *Diagram {
	o := overview{children: map[*Table][]*Table{}, whole: len(b.Tables) <= mostDrawn}
	o.Title, o.Width = "Diagram of the tables", diagramWidth
	var shared, astray []*Table
	for _, t := range b.Tables {
		switch {
		case t.Lookup:
			shared = append(shared, t)
		case len(t.Way) == 0:
			astray = append(astray, t)
		default:
			o.children[t.through()] = append(o.children[t.through()], t)
		}
	}
	o.Text = fmt.Sprintf("%d tables. In %d, the rows name the patient. In %d, they lead to the "+
		"patient through other tables. %d are look-up tables. The list of tables says the same "+
		"in words: each table's page has its way to the patient.", len(b.Tables),
		len(o.children[nil]), len(b.Tables)-len(o.children[nil])-len(shared)-len(astray),
		len(shared))
	y := 0
	if len(o.children[nil]) > 0 {
		o.Boxes = append(o.Boxes, Box{
			Width: boxWidth, Height: boxHeight, Name: "Patient", Kind: "patient",
		})
		y = o.below(nil, 0, boxHeight, nil)
	}
	y = o.group("Look-up tables", shared, y)
	o.Height = o.group("Tables that lead to no patient", astray, y)
	return &o.Diagram
}

// through is the next table on the way to the patient; nil if the table names the patient.
func (t *Table) through() *Table {
	for _, step := range t.Way {
		if step.Table != t {
			return step.Table
		}
	}
	return nil
}

// overview is an Overview that is being drawn.
type overview struct {
	Diagram
	children map[*Table][]*Table // by the next table on the way; nil is the patient
	whole    bool                // every table is drawn
}

// below draws the tables that lead through one at x, from y on, and returns where they end. above
// are the tables that lead there.
func (o *overview) below(of *Table, x, y int, above []*Table) int {
	var leaves, inner []*Table
	for _, t := range o.children[of] {
		if len(o.children[t]) > 0 && !slices.Contains(above, t) {
			inner = append(inner, t)
		} else {
			leaves = append(leaves, t)
		}
	}
	trunk, end := x+indent/2, y
	for _, row := range o.rows(leaves, x+indent, y+boxGap) {
		end = row[0].middle()
		o.line(trunk, end, row[len(row)-1].X, end)
		o.Boxes = append(o.Boxes, row...)
		y = row[0].Y + boxHeight
	}
	for _, t := range inner {
		box := tableBox(t, x+indent, y+boxGap)
		end = box.middle()
		o.line(trunk, end, box.X, end)
		o.Boxes = append(o.Boxes, box)
		y = o.below(t, x+indent, box.Y+boxHeight, append(above, of, t))
	}
	if top := o.bottomOf(x); end > top {
		o.line(trunk, top, trunk, end)
	}
	return y
}

// bottomOf is the lower side of the last box that begins at x: the one whose tables were drawn.
func (o *overview) bottomOf(x int) int {
	for _, b := range slices.Backward(o.Boxes) {
		if b.X == x {
			return b.Y + b.Height
		}
	}
	return 0
}

// rows returns the boxes of tables, in rows from x and y on; one box if there are too many tables.
func (o *overview) rows(tables []*Table, x, y int) (out [][]Box) {
	if !o.whole && len(tables) > 1 {
		return [][]Box{{{
			X: x, Y: y, Width: boxWidth, Height: boxHeight, Kind: "more",
			Name: fmt.Sprintf("%d tables", len(tables)),
		}}}
	}
	n := max(1, (diagramWidth-x+boxGap)/(boxWidth+boxGap))
	for row := range slices.Chunk(tables, n) {
		var boxes []Box
		for i, t := range row {
			boxes = append(boxes, tableBox(t, x+i*(boxWidth+boxGap), y))
		}
		out = append(out, boxes)
		o.Width = max(o.Width, boxes[len(boxes)-1].X+boxWidth)
		y += boxHeight + boxGap
	}
	return out
}

// group draws tables under a heading, from y on, and returns where they end.
func (o *overview) group(head string, tables []*Table, y int) int {
	if len(tables) == 0 {
		return y
	}
	if y > 0 {
		y += 3 * boxGap
	}
	o.Heads = append(o.Heads, Head{0, y + boxGap, head})
	y += 2 * boxGap
	for _, row := range o.rows(tables, 0, y) {
		o.Boxes = append(o.Boxes, row...)
		y = row[0].Y + boxHeight
	}
	return y
}

func (o *overview) line(x1, y1, x2, y2 int) {
	o.Lines = append(o.Lines, Line{Path: fmt.Sprintf("M%d %dL%d %d", x1, y1, x2, y2), Way: true})
}

// mostNeighbours is how many tables are drawn on each side of one.
const mostNeighbours = 12

// Neighbours draws a table between those that refer to it, on the left, and those that it refers
// to, on the right; nil if there are none.
func (t *Table) Neighbours() *Diagram {
	from := side(t.From, func(k Key) (*Table, []string) { return k.From, k.Fields })
	to := side(t.To, func(k Key) (*Table, []string) { return k.To, k.Fields })
	if len(from)+len(to) == 0 {
		return nil
	}
	rows := max(len(from), len(to), 1)
	d := &Diagram{
		Title: "Diagram of " + t.Name, Width: diagramWidth,
		Height: rows*(noteHeight+boxGap) - boxGap,
	}
	d.Text = fmt.Sprintf("%d keys of tables refer to %s, which refers to tables by %d keys. "+
		"The lists below name them.", len(t.From), t.Name, len(t.To))
	self := tableBox(t, (diagramWidth-boxWidth)/2, (d.Height-boxHeight)/2)
	self.Link, self.Kind = "", "self"
	for i, b := range from {
		b.place(0, i, len(from), d.Height)
		d.Boxes = append(d.Boxes, b.Box)
		d.curve(b.X+boxWidth, b.middle(), self.X, self.middle(), b.way)
	}
	for i, b := range to {
		b.place(diagramWidth-boxWidth, i, len(to), d.Height)
		d.Boxes = append(d.Boxes, b.Box)
		d.curve(self.X+boxWidth, self.middle(), b.X, b.middle(), b.way)
	}
	d.Boxes = append(d.Boxes, self)
	return d
}

// neighbour is a box at a side of a table.
type neighbour struct {
	Box
	of     *Table
	fields []string
	way    bool // the key leads to the patient
}

func (b *neighbour) place(x, i, of, height int) {
	b.X, b.Height = x, noteHeight
	b.Y = (height-of*(noteHeight+boxGap)+boxGap)/2 + i*(noteHeight+boxGap)
}

// side returns the boxes of the tables at the other end of keys, each once.
func side(keys []Key, other func(Key) (*Table, []string)) (out []*neighbour) {
	for _, k := range keys {
		t, fields := other(k)
		at := slices.IndexFunc(out, func(n *neighbour) bool { return n.of == t })
		if at < 0 {
			at, out = len(out), append(out, &neighbour{of: t, Box: tableBox(t, 0, 0)})
		}
		n := out[at]
		n.fields = append(n.fields, strings.Join(fields, " + "))
		n.way = n.way || len(k.From.Way) > 1 && len(k.Fields) == 1 &&
			k.Fields[0] == k.From.Way[0].Column
	}
	for _, n := range out {
		n.Note = shorten(strings.Join(n.fields, ", "), noteLength)
	}
	slices.SortStableFunc(out, func(a, b *neighbour) int {
		return cmp.Compare(order(a), order(b))
	})
	if more := len(out) - mostNeighbours; more > 1 {
		out = append(out[:mostNeighbours:mostNeighbours], &neighbour{Box: Box{
			Width: boxWidth, Name: fmt.Sprintf("%d more tables", more),
			Note: "see the list below", Kind: "more",
		}})
	}
	return out
}

// order puts what leads to the patient first, and look-up tables last.
func order(n *neighbour) int {
	switch {
	case n.way:
		return 0
	case n.of.Lookup:
		return 2
	}
	return 1
}

func (d *Diagram) curve(x1, y1, x2, y2 int, way bool) {
	middle := (x1 + x2) / 2
	d.Lines = append(d.Lines, Line{
		Path: fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, middle, y1, middle, y2, x2, y2),
		Way:  way,
	})
}
