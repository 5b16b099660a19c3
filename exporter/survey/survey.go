// Package survey determines the structure of a source's records: types, elements, code systems
// and profiles, but no values of a record. The documentation of the export format is based on it
// (REAL-15).
package survey

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Limits bound a survey.
type Limits struct {
	// Patients and Resources are the maximum numbers of records and resources to examine.
	Patients, Resources int
	// Bytes ends the survey after the resource that exceeds it; 0 means no limit.
	Bytes int64
}

// Survey is the result of a survey.
type Survey struct {
	// Records and Resources are the numbers of those that were examined.
	Records, Resources int
	// Types are the resource types, sorted by name.
	Types []Type
}

// Type describes the resources of a type.
type Type struct {
	Name      string
	Resources int
	Elements  []Element // sorted by name
	Profiles  []string  // of meta.profile
}

// Element is a top-level element of a type.
type Element struct {
	Name string
	// In is the number of resources that have the element.
	In int
	// Kind is the form of its value in JSON: text, number, true or false, object, list.
	Kind string
	// Systems are the systems of the codings and identifiers in the element.
	Systems []string
}

type element struct {
	in      int
	kind    string
	systems map[string]bool
}

type found struct {
	resources int
	elements  map[string]*element
	profiles  map[string]bool
}

type surveyor struct {
	limits Limits
	bytes  int64
	out    Survey
	types  map[string]*found
	cursor fhir.Cursor
	path   []byte
}

var errEnough = errors.New("enough was seen")

// Records are the records that are examined (source.Source).
type Records interface {
	// Patients lists at most limit of the patients.
	Patients(ctx context.Context, limit int) ([]ehi.Patient, error)
	// Open opens a patient's record; Close it.
	Open(ctx context.Context, patient string) (source.Record, error)
}

// Take examines the first records of a source.
func Take(ctx context.Context, s Records, limits Limits) (Survey, error) {
	v := &surveyor{limits: limits, types: map[string]*found{}}
	patients, err := s.Patients(ctx, limits.Patients)
	if err != nil {
		return v.out, err
	}
	for _, p := range patients {
		err := v.record(ctx, s, p.ID)
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return v.out, err
		}
	}
	return v.conclude(), nil
}

func (v *surveyor) record(ctx context.Context, s Records, patient string) (err error) {
	r, err := s.Open(ctx, patient)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v.out.Records++
	return r.Scan(ctx, source.Query{}, func(r source.Resource) error {
		if v.out.Resources == v.limits.Resources || v.limits.Bytes > 0 && v.bytes > v.limits.Bytes {
			return errEnough
		}
		v.bytes += int64(len(r.Line))
		v.out.Resources++
		v.resource(r)
		return nil
	})
}

// resource examines a resource. It stops where a malformed one breaks.
func (v *surveyor) resource(r source.Resource) {
	t := v.types[r.Type]
	if t == nil {
		t = &found{elements: map[string]*element{}, profiles: map[string]bool{}}
		v.types[r.Type] = t
	}
	t.resources++
	c := &v.cursor
	for c.Reset(r.Line); c.Next(); {
		top := string(c.KeyAt(1))
		if top == "" || top == "resourceType" || c.Kind == fhir.Close {
			continue
		}
		if c.Depth == 1 {
			e := t.elements[top]
			if e == nil {
				e = &element{systems: map[string]bool{}}
				t.elements[top] = e
			}
			e.in++
			e.kind = kind(c)
			continue
		}
		if !c.IsString() {
			continue
		}
		v.path = c.AppendPath(v.path[:0])
		switch path := string(v.path); {
		case path == "meta.profile":
			t.profiles[string(c.Text())] = true
		case strings.HasSuffix(path, "oding.system"), strings.HasSuffix(path, "identifier.system"),
			strings.HasSuffix(path, "class.system"):
			t.elements[top].systems[string(c.Text())] = true
		}
	}
}

// kind returns the form of the value under the cursor.
func kind(c *fhir.Cursor) string {
	switch {
	case c.Kind == fhir.Open && c.IsArray():
		return "list"
	case c.Kind == fhir.Open:
		return "object"
	case c.IsString():
		return "text"
	}
	if raw := c.Raw(); len(raw) > 0 && (raw[0] == 't' || raw[0] == 'f') {
		return "true or false"
	}
	return "number"
}

func (v *surveyor) conclude() Survey {
	for _, name := range slices.Sorted(maps.Keys(v.types)) {
		f := v.types[name]
		t := Type{
			Name:      name,
			Resources: f.resources,
			Profiles:  slices.Sorted(maps.Keys(f.profiles)),
		}
		for _, name := range slices.Sorted(maps.Keys(f.elements)) {
			e := f.elements[name]
			t.Elements = append(t.Elements, Element{
				name,
				e.in,
				e.kind,
				slices.Sorted(maps.Keys(e.systems)),
			})
		}
		v.out.Types = append(v.out.Types, t)
	}
	return v.out
}
