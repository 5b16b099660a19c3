// Package web holds the pages' templates, styles, scripts and texts, embedded: no page needs
// another server.
package web

import "embed"

// Files is templates/*.html, assets/* and texts/*.json.
//
//go:embed templates assets texts
var Files embed.FS
