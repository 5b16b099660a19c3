package native

import (
	"cmp"
	"encoding/hex"
	"time"

	"ehi-server/shared/datapackage"
)

// described returns the description of a table in an export, whose file lies at path beside the
// descriptor.
func described(
	r *datapackage.Resource, path string, size int64, sha1 []byte,
) datapackage.Resource {
	d := *r
	d.Path, d.Profile = datapackage.Paths{path}, datapackage.TabularProfile
	d.Format, d.MediaType = TableFormat(r), plainType(r)
	d.Bytes = size
	if d.Encoding != "" { // the default stays unsaid
		d.Encoding = encoding(r)
	}
	if sha1 != nil {
		d.Hash = "sha1:" + hex.EncodeToString(sha1)
	}
	return d
}

// plainType returns the media type of a table without parameters.
func plainType(r *datapackage.Resource) string {
	if TableFormat(r) == "tsv" {
		return "text/tab-separated-values"
	}
	return "text/csv"
}

// descriptor returns the Data Package of tables that lie beside each other. Of those that are in
// parts, some rows lie elsewhere: keys to such a table cannot be followed here, nor those that the
// rows do not prove.
func (e *Export) descriptor(
	tables []datapackage.Resource, parts map[string]bool, proved *claims,
) []byte {
	of := e.Record.Tables()
	p := *of
	p.Resources = tables
	p.Created = e.TakenAt.UTC().Format(time.RFC3339)
	p.Homepage = e.Origin + "/docs/ehi"
	has := map[string]bool{}
	for _, r := range tables {
		has[r.Name] = true
	}
	return p.Narrow(
		func(name string) bool { return has[name] },
		func(from *datapackage.Resource, k datapackage.ForeignKey) bool {
			return !parts[cmp.Or(k.Reference.Resource, from.Name)] && proved.hold(from, k)
		},
	).JSON()
}

// descriptorFile describes the descriptor in a list.
func (e *Export) descriptorFile(name string, m *measured) file {
	return file{
		name: name, contentType: datapackage.MediaType, title: "Description of the tables",
		format: formatOf(datapackage.MediaType, ""), created: e.TakenAt,
		size: m.size, sha1: m.digest(),
	}
}
