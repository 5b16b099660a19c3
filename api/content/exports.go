package content

import (
	"mime"
	"net/url"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// SendOutput sends a file of an export, in the content coding in which it is stored if the
// client accepts that. cut breaks the response off in the middle, to test clients. Errors: as
// for Files.OpenFile.
func (s *Sender) SendOutput(c *fiber.Ctx, j *ehi.Job, f ehi.File, cut bool) error {
	out, err := s.Stored(c, jobs.StoredFile(j, f))
	if err != nil {
		return err
	}
	out.MIME, out.Modified, out.Cut = NDJSON, j.ApprovedAt, cut
	if f.Kind == ehi.Archive {
		out.MIME = "application/zip"
	}
	// Not by its place in the store: that would depend on files which the client does not get.
	out.Tag = j.ID + "-" + files.Sum(f.Sum).Hex()
	if f.Sum == "" { // of an older build
		out.Tag = j.ID + "-" + f.Object + "-" + strconv.FormatInt(f.Offset, 10)
	}
	switch coding := string(f.Compression); {
	case f.Compression == "" || f.Compression == ehi.Identity:
		out.Compress = f.Kind != ehi.Archive
		return s.Send(c, out)
	case Accepts(c, coding):
		out.Coding = coding
		return s.Send(c, out)
	}
	return s.SendDecompressed(c, out, f.Compression, f.Bytes)
}

// SendDocument sends the document of a job that a path segment names. Browsers save it and run
// nothing in it. Errors: jobs.ErrFileNotFound, and those of Files.OpenFile.
func (s *Sender) SendDocument(c *fiber.Ctx, j *ehi.Job, segment string) error {
	a, ok := j.Attachment(unescaped(segment))
	if !ok {
		return jobs.ErrFileNotFound
	}
	out, err := s.Stored(c, jobs.StoredDocument(j, a))
	if err != nil {
		return err
	}
	SaveAs(c, a.Name)
	DisableScripts(c)
	out.MIME, out.Modified, out.Tag = a.ContentType, a.CreatedAt, j.ID+"-a-"+url.PathEscape(a.Name)
	return s.Send(c, out)
}

// SendNative sends the document or table of a job that a folder and a path segment name.
// Browsers save it and run nothing in it. Errors: those of Files.FindNative and Files.OpenFile.
func (s *Sender) SendNative(c *fiber.Ctx, j *ehi.Job, folder, segment string, cut bool) error {
	name := unescaped(segment)
	f, at, err := s.files.FindNative(c.UserContext(), j, folder+"/"+name)
	if err != nil {
		return err
	}
	out, err := s.Stored(c, at)
	if err != nil {
		return err
	}
	SaveAs(c, name)
	DisableScripts(c)
	out.MIME, out.Modified, out.Cut = f.ContentType, j.ApprovedAt, cut
	out.Tag = j.ID + "-n-" + url.PathEscape(f.Name)
	out.Compress = folder == "tables"
	return s.Send(c, out)
}

// SendHeld sends a document or table of a job that needs the decision of an administrator, for its
// review. Browsers show a table as plain text, save a document, and run nothing in either. Errors:
// those of Files.FindHeld and Files.OpenFile.
func (s *Sender) SendHeld(c *fiber.Ctx, j *ehi.Job, folder, segment string) error {
	name := unescaped(segment)
	f, at, err := s.files.FindHeld(c.UserContext(), j, folder+"/"+name)
	if err != nil {
		return err
	}
	out, err := s.Stored(c, at)
	if err != nil {
		return err
	}
	DisableScripts(c)
	out.MIME, out.Modified = f.ContentType, j.CompletedAt
	if folder == "tables" {
		out.MIME = plainText(f.ContentType)
	} else {
		SaveAs(c, name)
	}
	out.Tag = j.ID + "-h-" + url.PathEscape(f.Name)
	return s.Send(c, out)
}

// plainText returns the media type of plain text in the encoding of another type.
func plainText(of string) string {
	_, params, err := mime.ParseMediaType(of)
	if err != nil || params["charset"] == "" {
		return fiber.MIMETextPlainCharsetUTF8
	}
	return mime.FormatMediaType("text/plain", map[string]string{"charset": params["charset"]})
}

// unescaped returns the name in a path segment; the segment itself if it cannot be unescaped.
func unescaped(segment string) string {
	if name, err := url.PathUnescape(segment); err == nil {
		return name
	}
	return segment
}
