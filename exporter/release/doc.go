// Package release decides what may leave: it turns the patient's form (and what an application asked for) into a decision
// about each resource of a record, and removes from the released ones every trace of the withheld ones. It reads and
// rewrites lines; it knows nothing of files, jobs' states or where a record comes from.
//
// A decision needs the whole record, because a released resource may point at a withheld one. So a record is gone
// through twice:
//
//	policy := release.NewPolicy(...)
//	review := policy.Review()
//	for each resource { review.Observe(type, line) }     // first pass: facts and ids only, no line is kept
//	review.Conclude()
//	for each resource { review.Release(dst, type, line) } // second pass: the line as it may leave, or nothing
package release
