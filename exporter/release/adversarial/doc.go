// Package adversarial makes records that try to get what is withheld past the release filter,
// and says what may leave of them. It is for tests: of the filter by itself, and of the whole
// server.
//
// Each resource of a record has a marker that stands in its id, its codes, its texts, its
// identifiers and its attachments, and nowhere else but in what refers to it. Resources refer to
// one another in every way that a Reference or a URL can be written, from every kind of place:
// what a resource is about, entries of lists and bills, contained resources, extensions,
// attachments. Keys stand in any order, and names and texts may be escaped.
//
// Decide is the oracle. It shares no code with the filter: it begins with all resources that may
// go, and takes away until nothing changes. It has rules of R4 where the filter has tables made
// of R4.
//
//	record := adversarial.Draw(t, adversarial.Options{})
//	choices := adversarial.DrawChoices(t)
//	lines of record.Lines() go through what is tested
//	err := record.Decide(choices).Check(out)
package adversarial
