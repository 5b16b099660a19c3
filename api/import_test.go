package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// An import of documents or tables through a server is refused before anything is sent.
func TestNativeContentIsNotSentToAServer(t *testing.T) {
	for name, text := range map[string]string{
		"documents.csv":    "patient,path\n",
		"datapackage.json": `{"resources": []}`,
		"document_reference.ndjson": `{"resourceType":"DocumentReference","meta":{"tag":[` +
			`{"code":"ehi-export"}]},"content":[{"attachment":{"url":"documents/x.pdf"}}]}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		i := importCmd{Paths: []string{dir}}
		i.URL = "http://127.0.0.1:1"
		_, err := i.send(t.Context(), func(int64, int64) {})
		if !errors.Is(err, errOnlyHere) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
