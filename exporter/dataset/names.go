package dataset

import (
	"bytes"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// name is a name of a resource other than type/id: the urn: of a bundle's entry, or a type and
// an identifier.
type name struct {
	urn                string // in the form of plainURN
	typ, system, value string
	anySystem          bool   // no system is given, so any system matches
	behind             string // what follows a urn: a version and a fragment
}

// parseName parses urn:... and Type?identifier=system|value. ok is false for anything else: a
// search by other parameters, or for one of several values, is not supported.
func parseName(text string) (n name, ok bool) {
	if isURN(text) {
		return parseURN(text), true
	}
	typ, query, found := strings.Cut(text, "?")
	if !found || !fhir.KnownType(typ) {
		return n, false
	}
	key, value, ok := theCriterion(query)
	if !ok || key != "identifier" {
		return n, false
	}
	return parseIdentifier(typ, value)
}

// theCriterion returns the only criterion of a search, with its value as written. ok is false if
// there is none, or more than one.
func theCriterion(search string) (key, value string, ok bool) {
	for pair := range strings.SplitSeq(search, "&") {
		k, v, _ := strings.Cut(pair, "=")
		if strings.IndexByte(k, '%') >= 0 {
			if plain, err := url.PathUnescape(k); err == nil {
				k = plain
			}
		}
		base, _, _ := strings.Cut(k, ":")
		if v == "" || resultParameters[base] || k == key && v == value {
			continue
		}
		if ok {
			return "", "", false
		}
		key, value, ok = k, v, true
	}
	return key, value, ok
}

// resultParameters affect the form of a search's result, not what it finds: the general
// parameters of https://hl7.org/fhir/R4/http.html#parameters and those of
// https://hl7.org/fhir/R4/search.html#Summary. R4 does not define them as SearchParameters, so
// they cannot be generated.
var resultParameters = map[string]bool{
	"_format": true, "_pretty": true, "_summary": true, "_elements": true, "_sort": true,
	"_count":   true,
	"_include": true, "_revinclude": true, "_total": true, "_contained": true,
	"_containedType": true,
}

// isURN reports whether a text is a urn:, in any case (RFC 8141, 3.1).
func isURN(text string) bool { return len(text) > 4 && strings.EqualFold(text[:4], "urn:") }

// parseURN parses a urn: with an optional version of the resource (/_history/2) and fragment.
func parseURN(text string) name {
	urn, fragment, found := strings.Cut(text, "#")
	if found {
		fragment = "#" + fragment
	}
	urn, version, found := strings.Cut(urn, "/_history/")
	if found {
		fragment = "/_history/" + version + fragment
	}
	return name{urn: plainURN(strings.TrimRight(urn, "/")), behind: fragment}
}

// plainURN normalizes a urn: scheme and namespace, and the digits of a UUID, in lower case (RFC
// 8141, 3.1; RFC 4122, 3).
func plainURN(urn string) string {
	namespace, rest, _ := strings.Cut(urn[len("urn:"):], ":")
	at := len(urn) - len(rest)
	if strings.EqualFold(namespace, "uuid") {
		at = len(urn)
	}
	return strings.ToLower(urn[:at]) + urn[at:]
}

// parseIdentifier parses the value of a search by identifier
// (https://hl7.org/fhir/R4/search.html#token). An unescaped + is a plus sign.
func parseIdentifier(typ, query string) (n name, ok bool) {
	query, err := url.PathUnescape(query)
	if err != nil {
		return n, false
	}
	n = name{typ: typ, anySystem: true}
	var part strings.Builder
	for i := 0; i < len(query); i++ {
		switch c := query[i]; {
		case c == '\\' && i+1 < len(query) && strings.IndexByte(`\|,$`, query[i+1]) >= 0:
			i++
			part.WriteByte(query[i])
		case c == '|' && n.anySystem:
			n.system, n.anySystem = part.String(), false
			part.Reset()
		case c == ',':
			return n, false
		default:
			part.WriteByte(c)
		}
	}
	n.value = part.String()
	return n, n.value != ""
}

// String returns the name in the form that parseName parses, independent of its original
// spelling.
func (n name) String() string {
	switch {
	case n.urn != "":
		return n.urn + n.behind
	case n.anySystem:
		return n.typ + "?identifier=" + escapeToken(n.value)
	}
	return searchFor(n.typ, identifier{n.system, n.value})
}

// searchFor returns the conditional reference to a resource by its identifier, in the form that
// parseName parses.
func searchFor(typ string, i identifier) string {
	return typ + "?identifier=" + escapeToken(i.system) + "|" + escapeToken(i.value)
}

// escapeToken escapes a part of a token for use in a URL, including the characters that separate
// parts and values.
func escapeToken(part string) string {
	token := strings.NewReplacer(`\`, `\\`, `|`, `\|`, `,`, `\,`, `$`, `\$`)
	return strings.ReplaceAll(url.PathEscape(token.Replace(part)), "&", "%26")
}

// digest returns the name as a digest for keys.
func (n name) digest() digest {
	switch {
	case n.urn != "":
		return digestOf(n.urn)
	case n.anySystem:
		return digestOf(n.typ, "?", n.value)
	}
	return digestOf(n.typ, "?", n.system, n.value)
}

// literalDigest returns type/id as a digest for keys.
func literalDigest(typ, id string) digest { return digestOf(typ, id) }

// identifier is an identifier of a resource.
type identifier struct{ system, value string }

// MarshalJSON implements json.Marshaler.
func (i identifier) MarshalJSON() ([]byte, error) {
	return json.Marshal([]string{i.system, i.value})
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *identifier) UnmarshalJSON(b []byte) error {
	var parts [2]string
	err := json.Unmarshal(b, &parts)
	i.system, i.value = parts[0], parts[1]
	return err
}

// key returns the key of a resource's identifier. The value comes before the system, so that a
// search without a system is a prefix.
func (i identifier) key(typ, id string) []byte { return i.keyOf(kIdentifier, typ, id) }

// keyOf returns a key with the same layout and another kind.
func (i identifier) keyOf(kind byte, typ, id string) []byte {
	return append(append(i.prefix(kind, typ), '/'), id...)
}

func (i identifier) prefix(kind byte, typ string) []byte {
	v, s := digestOf(i.value), digestOf(i.system)
	return append(append(key(kind, typ, ""), v[:]...), s[:]...)
}

// resolver finds the resources that names mean. It is for one goroutine. While it is in use,
// identifiers and names in the store must not change, unless forget is called.
type resolver struct {
	db *pebble.DB
	// record returns the value of a c key, or nil.
	record func(k []byte) ([]byte, error)
	known  map[string]string // the text of a reference -> type/id, or ""
	// defined is the same for canonical URLs.
	defined map[string]string
}

func newResolver(db *pebble.DB) resolver {
	return resolver{db: db, record: func(k []byte) ([]byte, error) { return get(db, k) }}
}

// namesKept bounds the number of cached names.
const namesKept = 100_000

func (r *resolver) forget() {
	clear(r.known)
	clear(r.defined)
}

// resolve returns the type/id that a reference means; "" if nothing in the store has that name,
// or more than one resource does. The answer does not depend on the order of imports.
func (r *resolver) resolve(text string) (string, error) {
	if target, found := r.known[text]; found {
		return target, nil
	}
	n, ok := parseName(text)
	if !ok {
		return "", nil
	}
	target, err := r.find(n)
	if err != nil {
		return "", err
	}
	if r.known == nil || len(r.known) >= namesKept {
		r.known = map[string]string{}
	}
	r.known[strings.Clone(text)] = target
	return target, nil
}

// patient returns the id of the only patient with an identifier; "" if there is none, or more
// than one.
func (r *resolver) patient(i fhir.Identifier) (string, error) {
	target, err := r.find(name{typ: "Patient", system: i.System, value: i.Value})
	return strings.TrimPrefix(target, "Patient/"), err
}

func (r *resolver) find(n name) (string, error) {
	if n.urn != "" {
		return r.findURN(n)
	}
	ids, err := r.idsOf(n)
	if err != nil || len(ids) == 0 {
		return "", err
	}
	switch {
	case len(ids) == 1:
	case n.typ == "Patient":
		ids, err = r.survivors(ids)
	case fhir.CompartmentPaths(n.typ) != nil: // it is unclear whose resource is meant
		return "", nil
	}
	if err != nil || len(ids) == 0 || n.typ == "Patient" && len(ids) > 1 {
		return "", err
	}
	// Several organizations or practitioners with one identifier are equivalent, so the first
	// one is used.
	return n.typ + "/" + ids[0], nil
}

// idsOf lists, sorted, the resources with an identifier, and those that a conditional create or
// update found by it.
func (r *resolver) idsOf(n name) (ids []string, err error) {
	if ids, err = r.identified(n); err != nil {
		return nil, err
	}
	searched, err := r.identifiedIn(kSearch, n)
	if len(searched) > 0 {
		ids = append(ids, searched...)
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	return ids, err
}

// identified lists the resources with an identifier, sorted.
func (r *resolver) identified(n name) (ids []string, err error) {
	return r.identifiedIn(kIdentifier, n)
}

func (r *resolver) identifiedIn(kind byte, n name) (ids []string, err error) {
	prefix := identifier{n.system, n.value}.prefix(kind, n.typ)
	if n.anySystem {
		prefix = prefix[:len(prefix)-len(digest{})]
	}
	skip := len(key(kind, n.typ, "")) + 2*len(digest{}) + 1
	err = each(r.db, prefix, func(k, _ []byte) error {
		ids = append(ids, string(k[skip:]))
		return nil
	})
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// findURN finds the resources that bundles call by a urn. It also finds the resource x for
// urn:uuid:x, because an entry with this name becomes the resource x.
func (r *resolver) findURN(n name) (string, error) {
	var found []string
	add := func(target string) {
		if !slices.Contains(found, target) {
			found = append(found, target)
		}
	}
	prefix := digestKey(kURN, n.digest())
	err := each(r.db, prefix, func(k, _ []byte) error {
		typ, id, _ := bytes.Cut(k[len(prefix):], []byte{0})
		is, err := boundTo(r.db, string(typ), string(id))
		add(string(typ) + "/" + is)
		return err
	})
	id, ok := idOfURN(n.urn)
	if !ok {
		return theOnly(found), err
	}
	// a file may write UUIDs in capitals
	for _, id := range slices.Compact([]string{id, strings.ToUpper(id)}) {
		prefix := key(kOwner, id, "")
		err = errors.Join(err, each(r.db, prefix, func(k, _ []byte) error {
			add(string(k[len(prefix):]) + "/" + id)
			return nil
		}))
	}
	return theOnly(found), err
}

// theOnly returns the element of a list with one element, and "" for any other.
func theOnly(list []string) string {
	if len(list) != 1 {
		return ""
	}
	return list[0]
}

// survivors removes the patients that were merged into others of the list. If patients were
// merged into each other, the first one remains.
func (r *resolver) survivors(ids []string) ([]string, error) {
	next := map[string][]string{} // replaced -> survivors
	for _, id := range ids {
		v, err := r.record(key(kCompartment, id, "Patient", id))
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		stored := decode(v)
		// During settling, the meaning of a link by name depends on survivors, so here it must
		// be determined without.
		said, err := mergesOf(id, patientLinks(stored.original()), func(n name) (string, error) {
			return r.otherThan(id, n, func(ids []string) ([]string, error) { return ids, nil })
		})
		if err != nil {
			return nil, err
		}
		for _, m := range said {
			next[m.Replaced] = append(next[m.Replaced], m.Survivor)
		}
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		after := reachable(next, id)
		return slices.ContainsFunc(ids, func(other string) bool {
			return other != id && after[other] && (other < id || !reachable(next, other)[id])
		})
	}), nil
}

// reachable returns the nodes that can be reached from a node.
func reachable(edges map[string][]string, from string) map[string]bool {
	seen := map[string]bool{from: true}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, to := range edges[queue[0]] {
			if !seen[to] {
				seen[to] = true
				queue = append(queue, to)
			}
		}
	}
	return seen
}

// otherThan finds the patient with a name other than self, because a replaced patient may keep
// the identifier of the surviving one. best chooses among several. It returns "" unless there is
// exactly one.
func (r *resolver) otherThan(
	self string, n name, best func([]string) ([]string, error),
) (id string, err error) {
	if n.urn != "" {
		target, err := r.findURN(n)
		id, _ := strings.CutPrefix(target, "Patient/")
		return id, err
	}
	ids, err := r.idsOf(n)
	if err != nil {
		return "", err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == self })
	if len(ids) > 1 {
		ids, err = best(ids)
	}
	return theOnly(ids), err
}

// merge says that a patient's record continues in another one's.
type merge struct {
	Survivor string `json:"survivor"`
	Replaced string `json:"replaced"`
}

// merges returns the merges that a Patient states, and the names that it uses for them.
func (r *resolver) merges(self string, line []byte) (said []merge, names []digest, err error) {
	links := patientLinks(line)
	for _, l := range links {
		if l.id == "" {
			names = append(names, l.name.digest())
		}
	}
	said, err = mergesOf(self, links, func(n name) (string, error) {
		return r.otherThan(self, n, r.survivors)
	})
	return said, names, err
}

// mergesOf returns the merges of links with their direction. find returns the patient that a
// name means, or "".
func mergesOf(
	self string, links []patientLink, find func(name) (string, error),
) (out []merge, err error) {
	for _, l := range links {
		other := l.id
		if other == "" {
			if other, err = find(l.name); err != nil {
				return nil, err
			}
		}
		m := merge{other, self}
		if l.replaces {
			m = merge{self, other}
		}
		if other != "" && other != self && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out, nil
}

// patientLink is a Patient.link that merges records, by the other patient's id or name.
type patientLink struct {
	replaces bool // this patient replaces the other one; otherwise the other way round
	id       string
	name     name
}

// patientLinks parses Patient.link (https://hl7.org/fhir/R4/patient.html#links), which may be on
// either side. As in any Reference, the other patient may be given by an identifier alone.
func patientLinks(line []byte) (out []patientLink) {
	// A key may be spelled with escapes.
	if !bytes.Contains(line, []byte(`"link"`)) && bytes.IndexByte(line, '\\') < 0 {
		return nil
	}
	var p struct {
		Link []struct {
			Type  string `json:"type"`
			Other struct {
				Reference  string `json:"reference"`
				Type       string `json:"type"`
				Identifier struct {
					System string `json:"system"`
					Value  string `json:"value"`
				} `json:"identifier"`
			} `json:"other"`
		} `json:"link"`
	}
	if _, err := json.Parse(line, &p, json.DontMatchCaseInsensitiveStructFields); err != nil {
		return nil
	}
	for _, l := range p.Link {
		link := patientLink{replaces: l.Type == "replaces"}
		if !link.replaces && l.Type != "replaced-by" {
			continue
		}
		typ, id, local := fhir.Local([]byte(l.Other.Reference))
		n, named := parseName(l.Other.Reference)
		switch by := l.Other.Identifier; {
		// a RelatedPerson
		case local && string(typ) != "Patient", named && n.urn == "" && n.typ != "Patient":
			continue
		case local:
			link.id = string(id)
		case named:
			link.name = n
		case by.Value != "" && (l.Other.Type == "" || l.Other.Type == "Patient"):
			link.name = name{typ: "Patient", system: by.System, value: by.Value}
		default:
			continue
		}
		out = append(out, link)
	}
	return out
}

// idOfURN returns the id for a resource that has none itself and that a bundle calls by a urn.
// Only a UUID or an OID is unique beyond its bundle.
func idOfURN(urn string) (id string, ok bool) {
	if !isURN(urn) {
		return "", false
	}
	urn = parseURN(urn).urn
	if id, ok = strings.CutPrefix(urn, "urn:uuid:"); ok {
		return id, isUUID(id)
	}
	id, ok = strings.CutPrefix(urn, "urn:oid:")
	return id, ok && isOID(id) && fhir.ValidID(id)
}

// isOID reports whether a text is an OID with several arcs
// (https://hl7.org/fhir/R4/datatypes.html#oid). A single arc does not count, because entries
// written by hand are often numbered that way.
func isOID(s string) bool {
	arcs := strings.Split(s, ".")
	for _, a := range arcs {
		if a == "" || strings.Trim(a, "0123456789") != "" || len(a) > 1 && a[0] == '0' {
			return false
		}
	}
	return len(arcs) > 1 && len(arcs[0]) == 1 && arcs[0] <= "2"
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if hyphen != (c == '-') || !hyphen && strings.IndexByte("0123456789abcdefABCDEF", c) < 0 {
			return false
		}
	}
	return true
}

// get returns a copy of a key's value, or nil if there is none.
func get(r pebble.Reader, k []byte) (out []byte, err error) {
	v, closer, err := r.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(err)
	}
	out = append([]byte{}, v...)
	return out, closer.Close()
}
