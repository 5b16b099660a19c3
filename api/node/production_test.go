package node

import (
	"strings"
	"testing"
	"time"
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

// A limit that would limit nothing is refused at the start, in both modes, and whatever has no limit by
// 0 starts.
func TestLimitsThatLimitNothingAreRefused(t *testing.T) {
	base := func(mode string) Config {
		return Config{
			Addr: "127.0.0.1:8888", Mode: mode, QuotaWindow: time.Hour, FailureWindow: time.Minute,
			BaseURL: "https://ehi.example", TLSCert: "x", TLSKey: "x", MaxHeaderBytes: 1,
		}
	}
	for _, c := range []struct {
		name, mode, says string
		change           func(*Config)
	}{
		{"nothing set", "sandbox", "", func(*Config) {}},
		{"no limits in the sandbox", "sandbox", "", func(c *Config) { c.QuotaWindow, c.FailureWindow = 0, 0 }},
		{"client's kick-offs", "sandbox", "--quota-window", func(c *Config) { c.QuotaWindow, c.ClientKickoffs = 0, 5 }},
		{"patient's kick-offs", "sandbox", "--quota-window", func(c *Config) { c.QuotaWindow, c.PatientKickoffs = 0, 5 }},
		{"client's exports", "sandbox", "--quota-window", func(c *Config) { c.QuotaWindow, c.ClientExports = -time.Hour, 5 }},
		{"patient's exports", "sandbox", "--quota-window", func(c *Config) { c.QuotaWindow, c.PatientExports = time.Millisecond, 5 }},
		{"the quotas of production", "production", "--quota-window", func(c *Config) {
			c.QuotaWindow, c.ClientKickoffs, c.PatientKickoffs, c.ClientExports, c.PatientExports = 0, -1, -1, -1, -1
		}},
		{"failures of an address", "sandbox", "--failure-window", func(c *Config) { c.FailureWindow, c.AddressFailures = 0, 5 }},
		{"failures of production", "production", "--failure-window", func(c *Config) { c.FailureWindow, c.ClientFailures = 0, -1 }},
	} {
		cfg := base(c.mode)
		if c.mode == "sandbox" {
			cfg.BaseURL = ""
		}
		c.change(&cfg)
		out := strings.Join(cfg.Unfit(), "\n")
		if c.says == "" && out != "" || !strings.Contains(out, c.says) {
			t.Errorf("%s: %q", c.name, out)
		}
	}
}
