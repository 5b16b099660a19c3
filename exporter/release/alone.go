package release

import "ehi-server/shared/fhir"

// Alone is a resource for somebody to whom nothing else of the record was released: whatever it says
// of other resources is masked, References of any kind and texts that name one by type and id.
// Errors: the line is not JSON.
func Alone(line []byte) ([]byte, error) {
	x := &reviewed{Review: &Review{alone: true}}
	if err := x.plan(line, 0); err != nil {
		return nil, err
	}
	return fhir.Apply(nil, line, x.edits), nil
}

// inRecords reports whether records hold resources of a type: URLs of code systems and profiles name
// types, too.
func inRecords(typ []byte) bool {
	switch roles[fhir.TypeNumber(typ)] {
	case thing, part:
		return true
	}
	return string(typ) == binaryType || fhir.CompartmentPaths(string(typ)) != nil
}
