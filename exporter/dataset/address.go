package dataset

import (
	"slices"
	"strings"

	"ehi-server/shared/fhir"
	"ehi-server/shared/weburl"
)

// meaning is what a reference refers to, given the place where it stands.
type meaning struct {
	kind     refKind
	external bool   // it refers to another server, or into the resource itself
	text     string // its replacement; "" if it stays unchanged
}

// read determines what a reference refers to. Whatever the spelling, a reference to a resource
// of this store becomes type/id, perhaps with a version and a fragment, or a name that parseName
// reads. Code after the import need not know other spellings.
func (s *scope) read(text []byte) meaning {
	if typ, id, ok := fhir.Local(text); ok {
		return s.relative(text, typ, id)
	}
	switch {
	case len(text) == 0, text[0] == '#':
		return meaning{external: true}
	case len(text) > longestReference: // a data: URL
		return meaning{kind: refStrange, external: fhir.External(text)}
	case text[0] <= ' ', text[len(text)-1] <= ' ':
		return s.unusual(string(text))
	}
	t := string(text)
	n, ok := parseName(t)
	switch {
	case ok && n.urn != "":
		if m, ok := s.entry(n.urn, n.behind); ok {
			return m
		}
		fallthrough
	case ok:
		return meaning{kind: refName}
	case isPlain(t):
		return s.absolute(t, "", "")
	}
	return s.unusual(t)
}

// longestReference is the longest reference that is parsed, in bytes. Package weburl parses no
// longer address.
const longestReference = 8 << 10

// unusual parses an unusual spelling as browsers do.
func (s *scope) unusual(text string) meaning {
	if trimmed := trim(text); trimmed != text && trimmed != "" {
		m := s.read([]byte(trimmed))
		if m.text == "" && m.kind != refStrange || m.external {
			m.text = trimmed
		}
		return m
	}
	a, ok := readAddress(text)
	switch {
	case !ok:
		return meaning{kind: refStrange, external: fhir.External([]byte(text))}
	case a.origin != "":
		return s.absolute(a.url(), a.query, a.fragment)
	}
	if m, ok := s.below(strings.Join(a.segments, "/"), a.query, a.fragment); ok {
		return m
	}
	for _, base := range s.own { // /fhir/Patient/1 on https://own.example/fhir/
		at := strings.IndexByte(base[len("https://"):], '/') + len("https://")
		if rest, ok := strings.CutPrefix(a.url(), base[at:]); ok {
			if m, ok := s.below(rest, a.query, a.fragment); ok {
				return m
			}
		}
	}
	return meaning{kind: refStrange}
}

// absolute parses a URL in the spelling of plainURL.
func (s *scope) absolute(url, query, fragment string) meaning {
	whole, ver, versioned := strings.Cut(url, "/_history/")
	if versioned {
		ver = "/_history/" + ver
	}
	if m, ok := s.entry(whole, ver); ok {
		return m.with(fragment)
	}
	for _, base := range s.own {
		if rest, ok := strings.CutPrefix(url, base); ok {
			if m, ok := s.below(rest, query, fragment); ok {
				return m
			}
		}
	}
	return meaning{kind: refStrange, external: true}
}

// entry looks up the name of a bundle's entry, followed by a version or a fragment.
func (s *scope) entry(called, behind string) (m meaning, ok bool) {
	if len(s.names) == 0 {
		return m, false
	}
	target := s.names[called]
	switch {
	case target == "":
		return m, false
	case strings.Contains(target, "?"): // of a conditional create or update
		return meaning{text: target, kind: refName}, true
	}
	return meaning{text: target + behind}, true
}

// below parses what follows a base URL: a resource, or a search for one.
func (s *scope) below(path, query, fragment string) (m meaning, ok bool) {
	if typ, id, ok := fhir.Local([]byte(path)); ok {
		if m = s.relative([]byte(path), typ, id); m.text == "" {
			m.text = path
		}
		if fragment == "" {
			_, fragment, _ = strings.Cut(query, "#")
		}
		return m.with(fragment), true
	}
	search := path + "?" + query
	if target, ok := searchByID(search); ok {
		return meaning{text: target}.with(fragment), true
	}
	if n, ok := parseName(search); ok && n.urn == "" {
		return meaning{text: search, kind: refName}, true
	}
	return m, false
}

// with appends a fragment to the replacement, such as the page of a document.
func (m meaning) with(fragment string) meaning {
	if fragment != "" && m.kind == refLocal && m.text != "" {
		m.text += "#" + fragment
	}
	return m
}

// relative resolves type/id by R4's rules for bundles
// (https://hl7.org/fhir/R4/bundle.html#references): relative to the base of its entry. If the
// bundle's entries come from several servers and only another server has such an entry, the
// reference is external.
func (s *scope) relative(ref, typ, id []byte) meaning {
	if len(s.names) == 0 { // the usual case
		return meaning{}
	}
	text := string(ref)
	self := string(typ) + "/" + string(id)
	rest := text[len(self):]
	// the bundle has an entry with this name
	if m, ok := s.entry(self, rest); ok && m.text != text {
		return m
	}
	if s.base == "" {
		return meaning{}
	}
	m, ok := s.entry(s.base+self, rest)
	switch {
	case ok && m.text != text:
		return m
	case !ok && s.elsewhere[self] && !slices.Contains(s.own, s.base):
		return meaning{external: true, text: s.base + text}
	}
	return meaning{}
}

// address is a parsed URL.
type address struct {
	origin   string   // scheme and host; "" for a relative URL
	segments []string // of its path
	query    string   // not decoded: some systems write a # into an identifier
	fragment string
}

// here is the base of relative addresses.
var here, _ = weburl.Parse("https://here.invalid/")

// readAddress parses a URL as browsers do. ok is false if it is invalid or not an HTTP URL.
func readAddress(text string) (a address, ok bool) {
	text = trim(text)
	if at := strings.IndexAny(text, "?#"); at >= 0 && text[at] == '?' {
		text, a.query = text[:at], text[at+1:]
	}
	u, err := weburl.Parse(text)
	if err != nil {
		u, err = here.Resolve(text)
	}
	if err != nil || !u.IsWeb() || u.HasCredentials() {
		return a, false
	}
	a.origin, a.segments, a.fragment = u.Origin(), u.Segments(), u.Fragment()
	if a.origin == here.Origin() {
		a.origin = ""
	}
	return a, true
}

// trim removes what browsers ignore around an address.
func trim(text string) string {
	return strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
}

// url returns the address without query and fragment.
func (a address) url() string { return a.origin + "/" + strings.Join(a.segments, "/") }

// isPlain reports whether plainURL certainly leaves an absolute URL unchanged, which is the
// usual case.
func isPlain(url string) bool {
	rest, found := strings.CutPrefix(url, "https://")
	if !found {
		rest, found = strings.CutPrefix(url, "http://")
	}
	host, path, _ := strings.Cut(rest, "/")
	if !found || host == "" || path == "" || host[0] >= '0' && host[0] <= '9' {
		return false
	}
	for i := range len(host) {
		if c := host[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	before := byte('/')
	for i := range len(path) {
		c := path[i]
		if c <= ' ' || c >= 0x7f || before == '/' && (c == '/' || c == '.') ||
			strings.IndexByte(`%\?#`, c) >= 0 {
			return false
		}
		before = c
	}
	return before != '/'
}

// plainURL returns a canonical spelling of the absolute URL of a resource or a server: as
// browsers write it, without escapes, empty segments, query and fragment. It returns any other
// text unchanged.
func plainURL(url string) string {
	if isPlain(url) {
		return url
	}
	if a, ok := readAddress(url); ok && a.origin != "" {
		return strings.TrimSuffix(a.url(), "/")
	}
	return url
}

// plainName returns a canonical spelling of an entry's fullUrl, without a version.
func plainName(fullURL string) string {
	if n, ok := parseName(fullURL); ok && n.urn != "" {
		return n.urn
	}
	whole, _, _ := strings.Cut(plainURL(fullURL), "/_history/")
	return whole
}

// restful splits the URL of a resource on a server, with or without a version. base ends in a
// slash.
func restful(url string) (base, typ, id string, ok bool) {
	url = plainName(url)
	if !fhir.External([]byte(url)) {
		return "", "", "", false
	}
	slash := strings.LastIndexByte(url, '/')
	slash = strings.LastIndexByte(url[:max(slash, 0)], '/')
	if slash < 0 {
		return "", "", "", false
	}
	t, i, ok := fhir.Local([]byte(url[slash+1:]))
	return url[:slash+1], string(t), string(i), ok
}

// onServer parses an address relative to any base URL: type/id, type?search, or a type.
func onServer(text string) (typ, id, query string) {
	if _, typ, id, ok := restful(text); ok {
		return typ, id, ""
	}
	a, ok := readAddress(text)
	if !ok || len(a.segments) == 0 {
		return "", "", ""
	}
	if n := len(a.segments); n > 1 {
		for _, from := range []int{n - 2, max(n-4, 0)} { // the version, if any, precedes the end
			t, i, ok := fhir.Local([]byte(strings.Join(a.segments[from:], "/")))
			if ok {
				return string(t), string(i), ""
			}
		}
	}
	if typ = a.segments[len(a.segments)-1]; !fhir.KnownType(typ) {
		return "", "", ""
	}
	if target, ok := searchByID(typ + "?" + a.query); ok {
		_, id, _ = strings.Cut(target, "/")
		return typ, id, ""
	}
	return typ, "", a.query
}

// operationOf returns the operation in an address: $match, or a search by POST.
func operationOf(text string) (name string, ok bool) {
	a, ok := readAddress(text)
	if !ok || len(a.segments) == 0 {
		return "", false
	}
	name = a.segments[len(a.segments)-1]
	return name, name[0] == '$' || name == "_search"
}

// searchByID converts Type?_id=x to type/id.
func searchByID(text string) (target string, ok bool) {
	typ, search, found := strings.Cut(text, "?")
	if !found || !fhir.KnownType(typ) {
		return "", false
	}
	key, id, ok := theCriterion(search)
	if !ok || key != "_id" || !fhir.ValidID(id) {
		return "", false
	}
	return typ + "/" + id, true
}
