package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"ehi-server/api/node"
)

// documented is the server's origin in the documents.
const documented = "http://127.0.0.1:8888"

var flowBlock = regexp.MustCompile("(?s)<!-- flow -->\n```bash\n(.*?)```")

// The commands of the README work as described if they are pasted from top to bottom.
func TestREADMEFlowWorksAsWritten(t *testing.T) {
	t.Parallel()
	out := paste(t, "../../README.md", 2)
	// lines of wc
	for _, want := range []string{" Patient.ndjson\n", " Observation.ndjson\n", " total\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

// The commands of the page for client developers work as described.
func TestTheClientsPageWorksAsWritten(t *testing.T) {
	t.Parallel()
	out := paste(t, "../../docs/clients.md", 7)
	for _, want := range []string{
		"202 Accepted", "patient-interaction", `"status":"approved"`,
		"attachments.DocumentReference.ndjson", "Observation.ndjson", "Encounter.ndjson",
		"Call us about the second visit.", `"withheld"`, "}404\n", `"transactionTime"`,
		`"request":"` + documented + `/fhir/Patient/$export?_type=Patient,Observation"`,
		`"count":5`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, " Claim.ndjson\n") { // a line of wc: a file of the narrowed export
		t.Error("the first export has claims")
	}
}

// paste runs the marked commands of a page, which has n blocks, against a new server. It returns
// their output, with the documented origin instead of the server's.
func paste(t *testing.T, page string, n int) string {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the commands of %s need %s: %v", page, tool, err)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := flowBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != n {
		t.Fatalf("%s has %d blocks of commands", page, len(blocks))
	}
	w := start(t, t.TempDir(), config(), node.Options{})
	script := "set -euo pipefail\n"
	for _, b := range blocks {
		script += b[1]
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c",
		strings.ReplaceAll(script, documented, w.open.Base))
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.ReplaceAll(string(out), w.open.Base, documented)
}
