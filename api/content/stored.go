package content

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

// Stored opens a stored file for sending. A file of moderate size has then been read in full, or
// is known to be undamaged. The caller adds the rest of the response and sends it. Errors: as
// for Files.OpenFile.
func (s *Sender) Stored(c *fiber.Ctx, of jobs.Stored) (Body, error) {
	digest, err := s.digestOf(c, of)
	if err != nil {
		return Body{}, err
	}
	r, err := s.files.OpenFile(c.UserContext(), of)
	return Body{ReadSeeker: r, Closer: r, Size: of.Length, Digest: digest}, err
}

// OpenPlain opens a stored file decompressed. The caller closes it. Errors: as for
// Files.OpenFile.
func (s *Sender) OpenPlain(
	ctx context.Context, of jobs.Stored, compression ehi.Compression,
) (io.ReadCloser, error) {
	stored, err := s.files.OpenFile(ctx, of)
	if err != nil || compression == "" || compression == ehi.Identity {
		return stored, err
	}
	plain, err := decompress(compression, stored)
	if err != nil {
		return nil, errors.Join(err, stored.Close())
	}
	return readCloser{plain, closers{plain, stored}}, nil
}

// digests caches the SHA-256 of files that were read in full. A committed file never changes.
type digests struct {
	known *lru.Cache[string, []byte]
	reads *singleflight.Group
}

const (
	// knownDigests is how many digests are cached, at about 200 bytes each.
	knownDigests = 1 << 14
	// digestUnasked is the maximum size in bytes of a file that is read before it is first sent,
	// so that its response has a digest, or is an error if the file is damaged. A larger file is
	// read first only if the client wants its digest; otherwise its checksum is verified while
	// it is sent.
	digestUnasked = 64 << 20
)

func newDigests() (digests, error) {
	known, err := lru.New[string, []byte](knownDigests)
	return digests{known, new(singleflight.Group)}, err
}

// digestOf returns the SHA-256 of a file as stored; nil if the client does not want it or would
// have to wait for it. Errors: as for Files.OpenFile.
func (s *Sender) digestOf(c *fiber.Ctx, of jobs.Stored) ([]byte, error) {
	wants := weighSHA256(c.Get("Want-Repr-Digest"))
	key := of.Job + "." + of.Object + "." + strconv.FormatInt(of.Offset, 10)
	digest, known := s.digests.known.Get(key)
	if !known && of.Length > digestUnasked && wants <= 0 {
		return nil, nil
	}
	if !known {
		ctx := context.WithoutCancel(c.UserContext()) // other requests may wait for the same digest
		read, err, _ := s.digests.reads.Do(
			key,
			func() (any, error) { return s.readDigest(ctx, of) },
		)
		if err != nil {
			return nil, err
		}
		digest = read.([]byte)
		s.digests.known.Add(key, digest)
	}
	if wants == 0 {
		return nil, nil
	}
	return digest, nil
}

func (s *Sender) readDigest(ctx context.Context, of jobs.Stored) (_ []byte, err error) {
	r, err := s.files.OpenFile(ctx, of)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return nil, jobs.Damage(err)
	}
	return h.Sum(nil), nil
}

// weighSHA256 returns the weight of sha-256 in a Want-Repr-Digest (RFC 9530 4), 0 to 10; -1 if
// the field is absent, does not name it, or is malformed.
func weighSHA256(want string) int {
	weight := -1
	for member := range strings.SplitSeq(want, ",") {
		key, value, _ := strings.Cut(strings.Trim(member, " \t"), "=")
		if key != "sha-256" {
			continue
		}
		value, _, _ = strings.Cut(value, ";")
		weight = -1 // if a key occurs twice, the last member counts (RFC 9651 3.2)
		if n, err := strconv.ParseUint(value, 10, 8); err == nil && n <= 10 {
			weight = int(n)
		}
	}
	return weight
}

const reprDigest = "Repr-Digest"

// setDigest sets the digest of the selected representation (RFC 9530 3), also if the response
// has only a part of it or none of it.
func setDigest(c *fiber.Ctx, digest []byte) {
	if digest != nil {
		c.Set(reprDigest, "sha-256=:"+base64.StdEncoding.EncodeToString(digest)+":")
	}
}

// confirmed withholds the last bytes of a reader until the reader has ended without an error,
// because damage of a compressed file is found only at its very end.
type confirmed struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (r *confirmed) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.left -= int64(n)
	if err != nil || r.left > 0 || n == 0 {
		return n, err
	}
	var more [1]byte
	switch _, err := io.ReadFull(r.ReadCloser, more[:]); {
	case errors.Is(err, io.EOF):
		return n, nil
	case err == nil:
		return 0, errors.New("a file is longer than its record says")
	default:
		return 0, err
	}
}
