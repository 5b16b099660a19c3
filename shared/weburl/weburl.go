// Package weburl reads addresses from outside as browsers do (the WHATWG URL Standard), so that
// the address that a check looks at is the address that a browser follows. net/url follows RFC
// 3986, which browsers do not: they repair "http:/host", read "\" as "/", and drop tabs and line
// breaks. The rule for all who use this package: hand on String or the path of Local, never the
// text that came in.
//
// It neither fetches anything nor knows who may lead where; auth and api/server decide that.
package weburl

import (
	"errors"
	"net/url"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// maxLength is the longest address that is read, in bytes: about what servers take in a request
// line. maxAts is how many "@" it may have: the time to read a host grows with the square of
// them.
const (
	maxLength = 8 << 10
	maxAts    = 64
)

// Errors of Parse, beside those of the syntax.
var (
	errTooLong  = errors.New("the address is too long")
	errUnstable = errors.New("the address changes each time it is read")
)

// URL is an address as a browser reads it.
type URL struct{ u *whatwg.Url }

// Parse reads a whole address. Errors: it names no scheme, is not one that a browser follows, or
// has more than 8 KiB or 64 "@".
func Parse(raw string) (URL, error) { return parse(raw, nil) }

func parse(raw string, base *whatwg.Url) (URL, error) {
	if len(raw) > maxLength || strings.Count(raw, "@") > maxAts {
		return URL{}, errTooLong
	}
	u, err := read(raw, base)
	if err != nil {
		return URL{}, err
	}
	// What is handed on is read once more, by the browser. It has to find there what was found
	// here.
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

// String is the address as it is handed on.
func (u URL) String() string { return u.u.Href(false) }

// IsWeb reports whether a browser opens the address by HTTP. Only such addresses have an Origin.
func (u URL) IsWeb() bool {
	return (u.u.Scheme() == "http" || u.u.Scheme() == "https") && u.u.Hostname() != ""
}

// Origin is scheme, host and port, without the default port, in lower case: what the registered
// origins of clients are compared with. It is "" unless IsWeb.
func (u URL) Origin() string {
	if !u.IsWeb() {
		return ""
	}
	return u.u.Scheme() + "://" + u.u.Host()
}

// IsOf reports whether the address is of an origin, in whichever spelling that is given.
func (u URL) IsOf(origin string) bool {
	o, err := Parse(origin)
	return err == nil && o.IsWeb() && o.Origin() == u.Origin()
}

// Hostname is the host in lower case without the port, and without the brackets of an IPv6 address.
func (u URL) Hostname() string { return strings.Trim(u.u.Hostname(), "[]") }

// HasCredentials reports whether the address names a user or a password, which can make one host
// look like another.
func (u URL) HasCredentials() bool { return u.u.Username() != "" || u.u.Password() != "" }

// With is the address with parameters in its query, in place of those of the same names; without
// its fragment.
func (u URL) With(parameters url.Values) string {
	q, _ := url.ParseQuery(u.u.Query()) // a pair that cannot be read is left out
	for name, values := range parameters {
		q[name] = values
	}
	address, _, _ := strings.Cut(u.u.Href(true), "?")
	return address + "?" + q.Encode()
}

// Resolve reads a link on the page at this address: whole, or relative to it. Errors are those
// of Parse.
func (u URL) Resolve(raw string) (URL, error) { return parse(raw, u.u) }

// Segments are the parts of the path between slashes, without the empty ones, percent-decoded.
// One that cannot be decoded, or would hold a slash then, stays as it is.
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

// Query is what follows the question mark, still encoded.
func (u URL) Query() string { return u.u.Query() }

// Fragment is what follows the hash, still encoded.
func (u URL) Fragment() string { return u.u.Fragment() }

// Local is the path and query that a browser opens on an origin when it follows raw from the
// origin's front page. ok is false where raw is empty or leads to another origin.
func Local(origin, raw string) (path string, ok bool) {
	base, err := Parse(origin)
	if err != nil || !base.IsWeb() || strings.TrimSpace(raw) == "" {
		return "", false
	}
	path, ok = base.local(raw)
	if !ok {
		return "", false
	}
	// A path such as //host is another origin by itself.
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

// Canonical is an address in the one spelling that browsers give it, without slashes at its end;
// raw where it cannot be read.
func Canonical(raw string) string {
	if u, err := Parse(raw); err == nil {
		raw = u.String()
	}
	return strings.TrimRight(raw, "/")
}
