package fhir

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/segmentio/encoding/json"
)

// Parameter is a name and primitive value from a Parameters resource or a query.
type Parameter struct {
	Name  string
	Value string
	// Problem is why there is no value: it is absent or not primitive. It is "" if there is one.
	Problem string
}

var errNotParameters = errors.New("the body is not a FHIR Parameters resource")

// ParseParameters parses the primitive parameters of a Parameters resource
// (https://hl7.org/fhir/R4/parameters.html). Numbers and booleans are returned as JSON text, a
// Reference as its literal reference. A parameter with another complex value, a resource, parts
// or no value has a Problem; whether that matters depends on its name. A body that readers may
// interpret differently is an error: one that repeats a field, in any case, or gives a parameter
// two values.
func ParseParameters(body []byte) ([]Parameter, error) {
	var doc struct {
		ResourceType string                       `json:"resourceType"`
		Parameter    []map[string]json.RawMessage `json:"parameter"`
	}
	// A byte order mark may be ignored (RFC 8259, 8.1).
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("the body is not valid JSON of a Parameters resource: %w", err)
	}
	if err := ambiguous(body); err != nil {
		return nil, fmt.Errorf("the body is ambiguous: %w", err)
	}
	if doc.ResourceType != "Parameters" {
		return nil, errNotParameters
	}
	var out []Parameter
	for i, fields := range doc.Parameter {
		p, err := parameter(fields)
		if err != nil {
			return nil, fmt.Errorf("parameter[%d]: %w", i, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// ambiguous returns why readers may interpret a Parameters resource differently.
func ambiguous(body []byte) error {
	c := Cursor{Unique: true}
	for c.Reset(body); c.Next(); {
		name := string(c.Key())
		for _, element := range []string{"resourceType", "parameter"} {
			if c.Depth == 1 && name != element && strings.EqualFold(name, element) {
				return fmt.Errorf("it has a field %q, and names count with their case", name)
			}
		}
	}
	return c.Err()
}

func parameter(fields map[string]json.RawMessage) (p Parameter, err error) {
	if json.Unmarshal(fields["name"], &p.Name) != nil || p.Name == "" {
		return p, errors.New("it has no name")
	}
	values := slices.DeleteFunc(slices.Sorted(maps.Keys(fields)), func(key string) bool {
		return !strings.HasPrefix(key, "value")
	})
	switch len(values) {
	case 0:
		p.Problem = "has no value"
		return p, nil
	case 1:
	default:
		return p, fmt.Errorf("it has several values: %s", strings.Join(values, ", "))
	}
	raw := fields[values[0]]
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return p, err // the whole body has been parsed before
	}
	switch v := v.(type) {
	case string:
		p.Value = v
	case float64, bool:
		p.Value = string(raw)
	case map[string]any:
		ref, ok := v["reference"].(string)
		if values[0] != "valueReference" || !ok {
			p.Problem = "must have a primitive value or a literal reference"
		}
		p.Value = ref
	default:
		p.Problem = "must have a primitive value"
	}
	return p, nil
}
