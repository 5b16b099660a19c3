// Package dataset is the embedded record store: patients' resources as lines of JSON in a Pebble
// folder, and the importers that fill it. It knows FHIR's references and the patient
// compartment, but neither jobs nor forms.
//
// The following table lists the keys. The parts of a key are separated by a zero byte; # is a
// digest of 16 bytes (see digest). The value of a resource is drawn at type value: its import
// time, the state according to its entry, the positions of its references, and the line.
//
//	c <patient> <type> <id>      -> value        a resource of one patient's compartment
//	s <type> <id>                -> value        a shared resource, stored once
//	o <id> <type>                -> patients     the owners of a resource; empty if it is shared
//	z <type> <id>                -> version      a deleted resource: only a newer state is accepted
//
//	i <type> # # / <id>          ->              an identifier's value and system, as digests, for
//	                                             conditional references
//	P <type> # # / <id>          ->              the same for a value whose spelling is not normal,
//	                                             and for a definition's URL
//	u # <type> <id>              ->              a bundle's name for a resource, unless it is
//	                                             urn:uuid: and the id
//	b <type> <id>                -> conditional  the conditional creates and updates of one search;
//	                                             the id is derived from the search
//	B <type> <id>                -> search       a conditional delete, whose version is at z
//	U <type> <id> <urn>          ->              a bundle's name for the resource at b
//	N <type> # # / <id>          ->              the identifier of such a search, and the resource
//	                                             that it means now
//	O <type> <id>                -> conditional  a resource's own state, while a conditional update
//	                                             replaces it
//	L <type> <id>                -> JSON         the last state of a deleted resource: its version
//	                                             and identifiers
//	Z <type> # # / <id>          ->              the digests of these identifiers
//
//	r <type> <id>                -> derived      a resource without a patient's id: its owners
//	                                             are derived from what it is about
//	a # <type> <id>              ->              what such a resource is about, type/id or a name
//	j <type> <id>                ->              its owners must be derived again
//	n <type> <id>                ->              it is in no record, though its type belongs to
//	                                             patients
//
//	l <patient> <type> <id>      ->              a resource outside the compartment that the
//	                                             patient's record refers to
//	x <type> <id> <type> <id>    ->              a reference from one shared resource to another
//	w # <patient>                ->              the patient's record depends on a name
//	w # <type> <id>              ->              a shared resource depends on a name
//	e <patient>, e <type> <id>   -> digests      the w keys of a record, or of a shared resource
//	t <patient>                  ->              changed, but not settled yet
//	k <type> <id>                ->              a shared resource whose references must be resolved
//	                                             again
//	d <patient>                  ->              a reference of the record has no target
//	q <type> <id>                ->              a reference of the shared resource has no target
//
//	p <patient>                  -> JSON         the directory: name, number and bytes of resources
//	h <patient>                  -> JSON         keys of the shared resources in the record
//	g                            -> generation   changes with every shared resource; p and h are
//	                                             valid for one generation
//	m <patient> <other> <says>   ->              the record of the other patient, who was replaced,
//	                                             is part of the patient's record
//	y <patient>                  ->              has resources, but no Patient
//	D <patient> <document>       -> JSON         a document; no patient while it leads to nobody
//	M <document>                 -> patient      whose it is now
//	F <blob> <document>          ->              the document has the content; a blob's name has 32
//	                                             bytes
//	F <blob> <type>/<id>         ->              a state of the resource had the content when it was
//	                                             written: data of an attachment, see source.Moved
//	C <blob>                     ->              nothing may refer to the blob any more
//	J n # # #                    -> JSON         a note: what an index says of a path and a patient,
//	                                             as digests
//	J c <document> # # #         ->              the index of the note lists the document
//	J w # # #                    -> JSON         the index of the note removes a document, which is
//	                                             not there yet
//	J g <blob><document>         -> JSON         a document that was removed as entered in error
//	J i #                        -> path         where an index is
//	J s <patient> # <document>   ->              the document has a path and a content, or a content
//	                                             and what the list of an export says, as a digest;
//	                                             no patient while it leads to nobody
//	J b <patient> # <document>   -> blob         the same of a document that was removed
//	J f <patient> #              -> JSON         an owner, as a digest too, in a document of an
//	                                             earlier version: its ID follows from its path
//	E # # <document>             ->              a note of an earlier version
//	T                            -> JSON         the dictionary: the description of all tables, and
//	                                             the number of each
//	R <table><patient> <sequence> -> row         a row of a patient, or of a look-up table, which
//	                                             has no patient. A table is 2 bytes. A sequence is
//	                                             4 bytes of a pass, which is the reading of one
//	                                             file, and 5 of a line
//	Q <table><sequence>          -> row          a row that leads to no patient yet
//	X <table><index>#...         -> place        rows by the values of a key. Index 0 is the primary
//	                                             key, or the row itself in a table that has none;
//	                                             see table.indexKey
//	G <table><key><sequence>     -> #            a foreign key that had no row when its row came
//	1 <table><index>#            ->              rows with the key were removed, and foreign keys
//	                                             may lead to it; <table> alone for all keys
//	W <pass>                     -> JSON         the file that was read
//	0 <index>#                   -> place        keys of rows, while an import checks the files of a
//	                                             table; see keyset
//	A #                          -> JSON         an identifier in native content, and the patient to
//	                                             whom it leads
//	Y <patient>                  -> bytes        has native content; varints whose sum is its size
//	H <patient>                  ->              its native content must be placed again
//
//	f <path>                     -> size, mtime  a file that was imported completely, and a digest
//	                                             of the own base URLs
//	S, K, I                      ->              the search index of patients, see search.go
//	v                            -> layout version
//
// A patient's record is one contiguous range of c keys (several for merged patients) and a few s
// keys found through l and x.
//
// The final content of the store depends on what was imported, not on the order. Each resource
// is stored in its newest state (see version). References that depend only on their place are
// resolved at once (see scope). Everything that depends on other resources is computed at the
// end of an import ("settling"), for what changed and for what depends on it: derived owners; l,
// x, p and h; and references by name, whose original spelling stays in the value so that they
// can be resolved again. An interrupted import continues where it stopped.
//
// Native content, which is not FHIR, is placed with the patient to whom it leads after the
// resources of an import are settled: identifiers in it mean patients, and nothing in a resource
// depends on it. The contents of documents are blobs (package blobs) in a folder beside the
// store, <store>.blobs. A blob is on the disk before the D key that names it is written. A C key
// is written before the blob, and whenever a document loses it; the blobs of C keys are removed
// when no F key, neither here nor in a frozen population, and no open record needs them.
//
// A process that only imports (Config.Bulk) into a store without c keys keeps these in a sorter,
// and settles each patient while it writes the record to the store. If it is killed, it starts
// again with its first file, or with the file after the first 4 GiB.
package dataset
