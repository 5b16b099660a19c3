// Package deploy holds what runs the server elsewhere than on a developer's machine: a container
// file with compose files, manifests of Kubernetes, a systemd unit, reverse proxies, and
// Prometheus' configuration, rules and alerts. grafana below it has the dashboards, report draws
// them without Grafana. Its tests keep all of it in step with the code, by the tools' own
// parsers where they can be had.
package deploy

import "embed"

// Files is the folder's files, for tools that install them.
//
//go:embed Dockerfile compose.yml compose.fleet.yml kustomization.yaml kubernetes prometheus proxy systemd
var Files embed.FS
