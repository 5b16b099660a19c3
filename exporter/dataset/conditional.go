package dataset

import (
	"cmp"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// conditional holds what conditional creates and updates with one search brought, for a resource
// without an ID of its own (https://hl7.org/fhir/R4/http.html#ccreate, #cond-update). It is
// stored apart from the resources, because the result depends on the matches of the search,
// which can change with every import:
//
//   - One match: a create changes nothing, an update is a version of the match. References to
//     the entry refer to the match.
//   - No match, or several: it is a resource of its own, with an ID derived from the search.
//
// For a deleted resource, the search matches its last state.
type conditional struct {
	typ, id string // the ID is derived from the search
	conditionalHead
	target string // the ID of the matching resource
	dead   bool   // which was deleted
}

// conditionalHead is the part that is needed of all conditionals at once.
type conditionalHead struct {
	Query       string       `json:"query,omitempty"`
	Create      bool         `json:"create,omitempty"`
	Hints       []string     `json:"hints,omitempty"`
	Identifiers []identifier `json:"identifiers,omitempty"`
	Version     string       `json:"version,omitempty"`
	// Found is the ID of the single match when the conditional arrived, and Over the digest of
	// its state. If nothing else orders them, the conditional is newer than that state.
	Found string `json:"found,omitempty"`
	Over  string `json:"over,omitempty"`
	// Bound is the target after the last settlement; "" if it was deleted, so that it is checked
	// again. Fresh means that the conditional has arrived since.
	Bound string `json:"bound,omitempty"`
	Fresh bool   `json:"fresh,omitempty"`
	// Back means that the resource's own state is its current state again.
	Back bool `json:"back,omitempty"`
}

// searched returns the identifier of the search, which identifies the resource whatever its
// content says.
func (c *conditional) searched() identifier {
	n, _ := parseName(c.Query) // it was one
	return identifier{n.system, n.value}
}

func (c *conditional) version() version { return decodeVersion(c.Version) }

func (h *conditionalHead) encode(v *value) (string, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	return string(v.encode(appendPart(nil, head))), nil
}

// decodeConditional decodes the result of encode. The value shares its bytes.
func decodeConditional(b []byte) (h conditionalHead, v value, err error) {
	head, rest := cutPart(b)
	if err := json.Unmarshal(head, &h); err != nil {
		return h, v, err
	}
	return h, decode(rest), nil
}

// conditions reads the heads of all keys of a kind, in their order.
func conditions(r pebble.Reader, kind byte) (all []*conditional, err error) {
	err = each(r, []byte{kind}, func(k, b []byte) error {
		parts := split(k)
		h, _, err := decodeConditional(b)
		all = append(all, &conditional{
			typ:             string(parts[0]),
			id:              string(parts[1]),
			conditionalHead: h,
		})
		return err
	})
	return all, err
}

// condition stores what a conditional create or update brought; settling decides what becomes of
// it. Errors about the resource itself are errResource.
func (w *writer) condition(query, fullURL string, create bool, p prepared) error {
	if p.err != nil {
		return p.err
	}
	f := &p.facts
	h := conditionalHead{
		Query: query, Create: create, Fresh: true,
		Identifiers: f.identifiers, Version: p.version().encode(),
	}
	if p.hint != "" {
		h.Hints = []string{p.hint}
	}
	if isURN(fullURL) {
		if err := w.set(key(kCalled, f.typ, f.id, fullURL), ""); err != nil {
			return err
		}
	}
	if done, err := w.conditionComes(&h, p); err != nil || done {
		return errors.Join(err, w.restores(f.typ, f.id, p.moved))
	}
	if err := w.cameOver(&h, f.typ); err != nil {
		return err
	}
	if p.stands {
		if err := w.holdsMoved(f.typ, f.id, p.line, p.moved); err != nil {
			return err
		}
	}
	text, err := h.encode(&value{
		at: w.now, copied: p.copied, version: []byte(p.told.encode()), refs: f.refs,
		moved: p.stands, line: p.line,
	})
	return errors.Join(err, w.set(key(kConditional, f.typ, f.id), text))
}

// conditionComes reports whether a deletion or an earlier conditional with the same search is
// newer.
func (w *writer) conditionComes(h *conditionalHead, p prepared) (done bool, err error) {
	f := &p.facts
	deleted, err := w.get(key(kTombstone, f.typ, f.id))
	if err != nil {
		return false, err
	}
	if deleted != nil {
		if c := p.version().compare(decodeVersion(string(deleted))); c < 0 || c == 0 && p.older {
			return true, nil
		}
	}
	k := key(kConditional, f.typ, f.id)
	b, err := w.get(k)
	if err != nil || b == nil {
		return false, err
	}
	before, v, err := decodeConditional(b)
	if err != nil {
		return false, err
	}
	h.Bound = before.Bound
	c := p.version().compare(decodeVersion(before.Version))
	if before.Create != h.Create { // a create does not change the result of an update
		c = 1
		if h.Create {
			c = -1
		}
	}
	if c == 0 && v.says(p.line) {
		if p.hint == "" || slices.Contains(before.Hints, p.hint) {
			return true, nil
		}
		h.Hints = append(before.Hints, p.hint)
		slices.Sort(h.Hints)
	}
	if c < 0 || c == 0 && p.older {
		return true, nil
	}
	return false, w.loosens(&v)
}

// cameOver records the current match if time does not order the two.
func (w *writer) cameOver(h *conditionalHead, typ string) error {
	if !decodeVersion(h.Version).updated.IsZero() {
		return nil
	}
	// the lookup of identifiers needs the batch in the store
	if err := w.flush(pebble.NoSync); err != nil {
		return err
	}
	n, _ := parseName(h.Query) // it was one
	ids, err := w.identified(n)
	if err != nil || len(ids) != 1 {
		return err
	}
	s, err := w.find(typ, ids[0])
	if err != nil || !s.there {
		return err
	}
	h.Found, h.Over = ids[0], stateDigest(s.original())
	return nil
}

func stateDigest(line []byte) string {
	d := digestOf(string(line))
	return hex.EncodeToString(d[:])
}

// removedCondition removes what conditional creates and updates with a search brought, when it
// is deleted.
func (w *writer) removedCondition(typ, id string, v version) error {
	k := key(kConditional, typ, id)
	b, err := w.get(k)
	if err != nil || b == nil {
		return err
	}
	h, state, err := decodeConditional(b)
	if err != nil || !v.untimed && v.compare(decodeVersion(h.Version)) < 0 {
		return err
	}
	c := conditional{typ: typ, id: id, conditionalHead: h}
	return errors.Join(w.loosens(&state), w.delete(k), w.rename(&c, ""))
}

// rename records which resource a search stands for now; "" for none.
func (w *writer) rename(c *conditional, now string) error {
	if c.Bound == now {
		return nil
	}
	i := c.searched()
	err := w.wakeCalled(c.typ, i)
	if c.Bound != "" {
		err = errors.Join(err, w.delete(i.keyOf(kSearch, c.typ, c.Bound)))
	}
	if now != "" {
		err = errors.Join(err, w.set(i.keyOf(kSearch, c.typ, now), ""))
	}
	names, e := below(w.store.db, key(kCalled, c.typ, c.id, ""))
	for _, urn := range names {
		e = errors.Join(e, w.wakeAs(c.typ, parseURN(urn).digest()))
	}
	return errors.Join(err, e)
}

// boundTo returns the ID of the resource that a derived ID stands for. Any other ID stands for
// itself.
func boundTo(r pebble.Reader, typ, id string) (string, error) {
	b, err := get(r, key(kConditional, typ, id))
	if err != nil || b == nil {
		return id, err
	}
	h, _, err := decodeConditional(b)
	return cmp.Or(h.Bound, id), err
}

// unite recomputes the results of all conditional creates and updates from the current matches.
func (w *writer) unite() error {
	all, err := conditions(w.store.db, kConditional)
	if err != nil {
		return err
	}
	own, err := conditions(w.store.db, kOwn)
	if err != nil || len(all)+len(own) == 0 {
		return err
	}
	u := union{
		writer: w,
		all:    all,
		own:    map[target]*conditional{},
		groups: map[target][]*conditional{},
	}
	for _, o := range own {
		u.own[target{o.typ, o.id}] = o
	}
	return errors.Join(u.settle(), w.flush(pebble.NoSync))
}

// union is one run of unite.
type union struct {
	*writer
	all    []*conditional          // sorted by type and id
	own    map[target]*conditional // own states under a conditional update, now or before
	groups map[target][]*conditional
}

func (u *union) settle() error {
	if err := u.aim(); err != nil {
		return err
	}
	changed := map[target]bool{}
	for _, c := range u.all {
		t := target{c.typ, c.target}
		u.groups[t] = append(u.groups[t], c)
		if c.Fresh || c.Bound != c.target {
			changed[t] = true
			changed[target{c.typ, cmp.Or(c.Bound, c.target)}] = true
		}
	}
	for t := range u.own { // one that is back, or whose update went elsewhere or was deleted
		changed[t] = true
	}
	for _, c := range u.all {
		if (c.Fresh || c.Bound != c.target) && c.target != c.id {
			if err := u.hide(c); err != nil {
				return err
			}
		}
	}
	for _, t := range sortedTargets(changed) {
		if err := u.state(t, u.groups[t]); err != nil {
			return err
		}
	}
	for _, c := range u.all {
		if err := u.bind(c); err != nil {
			return err
		}
	}
	return nil
}

func sortedTargets(set map[target]bool) []target {
	list := make([]target, 0, len(set))
	for t := range set {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b target) int {
		return cmp.Or(strings.Compare(a.typ, b.typ), strings.Compare(a.id, b.id))
	})
	return list
}

// aim determines the target of each conditional. It depends only on the resources' own states
// and on the other conditionals.
func (u *union) aim() error {
	made := map[target]*conditional{}
	byIdentifier := map[name][]*conditional{}
	call := func(c *conditional, i identifier) {
		exact := name{typ: c.typ, system: i.system, value: i.value}
		for _, n := range []name{exact, {typ: c.typ, value: i.value, anySystem: true}} {
			if !slices.Contains(byIdentifier[n], c) {
				byIdentifier[n] = append(byIdentifier[n], c)
			}
		}
	}
	for _, c := range u.all {
		made[target{c.typ, c.id}] = c
		for _, i := range append(c.Identifiers, c.searched()) {
			call(c, i)
		}
	}
	for _, c := range u.all {
		n, _ := parseName(c.Query) // it was one
		found, dead, err := u.found(c, n, made)
		if err != nil {
			return err
		}
		for _, other := range byIdentifier[n] {
			if other != c && (other.target == "" || other.target == other.id) {
				found = append(found, other.id)
			}
		}
		c.target = c.id
		if len(found) == 1 {
			c.target, c.dead = found[0], dead
		}
	}
	// A target may itself have a target. In a cycle at most one conditional is the target of the
	// others.
	for _, c := range u.all {
		for steps := 0; steps < len(u.all); steps++ {
			next := made[target{c.typ, c.target}]
			if next == nil || next.target == next.id {
				break
			}
			c.target, c.dead = next.target, next.dead
		}
	}
	return nil
}

// found returns the resources with an ID of their own whose own states match a search, including
// deleted ones that once matched. dead means that the single match was deleted.
func (u *union) found(
	c *conditional, n name, made map[target]*conditional,
) (ids []string, dead bool, err error) {
	live, err := u.identified(n)
	if err != nil {
		return nil, false, err
	}
	for _, id := range live {
		t := target{c.typ, id}
		if made[t] == nil && (u.own[t] == nil || u.own[t].Back || n.of(u.own[t].Identifiers)) {
			ids = append(ids, id)
		}
	}
	for t, o := range u.own {
		if t.typ == c.typ && !o.Back && n.of(o.Identifiers) && !slices.Contains(ids, t.id) {
			ids = append(ids, t.id)
		}
	}
	gone, err := u.identifiedIn(kBuried, n)
	if err != nil {
		return nil, false, err
	}
	alive := len(ids)
	for _, id := range gone {
		if ok, err := u.deletedAfter(c, id, n); err != nil {
			return nil, false, err
		} else if ok && made[target{c.typ, id}] == nil {
			ids = append(ids, id)
		}
	}
	return ids, alive == 0 && len(ids) == 1, nil
}

// of reports whether the identifiers include the name's.
func (n name) of(identifiers []identifier) bool {
	return slices.ContainsFunc(identifiers, func(i identifier) bool {
		return i.value == n.value && (n.anySystem || i.system == n.system)
	})
}

// deletedAfter reports whether a resource matched when a conditional arrived and was deleted
// since.
func (u *union) deletedAfter(c *conditional, id string, n name) (bool, error) {
	if _, there, err := u.ownersOf(c.typ, id); err != nil || there {
		return false, err
	}
	v, err := u.get(key(kTombstone, c.typ, id))
	if err != nil || v == nil {
		return false, err
	}
	last, err := u.lastState(c.typ, id)
	if err != nil || !n.of(last.Identifiers) {
		return false, err
	}
	deleted, mine := decodeVersion(string(v)), c.version()
	if mine.updated.IsZero() {
		return c.Found == id, nil
	}
	return mine.compare(deleted) <= 0, nil
}

// hide removes the resource that a conditional was so far: it has become a version of another
// one.
func (u *union) hide(c *conditional) error {
	s, err := u.find(c.typ, c.id)
	if err != nil || !s.there {
		return err
	}
	return u.takeOut(c.typ, c.id, s)
}

// state sets the newest state of a resource, from its own state and its conditional updates.
func (u *union) state(t target, group []*conditional) error {
	for _, c := range group {
		if c.dead {
			return u.dropOwn(t)
		}
	}
	s, err := u.find(t.typ, t.id)
	if err != nil {
		return err
	}
	base, isMade := u.base(t, group)
	own := u.own[t]
	if !isMade && !s.there { // it was deleted
		return u.dropOwn(t)
	}
	best, bestVersion := base, version{}
	line := s.original()
	switch {
	case isMade:
		bestVersion = base.version()
	case own != nil && !own.Back:
		bestVersion = own.version()
		if line, err = u.lineOf(kOwn, own); err != nil {
			return err
		}
	default:
		f, err := u.reader.examine(s.line)
		if err != nil {
			return err
		}
		bestVersion = s.versionOf(&f)
	}
	for _, c := range group {
		if c == base || c.Create {
			continue
		}
		order := c.version().compare(bestVersion)
		if order == 0 && best == nil && c.Found == t.id && c.Over == stateDigest(line) {
			order = 1
		}
		if order > 0 {
			best, bestVersion = c, c.version()
		}
	}
	if best == nil {
		return u.giveBack(t, s)
	}
	return u.standOver(t, best, s, isMade)
}

// base returns the conditional that is the resource itself, if there is one.
func (u *union) base(t target, group []*conditional) (c *conditional, found bool) {
	for _, c := range group {
		if c.id == t.id {
			return c, true
		}
	}
	return nil, false
}

// lineOf reads the original line of a conditional, or of an own state.
func (u *union) lineOf(kind byte, c *conditional) ([]byte, error) {
	b, err := u.get(key(kind, c.typ, c.id))
	if err != nil {
		return nil, err
	}
	_, v, err := decodeConditional(b)
	return v.original(), err
}

// standOver makes a conditional the state of a resource. The own state of a resource with an ID
// of its own is kept.
func (u *union) standOver(t target, c *conditional, s stored, isMade bool) error {
	b, err := u.get(key(kConditional, c.typ, c.id))
	if err != nil {
		return err
	}
	_, v, err := decodeConditional(b)
	if err != nil {
		return err
	}
	line, _ := renamed(&u.cursor, v.original(), t.id) // it was given one
	p := u.reader.prepare(line)
	p.copied, p.told = v.copied, decodeVersion(string(v.version))
	if s.there && s.cameAs(p.line) && string(s.version) == string(v.version) &&
		slices.Equal(s.derived.hints, c.Hints) {
		return nil
	}
	if own := u.own[t]; !isMade && (own == nil || own.Back) {
		if err := u.setAside(t, s); err != nil {
			return err
		}
	}
	return u.replace(p, s, c.Hints)
}

// setAside stores a resource's own state.
func (u *union) setAside(t target, s stored) error {
	f, err := u.reader.examine(s.original())
	if err != nil {
		return err
	}
	h := conditionalHead{
		Identifiers: f.identifiers,
		Hints:       s.derived.hints,
		Version:     s.versionOf(&f).encode(),
	}
	text, err := h.encode(&value{
		at:      s.at,
		copied:  s.copied,
		version: s.version,
		refs:    f.refs,
		moved:   s.moved,
		line:    s.original(),
	})
	u.covered = true
	return errors.Join(err, u.set(key(kOwn, t.typ, t.id), text))
}

// giveBack makes a resource's own state its state again.
func (u *union) giveBack(t target, s stored) error {
	return errors.Join(u.restore(t, s), u.dropOwn(t))
}

func (u *union) dropOwn(t target) error {
	if u.own[t] == nil {
		return nil
	}
	k := key(kOwn, t.typ, t.id)
	b, err := u.get(k)
	if err != nil || b == nil {
		return err
	}
	_, v, err := decodeConditional(b)
	return errors.Join(err, u.loosens(&v), u.delete(k))
}

// restore makes the stored own state of a resource, if any, its state again.
func (w *writer) restore(t target, s stored) error {
	b, err := w.get(key(kOwn, t.typ, t.id))
	if err != nil || b == nil {
		return err
	}
	h, v, err := decodeConditional(b)
	if err != nil || h.Back {
		return err
	}
	p := w.reader.prepare(v.original())
	p.copied, p.told = v.copied, decodeVersion(string(v.version))
	if err := w.replace(p, s, h.Hints); err != nil {
		return err
	}
	h.Back = true
	text, err := h.encode(&v)
	return errors.Join(err, w.set(key(kOwn, t.typ, t.id), text))
}

// replace writes a state over the existing one.
func (w *writer) replace(p prepared, before stored, hints []string) error {
	if p.err != nil {
		return p.err
	}
	if len(hints) > 0 {
		p.hint = hints[0]
	}
	if err := w.write(p, before); err != nil {
		return err
	}
	for _, hint := range hints[min(1, len(hints)):] {
		now, err := w.find(p.facts.typ, p.facts.id)
		if err := errors.Join(err, w.addHint(&p.facts, now, hint)); err != nil {
			return err
		}
	}
	return nil
}

// bind records the current target of a conditional.
func (u *union) bind(c *conditional) error {
	bound := c.target
	if c.dead {
		bound = ""
	}
	if c.Bound == bound && !c.Fresh {
		return nil
	}
	k := key(kConditional, c.typ, c.id)
	b, err := u.get(k)
	if err != nil {
		return err
	}
	h, v, err := decodeConditional(b)
	if err != nil {
		return err
	}
	if err := u.rename(c, bound); err != nil {
		return err
	}
	h.Bound, h.Fresh = bound, false
	text, err := h.encode(&v)
	return errors.Join(err, u.set(k, text))
}

// last is the last state of a deleted resource.
type last struct {
	Version     string       `json:"version,omitempty"`
	Identifiers []identifier `json:"identifiers,omitempty"`
}

func (w *writer) lastState(typ, id string) (l last, err error) {
	b, err := w.get(key(kLast, typ, id))
	if err == nil && b != nil {
		err = json.Unmarshal(b, &l)
	}
	return l, err
}

// setLast records the last state of a deleted resource, so that its identifiers still identify
// it.
func (w *writer) setLast(typ, id string, v version, identifiers []identifier) error {
	before, err := w.lastState(typ, id)
	if err != nil || v.compare(decodeVersion(before.Version)) < 0 {
		return err
	}
	text, err := json.Marshal(last{Version: v.encode(), Identifiers: identifiers})
	err = errors.Join(err, w.set(key(kLast, typ, id), string(text)))
	for _, i := range identifiers {
		err = errors.Join(err, w.set(i.keyOf(kBuried, typ, id), ""))
	}
	return err
}

// removeFound deletes the single match of a search and returns the number of matches. Former
// matches are unknown, because the store keeps no old versions.
func (w *writer) removeFound(typ, query string) (found int, err error) {
	// the lookup of identifiers needs the batch in the store
	if err := w.flush(pebble.NoSync); err != nil {
		return 0, err
	}
	n, _ := parseName(query) // it was one
	ids, err := w.idsOf(n)
	if err != nil {
		return 0, err
	}
	made := madeID(query)
	if ids = slices.DeleteFunc(ids, func(id string) bool { return id == made }); len(ids) > 1 {
		return len(ids), nil
	}
	v := version{untimed: true}
	for _, id := range ids {
		err = errors.Join(err, w.remove(typ, id, v, false))
	}
	return len(ids), errors.Join(err, w.removeMade(typ, made, v))
}

// removeMade deletes what conditional creates and updates brought. It has no tombstone, because
// it is not a resource with an ID of its own.
func (w *writer) removeMade(typ, made string, v version) error {
	s, err := w.find(typ, made)
	if err == nil && s.there {
		err = w.takeOut(typ, made, s)
	}
	return errors.Join(err, w.removedCondition(typ, made, v))
}

// renamed replaces the ID of a resource. has is false if it has none.
func renamed(c *fhir.Cursor, resource []byte, id string) (out []byte, has bool) {
	for c.Reset(resource); c.Next(); {
		if c.Depth == 1 && c.Kind == fhir.Scalar && string(c.Key()) == "id" {
			start, end := c.Span()
			return fhir.Apply(nil, resource, []fhir.Edit{
				{Start: start, End: end, With: []byte(`"` + id + `"`)},
			}), true
		}
	}
	return resource, false
}
