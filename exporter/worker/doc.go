// Package worker runs exports: it takes start commands from the bus, supervises one pipeline for each, commits what
// it wrote and moves the job on. The janitor and the reconciler, which keep the promise that no job is ever stuck and no
// file ever left behind, live here too. It never answers a client.
//
//	NextStart -> Get job -> Take task (attempt n) -> pipeline -> Commit task -> Complete job -> Done
//	     |           |            |                     |             |
//	     |           |            committed already: skip to Complete  superseded: discard own files, Done
//	     |           gone, aborted, ended: Done         error: discard own files, Retry
//	     delivered too often: Fail job, Done
package worker
