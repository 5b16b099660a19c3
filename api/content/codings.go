package content

import (
	"io"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"ehi-server/shared/ehi"
)

// Accepts reports whether Accept-Encoding names a content coding (RFC 9110 12.5.3) with another
// weight than 0.
func Accepts(c *fiber.Ctx, coding string) bool {
	for _, e := range strings.Split(c.Get(fiber.HeaderAcceptEncoding), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(e), ";")
		if strings.EqualFold(strings.TrimSpace(name), coding) {
			q, found := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			weight, err := strconv.ParseFloat(q, 64)
			return !found || err == nil && weight > 0
		}
	}
	return false
}

// decompress reads what was compressed with gzip or zstd. Closing it does not close r.
func decompress(from ehi.Compression, r io.Reader) (io.ReadCloser, error) {
	if from == ehi.Gzip {
		return gzip.NewReader(r)
	}
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
