package verify

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"ehi-server/api/client"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// Native verifies the native content of one export: first File for each file of the manifest, then
// Files, then Get for each of these, and Content at the end. File may run several times at once,
// and so may Get. Keys of rows are in memory, with about 50 bytes for each.
type Native struct {
	Client *client.Client
	// Pages is shared with other exports.
	Pages *Pages
	// Patient is the only patient of the export; "" for a population.
	Patient string
	// Resume cuts the download of each archive off in the middle, and asks for the rest by Range.
	Resume bool
	// Folder is where archives lie while they are verified; "" is that of the system.
	Folder string

	mu        sync.Mutex
	listed    []Listed
	seen      map[string]bool // ids and URLs
	described map[string]*datapackage.Resource
	keys      keys
	content   Content
}

// File is File, and takes the native files that the file lists. Tally.Sum leaves the lines of
// lists out, as their IDs and URLs belong to one export.
func (n *Native) File(ctx context.Context, e ehi.ManifestEntry) (Tally, error) {
	var found []Listed
	t, err := file(ctx, n.Client, e, func(line []byte) (bool, error) {
		l, ok, err := listedIn(line)
		if ok {
			found = append(found, l)
		}
		return ok, err
	})
	if err != nil {
		return t, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listed = append(n.listed, found...)
	return t, nil
}

// Files checks what the lists say, reads the descriptors of tables, and returns the other files.
// Errors: ErrWrong, or the client's.
func (n *Native) Files(ctx context.Context) (others []Listed, err error) {
	n.described = map[string]*datapackage.Resource{}
	for _, l := range n.listed {
		if err := n.unique(l, l.URL); err != nil {
			return nil, err
		}
	}
	for _, l := range n.listed {
		if err := n.Pages.check(ctx, n.Client, l); err != nil {
			return nil, err
		}
		if mediaType(l.ContentType) != datapackage.MediaType {
			others = append(others, l)
		} else if err := n.descriptor(ctx, l); err != nil {
			return nil, err
		}
	}
	return others, nil
}

// unique checks that no ID and no place was listed before, and whose the file is.
func (n *Native) unique(l Listed, at string) error {
	if n.Patient != "" && l.Subject != "Patient/"+n.Patient {
		return Wrongf("%s has the subject %q in an export of the patient %s", at, l.Subject,
			n.Patient)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	for _, what := range []string{"id " + l.ID, "file " + at} {
		if n.seen[what] {
			return Wrongf("the %s is listed twice", what)
		}
		n.seen[what] = true
	}
	return nil
}

func mediaType(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// descriptor reads the description of loose tables. Each table that it names is listed.
func (n *Native) descriptor(ctx context.Context, l Listed) error {
	var data bytes.Buffer
	if err := n.loose(ctx, l, func(r io.Reader) error {
		_, err := data.ReadFrom(r)
		return err
	}); err != nil {
		return err
	}
	p, err := datapackage.Parse(data.Bytes())
	if err != nil {
		return Wrongf("%s: %v", l.URL, err)
	}
	base, err := url.Parse(l.URL)
	if err != nil {
		return Wrongf("%s: %v", l.URL, err)
	}
	for i := range p.Resources {
		r := &p.Resources[i]
		if len(r.Path) != 1 {
			return Wrongf("%s: the table %s has %d paths", l.URL, r.Name, len(r.Path))
		}
		at := base.ResolveReference(&url.URL{Path: r.Path[0]}).String()
		if !n.seen["file "+at] {
			return Wrongf("%s describes %s, which is not listed", l.URL, at)
		}
		if n.described[at] != nil {
			return Wrongf("%s describes %s twice", l.URL, at)
		}
		n.described[at] = r
	}
	n.keys.expect(p)
	n.count(1, l.Size)
	return nil
}

// count counts files that were verified.
func (n *Native) count(files, bytes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.content.Files += files
	n.content.Bytes += bytes
}

// Get downloads and verifies a file that Files returned, with all that is in it if it is an
// archive. Errors: ErrWrong, or the client's.
func (n *Native) Get(ctx context.Context, l Listed) error {
	switch table := n.described[l.URL]; {
	case mediaType(l.ContentType) == "application/zip" && l.Format.Code == "zip":
		return n.archive(ctx, l)
	case table != nil:
		if err := n.loose(ctx, l, func(r io.Reader) error {
			return n.table(r, table, l, &n.keys)
		}); err != nil {
			return err
		}
	default:
		if err := n.loose(ctx, l, func(r io.Reader) error {
			return n.document(r, l)
		}); err != nil {
			return err
		}
	}
	n.count(1, l.Size)
	return nil
}

// loose downloads a file, passes its content to read, and checks size, hash and media type.
func (n *Native) loose(ctx context.Context, l Listed, read func(io.Reader) error) error {
	return n.Client.StreamFrom(ctx, l.URL, 0, "", func(h http.Header, r io.Reader) error {
		if got := h.Get("Content-Type"); got != l.ContentType {
			return Wrongf("%s is listed as %q, and comes as %q", l.URL, l.ContentType, got)
		}
		return l.check(r, read)
	})
}

// check passes content to read, and checks its size and hash.
func (l Listed) check(r io.Reader, read func(io.Reader) error) error {
	m := newMeasured(r)
	if err := read(m); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, m); err != nil { // what read has left
		return err
	}
	return m.compare(l)
}

// measured counts and hashes what is read through it.
type measured struct {
	from io.Reader
	size int64
	sha1 hash.Hash
}

func newMeasured(r io.Reader) *measured { return &measured{from: r, sha1: sha1.New()} }

// Read implements io.Reader.
func (m *measured) Read(p []byte) (int, error) {
	k, err := m.from.Read(p)
	m.size += int64(k)
	_, _ = m.sha1.Write(p[:k]) // hashes never fail
	return k, err
}

// compare compares the content with the list.
func (m *measured) compare(l Listed) error {
	if m.size != l.Size {
		return Wrongf("%s has %d bytes, and is listed with %d", l.URL, m.size, l.Size)
	}
	digest := base64.StdEncoding.EncodeToString(m.sha1.Sum(nil))
	if l.Hash != "" && l.Hash != digest {
		return Wrongf("%s has the hash %s, and is listed with %s", l.URL, digest, l.Hash)
	}
	return nil
}

// describedAs compares the content with the description of a table.
func (m *measured) describedAs(r *datapackage.Resource, at string) error {
	if r.Bytes != m.size {
		return Wrongf("%s has %d bytes, and is described with %d", at, m.size, r.Bytes)
	}
	digest := "sha1:" + hex.EncodeToString(m.sha1.Sum(nil))
	if r.Hash != "" && r.Hash != digest {
		return Wrongf("%s has the hash %s, and is described with %s", at, digest, r.Hash)
	}
	return nil
}

// document adds a document to the sum.
func (n *Native) document(r io.Reader, l Listed) error {
	content := sha256.New()
	size, err := io.Copy(content, r)
	if err != nil {
		return err
	}
	whole := sha256.New()
	for _, part := range [][]byte{
		content.Sum(nil), []byte(l.ContentType), {0}, []byte(l.Title),
	} {
		_, _ = whole.Write(part) // hashes never fail
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.content.Documents.Lines++
	n.content.Documents.Bytes += size
	n.content.Documents.Sum.add([sha256.Size]byte(whole.Sum(nil)))
	return nil
}

// archive downloads an archive into a file, which goes away afterwards, and verifies it.
func (n *Native) archive(ctx context.Context, l Listed) (err error) {
	f, err := os.CreateTemp(n.Folder, "archive-*.zip")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if err := n.download(ctx, l, f); err != nil {
		return err
	}
	inside, err := n.unpack(ctx, l, f)
	if err != nil {
		return err
	}
	n.count(inside+1, l.Size)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.content.Archives++
	if n.Resume {
		n.content.Resumed++
	}
	return nil
}

// errCut ends a download in the middle.
var errCut = errors.New("cut off")

// download stores an archive, in two parts if Resume is set.
func (n *Native) download(ctx context.Context, l Listed, f *os.File) error {
	m := newMeasured(nil)
	var etag string
	begin := func(h http.Header, r io.Reader) error {
		if got := h.Get("Content-Type"); got != l.ContentType {
			return Wrongf("%s is listed as %q, and comes as %q", l.URL, l.ContentType, got)
		}
		etag, m.from = h.Get("ETag"), r
		if !n.Resume || l.Size < 2 {
			_, err := io.Copy(f, m)
			return err
		}
		if etag == "" {
			return Wrongf("%s has no ETag: its download cannot resume", l.URL)
		}
		if _, err := io.CopyN(f, m, l.Size/2); errors.Is(err, io.EOF) {
			return Wrongf("%s has %d bytes, and is listed with %d", l.URL, m.size, l.Size)
		} else if err != nil {
			return err
		}
		return errCut
	}
	err := n.Client.StreamFrom(ctx, l.URL, 0, "", begin)
	if errors.Is(err, errCut) {
		err = n.Client.StreamFrom(ctx, l.URL, m.size, etag, func(_ http.Header, r io.Reader) error {
			m.from = r
			_, err := io.Copy(f, m)
			return err
		})
	}
	if err != nil {
		return err
	}
	return m.compare(l)
}

// Content checks that no key of a row leads nowhere, and returns what was verified. All Gets are
// done.
func (n *Native) Content() (Content, error) {
	return n.content, n.keys.closed()
}
