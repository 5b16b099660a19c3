package release

import "embed"

// Text is the source text of this package, by which builds are told apart (shared/fingerprint).
//
//go:embed *.go *.csv
var Text embed.FS
