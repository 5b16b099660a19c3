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

// A file that does not match its manifest is detected.
func TestWrongFilesAreFoundOut(t *testing.T) {
	const good = `{"resourceType":"Patient","id":"1"}` + "\n" +
		`{"id":"2","resourceType":"Patient"}` + "\n"
	long := `{"resourceType":"Patient","id":"3","text":"` + strings.Repeat("x", 200_000) + `"}` +
		"\n"
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
		wrongOrRight(t, name, "Patient", want.body, want.count, want.right)
	}
}

// The headers in a file that is organized by patient do not count as resources.
func TestHeadersAreNotCounted(t *testing.T) {
	const header = `{"resourceType":"Parameters","parameter":[{"name":"header",` +
		`"valueReference":{"reference":"Patient/1"}}]}` + "\n"
	const spelt = `{"parameter":[{"valueReference":{"reference":"Patient/2"},` +
		`"name":"header"}], "resourceType" : "Parameters"}` + "\n"
	const resources = `{"resourceType":"Patient","id":"1"}` + "\n" +
		`{"resourceType":"Observation","id":"2"}` + "\n"
	wrongOrRight(t, "two blocks", "", header+resources+spelt+resources, 4, true)
	wrongOrRight(t, "headers counted", "", header+resources+spelt+resources, 6, false)
	wrongOrRight(t, "by type", "Parameters", header, 1, true)
}

// wrongOrRight downloads a file with a body and checks what File reports.
func wrongOrRight(t *testing.T, name, typ, body string, count int64, right bool) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	c := client.New(server.URL)
	defer c.Close()
	f, err := verify.File(t.Context(), c, ehi.ManifestEntry{
		Type:  typ,
		URL:   server.URL,
		Count: count,
	})
	found := err == nil
	if found != right || !found && !errors.Is(err, verify.ErrWrong) ||
		found && f.Bytes != int64(len(body)) {
		t.Errorf("%s: %d bytes, %v", name, f.Bytes, err)
	}
}
