package staff

import (
	"context"
	"time"

	"ehi-server/shared/files"
)

// Damages are the files of exports that the disk has damaged (jobs.Service).
type Damages interface {
	// Damaged lists those of a job or, if job is "", of all jobs: the latest first.
	Damaged(job string) ([]files.Known, error)
	// DamagedName is what a damaged file is called in its export.
	DamagedName(ctx context.Context, d files.Damage) string
}

// damagedFile is a damaged file, as administrators read of it.
type damagedFile struct {
	Job, Name, What string
	Since           time.Time // zero if nobody has recorded it
}

// mostDamaged is how many damaged files a page names.
const mostDamaged = 100

// damagedPage is a list of damaged files, the latest first, and how many more there are.
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

// listDamaged lists the damaged files of a job or, if job is "", of all jobs.
func listDamaged(ctx context.Context, from Damages, job string) (out damagedPage, err error) {
	known, err := from.Damaged(job)
	out.Jobs, out.More = job == "", max(0, len(known)-mostDamaged)
	for _, d := range known[:min(len(known), mostDamaged)] {
		out.Files = append(out.Files, damagedFile{
			d.Job, from.DamagedName(ctx, d.Damage), damageWords[d.Kind], d.Since,
		})
	}
	return out, err
}
