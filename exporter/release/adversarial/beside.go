package adversarial

import "strings"

// Other is a resource in the store but not in the record, with its possible names.
type Other struct {
	Line, Type, ID string
	Values         []string // of its identifiers
}

// Others returns the resources that are in the store but not in the record.
func (r *Record) Others() (others []Other) {
	for _, m := range r.Resources {
		if !m.beside {
			continue
		}
		o := Other{Line: m.Line, Type: m.Type, ID: m.ID}
		if m.identified {
			o.Values = []string{"ident-" + m.Marker}
		}
		if m.kind.defines {
			o.Values = append(o.Values, "url|"+strings.ToLower(m.url()))
		}
		others = append(others, o)
	}
	return others
}
