package ehi

import (
	"cmp"
	"fmt"
	"time"
)

// Records says which records something is made from: whose they are, and in which version. Two
// that are equal have the same content.
type Records struct {
	// Identity tells one store of records from another.
	Identity string `json:"id,omitempty"`
	// Version changes with the content of that store.
	Version string `json:"v,omitempty"`
}

func (r Records) String() string {
	if r == (Records{}) {
		return "unknown records"
	}
	return r.Identity + ", version " + r.Version
}

// Traits are what an exporter and its server have in common. Each of them changes what an export
// contains, or where its files are.
type Traits struct {
	Records Records `json:"records"`
	// Files is a text that the server has written into the folder of the exports.
	Files string `json:"files"`
	// Rules is a digest of all that decides about what an export releases.
	Rules string `json:"rules"`
	// Build is the RecordVersion that a build writes.
	Build int `json:"build"`
}

// Limits are what the result and the course of an export depend on, whichever process makes it.
type Limits struct {
	// BulkYield is how long a population's task waits before a slab while patients' exports run
	// in its process. 0: not at all.
	BulkYield time.Duration `json:"bulkYield,omitempty"`
	// TaskBytes is about how much one task of a population's export reads.
	TaskBytes int64 `json:"taskBytes"`
	// FileResources is how many resources a file holds before the next one is begun (BULK-3).
	FileResources int64 `json:"fileResources"`
	// SpillBytes is the size from which a file is kept apart rather than in its task's segment.
	// 0: as the exporter has it.
	SpillBytes int `json:"spillBytes"`
	// AckWait is how long a worker may be silent before its command goes to another one.
	AckWait time.Duration `json:"ackWait"`
	// MaxDeliver is after how many failed attempts at one of its tasks a job is failed.
	MaxDeliver int `json:"maxDeliver"`
	// FileTTL is how long the files of an automatically approved job are kept.
	FileTTL time.Duration `json:"fileTTL"`
	// Stall is how long an export may go on without reading a resource before its attempt is
	// given up.
	Stall time.Duration `json:"stall"`
}

// OrDefaults puts the default where a limit is not set.
func (l Limits) OrDefaults() Limits {
	l.TaskBytes = cmp.Or(l.TaskBytes, 64<<20)
	l.FileResources = cmp.Or(l.FileResources, 100_000)
	l.AckWait = cmp.Or(l.AckWait, 2500*time.Millisecond)
	l.MaxDeliver = cmp.Or(l.MaxDeliver, 5)
	l.FileTTL = cmp.Or(l.FileTTL, 24*time.Hour)
	l.Stall = cmp.Or(l.Stall, 5*time.Minute)
	return l
}

// Terms are what a server asks of the exporters that take its commands.
type Terms struct {
	// Server names the process that has said so, and ID tells it from all others.
	Server string    `json:"server"`
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	// Folder is where the server has its exports, for people.
	Folder string `json:"folder,omitempty"`
	Traits
	Limits Limits `json:"limits"`
}

// The traits by which an exporter can differ from its server.
const (
	// NoTerms is that no server has said what it asks for.
	NoTerms = "server"
	// OtherRecords is that the records are of another store, or made up otherwise.
	OtherRecords = "records"
	// OtherVersion is that the records are of the same store, and older or newer.
	OtherVersion = "version"
	// OtherFiles is that the folder of the exports is another one.
	OtherFiles = "files"
	// OtherRules is that something else decides about what is released.
	OtherRules = "rules"
	// OtherBuild is that the other build writes other records of jobs.
	OtherBuild = "build"
)

// Differences lists the traits by which an exporter can differ from its server.
func Differences() []string {
	return []string{NoTerms, OtherRecords, OtherVersion, OtherFiles, OtherRules, OtherBuild}
}

// Mismatch is one trait by which an exporter differs from its server.
type Mismatch struct {
	What     string `json:"what"` // one of Differences
	Server   string `json:"server"`
	Exporter string `json:"exporter"`
}

func (m Mismatch) String() string {
	return fmt.Sprintf("%s: the server has %q, the exporter %q", m.What, m.Server, m.Exporter)
}

// Compare lists in what an exporter differs from these terms.
func (t *Terms) Compare(own Traits) (out []Mismatch) {
	add := func(what, theirs, mine string) {
		if theirs != mine {
			out = append(out, Mismatch{what, theirs, mine})
		}
	}
	if own.Records.Identity != t.Records.Identity {
		add(OtherRecords, t.Records.Identity, own.Records.Identity)
	} else {
		add(OtherVersion, t.Records.Version, own.Records.Version)
	}
	add(OtherFiles, t.Files, own.Files)
	add(OtherRules, t.Rules, own.Rules)
	add(OtherBuild, fmt.Sprint(t.Build), fmt.Sprint(own.Build))
	return out
}

// Exporter is a process that exports, or would if it belonged to the server.
type Exporter struct {
	// ID tells it from all others.
	ID string `json:"id"`
	// Name is that of its workers in the records of tasks: the host and the process.
	Name string `json:"name"`
	// Host is the name of its machine, and Address by which it reaches NATS; "" within the
	// server's process.
	Host    string    `json:"host"`
	Address string    `json:"address,omitempty"`
	Since   time.Time `json:"since"` // when it joined
	// Embedded says that it works within a server's process.
	Embedded bool `json:"embedded,omitempty"`
	// Mismatches is in what it differs from the server: it takes commands only where that is
	// nothing. They are so since Changed.
	Mismatches []Mismatch `json:"mismatches,omitempty"`
	Changed    time.Time  `json:"changed"`
}
