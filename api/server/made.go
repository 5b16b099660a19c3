package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"
)

// made is a public answer that was made once, so that nobody keeps the server busy by asking for it. Where it
// names the origin by which it was asked for, it has a gap: an answer for each origin would be one for each
// header that somebody makes up.
type made struct {
	mime   string
	parts  [][]byte // there is a gap between two of them
	digest []byte
}

func newMade(mime string, parts ...[]byte) *made {
	m := &made{mime: mime, parts: parts}
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	m.digest = h.Sum(nil)
	return m
}

// send answers with m and what fills its gaps, or with 304 to who has it (RFC 9110 13.1.2).
func (m *made) send(c *fiber.Ctx, filling []byte) error {
	whole := sha256.Sum256(slices.Concat(m.digest, filling))
	tag := `"` + base64.RawURLEncoding.EncodeToString(whole[:16]) + `"`
	c.Set(fiber.HeaderETag, tag)
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	if matches(c.Get(fiber.HeaderIfNoneMatch), tag) {
		return empty(c, http.StatusNotModified)
	}
	c.Set(fiber.HeaderContentType, m.mime)
	return c.Send(bytes.Join(m.parts, filling))
}
