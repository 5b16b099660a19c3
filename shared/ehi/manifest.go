package ehi

// ManifestHead is what a manifest says before its lists of files (EHI-5; Bulk Data Access 3.0.0,
// "Response - Complete Status").
type ManifestHead struct {
	TransactionTime     string `json:"transactionTime"`
	Request             string `json:"request,omitempty"` // not in the 4.0.0 ballot (BULK-7)
	RequiresAccessToken bool   `json:"requiresAccessToken"`
	// OutputOrganizedBy is Patient where the files are organized by patient, and absent where
	// they are by type.
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
	// Count is how many resources the file holds: lines without the headers of patients' blocks.
	// It is absent where that is not known: a file organized by patient, of a build that counted
	// headers.
	Count int64 `json:"count,omitempty"`
	// Extension is what the server adds: a FileExtension or, in the form of the 4.0.0 ballot, an
	// array of extensions. It is absent where there is nothing to add.
	Extension any `json:"extension,omitempty"`
}

// FileExtension is what a manifest says of a file beside its type and count.
type FileExtension struct {
	// Checksum is absent for files of builds that took none, and for those that are made as they
	// are read.
	Checksum *Checksum `json:"checksum,omitempty"`
	// Damaged tells that the file is known to be damaged on the server's disk, and is not sent:
	// the export has to be made again.
	Damaged bool `json:"damaged,omitempty"`
}

// Checksum is that of a file as it is stored.
type Checksum struct {
	// DocumentationURL explains it.
	DocumentationURL string `json:"documentationUrl"`
	Algorithm        string `json:"algorithm"` // xxh3: XXH3 of 64 bits
	Value            string `json:"value"`     // lower-case hex, big-endian
	Size             int64  `json:"size"`      // bytes that it is of
	// Coding is the content coding in which those bytes are sent (RFC 9110 8.4.1); identity for
	// none.
	Coding Compression `json:"coding"`
}

// ManifestLink leads to a further page of the manifest (BULK-3).
type ManifestLink struct {
	Relation string `json:"relation"` // next
	URL      string `json:"url"`
}

// ManifestExtension carries what the EHI API adds to the bulk manifest.
type ManifestExtension struct {
	// EHIDocumentationURL explains the format of the export to its reader (45 CFR
	// 170.315(b)(10)(ii), REAL-15).
	EHIDocumentationURL string `json:"ehiDocumentationUrl"`
	// Metadata is the URL of the choices, counts and timings of this export (EHI-14).
	Metadata string `json:"metadata"`
}
