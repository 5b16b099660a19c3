package staff

import (
	"context"
	"fmt"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ehi-server/shared/ehi"
)

// parts are tasks of a few files each.
type parts struct {
	Contents
	files int
	read  int
}

func (p *parts) Task(_ context.Context, _ *ehi.Job, n int) (t ehi.Task, err error) {
	p.read++
	t.Number = n
	for i := range p.files {
		t.Files = append(t.Files, ehi.File{Type: fmt.Sprintf("Type%d", i)})
	}
	return t, nil
}

// A page lists whole parts, and the pages of an export list each part once, forwards and back.
// However rare a file is, a page reads a bounded number of parts.
func TestPagesOfFilesListEachPartOnce(t *testing.T) {
	app := fiber.New()
	c := app.AcquireCtx(&fasthttp.RequestCtx{})
	defer app.ReleaseCtx(c)
	j := &ehi.Job{ID: "j", Status: ehi.Approved, Tasks: 100}
	contents := &parts{files: 7}
	h := &Review{Contents: contents}
	seen := 0
	var ends []int
	for at := 0; at < j.Tasks; {
		p, err := h.filesOf(c, j, "", at, false)
		if err != nil || p.From != at || p.To <= at || len(p.Files) != 7*(p.To-p.From) {
			t.Fatalf("%d to %d with %d files: %v", p.From, p.To, len(p.Files), err)
		}
		seen, at = seen+len(p.Files), p.To
		ends = append(ends, p.From)
	}
	if seen != 700 || len(ends) != 4 {
		t.Errorf("%d files on %d pages", seen, len(ends))
	}
	for at := j.Tasks; at > 0; {
		p, err := h.filesOf(c, j, "", at, true)
		if err != nil || p.To != at || p.From >= at || len(p.Files) != 7*(p.To-p.From) {
			t.Fatalf("back: %d to %d with %d files: %v", p.From, p.To, len(p.Files), err)
		}
		if first := p.Files[0].Name; first != fmt.Sprintf("Type0.%d.0.ndjson", p.From) {
			t.Errorf("back: it begins with %s", first)
		}
		at = p.From
	}
	j.Tasks, contents.read = 10*maxParts, 0
	p, err := h.filesOf(c, j, "nowhere", 0, false)
	if err != nil || len(p.Files) > 0 || contents.read != maxParts || p.To != maxParts {
		t.Errorf("%d parts are read for a page to %d: %v", contents.read, p.To, err)
	}
}
