package local

import (
	"testing"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
	"ehi-server/shared/files/filestest"
)

func TestMarksOnADisk(t *testing.T) {
	filestest.RunMarks(t, func(t *testing.T) files.Marks {
		return tree{root: t.TempDir(), disk: disk.OS()}
	})
}
