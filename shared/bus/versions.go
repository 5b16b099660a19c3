package bus

import (
	"encoding/hex"
	"errors"
	"fmt"

	"ehi-server/shared/ehi"
)

// ErrNewer means that a newer build wrote the record and this one might misread it. The record
// stays unchanged.
var ErrNewer = errors.New("the record is of a newer version than this build reads")

func newerError(what string, version int) error {
	return fmt.Errorf("%s has version %d, this build reads up to %d; run the newer build again: %w",
		what, version, ehi.RecordVersion, ErrNewer)
}

// upgrade converts the record of an older build to the current version. The next change of the
// job stores it.
func upgrade(j *ehi.Job) {
	if j.Version < 3 && j.KickOff.ByPatient {
		delete(j.Counts, "") // it counted headers as resources
	}
	if j.Version >= 2 {
		return
	}
	j.Stored = j.Bytes // an upper bound if the files are compressed
	for i, a := range j.Attachments {
		if a.Object == "" { // the file had the document's name
			j.Attachments[i].Object = "a." + hex.EncodeToString([]byte(a.Name))
		}
	}
}

// upgradeTask converts the record of a task. The number of resources in a file is unknown if
// headers were counted.
func upgradeTask(t *ehi.Task) {
	for i := range t.Files {
		if t.Version < 3 && t.Files[i].Type == "" {
			t.Files[i].Count = 0
		}
	}
}
