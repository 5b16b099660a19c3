// Package telemetry is how operators observe the server: the set-up of the logger, every
// Prometheus metric in one file (metrics.go), and the version of the build. The metrics are the
// only globals of the project.
package telemetry
