// Package content sends what handlers answer with, and reads what requests say about it: Accept,
// Prefer, Range, preconditions, content codings and digests. It adds what Fiber lacks for files of
// any size.
//
// It never decides who may read something, and writes nothing to the audit trail: handlers do both
// before they call it. While a long answer is on its way, it asks Authority for each piece.
//
// Every package of handlers below api uses it.
package content
