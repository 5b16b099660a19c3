package content

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"
)

// Prepared is a public response that is rendered once, so that requests for it cost little. It
// may have gaps for the origin that the client used. (A copy per origin could be made to grow
// with invented Host headers.)
type Prepared struct {
	mime   string
	parts  [][]byte // with a gap between every two
	digest []byte
}

// Prepare returns a response from its parts, with a gap between every two.
func Prepare(mime string, parts ...[]byte) *Prepared {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	return &Prepared{mime: mime, parts: parts, digest: h.Sum(nil)}
}

// Send sends the parts with filling in the gaps, or 304 to a client that has the response
// already (RFC 9110 13.1.2).
func (p *Prepared) Send(c *fiber.Ctx, filling []byte) error {
	whole := sha256.Sum256(slices.Concat(p.digest, filling))
	tag := `"` + base64.RawURLEncoding.EncodeToString(whole[:16]) + `"`
	c.Set(fiber.HeaderETag, tag)
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	if matches(c.Get(fiber.HeaderIfNoneMatch), tag) {
		return Empty(c, http.StatusNotModified)
	}
	c.Set(fiber.HeaderContentType, p.mime)
	return c.Send(bytes.Join(p.parts, filling))
}
