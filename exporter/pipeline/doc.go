// Package pipeline is the way of one task's resources from a record to files, as actors: each
// one goroutine with one bounded mailbox that only its upstream closes, and state that nobody
// else touches.
//
//	            slabs of one type            kept lines               by type
//	Record --> reader --[mailbox]--> releaser --[mailbox]--> router --[mailbox]--> writer(Patient)     \
//	                                 (form, labels)                --[mailbox]--> writer(Observation)  }--> Batch
//	                                                               --[mailbox]--> writer(...)          /
//
// What travels is a slab: whole NDJSON lines of one type, up to SlabBytes of them. A slab has
// one owner at a time: whoever sends it has given it away, whoever ends with it gives it back to
// the pool. Memory is bounded by the number of mailboxes times their capacity times SlabBytes,
// whatever is exported. The first error of an actor ends its siblings.
//
// To decide about a resource takes longer than to read and to write it. So there are several
// releasers, as many as processors, up to four. The reader sends to each of them in its turn,
// each sends one slab on for every slab that it gets, and the router receives from them in the
// same turn: slabs keep their order.
package pipeline
