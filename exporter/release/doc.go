// Package release decides what may leave: it turns the patient's form (and what an application
// asked for) into a decision about each resource of a record, and removes from the released ones
// every trace of the withheld ones. It reads and rewrites lines; it knows nothing of files,
// jobs' states or where a record comes from.
//
// A decision needs the whole record, because a released resource may point at a withheld one. So
// a record is gone through twice:
//
//	policy, err := rules.Policy(form, kickOff)
//	review := policy.Review()
//	for each resource { observer.Observe(line) } // first pass, review.Observer(): facts and hashes of ids, no line is kept
//	review.Conclude() // it may ask for another review, see there
//	for each resource { releaser.Release(line) } // second pass, review.Releaser(): the line as it may leave, or nothing
//
// Each pass may be shared out among several observers, or releasers.
//
// A population's export, in which nobody withholds anything from anybody, takes each line by
// itself (Filter). What any form would release of one record is counted from its Summary.
//
// facts.go is the one place where something is derived from a line, policy.go, observer.go,
// review.go and attached.go are where it is decided upon. Whatever is faster than that
// (quick.go, skim.go, mould.go, cast.go, reviewed.quick) answers what is certain, or nothing.
package release
