package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"ehi-server/api/node"
	"ehi-server/shared/settings"
)

// commands returns the subcommands of a command line, with all flags of each.
func commands(t *testing.T, cli any) map[string][]*kong.Flag {
	t.Helper()
	k, err := kong.New(cli, kong.BindTo(t.Context(), (*interface{ Done() <-chan struct{} })(nil)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]*kong.Flag{}
	for _, leaf := range k.Model.Leaves(false) {
		for _, group := range leaf.AllFlags(false) {
			out[leaf.Path()] = append(out[leaf.Path()], group...)
		}
	}
	return out
}

// The type, the enum or the tag of each flag of each subcommand limits its values.
func TestEachFlagSaysWhatItTakes(t *testing.T) {
	for name, flags := range commands(t, new(cli)) {
		for _, flag := range settings.Untagged(flags) {
			t.Errorf("%s %s says nothing of what it takes", name, flag)
		}
	}
}

// Each flag of each subcommand accepts the values at its limits, and none beyond. The limits
// come from the tags, and from a table of invalid texts for each form.
func TestEachFlagIsHeldToItsLimits(t *testing.T) {
	seen, tried, refused := map[string]bool{}, 0, 0
	for name, flags := range commands(t, new(cli)) {
		for _, f := range flags {
			good, bad := samples(f)
			seen[f.Name] = seen[f.Name] || len(bad) > 0
			for i, value := range slices.Concat(good, bad) {
				before := reflect.ValueOf(f.Target.Interface())
				f.Target.Set(value)
				problems := settings.Problems([]*kong.Flag{f}, node.Forms)
				f.Target.Set(before)
				if wrong := i >= len(good); (len(problems) > 0) != wrong {
					t.Errorf("%s --%s=%v: %q", name, f.Name, value, problems)
				} else if wrong {
					tried, refused = tried+1, refused+len(problems)
				}
			}
		}
	}
	limited := 0
	for _, is := range seen {
		if is {
			limited++
		}
	}
	t.Logf("%d flags, %d of them limited by a tag; %d wrong values tried, %d refused", len(seen),
		limited, tried, refused)
	if limited < 90 {
		t.Errorf("only %d flags are limited", limited)
	}
}

// wrongTexts are invalid texts for each form, including the server's own forms.
var wrongTexts = map[string][]string{
	"text":    {"a\x00b", "a\nb", "\x7f"},
	"name":    {"a\nb"},
	"address": {"x", "x:y", "1.2.3.4:65536", ":-1"},
	"origin":  {"ftp://x", "https://x/", "https://x/fhir", "https://x?y", "x"},
	"url":     {"ftp://x", "x", "https://"},
	"nats":    {"http://x", "x:4222", "nats://"},
	"network": {"rubbish", "10.0.0.0/33"},
	"source":  {"rubbish", "synthetic:patients=-1", "synthetic:x=1"},
	"grant":   {"implicit", "password"},
	"host":    {"a b", ".", "https://x"},
}

// samples returns values of a flag at its limits and beyond.
func samples(f *kong.Flag) (good, bad []reflect.Value) {
	t := f.Target.Type()
	if form := f.Tag.Get("form"); form != "" {
		for _, text := range wrongTexts[form] {
			v := reflect.ValueOf(text)
			if t.Kind() == reflect.Slice {
				v = reflect.ValueOf([]string{text})
			}
			bad = append(bad, v.Convert(t))
		}
		return nil, bad
	}
	limits := f.Tag.Get("range")
	if limits == "" {
		return nil, nil
	}
	least, greatest, _ := strings.Cut(limits, "..")
	for limit, step := range map[string]int64{least: -1, greatest: 1} {
		if limit == "" {
			continue
		}
		at, beyond := reflect.New(t).Elem(), reflect.New(t).Elem()
		if d, err := time.ParseDuration(limit); err == nil &&
			t == reflect.TypeFor[time.Duration]() {
			at.SetInt(int64(d))
			beyond.SetInt(int64(d) + step)
		} else if t.Kind() == reflect.Float64 {
			n, err := strconv.ParseFloat(limit, 64)
			if err != nil {
				panic(err)
			}
			at.SetFloat(n)
			beyond.SetFloat(n + float64(step)/1e6)
		} else {
			n, err := strconv.ParseInt(limit, 10, 64)
			if err != nil {
				panic(fmt.Sprintf("--%s: %v", f.Name, err))
			}
			at.SetInt(n)
			beyond.SetInt(n + step)
		}
		good, bad = append(good, at), append(bad, beyond)
	}
	return good, bad
}

// A server with invalid settings reports all of them at once, each in a sentence, and opens
// nothing.
func TestWrongSettingsAreRefusedAtOnce(t *testing.T) {
	data := t.TempDir() + "/data"
	out, code := run(t, "serve", "--data", data, "--ack-wait=1ns", "--write-stall=0s",
		"--job-ttl=-1h", "--workers=-3",
		"--base-url", "ftp://x", "--trusted-proxies", "rubbish", "--tls-cert", "x")
	if code != 1 {
		t.Errorf("it exits with %d", code)
	}
	for _, text := range []string{
		"--ack-wait (EHI_ACK_WAIT) is 1ns: it must be from 200ms to 1h",
		"--write-stall (EHI_WRITE_STALL) is 0s: it must be from 100ms to 24h",
		"--job-ttl (EHI_JOB_TTL) is -1h0m0s: it must be",
		"--workers (EHI_WORKERS) is -3: it must be from 0 to 1000",
		`--base-url (EHI_BASE_URL) is "ftp://x": it must be an http or https address`,
		"--trusted-proxies (EHI_TRUSTED_PROXIES) is [rubbish]: it must be an IP address or a " +
			"network",
	} {
		if !strings.Contains(out, text) {
			t.Errorf("it does not say %s:\n%s", text, out)
		}
	}
	if _, code := run(t, "serve", "--data", data, "--tls-cert", "x"); code != 1 {
		t.Errorf("a certificate without a key: it exits with %d", code)
	}
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := run(t, "serve", "--data", data, "--nats-ca", authority); code != 1 ||
		!strings.Contains(out, "give --nats too") {
		t.Errorf("an authority of a NATS that is not named: it says with %d:\n%s", code, out)
	}
	if out, code := run(t, "doctor", "--data", t.TempDir(), "--ack-wait=1ns",
		"--workers=-3"); code != 1 || !strings.Contains(out, "--ack-wait") ||
		!strings.Contains(out, "--workers") {
		t.Errorf("the doctor says with %d:\n%s", code, out)
	}
}

// A memory limit in the environment that is too small is refused with an explanation. Go's
// runtime ends the process if it cannot parse the limit, and names the variable.
func TestABadMemoryLimitIsSaid(t *testing.T) {
	for value, said := range map[string]string{
		"1MiB":    "GOMEMLIMIT is 1MiB: it must be",
		"rubbish": "malformed GOMEMLIMIT",
	} {
		t.Setenv("GOMEMLIMIT", value)
		out, code := run(t, "serve", "--data", t.TempDir()+"/data")
		if code == 0 || !strings.Contains(out, said) {
			t.Errorf("%s: it says with %d:\n%s", value, code, out)
		}
	}
}
