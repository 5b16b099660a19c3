// Package keeper keeps the promise that no export is ever stuck and no file is ever left behind. It
// deletes what has expired, removes files and records that nothing names any more, publishes lost
// start commands again, and has exports made anew whose records a loss of power took. It never runs
// an export and never answers a client. Any number of processes may run one.
package keeper
