// Package dataset is the embedded record store: patients' resources as lines of JSON in a Pebble
// folder, and the importers that fill it. It knows FHIR's references and the patient
// compartment; it knows nothing of jobs or forms.
//
// The layout; a key's parts are separated by a zero byte, # is a digest of 16 bytes (see
// digest). The value of a resource is drawn at type value: when it was imported, what its entry
// said of its state, where its references stand, and the line.
//
//	c <patient> <type> <id>      -> value        a resource of one patient's compartment
//	s <type> <id>                -> value        a shared resource, stored once
//	o <id> <type>                -> patients     whose a resource is; empty for a shared one
//	z <type> <id>                -> version      a resource that was deleted: only a newer state of it is taken
//
//	i <type> # # / <id>          ->              the digests of an identifier's value and system: for conditional references
//	P <type> # # / <id>          ->              likewise, where the value is written in another way than it is compared; a definition's URL
//	u # <type> <id>              ->              what a bundle called a resource, unless that is urn:uuid: and its id
//	b <type> <id>                -> conditional  what conditional creates and updates of one search brought; the id is made of the search
//	B <type> <id>                -> search       a conditional delete, likewise; z has it
//	U <type> <id> <urn>          ->              what a bundle called that
//	N <type> # # / <id>          ->              the identifier that such a search is for, and the resource that it means now
//	O <type> <id>                -> conditional  the resource's own state, where a conditional update stands over it
//	L <type> <id>                -> JSON         the last state of a deleted resource: its version and identifiers
//	Z <type> # # / <id>          ->              ... and the digests of these
//
//	r <type> <id>                -> derived      the resource names no patient by id: its owners are derived from what it is about
//	a # <type> <id>              ->              what such a resource is about, type/id or a name
//	j <type> <id>                ->              ... and is to be derived anew
//	n <type> <id>                ->              ... and is in nobody's record, though its type belongs to patients
//
//	l <patient> <type> <id>      ->              the patient's record refers to this, which is not in its compartment
//	x <type> <id> <type> <id>    ->              this shared resource refers to that one
//	w # <patient>                ->              the patient's record depends on what is called so
//	w # <type> <id>              ->              ... or this shared resource does
//	e <patient>, e <type> <id>   -> digests      the w keys of a patient's record, or of a shared resource
//	t <patient>                  ->              changed, not settled yet
//	k <type> <id>                ->              a shared resource whose references are to be looked at anew
//	d <patient>                  ->              some reference of the record leads nowhere
//	q <type> <id>                ->              some reference of the shared resource leads nowhere
//
//	p <patient>                  -> JSON         the directory: name, number and bytes of resources
//	h <patient>                  -> JSON         keys of the shared resources that belong to the record
//	g                            -> generation   changes with every change of a shared resource: p and h hold for one
//	m <patient> <other> <says>   ->              the record of the other, who was replaced, is part of the patient's
//	y <patient>                  ->              has resources, and no Patient
//	f <path>                     -> size, mtime  a file that was imported whole, and a digest of the own bases
//	S, K, I                      ->              the search index of patients, see search.go
//	v                            -> layout version
//
// One patient's record is one contiguous range of c keys, of which merged patients have several,
// and a handful of s keys found through l and x.
//
// What the store holds in the end is a function of what came in, not of the order: each resource
// is stored in its newest state (see version), with the references that its place decides about
// resolved at once (see scope). Whatever depends on other resources is made when an import ends
// ("settling"), for what changed and for what waited for that: owners that are derived,
// references by name, which a value keeps as they came so that they can be resolved anew, and l,
// x, p and h. An interrupted import goes on where it was.
//
// A process that only imports (Config.Bulk) into a store without c keys keeps what it writes to
// those in a sorter, and settles each patient on the record's only way into the store. Killed,
// it begins with its first file again, or with that behind the first 4 GiB.
package dataset
