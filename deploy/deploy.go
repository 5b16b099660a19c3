// Package deploy holds what runs the server elsewhere than on a developer's machine: a container file, and Prometheus'
// configuration, rules and alerts. Its test keeps them in step with the code.
package deploy

import "embed"

// Files is the folder's files, for tools that install them.
//
//go:embed Dockerfile prometheus
var Files embed.FS
