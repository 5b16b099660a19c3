// Package weburl parses untrusted addresses as browsers do (the WHATWG URL Standard), so that a
// check sees the address that a browser follows. net/url implements RFC 3986, which browsers do
// not: they repair "http:/host", read "\" as "/", and drop tabs and line breaks. Users of this
// package must pass on String or the path of Local, never the original text.
//
// The package fetches nothing and does not know which addresses are allowed. auth and the api
// decide that.
package weburl

import (
	"errors"
	"net/url"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// maxLength is the longest accepted address in bytes, about what servers accept in a request
// line. maxAts is how many "@" it may have: the time to parse a host grows with their square.
const (
	maxLength = 8 << 10
	maxAts    = 64
)

// Errors of Parse, besides syntax errors.
var (
	errTooLong  = errors.New("the address is too long")
	errUnstable = errors.New("the address changes each time it is read")
)

// URL is an address as a browser parses it.
type URL struct{ u *whatwg.Url }

// Parse parses an absolute address. It returns an error for an address without a scheme, one
// that browsers do not follow, and one of more than 8 KiB or 64 "@".
func Parse(raw string) (URL, error) { return parse(raw, nil) }

func parse(raw string, base *whatwg.Url) (URL, error) {
	if len(raw) > maxLength || strings.Count(raw, "@") > maxAts {
		return URL{}, errTooLong
	}
	u, err := read(raw, base)
	if err != nil {
		return URL{}, err
	}
	// The browser parses the result again. It must find the same address.
	again, err := read(u.Href(false), nil)
	if err != nil {
		return URL{}, err
	}
	if again.Href(false) != u.Href(false) || again.Host() != u.Host() {
		return URL{}, errUnstable
	}
	return URL{u}, nil
}

func read(raw string, base *whatwg.Url) (*whatwg.Url, error) {
	if base == nil {
		return whatwg.Parse(raw)
	}
	return base.Parse(raw)
}

// String returns the address to pass on.
func (u URL) String() string { return u.u.Href(false) }

// IsWeb reports whether a browser opens the address by HTTP. Only such addresses have an Origin.
func (u URL) IsWeb() bool {
	return (u.u.Scheme() == "http" || u.u.Scheme() == "https") && u.u.Hostname() != ""
}

// Origin returns scheme, host and port, without the default port, in lower case, for comparison
// with the registered origins of clients. It is "" unless IsWeb.
func (u URL) Origin() string {
	if !u.IsWeb() {
		return ""
	}
	return u.u.Scheme() + "://" + u.u.Host()
}

// IsOf reports whether the address has an origin, which may be in any spelling.
func (u URL) IsOf(origin string) bool {
	o, err := Parse(origin)
	return err == nil && o.IsWeb() && o.Origin() == u.Origin()
}

// Hostname returns the host in lower case without port and without the brackets of an IPv6
// address.
func (u URL) Hostname() string { return strings.Trim(u.u.Hostname(), "[]") }

// HasCredentials reports whether the address has a user name or password, which can make one
// host look like another.
func (u URL) HasCredentials() bool { return u.u.Username() != "" || u.u.Password() != "" }

// With returns the address without its fragment, with the given query parameters. They replace
// existing ones of the same names.
func (u URL) With(parameters url.Values) string {
	q, _ := url.ParseQuery(u.u.Query()) // an invalid pair is dropped
	for name, values := range parameters {
		q[name] = values
	}
	address, _, _ := strings.Cut(u.u.Href(true), "?")
	return address + "?" + q.Encode()
}

// Resolve parses a link on the page at this address: absolute or relative. Errors: those of
// Parse.
func (u URL) Resolve(raw string) (URL, error) { return parse(raw, u.u) }

// Segments returns the parts of the path between slashes, without empty ones, percent-decoded. A
// part that is not decodable, or that would contain a slash, stays encoded.
func (u URL) Segments() []string {
	var out []string
	for part := range strings.SplitSeq(u.u.Pathname(), "/") {
		if plain, err := url.PathUnescape(part); err == nil && !strings.Contains(plain, "/") {
			part = plain
		}
		if part != "" {
			out = append(out, part)
		}
	}
	return out
}

// Query returns the query, still encoded.
func (u URL) Query() string { return u.u.Query() }

// Fragment returns the fragment, still encoded.
func (u URL) Fragment() string { return u.u.Fragment() }

// Local returns the path and query that a browser opens on an origin when it follows raw from
// the origin's front page. ok is false if raw is empty or leads to another origin.
func Local(origin, raw string) (path string, ok bool) {
	base, err := Parse(origin)
	if err != nil || !base.IsWeb() || strings.TrimSpace(raw) == "" {
		return "", false
	}
	path, ok = base.local(raw)
	if !ok {
		return "", false
	}
	// A path such as //host is itself another origin.
	again, ok := base.local(path)
	return path, ok && again == path
}

func (u URL) local(raw string) (path string, ok bool) {
	to, err := parse(raw, u.u)
	if err != nil || to.Origin() != u.Origin() || to.HasCredentials() {
		return "", false
	}
	return to.u.Pathname() + to.u.Search(), true
}

// Canonical returns an address in the spelling of browsers without trailing slashes, or raw if
// it is invalid.
func Canonical(raw string) string {
	if u, err := Parse(raw); err == nil {
		raw = u.String()
	}
	return strings.TrimRight(raw, "/")
}
