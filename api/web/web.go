// Package web holds the pages' templates and styles, embedded: no page needs another server or any script.
package web

import "embed"

// Files is templates/*.html and assets/*.
//
//go:embed templates assets
var Files embed.FS
