package dictionary

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ehi-server/shared/datapackage"
)

// Column describes a column of a table.
type Column struct {
	*datapackage.Field
	// Kind is the type with its format.
	Kind string
	// Primary means that the column is part of the primary key.
	Primary bool
	// Refers are the foreign keys that the column is part of.
	Refers []Key
	// Date means that limits of dates apply to the column.
	Date bool
	// Limits are the constraints, in words.
	Limits []string
	// Found means that a search found the column.
	Found bool

	text string // for searches
}

func (t *Table) columns() (out []Column) {
	for i := range t.Fields.Fields {
		f := &t.Fields.Fields[i]
		c := Column{
			Field: f, Kind: cmp.Or(f.Type, "string"), Date: f.Name == t.Date,
			Primary: slices.Contains(t.Fields.PrimaryKey, f.Name), Limits: limits(f),
			text: searched(f.Name, f.Title, f.Description, f.System, f.Resource),
		}
		if f.Format != "" && f.Format != "default" {
			c.Kind += " (" + f.Format + ")"
		}
		for _, k := range t.To {
			if slices.Contains(k.Fields, f.Name) {
				c.Refers = append(c.Refers, k)
			}
		}
		out = append(out, c)
	}
	return out
}

// limits returns the constraints of a field in words.
func limits(f *datapackage.Field) (out []string) {
	c := f.Constraints
	if c == nil {
		c = &datapackage.Constraints{}
	}
	add := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	bound := func(name string, v any) { add(v != nil, "%s %s", name, plain(v)) }
	add(c.Required, "required")
	add(c.Unique, "unique")
	if c.MinLength != nil {
		add(true, "length at least %d", *c.MinLength)
	}
	if c.MaxLength != nil {
		add(true, "length at most %d", *c.MaxLength)
	}
	bound("at least", c.Minimum)
	bound("at most", c.Maximum)
	bound("more than", c.ExclusiveMinimum)
	bound("less than", c.ExclusiveMaximum)
	add(c.Pattern != "", "matches %s", c.Pattern)
	if len(c.Enum) > 0 {
		var values []string
		for _, v := range c.Enum {
			values = append(values, plain(v))
		}
		add(true, "one of %s", strings.Join(values, ", "))
	}
	add(f.DecimalChar != "" && f.DecimalChar != ".", "decimal mark %s", f.DecimalChar)
	add(f.GroupChar != "", "digits grouped by %s", f.GroupChar)
	add(len(f.TrueValues) > 0, "true is written %s", strings.Join(f.TrueValues, ", "))
	add(len(f.FalseValues) > 0, "false is written %s", strings.Join(f.FalseValues, ", "))
	add(f.MissingValues != nil, "no value is written %s",
		strings.Join(quoted(f.MissingValues), ", "))
	return out
}

// plain returns a value of JSON as text.
func plain(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
