// Package bench measures the server as its users do: go test -bench . ./bench. The server runs
// as a process of its own and is driven over HTTP; every answer that is counted has been
// checked. Ratios (to a plain copy, to one load) hold on any machine; the absolute figures are
// this machine's.
package bench
