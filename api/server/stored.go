package server

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"strings"

	"ehi-server/exporter/jobs"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// digests remembers the SHA-256 of files that were read whole. A committed file never changes.
type digests struct {
	known *lru.Cache[string, []byte]
	reads singleflight.Group
}

const (
	// knownDigests bounds what is remembered: about 200 bytes each.
	knownDigests = 1 << 14
	// digestUnasked is the size in bytes up to which a file is read before it is sent the first time,
	// so that its digest can be sent, and damage be answered by an error; a larger one is read
	// beforehand for who wants its digest, and else compared with its checksum while it is sent.
	digestUnasked = 64 << 20
)

func newDigests() (*digests, error) {
	known, err := lru.New[string, []byte](knownDigests)
	return &digests{known: known}, err
}

// digestOf is the SHA-256 of a file as it is stored; nil where it is not to be had. Errors: as openStored.
func (s *Server) digestOf(c *fiber.Ctx, of jobs.Stored) ([]byte, error) {
	wants := weighSHA256(c.Get("Want-Repr-Digest"))
	key := of.Job + "." + of.Object + "." + strconv.FormatInt(of.Offset, 10)
	digest, known := s.digests.known.Get(key)
	if !known && of.Length > digestUnasked && wants <= 0 {
		return nil, nil
	}
	if !known {
		ctx := context.WithoutCancel(c.UserContext()) // it is not the first asker's alone
		read, err, _ := s.digests.reads.Do(key, func() (any, error) { return s.readDigest(ctx, of) })
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

func (s *Server) readDigest(ctx context.Context, of jobs.Stored) (_ []byte, err error) {
	r, err := s.jobs.OpenFile(ctx, of)
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

// weighSHA256 is the weight of sha-256 in a Want-Repr-Digest (RFC 9530 4): 0 to 10; -1 where the field
// says nothing of it that is understood, or is absent.
func weighSHA256(want string) int {
	weight := -1
	for member := range strings.SplitSeq(want, ",") {
		key, value, _ := strings.Cut(strings.Trim(member, " \t"), "=")
		if key != "sha-256" {
			continue
		}
		value, _, _ = strings.Cut(value, ";")
		weight = -1 // of a key that is there twice the last counts (RFC 9651 3.2)
		if n, err := strconv.ParseUint(value, 10, 8); err == nil && n <= 10 {
			weight = int(n)
		}
	}
	return weight
}

// setDigest says what the digest of the selected representation is (RFC 9530 3): also where a part of
// it is sent, or nothing of it.
func setDigest(c *fiber.Ctx, digest []byte) {
	if digest != nil {
		c.Set(reprDigest, "sha-256=:"+base64.StdEncoding.EncodeToString(digest)+":")
	}
}

const reprDigest = "Repr-Digest"

// confirmed gives the last of size bytes of a reader only once that has come to its end without an
// error: what is found wrong of a compressed file is found at its very end.
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
