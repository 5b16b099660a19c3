package node

import (
	"strings"
	"testing"

	"ehi-server/api/session"
	"ehi-server/auth"

	"ehi-server/shared/bus"
)

// What administrators see of the configuration has no secret in it.
func TestSettingsHideSecrets(t *testing.T) {
	c := Config{
		Admin: session.Flags{Password: "secret-1"},
		Auth:  auth.Flags{SandboxSecret: "secret-2"},
		Bus:   bus.Flags{URL: "nats://user:secret-3@nats.example.org:4222"},
		Addr:  ":1",
	}
	c.Trace.Endpoint = "https://secret-4@collector.example.org"
	seen := map[string]string{}
	for _, s := range c.settings() {
		if strings.Contains(s.Value, "secret-") {
			t.Errorf("%s shows %s", s.Flag, s.Value)
		}
		seen[s.Flag] = s.Value
	}
	for flag, value := range map[string]string{
		"--addr":           ":1",
		"--admin-password": "(set)",
		"--nats":           "nats://(set)@nats.example.org:4222",
		"--trace-endpoint": "https://(set)@collector.example.org",
		"--source":         "",
	} {
		if seen[flag] != value {
			t.Errorf("%s is shown as %q", flag, seen[flag])
		}
	}
}

// Administrators need a second factor in production mode, unless the flag says otherwise.
func TestSecondFactorsAreRequiredInProduction(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want bool
		says string
	}{
		{Config{Mode: "production"}, true, ""},
		{
			Config{Mode: "production", Admin: session.Flags{SecondFactor: new(false)}},
			false,
			"false",
		},
		{Config{Mode: "sandbox"}, false, ""},
		{Config{Mode: "sandbox", Admin: session.Flags{SecondFactor: new(true)}}, true, "true"},
	} {
		if c.cfg.Admin.In(c.cfg.sandbox()).RequireSecondFactor != c.want {
			t.Errorf("%s with %q: %v", c.cfg.Mode, c.says, !c.want)
		}
		for _, s := range c.cfg.settings() {
			if s.Flag == "--require-second-factor" && s.Value != c.says {
				t.Errorf("it is shown as %q, not %q", s.Value, c.says)
			}
		}
	}
}
