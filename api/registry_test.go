package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runWith is run with an input.
func runWith(t *testing.T, input string, args ...string) (string, int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env, cmd.Stdin = append(os.Environ(), binEnv+"=1"), strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

var secretLine = regexp.MustCompile(`client_secret +([A-Za-z0-9_-]{43})\n`)

// Clients, accounts and keys are kept on the command line, on a data folder that nobody serves from and through a running server alike.
func TestRegistriesOnTheCommandLine(t *testing.T) {
	data := t.TempDir()
	for name, where := range map[string]func(t *testing.T) []string{
		"folder": func(t *testing.T) []string { return []string{"--data", data} },
		"server": func(t *testing.T) []string { return []string{"--url", serve(t, data)} },
	} {
		t.Run(name, func(t *testing.T) {
			at := where(t)
			expect := func(input string, code int, text string, args ...string) string {
				t.Helper()
				out, got := runWith(t, input, append(args, at...)...)
				if got != code || !strings.Contains(out, text) {
					t.Fatalf("%v: %d, not %q:\n%s", args, got, text, out)
				}
				return out
			}
			id := "web-" + name
			out := expect("", 0, "client_id      "+id, "client", "add", "--id", id, "--kind", "confidential-symmetric", "--redirect", "https://web.example/cb?a=1,2", "--redirect-origin", "https://web.example", "--scope", "patient/$ehi-export offline_access", "A web site")
			first := secretLine.FindStringSubmatch(out)
			if first == nil || !strings.Contains(out, "https://web.example/cb?a=1,2") {
				t.Fatalf("%s", out)
			}
			expect("", 1, "There is a client", "client", "add", "--id", id, "--scope", "launch/patient", "--redirect", "https://web.example/cb", "Again")
			expect("", 1, "redirect_uri", "client", "add", "--redirect", "http://web.example/cb", "--scope", "launch/patient", "Over http")
			expect("", 0, id, "client", "list")
			if shown := expect("", 0, "A web site", "client", "show", id); secretLine.MatchString(shown) {
				t.Error("the secret is shown again")
			}
			if renewed := secretLine.FindStringSubmatch(expect("", 0, "client_secret", "client", "rotate", id)); renewed == nil || renewed[1] == first[1] {
				t.Errorf("%v after %v", renewed, first)
			}
			expect("", 0, "", "client", "remove", id)
			expect("", 1, "no such client", "client", "show", id)

			expect("four plain words here\n", 0, "", "account", "add", "--role", "reviewer", "rita-"+name)
			expect("short\n", 1, "at least 12", "account", "add", "--role", "reviewer", "sam")
			expect("four plain words here\n", 80, "missing flags", "account", "add", "neither")
			expect("", 0, "role reviewer", "account", "list")
			expect("five other plain words here\n", 0, "", "account", "password", "rita-"+name)
			expect("", 0, "", "account", "remove", "rita-"+name)
			expect("", 1, "no such account", "account", "remove", "rita-"+name)

			expect("", 0, "signs", "keys", "rotate")
			expect("", 0, "retired", "keys", "rotate")
			expect("", 0, "ES256", "keys", "list")
		})
	}
	if out, code := run(t, "keys", "--data", t.TempDir()); code != 0 || !strings.Contains(out, `"kty": "RSA"`) {
		t.Errorf("the sandbox client's keys: %d %s", code, out)
	}
}

// The help and the errors name the program as it was called.
func TestTheProgramIsNamedAsItWasCalled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--help"}, {"client", "add", "--help"}, {"import", "--no-such-flag"}} {
		cmd := exec.CommandContext(t.Context(), exe, args...)
		cmd.Args[0], cmd.Env = "/usr/local/bin/ehi-server", append(os.Environ(), binEnv+"=1")
		out, _ := cmd.CombinedOutput() // a bad flag exits with more than 0
		if text := string(out); !strings.Contains(text, "Usage: ehi-server ") || strings.Contains(text, "api: error") {
			t.Errorf("%v:\n%.300s", args, text)
		}
	}
}

// What a server keeps is its owner's alone: no file and no folder of it can be read or entered by others, whatever the process was started under.
func TestNobodyElseReadsTheData(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	serve(t, data)
	n := 0
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v", path, info.Mode())
		}
		n++
		return err
	})
	if err != nil || n < 20 {
		t.Errorf("%d files and folders, %v", n, err)
	}
}
