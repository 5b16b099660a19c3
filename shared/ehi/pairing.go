package ehi

import (
	"cmp"
	"fmt"
	"time"
)

// Records identifies a version of a store of records. Equal values have the same content.
type Records struct {
	// Identity identifies the store.
	Identity string `json:"id,omitempty"`
	// Version changes with the content of the store.
	Version string `json:"v,omitempty"`
}

func (r Records) String() string {
	if r == (Records{}) {
		return "unknown records"
	}
	return r.Identity + ", version " + r.Version
}

// Traits are the properties that an exporter and its server must share. Each of them changes
// what an export contains or where its files are.
type Traits struct {
	Records Records `json:"records"`
	// Files identifies the export folder: a text that the server wrote into it.
	Files string `json:"files"`
	// Rules is a digest of the release rules.
	Rules string `json:"rules"`
	// Build is the RecordVersion that the build writes.
	Build int `json:"build"`
}

// Limits are settings that change the result or the course of an export. They are the same for
// all processes that export: flags of the server, which tells the exporters.
type Limits struct {
	// BulkYield is how long a population's task pauses before each slab while the process
	// exports single patients. 0 means no pause.
	BulkYield time.Duration `json:"bulkYield,omitempty" help:"Pause of a population export before each 256 KiB that it reads, while this process exports single patients. 0: no pause." default:"3ms" env:"EHI_BULK_YIELD" range:"0s..1s"`
	// TaskBytes is how many bytes one task of a population's export reads, approximately.
	TaskBytes int64 `json:"taskBytes" help:"Approximate number of bytes that one task of a population export reads." default:"67108864" env:"EHI_TASK_BYTES" range:"1..1099511627776"`
	// FileResources is how many resources a file holds before the next file starts (BULK-3).
	FileResources int64 `json:"fileResources" help:"Maximum number of resources in an export file." default:"100000" env:"EHI_FILE_RESOURCES" range:"1..1000000000"`
	// SpillBytes is the size from which a file is stored on its own instead of in its task's
	// segment. 0 means the exporter's default.
	SpillBytes int `json:"spillBytes" help:"Size in bytes from which an export file is stored separately and not in a file shared by its task." default:"524288" env:"EHI_SPILL_BYTES" range:"1..1073741824"`
	// ArchiveBytes is the size at which a ZIP archive of native content ends and the next one
	// begins. A larger document makes a larger archive.
	ArchiveBytes int64 `json:"archiveBytes,omitempty" help:"Size in bytes at which a ZIP archive of documents and tables ends and the next one begins. A larger document makes a larger archive." default:"2147483648" env:"EHI_ARCHIVE_BYTES" range:"1048576..1099511627776"`
	// AckWait is how long a worker may be silent before its command is delivered to another
	// worker.
	AckWait time.Duration `json:"ackWait" help:"Time after which another worker takes over the export of a worker that does not respond." default:"2500ms" env:"EHI_ACK_WAIT" range:"200ms..1h"`
	// MaxDeliver is how many attempts at a task may fail before the job fails.
	MaxDeliver int `json:"maxDeliver" help:"Number of attempts at an export after which it fails." default:"5" env:"EHI_MAX_DELIVER" range:"1..1000"`
	// FileTTL is how long the files of an automatically approved job are kept.
	FileTTL time.Duration `json:"fileTTL" help:"How long to keep the files of approved exports." default:"24h" env:"EHI_FILE_TTL" range:"1s..87600h"`
	// Stall is how long an attempt may go without reading a resource before it is abandoned.
	Stall time.Duration `json:"stall" help:"Time without progress after which an attempt at an export is stopped." default:"5m" env:"EHI_STALL" range:"100ms..24h"`
}

// OrDefaults returns the limits with defaults for those that are not set.
func (l Limits) OrDefaults() Limits {
	l.TaskBytes = cmp.Or(l.TaskBytes, 64<<20)
	l.FileResources = cmp.Or(l.FileResources, 100_000)
	l.ArchiveBytes = cmp.Or(l.ArchiveBytes, 2<<30)
	l.AckWait = cmp.Or(l.AckWait, 2500*time.Millisecond)
	l.MaxDeliver = cmp.Or(l.MaxDeliver, 5)
	l.FileTTL = cmp.Or(l.FileTTL, 24*time.Hour)
	l.Stall = cmp.Or(l.Stall, 5*time.Minute)
	return l
}

// Terms are the requirements of a server for the exporters that take its commands.
type Terms struct {
	// Server is the name of the server process, ID its unique ID.
	Server string    `json:"server"`
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	// Folder is the server's export folder, for people to read.
	Folder string `json:"folder,omitempty"`
	Traits
	Limits Limits `json:"limits"`
}

// The traits by which an exporter can differ from its server.
const (
	// NoTerms: no server has published its terms.
	NoTerms = "server"
	// OtherRecords: the exporter reads another store, or generates other records.
	OtherRecords = "records"
	// OtherVersion: the exporter reads an older or newer version of the same store.
	OtherVersion = "version"
	// OtherFiles: the exporter uses another export folder.
	OtherFiles = "files"
	// OtherRules: the exporter has other release rules.
	OtherRules = "rules"
	// OtherBuild: the exporter's build writes another version of job records.
	OtherBuild = "build"
)

// Differences lists the traits by which an exporter can differ from its server.
func Differences() []string {
	return []string{NoTerms, OtherRecords, OtherVersion, OtherFiles, OtherRules, OtherBuild}
}

// Mismatch is a trait in which an exporter differs from its server.
type Mismatch struct {
	What     string `json:"what"` // one of Differences
	Server   string `json:"server"`
	Exporter string `json:"exporter"`
}

func (m Mismatch) String() string {
	return fmt.Sprintf("%s: the server has %q, the exporter %q", m.What, m.Server, m.Exporter)
}

// Compare returns the traits in which an exporter differs from the terms.
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

// Exporter is a process that exports, or that would if its traits matched the server's.
type Exporter struct {
	// ID identifies the process.
	ID string `json:"id"`
	// Name is the name of its workers in task records: host and process.
	Name string `json:"name"`
	// Host is the name of its machine. Address is where it connects to NATS from; "" inside the
	// server's process.
	Host    string    `json:"host"`
	Address string    `json:"address,omitempty"`
	Since   time.Time `json:"since"` // when it joined
	// Embedded reports whether it runs inside a server's process.
	Embedded bool `json:"embedded,omitempty"`
	// Mismatches are its differences from the server, since Changed. It takes commands only if
	// there are none.
	Mismatches []Mismatch `json:"mismatches,omitempty"`
	Changed    time.Time  `json:"changed"`
}
