package ehi

// ManifestHead holds the fields of a manifest before its lists of files (EHI-5; Bulk Data Access
// 3.0.0, "Response - Complete Status").
type ManifestHead struct {
	TransactionTime     string `json:"transactionTime"`
	Request             string `json:"request,omitempty"` // not in the 4.0.0 ballot (BULK-7)
	RequiresAccessToken bool   `json:"requiresAccessToken"`
	// OutputOrganizedBy is "Patient" if the files are organized by patient, and absent if they
	// are by type.
	OutputOrganizedBy string `json:"outputOrganizedBy,omitempty"`
}

// Manifest is the body of a finished status request.
type Manifest struct {
	ManifestHead
	Output    []ManifestEntry   `json:"output"`  // always an array (REAL-2)
	Deleted   []ManifestEntry   `json:"deleted"` // always an array (BULK-3)
	Error     []ManifestEntry   `json:"error"`   // always an array (REAL-2)
	Link      []ManifestLink    `json:"link,omitempty"`
	Extension ManifestExtension `json:"extension"`
}

// ManifestEntry is one file.
type ManifestEntry struct {
	Type string `json:"type,omitempty"` // absent where the files are organized by patient
	URL  string `json:"url"`
	// Count is the number of resources in the file. Header lines of patients' blocks do not
	// count. It is absent if unknown: in files by patient from builds that counted the headers.
	Count int64 `json:"count,omitempty"`
	// Extension holds additions of this server: a FileExtension or, in the form of the 4.0.0
	// ballot, an array of extensions.
	Extension any `json:"extension,omitempty"`
}

// FileExtension is what a manifest says about a file besides its type and count.
type FileExtension struct {
	// Checksum is absent for files of older builds and for files that are generated when read.
	Checksum *Checksum `json:"checksum,omitempty"`
	// Damaged marks a file that is damaged on the server's disk. It cannot be downloaded; the
	// export must be repeated.
	Damaged bool `json:"damaged,omitempty"`
}

// Checksum is the checksum of a file as it is stored.
type Checksum struct {
	// DocumentationURL explains the checksum.
	DocumentationURL string `json:"documentationUrl"`
	Algorithm        string `json:"algorithm"` // xxh3: XXH3 with 64 bits
	Value            string `json:"value"`     // lower-case hex, big-endian
	Size             int64  `json:"size"`      // the number of bytes that the checksum covers
	// Coding is the content coding of those bytes (RFC 9110 8.4.1); identity for none.
	Coding Compression `json:"coding"`
}

// ManifestLink links to another page of the manifest (BULK-3).
type ManifestLink struct {
	Relation string `json:"relation"` // next
	URL      string `json:"url"`
}

// ManifestExtension holds what the EHI API adds to the bulk manifest.
type ManifestExtension struct {
	// EHIDocumentationURL explains the format of the export to its reader (45 CFR
	// 170.315(b)(10)(ii), REAL-15).
	EHIDocumentationURL string `json:"ehiDocumentationUrl"`
	// Metadata is the URL of the choices, counts and timings of this export (EHI-14).
	Metadata string `json:"metadata"`
}
