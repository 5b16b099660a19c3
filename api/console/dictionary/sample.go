package dictionary

import (
	"slices"

	"ehi-server/shared/datapackage"
)

// Examples returns a row of the columns' examples; nil if no column has one.
func (t *Table) Examples() [][]string {
	var row []string
	for _, f := range t.Fields.Fields {
		row = append(row, f.Example)
	}
	if !slices.ContainsFunc(row, func(cell string) bool { return cell != "" }) {
		return nil
	}
	return [][]string{row}
}

// Rows returns the cells of the first rows of a table's file.
func (t *Table) Rows(data []byte, most int) (out [][]string, err error) {
	codec, err := datapackage.NewCodec(t.Resource)
	if err != nil {
		return nil, err
	}
	var values [][]byte
	for raw := range codec.Rows(data) {
		if len(out) == most {
			break
		}
		if values, err = codec.Fields(raw, values); err != nil {
			return nil, err
		}
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = string(v)
		}
		out = append(out, row)
	}
	return out, nil
}
