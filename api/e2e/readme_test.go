package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"ehi-server/api/node"
)

var flowBlock = regexp.MustCompile("(?s)<!-- flow -->\n```bash\n(.*?)```")

// The README's commands, pasted from top to bottom against a fresh server, do what they say.
func TestREADMEFlowWorksAsWritten(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the README's commands need %s: %v", tool, err)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := flowBlock.FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != 7 {
		t.Fatalf("the README has %d blocks of the flow", len(blocks))
	}
	w := start(t, t.TempDir(), config(), node.Options{})
	script := "set -euo pipefail\n"
	for _, b := range blocks {
		script += b[1]
	}
	script = strings.ReplaceAll(script, "http://127.0.0.1:8888", w.open.Base)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"202 Accepted", "patient-interaction", `"status":"approved"`, "attachments.DocumentReference.ndjson", "Observation.ndjson", "Encounter.ndjson",
		"Call us about the second visit.", `"withheld"`, "}404\n", `"transactionTime"`,
		`"request":"` + w.open.Base + `/fhir/Patient/$export?_type=Patient,Observation"`, `"count":5`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), " Claim.ndjson\n") { // a line of wc: a file of the narrowed export
		t.Error("the first export has claims")
	}
}
