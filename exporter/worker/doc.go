// Package worker runs exports. It takes start commands from the bus, runs one pipeline for each,
// commits the result and advances the job. It never answers a client. Package keeper cleans up
// after it.
//
//	Next -> Get job -> Take task (attempt n) -> pipeline -> Commit task -> Complete job -> Done
//	           |            |                      |             |
//	           |            |                      |             superseded: discard own files, Done
//	           |            |                      |             no answer: keep the files, Retry (the next delivery knows)
//	           |            |                      error: discard own files, Retry; disk full: wait, and take the task again
//	           |            committed already: skip to Complete; failed too often: Fail job, Done
//	           gone, aborted, ended: Done
package worker
