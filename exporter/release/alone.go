package release

import "ehi-server/shared/fhir"

// Alone returns a Patient for an application to which nothing else of the record was released.
// It masks everything that the Patient says about other resources: References of any kind, and
// texts that name a resource by type and id. It also removes contained resources and everything
// that needs an authorization. Errors: the line is not JSON.
func (r *Rules) Alone(line []byte) ([]byte, error) {
	p := &Policy{sensitive: r.sensitive, documents: r.documents}
	line, _, err := p.cleaner().clean(line)
	if err != nil {
		return nil, err
	}
	x := &reviewed{Review: &Review{alone: true}}
	if err := x.plan(line, 0); err != nil {
		return nil, err
	}
	out := fhir.Apply(nil, line, x.edits)
	if !mayContain(out) {
		return out, nil
	}
	return x.pruner.bare(out)
}

// bare removes all contained resources, because nothing refers to them any longer, and the text.
func (p *pruner) bare(line []byte) ([]byte, error) {
	if err := p.gather([]string{contained}, line); err != nil {
		return nil, err
	}
	p.each(func(e *entry) { e.out = true })
	for _, l := range p.lists {
		p.cut(line, l)
	}
	if len(p.edits) > 0 {
		p.cutTexts("", line)
	}
	p.join(line)
	return fhir.Apply(nil, line, p.edits), p.walk.err
}

// inRecords reports whether records contain resources of a type. URLs of code systems and
// profiles contain names of types too.
func inRecords(typ []byte) bool {
	switch roles[fhir.TypeNumber(typ)] {
	case thing, part:
		return true
	}
	return string(typ) == binaryType || fhir.CompartmentPaths(string(typ)) != nil
}
