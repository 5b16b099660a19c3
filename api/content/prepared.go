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

// Prepared is a public answer that is rendered once, so that nobody keeps the server busy by asking
// for it. It may have gaps for the origin that the client used: an answer prepared for each origin
// would be one for each Host header that somebody makes up.
type Prepared struct {
	mime   string
	parts  [][]byte // with a gap between each two
	digest []byte
}

// Prepare makes an answer from its parts; there is a gap between each two of them.
func Prepare(mime string, parts ...[]byte) *Prepared {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	return &Prepared{mime: mime, parts: parts, digest: h.Sum(nil)}
}

// Send answers with the parts and what fills their gaps, or with 304 to a client that has it
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
