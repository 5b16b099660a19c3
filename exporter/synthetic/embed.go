package synthetic

import (
	"embed"
	"sync"

	"ehi-server/exporter/synthetic/media"
	"ehi-server/exporter/synthetic/native"
	"ehi-server/exporter/synthetic/outline"
	"ehi-server/shared/fingerprint"
)

// Text is the source text of this package, by which builds are told apart (shared/fingerprint).
//
//go:embed *.go
var Text embed.FS

// generator identifies the version of the generator.
var generator = sync.OnceValue(func() string {
	return fingerprint.Of(Text, outline.Text, native.Text, media.Text)
})
