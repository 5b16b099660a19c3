package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ehi-server/exporter/dataset"
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

// While a server has the store, the error names a way that works for what is imported.
func TestAnImportBesideAServerSaysHowItCanBeDone(t *testing.T) {
	data := t.TempDir()
	store, err := dataset.Open(dataset.Config{Dir: filepath.Join(data, dataset.Folder)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() // read only
	for name, want := range map[string]string{
		"p.ndjson": "import --url URL", "documents.csv": "stop the server, import without --url",
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("patient,path\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		i := importCmd{Paths: []string{path}}
		i.Data, i.LogFormat = data, "text"
		err := i.Run(t.Context())
		if !errors.Is(err, dataset.ErrInUse) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
