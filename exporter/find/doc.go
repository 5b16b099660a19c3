// Package find searches resources by the parameters of R4 (https://hl7.org/fhir/R4/search.html).
// A resource has entries, texts that say what it can be found by; a search is criteria over
// entries. A store that keeps entries in order answers a criterion by a few short ranges of
// them; one that keeps none compares the entries of a resource at hand. Both give the same, as
// both use this package alone.
//
// It knows nothing of stores or HTTP. Sources use it, and the search routes of the server.
package find
