package server

import (
	"context"
	"time"

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
	known, err := s.jobs.Damaged(job)
	out.Jobs, out.More = job == "", max(0, len(known)-mostDamaged)
	for _, d := range known[:min(len(known), mostDamaged)] {
		out.Files = append(out.Files, damagedFile{d.Job, s.jobs.DamagedName(ctx, d.Damage), damageWords[d.Kind], d.Since})
	}
	return out, err
}
