package node

import (
	"strings"
	"testing"
)

// A sandbox that others reach, itself or by a proxy, starts only where that is meant.
func TestASandboxStaysOnThisMachine(t *testing.T) {
	for _, c := range []struct {
		addr, base string
		meant, ok  bool
	}{
		{"127.0.0.1:8888", "", false, true},
		{"localhost:8888", "http://localhost:8888", false, true},
		{"[::1]:8888", "https://[::1]", false, true},
		{"0.0.0.0:8888", "", false, false},
		{"192.168.1.2:8888", "", false, false},
		{"127.0.0.1:8888", "https://ehi.public.example", false, false},
		{"127.0.0.1:8888", "https://127.0.0.1.public.example/x", false, false},
		{"127.0.0.1:8888", "//", false, false},
		{"0.0.0.0:8888", "https://ehi.public.example", true, true},
	} {
		cfg := Config{Addr: c.addr, BaseURL: c.base, SandboxOnNetwork: c.meant, Mode: "sandbox"}
		if out := cfg.Unfit(); (len(out) == 0) != c.ok || len(out) > 0 && !strings.Contains(out[0], "--sandbox-on-network") {
			t.Errorf("%+v: %v", c, out)
		}
	}
}
