package content

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// precondition evaluates the preconditions of a request for something with a tag, in quotes, in
// the order of RFC 9110 13.2.2. It returns 412, 304, or 0 for the normal response.
func precondition(c *fiber.Ctx, tag string, modified time.Time) int {
	changedSince := func(header string) (changed, ok bool) {
		at, err := http.ParseTime(c.Get(header))
		return modified.Truncate(time.Second).After(at), err == nil && !modified.IsZero()
	}
	if asked := c.Get(fiber.HeaderIfMatch); asked != "" {
		if !matchesStrongly(asked, tag) {
			return http.StatusPreconditionFailed
		}
	} else if changed, ok := changedSince(fiber.HeaderIfUnmodifiedSince); ok && changed {
		return http.StatusPreconditionFailed
	}
	if asked := c.Get(fiber.HeaderIfNoneMatch); asked != "" {
		if matches(asked, tag) {
			return http.StatusNotModified
		}
	} else if changed, ok := changedSince(fiber.HeaderIfModifiedSince); ok && !changed {
		return http.StatusNotModified
	}
	return 0
}

// matchesStrongly evaluates If-Match (RFC 9110 13.1.1, strong comparison).
func matchesStrongly(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		if t = strings.TrimSpace(t); t == "*" || t == tag {
			return true
		}
	}
	return false
}

// matches evaluates If-None-Match (RFC 9110 13.1.2, weak comparison).
func matches(header, tag string) bool {
	if header == "*" {
		return true
	}
	for _, t := range strings.Split(header, ",") {
		if strings.TrimPrefix(strings.TrimSpace(t), "W/") == tag {
			return true
		}
	}
	return false
}

// byteRange parses a Range of one range of bytes (RFC 9110 14.1.2) of something with size bytes.
// ok is false for anything else; length is 0 for a range that lies outside.
func byteRange(header string, size int64) (start, length int64, ok bool) {
	unit, set, found := strings.Cut(header, "=")
	first, last, ranged := strings.Cut(strings.TrimSpace(set), "-")
	if !found || !ranged || !strings.EqualFold(unit, "bytes") {
		return 0, 0, false
	}
	if first == "" {
		n, ok := position(last)
		n = min(n, size)
		return size - n, n, ok
	}
	from, ok := position(first)
	to := int64(math.MaxInt64 - 1)
	if ok && last != "" {
		to, ok = position(last)
	}
	if !ok || to < from {
		return 0, 0, false
	}
	return from, max(0, min(to+1, size)-from), true
}

// position parses digits. It caps numbers at math.MaxInt64-1.
func position(digits string) (n int64, ok bool) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return min(n, math.MaxInt64-1), true
}
