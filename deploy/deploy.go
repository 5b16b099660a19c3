// Package deploy holds what runs the server elsewhere than on a developer's machine: a container file, a systemd unit, and
// Prometheus' configuration, rules and alerts; grafana below it has the dashboards. Its test keeps them in step with the code.
package deploy

import "embed"

// Files is the folder's files, for tools that install them.
//
//go:embed Dockerfile prometheus systemd
var Files embed.FS
