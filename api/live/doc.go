// Package live lets pages of administrators follow what happens in this process.
//
// Feed tells open pages which jobs change, with server-sent events. Samples keeps recent values
// of some metrics and plots them.
//
// The package does not decide who may follow, and sends nothing that identifies a patient.
// Package server serves its streams and embeds its plots in pages.
package live
