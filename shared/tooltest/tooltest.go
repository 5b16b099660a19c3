// Package tooltest runs the tools of others that judge files in tests. A test skips where its tool
// is absent. In CI, EHI_TEST_TOOLS says that all tools are there, and then it fails.
package tooltest

import (
	"os"
	"os/exec"
	"testing"
)

// Run runs a tool and returns what it prints. The test fails if the tool does.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, name)
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%.2000s", name, err, out)
	}
	return string(out)
}

// Lacking ends a test for lack of a tool.
func Lacking(t testing.TB, tool string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Getenv("EHI_TEST_TOOLS") != "" {
		t.Fatalf("%s is not installed", tool)
	}
	t.Skipf("%s is not installed", tool)
}
