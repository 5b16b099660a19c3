package ehi

import "time"

// Task is one partition of a job: what one worker does in one go. Its KV record is the commit
// point of DESIGN section 3: files that no committed record names are garbage. Attempt is the
// fence: a worker commits by compare-and-set on the revision at which it took the task, so a
// successor's take makes the commit fail.
type Task struct {
	Version int    `json:"v"`
	Job     string `json:"job"`
	Number  int    `json:"n"`
	Attempt int    `json:"attempt"` // 1 for the first
	// Excused is how many of the attempts ended through no fault of their own: their process was
	// stopped, the disk was full, NATS was away.
	Excused         int       `json:"excused,omitempty"`
	Committed       bool      `json:"committed"`
	Worker          string    `json:"worker"`
	TakenAt         time.Time `json:"taken"`
	CommittedAt     time.Time `json:"committedAt,omitzero"`
	TransactionTime time.Time `json:"transactionTime,omitzero"`
	// Records are those that the committed attempt has read.
	Records  Records          `json:"records,omitzero"`
	Part     *Part            `json:"part,omitempty"` // of a population; nil for one patient's task
	Files    []File           `json:"files,omitempty"`
	Withheld map[string]int64 `json:"withheld,omitempty"`
}

// Failures is how many attempts went before the present one and failed, or took their process
// with them.
func (t *Task) Failures() int { return max(0, t.Attempt-1-t.Excused) }

// Part is one task's share of a population, as the plan cut it: the patients with From <= id <
// To, in the order of ids, or what belongs to no patient. An empty To is open.
type Part struct {
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Shared    bool   `json:"shared,omitempty"`
	Resources int64  `json:"n,omitempty"`     // expected, for progress
	Bytes     int64  `json:"bytes,omitempty"` // expected
}

// File is one line of a task's file table: an output as the manifest lists it, and where the
// file store keeps it.
type File struct {
	Type string `json:"type"` // the FHIR resource type of every line
	// resources: lines without the headers of patients' blocks; 0: unknown
	Count  int64  `json:"count"`
	Bytes  int64  `json:"bytes"` // of the lines
	Object string `json:"obj"`   // the store's own name of the object that holds it
	Offset int64  `json:"off"`   // bytes into the object
	Length int64  `json:"len"`   // bytes in the object: fewer than Bytes where it is compressed
	// Sum is the checksum of the bytes in the object, in the form of files.Sum; "" in records of
	// version 3 and before.
	Sum string `json:"sum,omitempty"`
	// Compression is how the object holds it; "" is Identity.
	Compression Compression `json:"z,omitempty"`
	// Error marks a file of OperationOutcomes that say what could not be exported (BULK-6).
	Error bool `json:"err,omitempty"`
}

// Progress is what a running job tells about itself, about twice a second.
type Progress struct {
	Job   string `json:"job"`
	Done  int64  `json:"done"`  // resources read
	Total int64  `json:"total"` // resources to read, 0 while unknown
}

// Percent is the share that is done, 0 to 99: a running job is never at 100.
func (p Progress) Percent() int {
	if p.Total <= 0 {
		return 0
	}
	return int(min(99, p.Done*100/p.Total))
}
