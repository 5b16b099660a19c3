// Package worker runs exports: it takes start commands from the bus, supervises one pipeline for
// each, commits what it wrote and moves the job on. It never answers a client; package keeper
// tidies up after it.
//
//	Next -> Get job -> Take task (attempt n) -> pipeline -> Commit task -> Complete job -> Done
//	           |            |                      |             |
//	           |            |                      |             superseded: discard own files, Done
//	           |            |                      |             no answer: keep the files, Retry (the next delivery knows)
//	           |            |                      error: discard own files, Retry; disk full: wait, and take the task again
//	           |            committed already: skip to Complete; failed too often: Fail job, Done
//	           gone, aborted, ended: Done
package worker
