package dataset

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// A resource names the questionnaire or protocol that it is based on by the definition's
// canonical URL (https://hl7.org/fhir/R4/references.html#canonical). If the store has the
// definition, the record includes it like a referenced resource.

// canonicalField is an element of type canonical: its name and path.
type canonicalField struct{ name, path string }

// canonicalFields holds the canonical elements by type number.
var canonicalFields = func() [][]canonicalField {
	of := make([][]canonicalField, len(fhir.Types())+1)
	for i, typ := range fhir.Types() {
		for _, path := range fhir.CanonicalPaths(typ) {
			of[i+1] = append(of[i+1], canonicalField{
				path[strings.LastIndexByte(path, '.')+1:],
				path,
			})
		}
	}
	return of
}()

// definitionTypes are the types that have a canonical URL and belong to no patient.
var definitionTypes = func() (types []string) {
	for _, typ := range fhir.Types() {
		if fhir.KnownElement(typ, "url") && fhir.CompartmentPaths(typ) == nil {
			types = append(types, typ)
		}
	}
	return types
}()

// canonicalAt processes the current scalar if it names a definition. name is that of its field.
func (x *examiner) canonicalAt(name []byte, made *making) {
	c := &x.cursor
	for _, f := range x.canonicals {
		if f.name != string(name) || !c.IsString() {
			continue
		}
		if x.path = c.AppendPath(x.path[:0]); string(x.path) == f.path ||
			fhir.PlainPath(string(x.path)) == f.path {
			made.event(isCanonical, c, "")
			start, end := c.Span()
			x.canonical(c.Text(), start, end)
		}
	}
}

// canonical processes a string that names a definition. start and end are its bounds in the
// line.
func (x *examiner) canonical(text []byte, start, end int) {
	url, _ := cutCanonical(string(text))
	if url == "" || len(url) > longestReference {
		return
	}
	r := ref{start: start + x.shift, end: end + x.shift, kind: refCanonical}
	// The meaning of a URN does not depend on the file.
	if m := x.scope.read([]byte(url)); !isURN(url) && m.kind == refLocal && !m.external {
		if typ, id, ok := fhir.Local([]byte(cmp.Or(m.text, url))); ok {
			r.original = []byte(string(typ) + "/" + string(id))
		}
	}
	x.refs = x.refs.append(x.last, r)
	x.last = r.end
}

// cutCanonical removes version and fragment from a canonical. url is "" for a bare fragment.
func cutCanonical(canonical string) (url, version string) {
	url = canonical
	if at := strings.IndexAny(canonical, "|#"); at >= 0 {
		url = canonical[:at]
		_, version, _ = strings.Cut(canonical[at:], "|")
		version, _, _ = strings.Cut(version, "#")
	}
	return strings.TrimSpace(url), strings.TrimSpace(version)
}

// canonical adds a canonical. otherwise is the resource that it refers to if no definition has
// this URL.
func (l *linker) canonical(text, otherwise string) error {
	url, _ := cutCanonical(text)
	l.names = append(l.names, definedDigest(fhir.PlainCanonical([]byte(url))))
	target, err := l.definition(text)
	if err != nil {
		return err
	}
	if n, ok := parseName(url); target == "" && ok && n.urn != "" {
		l.names = append(l.names, n.digest())
		if otherwise, err = l.resolve(url); err != nil {
			return err
		}
	}
	if target == "" && otherwise != "" {
		return l.shared(otherwise)
	}
	if typ, id, ok := fhir.Local([]byte(target)); ok {
		l.local(typ, id)
	}
	return nil
}

// shared adds a type/id of a shared resource, or of none: no record is incomplete without it.
func (l *linker) shared(target string) error {
	typ, id, _ := strings.Cut(target, "/")
	l.names = append(l.names, literalDigest(typ, id))
	there, err := has(l.db, key(kShared, typ, id))
	if there {
		l.local([]byte(typ), []byte(id))
	}
	return err
}

// definedDigest is the digest of a canonical URL, normalized by fhir.PlainCanonical, as a name
// to depend on.
func definedDigest(plain []byte) digest { return digestOf("", string(plain)) }

// wakeDefined marks what depends on the definition with a canonical URL.
func (w *writer) wakeDefined(called identifier) error {
	if !w.store.waiting.some {
		return nil
	}
	return w.wake(definedDigest([]byte(called.value)))
}

// definition returns the type/id of the definition that a canonical names, or "" if the store
// has none. The answer does not depend on the order of the import.
func (r *resolver) definition(canonical string) (string, error) {
	if target, found := r.defined[canonical]; found {
		return target, nil
	}
	url, version := cutCanonical(canonical)
	all, err := r.definitions(url)
	if err != nil {
		return "", err
	}
	target := ""
	if len(all) > 0 {
		target = chosenDefinition(all, url, version).target
	}
	if r.defined == nil || len(r.defined) >= namesKept {
		r.defined = map[string]string{}
	}
	r.defined[strings.Clone(canonical)] = target
	return target, nil
}

// defined is a stored definition, as far as canonicals distinguish definitions.
type defined struct {
	target             string // type/id
	url, version, date string
	numbers            []int // of the version; nil if it is not numeric with dots
}

// definitions returns the definitions with a canonical URL.
func (r *resolver) definitions(url string) (all []defined, err error) {
	called := identifier{value: string(fhir.PlainCanonical([]byte(url)))}
	if called.value == "" {
		return nil, nil
	}
	for _, typ := range definitionTypes {
		prefix := append(called.prefix(kPlain, typ), '/')
		ids, e := below(r.db, prefix)
		err = errors.Join(err, e)
		for _, id := range ids {
			d, e := r.describe(typ, id)
			if err = errors.Join(err, e); d.target != "" {
				all = append(all, d)
			}
		}
	}
	return all, err
}

func (r *resolver) describe(typ, id string) (d defined, err error) {
	b, err := get(r.db, key(kShared, typ, id))
	if err != nil || b == nil {
		return d, err
	}
	var says struct {
		URL     string `json:"url"`
		Version string `json:"version"`
		Date    string `json:"date"`
	}
	v := decode(b)
	if _, err := json.Parse(v.line, &says, json.DontMatchCaseInsensitiveStructFields); err != nil {
		says.Version, says.Date = "", "" // not of the types that R4 defines
	}
	d = defined{target: typ + "/" + id, url: says.URL, version: says.Version, date: says.Date}
	for part := range strings.SplitSeq(says.Version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			d.numbers = nil
			break
		}
		d.numbers = append(d.numbers, n)
	}
	return d, nil
}

// chosenDefinition selects the definition that a canonical means: it prefers an equal spelling
// of the URL, then an equal version, then the latest version.
func chosenDefinition(all []defined, url, version string) defined {
	prefer := func(is func(defined) bool) {
		some := slices.DeleteFunc(slices.Clone(all), func(d defined) bool { return !is(d) })
		if len(some) > 0 {
			all = some
		}
	}
	prefer(func(d defined) bool { return d.url == url })
	if version != "" {
		prefer(func(d defined) bool { return d.version == version })
	}
	numbered := !slices.ContainsFunc(all, func(d defined) bool { return d.numbers == nil })
	return slices.MaxFunc(all, func(a, b defined) int {
		order := 0
		if numbered {
			order = slices.Compare(a.numbers, b.numbers)
		}
		return cmp.Or(order, cmp.Compare(a.date, b.date), cmp.Compare(a.version, b.version),
			cmp.Compare(b.target, a.target))
	})
}
