// Package telemetry is how the server is seen from outside: the logger's set-up, every
// Prometheus metric in one file (metrics.go), and what build is running. Its metrics are the
// only globals of the project.
package telemetry
