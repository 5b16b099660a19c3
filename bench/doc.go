// Package bench measures the server from its users' perspective: go test -bench . ./bench. The
// server runs in a process of its own and is used over HTTP. Every answer that counts is
// verified. Ratios (to a plain copy, to a single load) are comparable between machines; absolute
// figures are not.
package bench
