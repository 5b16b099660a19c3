package server

import (
	"html"
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// profiles is where the profiles of the process are. Its page alone has a path that ends in a
// slash, which its links are relative to.
const profiles = "/admin/debug/pprof"

// namesOfAccounts is below what a slash may be escaped: it may be part of an account's name.
const namesOfAccounts = "/admin/accounts/"

// onePath answers 404 to every path that is not in canonical form, as to any other that leads
// nowhere. A proxy in front reads paths in its own way, with dots, doubled slashes and escapes
// resolved: what it keeps from the outside, such as /admin, must have no other spelling here.
func onePath(c *fiber.Ctx) error {
	target := originForm(c.OriginalURL())
	path := target
	if end := strings.IndexAny(target, "?#"); end >= 0 {
		path = target[:end]
	}
	if path != c.Path() || !canonical(path) {
		return noSuchPath(c)
	}
	c.Request().Header.SetRequestURI(target) // so that no URL is made of another authority
	return c.Next()
}

// originForm is a request's target without the scheme and authority of its absolute-form (RFC
// 9112 3.2). A target that begins with two slashes is a path, where fasthttp may take its first
// segment for a host.
func originForm(target string) string {
	_, rest, absolute := strings.Cut(target, "://")
	if !absolute || strings.ContainsAny(target[:len(target)-len(rest)-len("://")], "/?#") {
		return target
	}
	end := strings.IndexAny(rest, "/?#")
	switch {
	case end < 0:
		return "/"
	case rest[end] != '/':
		return "/" + rest[end:]
	}
	return rest[end:]
}

func noSuchPath(c *fiber.Ctx) error {
	return fiber.NewError(http.StatusNotFound, "Cannot "+c.Method()+" "+html.EscapeString(c.Path()))
}

// canonical reports whether a path is spelt in the one form that routes have: whole segments
// between single slashes, none of them "." or ".." (escaped or not), no escaped slash, no
// backslash, and nothing that cannot be unescaped.
func canonical(path string) bool {
	if path == "/" || path == profiles+"/" {
		return true
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok || strings.Contains(path, `\`) {
		return false
	}
	for segment := range strings.SplitSeq(rest, "/") {
		plain, err := url.PathUnescape(segment)
		if err != nil || plain == "" {
			return false
		}
		if plain != segment && strings.Contains(plain, "/") &&
			!strings.HasPrefix(path, namesOfAccounts) {
			return false
		}
		for part := range strings.SplitSeq(plain, "/") {
			if part == "." || part == ".." {
				return false
			}
		}
	}
	return true
}

// within lets paths pass that are a path or below it. Fiber's middleware also gets those that only
// begin with the same letters.
func within(path string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if c.Path() != path && !strings.HasPrefix(c.Path(), path+"/") {
			return noSuchPath(c)
		}
		return c.Next()
	}
}

// noCommandLine hides the process's arguments, among which are passwords.
func noCommandLine(c *fiber.Ctx) error {
	if c.Path() == profiles+"/cmdline" {
		return noSuchPath(c)
	}
	return c.Next()
}
