package ehi

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Faults are read in any spelling of their list; one that there is not is named in the refusal.
func TestFaultsAreRead(t *testing.T) {
	for text, want := range map[string][]Fault{
		"slow":              {FaultSlow},
		"slow+failed":       {FaultSlow, FaultFailed},
		"slow, failed slow": {FaultSlow, FaultFailed},
	} {
		if got, err := ParseFaults(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "+", "slow+nonsense", "SLOW"} {
		got, err := ParseFaults(text)
		if CodeOf(err) != Invalid || !strings.Contains(err.Error(), "truncated") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// docs/faults.md has every fault, as the code describes it.
func TestTheDocumentHasEveryFault(t *testing.T) {
	document, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.ReplaceAll(string(document), "`", "")
	for _, f := range Faults() {
		if !strings.Contains(plain, "| "+string(f.Fault)+" | "+f.Shows+" |") {
			t.Errorf("%s: %s", f.Fault, f.Shows)
		}
	}
}
