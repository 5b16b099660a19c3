package verify_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	"ehi-server/shared/ehi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A file that is not what its manifest says is found out.
func TestWrongFilesAreFoundOut(t *testing.T) {
	const good = `{"resourceType":"Patient","id":"1"}` + "\n" + `{"id":"2","resourceType":"Patient"}` + "\n"
	long := `{"resourceType":"Patient","id":"3","text":"` + strings.Repeat("x", 200_000) + `"}` + "\n"
	for name, want := range map[string]struct {
		body  string
		count int64
		right bool
	}{
		"as it should be":  {good, 2, true},
		"a long line":      {good + long, 3, true},
		"a line lost":      {good, 3, false},
		"no last newline":  {strings.TrimSuffix(good, "\n"), 2, false},
		"another type":     {strings.Replace(good, "Patient", "Person", 1), 2, false},
		"a blank line":     {good + "\n", 3, false},
		"a line no JSON":   {strings.Replace(good, "}", "", 1), 2, false},
		"a long one wrong": {good + strings.Replace(long, "}", "", 1), 3, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, want.body) }))
		c := client.New(server.URL)
		f, err := verify.File(t.Context(), c, ehi.ManifestEntry{Type: "Patient", URL: server.URL, Count: want.count})
		if right := err == nil; right != want.right || !right && !errors.Is(err, verify.ErrWrong) || right && f.Bytes != int64(len(want.body)) {
			t.Errorf("%s: %d bytes, %v", name, f.Bytes, err)
		}
		c.Close()
		server.Close()
	}
}
