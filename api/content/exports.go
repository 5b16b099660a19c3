package content

import (
	"net/url"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
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
	out.Tag = j.ID + "-" + f.Object + "-" + strconv.FormatInt(f.Offset, 10)
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

// unescaped returns the name in a path segment; the segment itself if it cannot be unescaped.
func unescaped(segment string) string {
	if name, err := url.PathUnescape(segment); err == nil {
		return name
	}
	return segment
}
