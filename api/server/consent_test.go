package server

import "testing"

// An address on a page shows a host of other letters for what it is.
func TestAddressesAreShownInPlainLetters(t *testing.T) {
	for address, want := range map[string]string{
		"https://app.example.org/cb":      "https://app.example.org/cb",
		"https://\u0430pp.example.org/cb": "https://xn--pp-6kc.example.org/cb",
		"com.example.app:/cb":             "com.example.app:/cb",
	} {
		if got := plainAddress(address); got != want {
			t.Errorf("%q is shown as %q, want %q", address, got, want)
		}
	}
}
