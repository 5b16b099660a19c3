package reading

import "embed"

// Text is the source text of this package, by which builds are told apart (shared/fingerprint).
//
//go:embed *.go
var Text embed.FS
