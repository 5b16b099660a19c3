package datapackage_test

import (
	"fmt"
	"io"
	"log"
	"strings"

	"ehi-server/shared/datapackage"
)

// A table is read row by row: the bytes to keep, and the values to look at.
func Example() {
	p, err := datapackage.Parse([]byte(`{"resources": [{
		"name": "visits", "path": "visits.csv",
		"schema": {"fields": [{"name": "id", "type": "integer"}, {"name": "reason"}]}
	}]}`))
	if err != nil {
		log.Fatal(err)
	}
	visits := p.Table("visits")
	codec, err := datapackage.NewCodec(visits)
	if err != nil {
		log.Fatal(err)
	}
	file := strings.NewReader("id,reason\n1,\"pain, fever\"\nx,\n")
	rows, err := datapackage.NewScanner(file, visits.Dialect, visits.Encoding, 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	names, err := rows.ReadHeader()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(names, codec.CheckHeader(names))
	var values [][]byte
	for {
		raw, err := rows.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err) // an import goes on after a *datapackage.RowError
		}
		if values, err = codec.Fields(raw, values); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("line %d: %q %q %v\n", rows.Line(), raw, values, codec.Check(values))
	}
	// Output:
	// [id reason] <nil>
	// line 2: "1,\"pain, fever\"\n" ["1" "pain, fever"] <nil>
	// line 3: "x,\n" ["x" ""] field "id": the value is no integer
}
