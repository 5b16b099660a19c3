package dataset

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/shared/fhir"
)

// Whatever an index holds, each of its documents has an id of FHIR and a path within the folder,
// and reading it ends.
func FuzzAnIndexOfDocumentsLeadsNowhereElse(f *testing.F) {
	f.Add("patient,path\na,b.txt\n")
	f.Add("path,patient,labels\n../x,a,\n\"x\ny\",urn:a|b,s|c;t|d\n")
	f.Add("patient,path,date\n\"a,b\n")
	f.Add("\ufeffpatient,path,type\r\na,b/c.pdf,x|y|z\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		x, err := newIndexReader(strings.NewReader(text), 1<<10)
		if err != nil {
			return
		}
		for n := 0; ; n++ {
			d, line, err := x.next()
			if _, bad := errors.AsType[errRow](err); err != nil && !bad {
				if !errors.Is(err, io.EOF) && !errors.Is(err, errLongRow) {
					t.Fatal(err)
				}
				return
			}
			if line < 1 || n > len(text) {
				t.Fatalf("row %d at line %d", n, line)
			}
			if err != nil || d.path == "" { // columns may be empty where a row is bad
				continue
			}
			id, path := d.idOf(blobs.Name{}), filepath.FromSlash(d.path)
			if !fhir.ValidID(id) || !filepath.IsLocal(path) {
				t.Fatalf("id %q, path %q", id, d.path)
			}
		}
	})
}
