// Package web has the templates, styles, scripts and texts of the pages, embedded: no page needs
// another server.
package web

import "embed"

// Files is templates/*.html, assets/* and texts/*.json.
//
//go:embed templates assets texts
var Files embed.FS
