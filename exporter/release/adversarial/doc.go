// Package adversarial generates records that try to get withheld data past the release filter,
// and determines what the filter may release. It is for tests of the filter alone, and of the
// whole server.
//
// Each resource of a record has a marker, which occurs in its id, codes, texts, identifiers and
// attachments, and otherwise only in what refers to it. Resources refer to each other in every
// form of Reference and URL, from every kind of place: what a resource is about, entries of
// lists and bills, contained resources, extensions, attachments. Keys are in any order, and
// names and texts may be escaped.
//
// Decide is the oracle. It shares no code with the filter: it starts with all resources that may
// be released, and removes some until nothing changes. It states the rules of R4 directly, where
// the filter has tables derived from R4.
//
//	record := adversarial.Draw(t, adversarial.Options{})
//	choices := adversarial.DrawChoices(t)
//	// The system under test filters record.Lines() into out.
//	err := record.Decide(choices).Check(out)
package adversarial
