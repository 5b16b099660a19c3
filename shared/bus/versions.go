package bus

import (
	"encoding/hex"
	"errors"
	"fmt"

	"ehi-server/shared/ehi"
)

// ErrNewer says that a record was written by a newer build, and means what this one cannot know.
// It is left as it is.
var ErrNewer = errors.New("the record is of a newer version than this build reads")

func newerError(what string, version int) error {
	return fmt.Errorf("%s has version %d, this build reads up to %d; run the newer build again: %w",
		what, version, ehi.RecordVersion, ErrNewer)
}

// upgrade brings the record of an older build up to what this one writes. It is stored so when
// the job changes next.
func upgrade(j *ehi.Job) {
	if j.Version < 3 && j.KickOff.ByPatient {
		delete(j.Counts, "") // it counts headers among the resources
	}
	if j.Version >= 2 {
		return
	}
	j.Stored = j.Bytes // or less, where it is compressed
	for i, a := range j.Attachments {
		if a.Object == "" { // the file was called by the document's name
			j.Attachments[i].Object = "a." + hex.EncodeToString([]byte(a.Name))
		}
	}
}

// upgradeTask is upgrade of a task: how many resources a file has is unknown where headers were
// counted with them.
func upgradeTask(t *ehi.Task) {
	for i := range t.Files {
		if t.Version < 3 && t.Files[i].Type == "" {
			t.Files[i].Count = 0
		}
	}
}
