package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Files that are rendered from the job's record rather than stored.
const (
	attachmentsFile = "attachments.DocumentReference.ndjson"
	errorsFile      = "errors.OperationOutcome.ndjson"
)

// approved finds the request's job, where its files may be had (EHI-12).
func (s *Server) approved(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := s.jobs.Released(c.UserContext(), s.Origins.Actor(c), c.Params("id"))
	return request.Noted(c, j, err)
}

// handleDownload sends one file of an export. The name is looked up in the job's own table and becomes no path.
func (s *Server) handleDownload(c *fiber.Ctx) error {
	j, err := s.approved(c)
	if err != nil {
		return err
	}
	name, r := c.Params("file"), reachOf(request.Access(c), j)
	if !r.file(name) {
		return beyondReach(c)
	}
	cut, done, err := s.faultyFile(c, j, name)
	if done {
		return err
	}
	s.trail.Disclose(c, j)
	c.Set(fiber.HeaderContentDisposition, "attachment")
	switch name {
	case attachmentsFile:
		return s.sendBytes(c, j, "attachments", s.attachmentLines(c, j))
	case errorsFile:
		return s.sendBytes(c, j, "errors", errorLines(j, r))
	default:
		return s.sendOutput(c, j, name, cut)
	}
}

// sendOutput sends a file of the export; cut breaks it off in the middle.
func (s *Server) sendOutput(c *fiber.Ctx, j *ehi.Job, name string, cut bool) error {
	f, err := s.jobs.FindFile(c.UserContext(), j, name)
	if err != nil {
		return err
	}
	out, err := s.contentOf(c, jobs.StoredFile(j, f))
	if err != nil {
		return err
	}
	out.mime, out.modified, out.cut = mimeNDJSON, j.ApprovedAt, cut
	out.tag = j.ID + "-" + f.Object + "-" + strconv.FormatInt(f.Offset, 10)
	switch coding := string(f.Compression); {
	case f.Compression == "" || f.Compression == ehi.Identity:
		out.compress = true
		return s.send(c, out)
	case accepts(c, coding):
		out.coding = coding
		return s.send(c, out)
	}
	return s.sendUnpacked(c, out, f)
}

// contentOf opens a stored file to be sent. One of moderate size was read whole by then, or is known to
// have been right.
func (s *Server) contentOf(c *fiber.Ctx, of jobs.Stored) (content, error) {
	digest, err := s.digestOf(c, of)
	if err != nil {
		return content{}, err
	}
	r, err := s.jobs.OpenFile(c.UserContext(), of)
	return content{ReadSeeker: r, closer: r, size: of.Length, digest: digest}, err
}

// sendUnpacked sends a compressed file to a client that does not take it as it is stored. Ranges of it cannot be had.
func (s *Server) sendUnpacked(c *fiber.Ctx, out content, f ehi.File) error {
	plain, err := unpack(f.Compression, out.ReadSeeker)
	if err != nil {
		return errors.Join(err, out.closer.Close())
	}
	out.tag += "-plain"
	if answered, err := out.headers(c); answered {
		return errors.Join(err, plain.Close(), out.closer.Close())
	}
	c.Set(fiber.HeaderAcceptRanges, "none")
	body := readCloser{plain, closers{plain, out.closer}}
	return s.sendStream(c, &confirmed{body, f.Bytes}, f.Bytes)
}

// openPlain opens a file of an export as it was before it was compressed.
func (s *Server) openPlain(ctx context.Context, j *ehi.Job, f ehi.File) (io.ReadCloser, error) {
	stored, err := s.jobs.OpenFile(ctx, jobs.StoredFile(j, f))
	if err != nil || f.Compression == "" || f.Compression == ehi.Identity {
		return stored, err
	}
	plain, err := unpack(f.Compression, stored)
	if err != nil {
		return nil, errors.Join(err, stored.Close())
	}
	return readCloser{plain, closers{plain, stored}}, nil
}

func unpack(from ehi.Compression, r io.Reader) (io.ReadCloser, error) {
	if from == ehi.Gzip {
		return gzip.NewReader(r)
	}
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// closers closes both.
type closers [2]io.Closer

// Close implements io.Closer.
func (c closers) Close() error { return errors.Join(c[0].Close(), c[1].Close()) }

// sendBytes sends a file that is rendered from the job's record; an empty one does not exist (REAL-3). Tokens may see different ones: the tag is of
// the content.
func (s *Server) sendBytes(c *fiber.Ctx, j *ehi.Job, name string, data []byte) error {
	if len(data) == 0 {
		return jobs.ErrFileNotFound
	}
	digest := sha256.Sum256(data)
	name += "-" + strconv.FormatUint(binary.BigEndian.Uint64(digest[:]), 36)
	return s.send(c, content{
		ReadSeeker: bytes.NewReader(data), closer: io.NopCloser(nil), size: int64(len(data)), digest: digest[:],
		mime: mimeNDJSON, tag: j.ID + "-" + name, modified: j.ApprovedAt, compress: true,
	})
}

// attachmentLines are the EHIDocumentReferences of the job's attachments (EHI-11).
func (s *Server) attachmentLines(c *fiber.Ctx, j *ehi.Job) []byte {
	var out []byte
	for _, a := range j.Attachments {
		doc := fhir.NewEHIDocument(fhir.MakeID(j.ID, a.Object), subjectOf(j), s.wireAttachment(c, j, a))
		line, err := json.Marshal(doc)
		if err != nil { // strings and numbers only: cannot fail
			panic(err)
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

// subjectOf is a reference to whom a job's documents are about; "" for those of all patients' exports.
func subjectOf(j *ehi.Job) string {
	switch {
	case j.Level == ehi.OnePatient && fhir.ValidID(j.Patient.ID):
		return "Patient/" + j.Patient.ID
	case j.Level == ehi.OneGroup && fhir.ValidID(j.Group):
		return "Group/" + j.Group
	}
	return ""
}

func (s *Server) wireAttachment(c *fiber.Ctx, j *ehi.Job, a ehi.Attachment) fhir.Attachment {
	u := jobURL(s.Origins.Base(c), j.ID, "/download/attachments/"+escapeName(a.Name))
	return fhir.NewAttachment(a.Name, a.ContentType, u, a.Size, a.SHA1, a.CreatedAt)
}

// errorLines report what of the request was left out (EHI-6, BULK-1), what a token does not open, and errors that were ordered.
func errorLines(j *ehi.Job, r reach) []byte {
	out := r.lines()
	for _, n := range slices.Concat(j.KickOff.Notices(), r.absent(j)) {
		out = append(out, n.Outcome().Line()...)
	}
	for _, text := range faultLines(j) {
		out = append(out, fhir.Outcome("error", string(ehi.Internal), text).Line()...)
	}
	return out
}

// handleAttachment sends a document that an administrator added.
func (s *Server) handleAttachment(c *fiber.Ctx) error {
	j, err := s.approved(c)
	if err != nil {
		return err
	}
	if !reachOf(request.Access(c), j).opens(documentType) {
		return beyondReach(c)
	}
	s.trail.Disclose(c, j)
	return s.sendDocument(c, j)
}

// sendDocument sends the document of a job that the path names.
func (s *Server) sendDocument(c *fiber.Ctx, j *ehi.Job) error {
	a, ok := j.Attachment(unescapeName(c.Params("file")))
	if !ok {
		return jobs.ErrFileNotFound
	}
	out, err := s.contentOf(c, jobs.StoredDocument(j, a))
	if err != nil {
		return err
	}
	offerAs(c, a.Name)
	inert(c)
	out.mime, out.modified, out.tag = a.ContentType, a.CreatedAt, j.ID+"-a-"+escapeName(a.Name)
	return s.send(c, out)
}

// content is something that can be sent whole or in part.
type content struct {
	io.ReadSeeker
	closer   io.Closer
	size     int64
	digest   []byte // its SHA-256; nil where that is not known or not wanted
	mime     string
	tag      string // names these very bytes for ever: a committed file never changes
	modified time.Time
	compress bool   // whether gzip is offered
	cut      bool   // whether it breaks off in the middle
	coding   string // the content coding that it is stored in, "" for none
}

// headers sets what every answer about f has in common. answered is true where the client has it already.
func (f content) headers(c *fiber.Ctx) (answered bool, err error) {
	tag := `"` + f.tag + `"`
	c.Set(fiber.HeaderContentType, f.mime)
	c.Set(fiber.HeaderETag, tag)
	c.Set(fiber.HeaderAcceptRanges, "bytes")
	c.Set(fiber.HeaderLastModified, f.modified.UTC().Format(http.TimeFormat))
	c.Set(fiber.HeaderCacheControl, "private, no-cache")
	if f.mime == mimeNDJSON {
		c.Vary(fiber.HeaderAcceptEncoding)
	}
	if f.coding != "" {
		c.Set(fiber.HeaderContentEncoding, f.coding)
	}
	switch f.condition(c, tag) {
	case http.StatusPreconditionFailed:
		return true, outcome(c, http.StatusPreconditionFailed, "error", "conflict", "The file is not the one that was asked for")
	case http.StatusNotModified:
		return true, empty(c, http.StatusNotModified)
	}
	return false, nil
}

// condition evaluates a request's preconditions in the order of RFC 9110, 13.2.2: 412, 304, or 0 where the answer is the content.
func (f content) condition(c *fiber.Ctx, tag string) int {
	changedSince := func(header string) (changed, ok bool) {
		at, err := http.ParseTime(c.Get(header))
		return f.modified.Truncate(time.Second).After(at), err == nil
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

// send answers with a content: HEAD, Range (RFC 9110 14.2), If-None-Match, gzip to those who accept it (EHI-12, REAL-7).
func (s *Server) send(c *fiber.Ctx, f content) error {
	zip := f.compress && !f.cut && c.Get(fiber.HeaderRange) == "" && accepts(c, "gzip")
	if zip {
		f.tag += "-gzip"
	}
	if answered, err := f.headers(c); answered {
		return errors.Join(err, f.closer.Close())
	}
	if zip {
		return s.sendGzip(c, f)
	}
	return s.sendRange(c, f)
}

func (s *Server) sendRange(c *fiber.Ctx, f content) error {
	start, length := int64(0), f.size
	// Range is defined for GET alone (RFC 9110, 14.2).
	if ir := c.Get("If-Range"); c.Method() == fiber.MethodGet && (ir == "" || ir == `"`+f.tag+`"`) {
		// What is no range is ignored, and several ranges are answered with the whole, as RFC 9110 allows.
		if from, n, ok := byteRange(c.Get(fiber.HeaderRange), f.size); ok && n == 0 {
			c.Set(fiber.HeaderContentRange, "bytes */"+strconv.FormatInt(f.size, 10))
			return errors.Join(outcome(c, http.StatusRequestedRangeNotSatisfiable, "error", "invalid", "The range lies outside of the file"), f.closer.Close())
		} else if ok {
			start, length = from, n
			c.Status(http.StatusPartialContent)
			c.Set(fiber.HeaderContentRange, fmt.Sprintf("bytes %d-%d/%d", start, start+length-1, f.size))
		}
	}
	setDigest(c, f.digest)
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		return errors.Join(err, f.closer.Close())
	}
	if f.cut {
		return breakOff(c, f, length)
	}
	return s.sendStream(c, readCloser{io.LimitReader(f, length), f.closer}, length)
}

// byteRange reads a Range of one range of bytes (RFC 9110, 14.1.2) of a content of the given size. ok is false for anything else;
// length is 0 for a range of which the content has nothing.
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

// position reads digits; a number that is too large is the largest that is not.
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

// readCloser closes the file when the answer has been sent.
type readCloser struct {
	io.Reader
	io.Closer
}

func (s *Server) sendGzip(c *fiber.Ctx, f content) error {
	c.Set(fiber.HeaderContentEncoding, "gzip")
	if c.Method() == fiber.MethodHead {
		return f.closer.Close()
	}
	s.writeStream(c, func(w *bufio.Writer) error {
		defer f.closer.Close() // read only
		gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := copyWhole(gz, f, f.size); err != nil {
			return err
		}
		return gz.Close()
	})
	return nil
}

// accepts reads Accept-Encoding (RFC 9110 12.5.3) for a content coding; a weight of 0 refuses.
func accepts(c *fiber.Ctx, coding string) bool {
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

// matchesStrongly reads If-Match (RFC 9110, 13.1.1, strong comparison).
func matchesStrongly(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		if t = strings.TrimSpace(t); t == "*" || t == tag {
			return true
		}
	}
	return false
}

// matches reads If-None-Match (RFC 9110 13.1.2, weak comparison).
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
