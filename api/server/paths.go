package server

import (
	"html"
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// profiles is the path of the process's profiles. Its page is the only one whose path ends in a
// slash, because its links are relative to it.
const profiles = "/admin/debug/pprof"

// namesOfAccounts is the beginning of the paths that may contain an escaped slash, as part of the
// name of an account.
const namesOfAccounts = "/admin/accounts/"

// onePath is middleware that answers 404 to every path that is not in canonical form. A proxy in
// front of the server may resolve dots, double slashes and escapes in another way than the server
// does. What the proxy hides from the outside, such as /admin, must have no other spelling here.
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

// originForm is a request's target without the scheme and authority of an absolute-form (RFC
// 9112 3.2). A target that begins with two slashes is a path, although fasthttp may take its
// first segment for a host.
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

// canonical reports whether a path has the form of routes: segments between single slashes, none of
// them empty, "." or ".." (escaped or not), no escaped slash, no backslash, and no invalid escape.
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

// within is middleware that lets a path and those below it pass. Fiber also calls the middleware
// of a path for paths that only begin with the same letters.
func within(path string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if c.Path() != path && !strings.HasPrefix(c.Path(), path+"/") {
			return noSuchPath(c)
		}
		return c.Next()
	}
}

// noCommandLine is middleware that hides the arguments of the process, which may hold passwords.
func noCommandLine(c *fiber.Ctx) error {
	if c.Path() == profiles+"/cmdline" {
		return noSuchPath(c)
	}
	return c.Next()
}
