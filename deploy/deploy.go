// Package deploy has everything that runs the server outside of development: a container file
// with compose files, Kubernetes manifests, a systemd unit, reverse proxies, and Prometheus'
// configuration, rules and alerts. Its package grafana has the dashboards, and report draws them
// without Grafana. Tests keep all files consistent with the code, with the tools' own parsers
// where available.
package deploy

import "embed"

// Files has the files of this folder, for tools that install them.
//
//go:embed Dockerfile compose.yml compose.fleet.yml kustomization.yaml kubernetes prometheus proxy systemd
var Files embed.FS
