// Package dataset is the embedded record store: patients' resources as compact JSON lines in a Pebble folder, and the
// importers that fill it. It knows FHIR's references and the patient compartment; it knows nothing of jobs or forms.
//
// The layout; a key's parts are separated by a zero byte, a value's first eight bytes are the time of import (big-endian
// milliseconds since 1970; the top bit says that the resource is in several patients' compartments), the rest is the line:
//
//	c <patient> <type> <id>               -> time, line    a resource of one patient's compartment
//	s <type> <id>                         -> time, line    a shared resource, stored once
//	l <patient> <type> <id>               ->               the patient's record refers to this shared resource
//	x <type> <id> <type> <id>             ->               this shared resource refers to that one
//	i <type> <system|value>               -> id            identifiers of shared resources, for conditional references
//	u <urn>                               -> type/id       what a bundle called a shared resource or a patient
//	o <type> <id>                         -> patients      whose a compartment resource is
//	n <type> <id>                         ->               a shared resource that ought to be some patient's, once that is known
//	p <patient>                           -> JSON          the directory: name, number and bytes of resources
//	h <patient>                           -> JSON          keys of the shared resources that belong to the record
//	g                                     -> generation    changes with every change of a shared resource: p and h hold for one
//	t <patient>                           ->               changed, not settled yet
//	d <patient>                           ->               some reference of the record resolves nowhere
//	q <type> <id>                         ->               some reference of the shared resource resolves nowhere
//	f <path>                              -> size, mtime   a file that was imported whole
//	v                                     -> layout version
//
// One patient's record is one contiguous range of c keys, and a handful of s keys found through l and x. What is
// derived (l, p, h, d) is made anew for each changed patient when an import ends ("settling"), so the order in which files
// come does not matter and an interrupted import goes on where it was.
package dataset
