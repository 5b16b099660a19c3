// Package find searches resources by the parameters of R4 (https://hl7.org/fhir/R4/search.html).
// A resource has entries, which are the texts that searches match; a search consists of criteria
// over entries. A store with sorted entries answers a criterion by a few short ranges. A store
// without them computes the entries of each resource. Both give the same results because both
// use this package.
//
// The package does not know stores or HTTP. Sources and the server's search routes use it.
package find
