// Package files says what a store of export files is, and has what all kinds of stores share. A
// store alone knows where the bytes are; everybody else holds an Extent (object, offset, length)
// that it gave out, or the name of an attachment that a job's record lists. It never follows a path
// from outside, never lists what it holds to answer a client, and knows nothing of job states.
//
// Who uses a store declares the few methods that are needed there. Only who opens one holds all of
// Store: the server (api/node) and an exporter (exporter/standalone). There openFiles chooses the
// kind.
//
// # The commit
//
// The commit point of an export is in JetStream, not here: a batch's files are garbage until the
// record of its task names them.
//
//	worker      NewBatch(job, task, attempt)    the attempt's number is taken by compare-and-set
//	pipeline    Create, Write ...               by one goroutine an output
//	pipeline    Commit -> extents               everything is durable, and nobody knows of it
//	worker      the task's record, by CAS       the extents are named: this is the commit
//	            or Discard                      of an attempt that failed or was superseded
//
// What a process leaves that dies in between is found by its attempt's number: the keeper walks
// the store and removes the objects that no record names.
//
// # Another kind of store
//
// A kind implements Backend, ten small methods on bytes and marks, and embeds Base over it,
// which has all that is the same everywhere: sums, readers, damage, notes. It adds its own batches,
// since how an output becomes durable is where kinds differ, a lock and its room. It passes
// filestest.Run and filestest.RunMarks.
//
// No method takes a context but Verify, which reads files whole: a disk cannot be interrupted, and
// a kind that asks over a network bounds each request by itself.
package files
