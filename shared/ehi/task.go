package ehi

import "time"

// Task is one partition of a job, which one worker exports at a time. Its KV record is the
// commit point: files that no committed record names are garbage. Attempt is the fence. A worker
// commits by compare-and-set on the revision at which it took the task, so the commit fails if
// another worker has taken the task since.
type Task struct {
	Version int    `json:"v"`
	Job     string `json:"job"`
	Number  int    `json:"n"`
	Attempt int    `json:"attempt"` // 1 for the first
	// Excused counts attempts that ended for external reasons: the process was stopped, the disk
	// was full, or NATS was unreachable.
	Excused         int       `json:"excused,omitempty"`
	Committed       bool      `json:"committed"`
	Worker          string    `json:"worker"`
	TakenAt         time.Time `json:"taken"`
	CommittedAt     time.Time `json:"committedAt,omitzero"`
	TransactionTime time.Time `json:"transactionTime,omitzero"`
	// Records identifies the records that the committed attempt read.
	Records Records `json:"records,omitzero"`
	// for a population; nil for one patient's task
	Part     *Part            `json:"part,omitempty"`
	Files    []File           `json:"files,omitempty"`
	Withheld map[string]int64 `json:"withheld,omitempty"`
	// Links is the number of documents that are objects of their own in the file store (see
	// files.Batch.Link). The task's index says which documents they are.
	Links int `json:"links,omitempty"`
	// LinkBytes is the size of those of these documents that leave, in bytes.
	LinkBytes int64 `json:"linkBytes,omitempty"`
}

// Failures returns how many attempts before the current one failed or crashed their process.
func (t *Task) Failures() int { return max(0, t.Attempt-1-t.Excused) }

// Part is one task's share of a population: the patients with From <= ID < To in the order of
// IDs, or the resources that belong to no patient. An empty To means no upper bound.
type Part struct {
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Shared    bool   `json:"shared,omitempty"`
	Resources int64  `json:"n,omitempty"`     // expected number, for progress
	Bytes     int64  `json:"bytes,omitempty"` // expected size
}

// File is one line of a task's file table: an output as the manifest lists it, and its place in
// the file store.
type File struct {
	Type string `json:"type"` // the FHIR resource type of every line
	// Kind is what the file holds; "" is resources.
	Kind FileKind `json:"kind,omitempty"`
	// Count is the number of resources; header lines of patients' blocks do not count. 0 is
	// unknown.
	Count  int64  `json:"count"`
	Bytes  int64  `json:"bytes"` // size of the lines, uncompressed
	Object string `json:"obj"`   // name of the object in the file store
	Offset int64  `json:"off"`   // in bytes, into the object
	Length int64  `json:"len"`   // in bytes, in the object: less than Bytes if compressed
	// Sum is the checksum of the bytes in the object, in the form of files.Sum; "" in records of
	// version 3 and before.
	Sum string `json:"sum,omitempty"`
	// Compression is how the object stores the file; "" is Identity.
	Compression Compression `json:"z,omitempty"`
	// Error marks a file of OperationOutcomes about what could not be exported (BULK-6).
	Error bool `json:"err,omitempty"`
}

// FileKind is what a file of an export holds, if not the resources of a FHIR record.
type FileKind string

const (
	// Documents holds an EHIDocumentReference for each native file: each document, table or
	// archive (NAT-1).
	Documents FileKind = "documents"
	// Archive is a ZIP archive of native files.
	Archive FileKind = "archive"
	// Pack holds native files one after the other. Clients get them one by one.
	Pack FileKind = "pack"
	// Index says where in the store each native file lies, see NativeFile.
	Index FileKind = "index"
	// HeldDocuments and HeldIndex are the same for documents and tables that wait for the
	// decision of an administrator (NAT-4).
	HeldDocuments FileKind = "heldDocuments"
	HeldIndex     FileKind = "heldIndex"
	// HeldPack is a pack of these alone. Nothing that an application learns depends on it.
	HeldPack FileKind = "heldPack"
	// HeldBeside and HeldBesideIndex are a list and an index of what is released together with a
	// table that waits, so that it can be read: look-up rows, and a description.
	HeldBeside      FileKind = "heldBeside"
	HeldBesideIndex FileKind = "heldBesideIndex"
	// DataIndex and DataPack are an index and packs of the data of attachments that the resources
	// of the export name by URL. Clients get them one by one.
	DataIndex FileKind = "dataIndex"
	DataPack  FileKind = "dataPack"
)

// Hidden reports whether clients do not get the file as it is.
func (k FileKind) Hidden() bool {
	return k == Pack || k == Index || k == DataPack || k == DataIndex || k.held()
}

// held reports whether the file is of what waits.
func (k FileKind) held() bool {
	switch k {
	case HeldDocuments, HeldIndex, HeldPack, HeldBeside, HeldBesideIndex:
		return true
	}
	return false
}

// NativeFile is a line of a task's index: a document or a table that clients download by itself
// (PackageFiles), or the data of an attachment.
type NativeFile struct {
	// Name is the path below the export's download URL: documents/, tables/ or data/, and a file
	// name. The lines are sorted by it.
	Name        string `json:"name"`
	ContentType string `json:"type"`
	// Number is the number of the line, counted from 0. The list has the file in the same line.
	Number int `json:"n"`
	// With is, in HeldBesideIndex, the Number of the table in HeldIndex with which the file is
	// released.
	With int `json:"with,omitempty"`
	// Pack is the number of the pack that holds the file, counted from 0; -1 for an object of
	// its own.
	Pack   int    `json:"pack"`
	Link   int    `json:"link,omitempty"` // the number of that object, see files.Batch.Link
	Offset int64  `json:"off,omitempty"`  // in bytes, into the pack
	Length int64  `json:"len"`            // in bytes
	Sum    string `json:"sum,omitempty"`  // in the form of files.Sum
}

// Progress is the progress of a running job, published about twice a second.
type Progress struct {
	Job   string `json:"job"`
	Done  int64  `json:"done"`  // resources read
	Total int64  `json:"total"` // resources to read; 0 while unknown
}

// Percent returns the progress from 0 to 99. A running job never reaches 100.
func (p Progress) Percent() int {
	if p.Total <= 0 {
		return 0
	}
	return int(min(99, p.Done*100/p.Total))
}
