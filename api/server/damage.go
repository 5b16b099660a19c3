package server

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// damagedFile is a file of an export that the disk has damaged, as administrators read of it.
type damagedFile struct {
	Job, Name, What string
	Since           time.Time // zero where nobody has noted it
}

// mostDamaged is how many damaged files a page names.
const mostDamaged = 100

// damagedPage are damaged files, the latest first, and how many there are besides.
type damagedPage struct {
	Files []damagedFile
	More  int
	// Jobs is whether the files of several exports are shown.
	Jobs bool
}

// damageWords say what is wrong with a file.
var damageWords = map[files.Kind]string{
	files.Missing:    "it is gone",
	files.Short:      "its end is missing",
	files.Changed:    "it was changed",
	files.Unreadable: "the disk does not give it",
}

// damagedFiles are those of a job, or where job is "" of all.
func (s *Server) damagedFiles(ctx context.Context, job string) (out damagedPage, err error) {
	known, err := s.Files.Damaged(job)
	slices.SortStableFunc(known, func(a, b files.Known) int { return b.Since.Compare(a.Since) })
	out.Jobs, out.More = job == "", max(0, len(known)-mostDamaged)
	for _, d := range known[:min(len(known), mostDamaged)] {
		out.Files = append(out.Files, damagedFile{d.Job, s.damagedName(ctx, d.Damage), damageWords[d.Kind], d.Since})
	}
	return out, err
}

// damagedName is what a damaged file is called in its export; where its record cannot be read, in the file store.
// A document is not called by its name, which is its reviewers' alone.
func (s *Server) damagedName(ctx context.Context, d files.Damage) string {
	number, _, _ := strings.Cut(d.Object, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return "a document"
	}
	j, err := s.Bus.Jobs.Get(ctx, d.Job)
	if err != nil {
		return d.Object
	}
	t, _, err := s.Bus.Tasks.Get(ctx, d.Job, n)
	i := slices.IndexFunc(t.Files, func(f ehi.File) bool { return f.Object == d.Object && f.Offset == d.Offset })
	if err != nil || i < 0 {
		return d.Object
	}
	return fileName(j, t, i)
}
