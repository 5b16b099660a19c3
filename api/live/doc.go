// Package live lets pages of administrators follow what happens in this process.
//
// Feed tells open pages which jobs change, by server-sent events. Samples keep the latest figures
// of some metrics, and plot them.
//
// The package never decides who may follow, and nothing that it sends names a patient. Package
// server serves its streams and puts its plots into pages.
package live
