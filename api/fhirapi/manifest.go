package fhirapi

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"net/http"
	"strconv"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/faulty"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
)

// sendManifest answers with the manifest, a view of the job's committed tasks (EHI-5). A long one
// is streamed: it may list more files than should be in memory at once.
func (h *Handlers) sendManifest(c *fiber.Ctx, j *ehi.Job) error {
	page, err := pageOf(c, j, h.PageTasks)
	if err != nil {
		return err
	}
	m := h.newManifest(c, j, page, reachOf(request.Access(c), j))
	c.Set(fiber.HeaderExpires, faulty.Expires(j).Format(http.TimeFormat))
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	if m.to-m.from > streamedTasks {
		ctx := context.Background() // the request's context ends before its body is written
		h.Sender.SendChunked(c, func(w *bufio.Writer) error { return m.write(ctx, w) })
		return nil
	}
	body, err := m.render(c.UserContext())
	if err != nil {
		return err
	}
	return c.Send(body)
}

// streamedTasks is the number of tasks from which a manifest is streamed.
const streamedTasks = 50

// pageOf returns the page of the manifest that the client requests; -1 for the whole manifest. A
// manifest has pages only if its kick-off allowed them (BULK-3). Errors: ehi.NotFound.
func pageOf(c *fiber.Ctx, j *ehi.Job, pageTasks int) (int, error) {
	if !j.KickOff.Paged {
		return -1, nil
	}
	page, err := strconv.Atoi(c.Query("page", "0"))
	if err != nil || page < 0 || page > 0 && page > (j.Tasks-1)/pageTasks {
		return 0, ehi.Errorf(ehi.NotFound, "The manifest has no page %q", c.Query("page"))
	}
	return page, nil
}

// ManifestForStaff renders the manifest of a job for administrators: all of it, or the first
// page of a long one. Errors: ehi.Transient if the record of a part is lost.
func (h *Handlers) ManifestForStaff(c *fiber.Ctx, j *ehi.Job) (json.RawMessage, error) {
	page := -1
	if j.Tasks > h.PageTasks {
		page = 0
	}
	return h.newManifest(c, j, page, unlimited).render(c.UserContext())
}

// manifest renders one page of a job's manifest.
type manifest struct {
	tasks    Jobs
	job      *ehi.Job
	origin   string
	open     bool // whether files need no token
	from, to int  // tasks
	page     int
	reach    reach // what the reader may open; the manifest lists only that
	errors   []ehi.ManifestEntry
	first    bool
	damaged  map[string]bool // files that are known to be damaged, by placeOf
}

func (h *Handlers) newManifest(c *fiber.Ctx, j *ehi.Job, page int, r reach) *manifest {
	m := &manifest{
		tasks:  h.Jobs,
		job:    j,
		origin: h.Origins.Base(c),
		open:   h.Open,
		to:     j.Tasks,
		page:   page,
		reach:  r,
		first:  true,
	}
	if page >= 0 {
		m.from, m.to = page*h.PageTasks, min(j.Tasks, (page+1)*h.PageTasks)
	}
	damaged, err := h.Jobs.Damaged(j.ID)
	if err != nil { // the manifest is correct without them
		h.Log.Warn("look for damaged files", "job", j.ID, "err", err)
	}
	for _, d := range damaged {
		if m.damaged == nil {
			m.damaged = map[string]bool{}
		}
		m.damaged[placeOf(d.Object, d.Offset)] = true
	}
	return m
}

// placeOf identifies the position of a file among those of its job.
func placeOf(object string, offset int64) string {
	return object + "." + strconv.FormatInt(offset, 10)
}

func (m *manifest) render(ctx context.Context) ([]byte, error) {
	var buf bytes.Buffer
	w := bufio.NewWriter(&buf)
	err := m.write(ctx, w)
	return buf.Bytes(), err
}

// write writes the manifest: its head, the files task by task, and finally what is known only
// then.
func (m *manifest) write(ctx context.Context, w *bufio.Writer) error {
	j := m.job
	head := ehi.ManifestHead{
		TransactionTime:     fhir.FormatInstant(j.TransactionTime),
		Request:             j.Request,
		RequiresAccessToken: !m.open,
	}
	if j.Operation == ehi.BulkExportV4 {
		head.Request = ""
	}
	if j.KickOff.ByPatient {
		head.OutputOrganizedBy = "Patient"
	}
	begin, err := json.Marshal(head)
	if err != nil {
		return err
	}
	_, _ = w.Write(bytes.TrimSuffix(begin, []byte("}"))) // errors stay with w until Flush
	_, _ = w.WriteString(`,"output":[`)
	for n := m.from; n < m.to; n++ {
		if err := m.task(ctx, w, n); err != nil {
			return err
		}
	}
	if n := len(j.Attachments); n > 0 && m.to == j.Tasks && m.reach.file(attachmentsFile) {
		m.entry(w, ehi.ManifestEntry{
			Type:  documentType,
			URL:   m.url(attachmentsFile),
			Count: int64(n),
		})
	}
	if n := int64(j.Freed.Count()); n > 0 && m.to == j.Tasks && m.reach.file(releasedFile) {
		m.entry(w, ehi.ManifestEntry{
			Type:  documentType,
			URL:   m.url(releasedFile),
			Count: n + j.Beside,
		})
	}
	if n := bytes.Count(errorLines(j, m.reach), []byte{'\n'}); n > 0 && m.from == 0 {
		m.errors = append(m.errors, ehi.ManifestEntry{
			Type:  "OperationOutcome",
			URL:   m.url(errorsFile),
			Count: int64(n),
		})
	}
	_, _ = w.WriteString(`],`)
	if err := m.writeTail(w); err != nil {
		return err
	}
	return w.Flush()
}

// writeTail ends the object, in the form that the job's operation requires (BULK-7).
func (m *manifest) writeTail(w *bufio.Writer) error {
	if m.errors == nil {
		m.errors = []ehi.ManifestEntry{}
	}
	docs := m.origin + "/docs/ehi"
	extension := ehi.ManifestExtension{
		EHIDocumentationURL: docs,
		Metadata:            jobURL(m.origin, m.job.ID, "/metadata"),
	}
	var links []ehi.ManifestLink
	if m.to < m.job.Tasks {
		next := jobURL(m.origin, m.job.ID, "/status?page="+strconv.Itoa(m.page+1))
		links = []ehi.ManifestLink{{Relation: "next", URL: next}}
	}
	var tail any = struct {
		Deleted   []ehi.ManifestEntry   `json:"deleted"`
		Error     []ehi.ManifestEntry   `json:"error"`
		Link      []ehi.ManifestLink    `json:"link,omitempty"`
		Extension ehi.ManifestExtension `json:"extension"`
	}{[]ehi.ManifestEntry{}, m.errors, links, extension}
	if m.job.Operation == ehi.BulkExportV4 {
		tail = struct {
			Deleted   []ehi.ManifestEntry `json:"deleted"`
			Outcome   []ehi.ManifestEntry `json:"outcome"`
			Link      []ehi.ManifestLink  `json:"link,omitempty"`
			Extension []fiber.Map         `json:"extension"`
		}{[]ehi.ManifestEntry{}, m.errors, links, []fiber.Map{
			{"url": docs + "#documentation", "valueUrl": extension.EHIDocumentationURL},
			{"url": docs + "#metadata", "valueUrl": extension.Metadata},
		}}
	}
	end, err := json.Marshal(tail)
	if err != nil {
		return err
	}
	_, _ = w.Write(bytes.TrimPrefix(end, []byte("{")))
	return nil
}

func (m *manifest) url(file string) string {
	return jobURL(m.origin, m.job.ID, "/download/"+file)
}

// task writes the entries of one task's files.
func (m *manifest) task(ctx context.Context, w *bufio.Writer, n int) error {
	t, err := m.tasks.Task(ctx, m.job, n)
	if err != nil {
		return err
	}
	for i, f := range t.Files {
		// the list of native files has the URLs of archives
		if f.Kind.Hidden() || f.Kind == ehi.Archive {
			continue
		}
		name := jobs.FileName(m.job, t, i)
		if !m.reach.file(name) {
			continue
		}
		e := ehi.ManifestEntry{
			Type:      f.Type,
			URL:       m.url(name),
			Count:     f.Count,
			Extension: m.extension(f),
		}
		if f.Error {
			m.errors = append(m.errors, e)
			continue
		}
		m.entry(w, e)
	}
	return nil
}

// extension returns further properties of a file's entry, in the form that the job's operation
// requires; nil for none.
func (m *manifest) extension(f ehi.File) any {
	var e ehi.FileExtension
	if sum := files.Sum(f.Sum); sum != "" {
		e.Checksum = &ehi.Checksum{
			DocumentationURL: m.origin + "/docs/ehi#checksum",
			Algorithm:        sum.Algorithm(),
			Value:            sum.Hex(),
			Size:             f.Length,
			Coding:           cmp.Or(f.Compression, ehi.Identity),
		}
	}
	e.Damaged = m.damaged[placeOf(f.Object, f.Offset)]
	switch {
	case e == ehi.FileExtension{}:
		return nil
	case m.job.Operation != ehi.BulkExportV4:
		return e
	}
	var list []fiber.Map
	if c := e.Checksum; c != nil {
		list = append(list, fiber.Map{"url": c.DocumentationURL, "extension": []fiber.Map{
			{"url": "algorithm", "valueCode": c.Algorithm},
			{"url": "value", "valueString": c.Value},
			{"url": "size", "valueDecimal": c.Size},
			{"url": "coding", "valueCode": c.Coding},
		}})
	}
	if e.Damaged {
		list = append(list, fiber.Map{"url": m.origin + "/docs/ehi#damaged", "valueBoolean": true})
	}
	return list
}

func (m *manifest) entry(w *bufio.Writer, e ehi.ManifestEntry) {
	line, err := json.Marshal(e)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	if !m.first {
		_ = w.WriteByte(',')
	}
	m.first = false
	_, _ = w.Write(line)
}
