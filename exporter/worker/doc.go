// Package worker runs exports. It takes start commands from the bus, runs one pipeline for each,
// commits the result and advances the job. It never answers a client. Package keeper cleans up
// after it.
//
//	Next -> Get job -> Take task (attempt n) -> pipeline -> Commit task -> Complete job -> Done
//
// Each step can end the run early:
//
//	Get job      the job is deleted, aborted or has ended: Done
//	Take task    an earlier delivery committed it: continue with Complete job
//	             it failed too often: fail the job, Done
//	pipeline     the disk is full: wait for space and take the task again
//	             another error: discard the files of this attempt, Retry
//	Commit task  another worker has superseded this attempt: discard its files, Done
//	             no answer: keep the files, Retry; the next delivery finds out
package worker
