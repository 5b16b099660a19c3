// Package content sends responses and reads the headers that affect them: Accept, Prefer, Range,
// preconditions, content codings and digests. It adds what Fiber lacks for files of any size. Job
// is the JSON of a job, which more than one package of handlers sends.
//
// It never decides who may read something, and writes nothing to the audit trail: handlers do
// both before they call it. During a long response, it asks Authority before each piece.
//
// All packages of handlers below api use it.
package content
