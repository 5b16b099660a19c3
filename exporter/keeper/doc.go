// Package keeper makes sure that no export is stuck forever and no file is left behind. It
// deletes expired jobs, removes files and records that nothing references, publishes lost start
// commands again, and repeats exports whose records were lost in a power failure. It never runs
// an export and never answers a client. Any number of processes may run a keeper.
package keeper
