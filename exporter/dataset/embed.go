package dataset

import "embed"

// Text is the source text of this package. It distinguishes builds (shared/fingerprint).
//
//go:embed *.go
var Text embed.FS
