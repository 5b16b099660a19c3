package staff

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/jobs"
	"ehi-server/shared/ehi"
)

const (
	// previewLines is how many resources of a file the page shows.
	previewLines = 25
	// previewBytes is how many bytes of a resource the page shows at most.
	previewBytes = 64 << 10
)

// previewLine is one resource of a file.
type previewLine struct{ Title, Text string }

// handleFile shows the first resources of a file, for its review.
func (h *Review) handleFile(c *fiber.Ctx) error {
	j, err := h.Exports.requested(c)
	if err != nil {
		return err
	}
	if err := h.checkFiles(c, j); err != nil {
		return err
	}
	name := c.Params("file")
	f, err := h.Contents.FindFile(c.UserContext(), j, name)
	if err == nil && f.Kind == ehi.Archive {
		err = jobs.ErrFileNotFound
	}
	if err != nil {
		return err
	}
	lines, err := h.firstLines(c.UserContext(), j, f)
	h.Trail.Record(c, err, ehi.About(ehi.ActionRead, j))
	if err != nil {
		return err
	}
	return h.Pages.render(c, "file", "jobs", name,
		fiber.Map{"Job": j, "File": f, "Lines": lines, "Name": name})
}

// firstLines reads the first resources of a file.
func (h *Review) firstLines(
	ctx context.Context, j *ehi.Job, f ehi.File,
) (out []previewLine, err error) {
	plain, err := h.Sender.OpenPlain(ctx, jobs.StoredFile(j, f), f.Compression)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	r := bufio.NewReader(plain)
	for range previewLines {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			out = append(out, shown(line))
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// shown lays a resource out for reading. One that cannot be parsed is shown as it is.
func shown(line []byte) previewLine {
	var head struct {
		Type string `json:"resourceType"`
		ID   string `json:"id"`
	}
	var text bytes.Buffer
	err := errors.Join(json.Unmarshal(line, &head), json.Indent(&text, line, "", "  "))
	if err != nil {
		text.Reset()
		text.Write(line)
	}
	if text.Len() > previewBytes {
		text.Truncate(previewBytes)
		text.WriteString(" …")
	}
	return previewLine{head.Type + "/" + head.ID, text.String()}
}
