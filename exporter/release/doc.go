// Package release decides what may be released. It combines the patient's form with the
// application's request into a decision about each resource of a record, and removes every trace
// of withheld resources from the released ones. It reads and rewrites lines. It knows nothing of
// files, states of jobs or where a record comes from.
//
// A decision needs the whole record, because a released resource may refer to a withheld one. So
// there are two passes over a record:
//
//	policy, err := rules.Policy(form, kickOff)
//	review := policy.Review()
//
//	// First pass, by review.Observer(): facts and hashes of ids. No line is kept.
//	for each resource { observer.Observe(line) }
//	review.Conclude() // may ask for another review, see its comment
//
//	// Second pass, by review.Releaser(): the line as released, or nothing.
//	for each resource { releaser.Release(line) }
//
// Several observers, or releasers, may share a pass.
//
// A population's export, in which nothing is withheld, needs no review: Filter handles each line
// independently. Summary counts what each possible form would release of one record.
//
// facts.go is the only place that derives facts from a line. policy.go, observer.go, review.go,
// parts.go and attached.go decide. The fast paths (quick.go, skim.go, mould.go, cast.go,
// reviewed.quick) either give the certain answer or none.
package release
