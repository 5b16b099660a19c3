package release

import (
	"encoding/binary"
	"slices"

	"ehi-server/exporter/native"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// nativeGroup stands for documents and rows that every form treats alike.
type nativeGroup struct {
	nativeKey
	nodes   []int32 // of the resources that they belong to
	counted int64
}

type nativeKey struct {
	line        ehi.Category // "" for what is always released
	needs       authorizations
	first, last int32 // as those of a node
	excluded    bool  // not requested by the application, or never released
	kind        native.Kind
	nodes       string
}

// NativeFacts finds out what decisions about native content depend on, by the same rules as
// Native. Until Count, its methods are about one document or row, and withhold nothing.
type NativeFacts struct {
	Native
	of     *Summarizer
	seek   func(typ, id string, visit func(line []byte) error) error
	groups map[nativeKey]int32
	sought map[string]outsider
	failed error // of seek

	line     ehi.Category
	happened *fhir.Span
	nodes    []int32
	never    bool // it belongs to something of another patient
	key      []byte
}

// outsider is what decides about native content that belongs to a resource outside the record.
type outsider struct {
	needs    authorizations
	anothers bool
}

// mostOutsiders is how many resources outside the record are remembered.
const mostOutsiders = 1 << 14

// Native returns the facts about native content, after Conclude. seek visits the resources of the
// store with a name that are not in the record (source.Record.Beside).
func (s *Summarizer) Native(
	seek func(typ, id string, visit func(line []byte) error) error,
) *NativeFacts {
	return &NativeFacts{
		Native: Native{policy: s.asked}, of: s, seek: seek,
		groups: map[nativeKey]int32{}, sought: map[string]outsider{},
	}
}

// Line notes the line of the form.
func (n *NativeFacts) Line(key ehi.Category, happened *fhir.Span) (reason string) {
	n.line, n.happened = key, happened
	return ""
}

// Resource notes the resources that a text may name, see Native.Resource.
func (n *NativeFacts) Resource(typ string, text []byte) (reason string) {
	spelled([]byte(typ), text, n.belongs)
	if isDisguised(text) {
		spelled([]byte(typ), revealed(text), n.belongs)
	}
	return ""
}

func (n *NativeFacts) belongs(of, word []byte) {
	add := func(id []byte) {
		if at, known := n.of.index.find(of, id); known {
			n.nodes = append(n.nodes, at)
		}
	}
	if len(word) == 0 {
		return
	}
	add(word)
	for _, as := range otherCases(word) {
		add(as)
	}
}

// Named notes the names in a text that lead out of the record. It does not call visit.
func (n *NativeFacts) Named(typ string, text []byte, _ func(typ string, name []byte)) {
	n.Native.Named(typ, text, func(of string, name []byte) {
		if of == "" || n.failed != nil {
			return
		}
		if _, known := n.of.index.find([]byte(of), name); known {
			return
		}
		o, err := n.outside(of, string(name))
		n.failed = err
		n.needed |= o.needs
		n.never = n.never || o.anothers
	})
}

// outside decides about a resource outside the record as Native.Beside does.
func (n *NativeFacts) outside(typ, id string) (o outsider, err error) {
	o, known := n.sought[typ+"/"+id]
	if known {
		return o, nil
	}
	err = n.seek(typ, id, func(line []byte) error {
		f, err := n.of.examine.examine(line)
		if err != nil {
			return err
		}
		o.anothers = o.anothers ||
			f.number == patientNumber || len(fhir.CompartmentPaths(string(f.typ))) > 0
		o.needs |= f.sensitive
		return nil
	})
	if err == nil && len(n.sought) < mostOutsiders {
		n.sought[typ+"/"+id] = o
	}
	return o, err
}

// Count adds the document or row that the calls since the last Count were about, many times.
// Errors: ErrTooVaried; those of seek.
func (n *NativeFacts) Count(times int64, kind native.Kind) error {
	err := n.failed
	if err == nil {
		err = n.count(times, kind)
	}
	n.line, n.happened, n.nodes, n.never, n.needed, n.failed = "", nil, n.nodes[:0], false, 0, nil
	return err
}

func (n *NativeFacts) count(times int64, kind native.Kind) error {
	slices.Sort(n.nodes)
	n.nodes, n.key = slices.Compact(n.nodes), n.key[:0]
	for _, at := range n.nodes {
		n.key = binary.AppendVarint(n.key, int64(at))
	}
	key := nativeKey{
		line: n.line, needs: n.needed, first: notDated, kind: kind, nodes: string(n.key),
		excluded: n.never || n.line != "" && n.Native.Line(n.line, n.happened) != "",
	}
	if n.happened != nil {
		key.first, key.last = days(*n.happened)
	}
	at, known := n.groups[key]
	if !known {
		groups := &n.of.out.native
		if len(*groups) == maxNodes {
			return ErrTooVaried
		}
		at = int32(len(*groups))
		*groups = append(*groups, nativeGroup{nativeKey: key, nodes: slices.Clone(n.nodes)})
		n.groups[key] = at
	}
	n.of.out.native[at].counted += times
	return nil
}

// countNative adds native content to the counts, after decide.
func (d *decision) countNative(out *Counts) {
	goes := make([]bool, len(d.summary.native))
	doubts := d.doubts()
	for i := range goes {
		g := &d.summary.native[i]
		goes[i] = d.native(g)
		doubts.rows = doubts.rows || !goes[i] || g.kind.Waits
	}
	for i := range goes {
		d.countGroup(out, &d.summary.native[i], goes[i], doubts)
	}
}

func (d *decision) countGroup(out *Counts, g *nativeGroup, goes bool, doubts doubts) {
	out.Unread = out.Unread || g.kind.Unread || g.kind.Looks
	if g.kind.Waits && goes {
		out.Waiting += g.counted
	}
	t := Tally{Stored: g.counted}
	if goes && !g.kind.Waits {
		t.Released, t.AtMost = g.counted, doubts.about(g.kind)
	}
	f := facts{sensitive: g.needs, happened: d.spanOf(g)}
	if !g.kind.Waits {
		if !g.excluded && d.form.undated(g.line, &f) {
			t.Undated = g.counted
		}
		out.All.join(t)
		joinIn(out.Categories, g.line, t)
	}
	for _, a := range g.needs.list() {
		joinIn(out.Authorizations, a, t)
	}
}

// join adds another tally.
func (t *Tally) join(other Tally) {
	t.Stored += other.Stored
	t.Released += other.Released
	t.Undated += other.Undated
	t.AtMost = t.AtMost || other.AtMost
}

func joinIn[K comparable](in map[K]Tally, key K, t Tally) {
	sum := in[key]
	sum.join(t)
	in[key] = sum
}

// spanOf returns when native content happened, with nothing if it is unknown; valid until the next
// call.
func (d *decision) spanOf(g *nativeGroup) fhir.Spans {
	if g.first == notDated {
		return nil
	}
	d.span[0] = daysSpan(g.first, g.last)
	return d.span[:]
}

// native reports whether native content is released.
func (d *decision) native(g *nativeGroup) bool {
	if g.excluded || g.needs&^d.form.authorised != 0 ||
		slices.ContainsFunc(g.nodes, func(at int32) bool { return d.verdicts[at].withheld() }) {
		return false
	}
	return g.line == "" || d.form.allows(g.line, &facts{happened: d.spanOf(g)})
}

// doubts are reasons why native content may stay that is counted as released.
type doubts struct {
	resources bool // some are withheld: it may mention them
	rows      bool // some stay or wait: it may refer to them
	codes     bool // some need an authorization that is not given: it may refer to them
}

// doubts returns those that do not depend on native content.
func (d *decision) doubts() (out doubts) {
	out.resources = slices.ContainsFunc(d.verdicts, verdict.withheld)
	for _, bit := range authorizationBits {
		out.codes = out.codes || d.form.authorised&bit == 0
	}
	return out
}

func (d *doubts) about(k native.Kind) bool {
	return k.Unread || d.resources || k.Looks && d.codes || k.Refers && (d.rows || d.codes)
}
