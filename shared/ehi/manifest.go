package ehi

// Manifest is the body of a finished status request (EHI-5; Bulk Data Access 3.0.0, "Response - Complete Status").
type Manifest struct {
	TransactionTime     string            `json:"transactionTime"`
	Request             string            `json:"request"`
	RequiresAccessToken bool              `json:"requiresAccessToken"`
	Output              []ManifestEntry   `json:"output"`  // always an array (REAL-2)
	Deleted             []ManifestEntry   `json:"deleted"` // always an array (BULK-3)
	Error               []ManifestEntry   `json:"error"`   // always an array (REAL-2)
	Extension           ManifestExtension `json:"extension"`
}

// ManifestEntry is one file.
type ManifestEntry struct {
	Type  string `json:"type"`
	URL   string `json:"url"`
	Count int64  `json:"count"`
}

// ManifestExtension carries what the EHI API adds to the bulk manifest.
type ManifestExtension struct {
	// EHIDocumentationURL explains the format of the export to its reader (45 CFR 170.315(b)(10)(ii), REAL-15).
	EHIDocumentationURL string `json:"ehiDocumentationUrl"`
	// Metadata is the URL of the choices, counts and timings of this export (EHI-14).
	Metadata string `json:"metadata"`
}
