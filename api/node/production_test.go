package node

import (
	"strings"
	"testing"
	"time"

	"ehi-server/api/server"

	"ehi-server/api/abuse"
	"ehi-server/exporter/jobs"

	"ehi-server/exporter/source/kinds"
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
		cfg := Config{
			Addr:             c.addr,
			Bases:            kinds.Bases{BaseURL: c.base},
			SandboxOnNetwork: c.meant,
			Mode:             "sandbox",
		}
		out := cfg.Unfit()
		if (len(out) == 0) != c.ok ||
			len(out) > 0 && !strings.Contains(out[0], "--sandbox-on-network") {
			t.Errorf("%+v: %v", c, out)
		}
	}
}

// A limit that would limit nothing is refused at the start, in both modes, and whatever has no
// limit by 0 starts.
func TestLimitsThatLimitNothingAreRefused(t *testing.T) {
	base := func(mode string) Config {
		return Config{
			Addr:   "127.0.0.1:8888",
			Mode:   mode,
			Quotas: jobs.Quotas{Window: time.Hour},
			Abuse:  abuse.Limits{Window: time.Minute},
			Bases:  kinds.Bases{BaseURL: "https://ehi.example"},
			TLS:    TLSFlags{Cert: "x", Key: "x"},
			HTTP:   server.Flags{MaxHeaderBytes: 1},
		}
	}
	for _, c := range []struct {
		name, mode, says string
		change           func(*Config)
	}{
		{"nothing set", "sandbox", "", func(*Config) {}},
		{
			"no limits in the sandbox",
			"sandbox",
			"",
			func(c *Config) { c.Quotas.Window, c.Abuse.Window = 0, 0 },
		},
		{
			"client's kick-offs",
			"sandbox",
			"--quota-window",
			func(c *Config) { c.Quotas.Window, c.Quotas.ClientKickOffs = 0, 5 },
		},
		{
			"patient's kick-offs",
			"sandbox",
			"--quota-window",
			func(c *Config) { c.Quotas.Window, c.Quotas.PatientKickOffs = 0, 5 },
		},
		{
			"client's exports",
			"sandbox",
			"--quota-window",
			func(c *Config) { c.Quotas.Window, c.Quotas.ClientExports = -time.Hour, 5 },
		},
		{
			"patient's exports",
			"sandbox",
			"--quota-window",
			func(c *Config) { c.Quotas.Window, c.Quotas.PatientExports = time.Millisecond, 5 },
		},
		{"the quotas of production", "production", "--quota-window", func(c *Config) {
			c.Quotas = jobs.Quotas{
				ClientKickOffs: -1, PatientKickOffs: -1, ClientExports: -1, PatientExports: -1,
			}
		}},
		{
			"failures of an address",
			"sandbox",
			"--failure-window",
			func(c *Config) { c.Abuse.Window, c.Abuse.PerAddress = 0, 5 },
		},
		{
			"failures of production",
			"production",
			"--failure-window",
			func(c *Config) { c.Abuse.Window, c.Abuse.PerClient = 0, -1 },
		},
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
