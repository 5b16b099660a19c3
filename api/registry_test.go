package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ehi-server/exporter/dataset"
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

// Clients, accounts and keys can be managed on the command line, both on a data folder without a
// server and through a running server.
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
			out := expect("", 0, "client_id      "+id, "client", "add", "--id", id, "--kind",
				"confidential-symmetric", "--redirect", "https://web.example/cb?a=1,2",
				"--redirect-origin", "https://web.example", "--scope",
				"patient/$ehi-export offline_access", "A web site")
			first := secretLine.FindStringSubmatch(out)
			if first == nil || !strings.Contains(out, "https://web.example/cb?a=1,2") {
				t.Fatalf("%s", out)
			}
			expect("", 1, "There is a client", "client", "add", "--id", id, "--scope",
				"launch/patient", "--redirect", "https://web.example/cb", "Again")
			expect("", 1, "redirect_uri", "client", "add", "--redirect", "http://web.example/cb",
				"--scope", "launch/patient", "Over http")
			expect("", 0, id, "client", "list")
			shown := expect("", 0, "A web site", "client", "show", id)
			if secretLine.MatchString(shown) {
				t.Error("the secret is shown again")
			}
			renewed := secretLine.FindStringSubmatch(
				expect("", 0, "client_secret", "client", "rotate", id))
			if renewed == nil || renewed[1] == first[1] {
				t.Errorf("%v after %v", renewed, first)
			}
			expect("", 0, "", "client", "remove", id)
			expect("", 1, "no such client", "client", "show", id)

			expect("four plain words here\n", 0, "", "account", "add", "--role", "reviewer",
				"rita-"+name)
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
	out, code := run(t, "keys", "--data", t.TempDir())
	if code != 0 || !strings.Contains(out, `"kty": "RSA"`) {
		t.Errorf("the sandbox client's keys: %d %s", code, out)
	}
}

// A patient's account requires an existing record, with and without a running server. If there
// are no records yet, the command says so.
func TestAPatientsAccountNeedsThePatient(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	records := filepath.Join(dir, "a.ndjson")
	write(t, map[string]string{records: `{"resourceType":"Patient","id":"p1"}` + "\n"})
	add := func(code int, text string, args ...string) {
		t.Helper()
		out, got := runWith(t, "four plain words here\n",
			append([]string{"account", "add"}, args...)...)
		if got != code || !strings.Contains(out, text) || text == "" && out != "" {
			t.Errorf("%v: %d, not %d and %q:\n%s", args, got, code, text, out)
		}
	}
	const absent, unseen = "Patient not found: p2",
		"nobody has looked whether there is a Patient p2"
	add(0, unseen, "--data", data, "--patient", "p2", "before")
	if _, err := os.Lstat(filepath.Join(data, dataset.Folder)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a record store is made by looking for it: %v", err)
	}
	add(1, "Patient not found", "--data", data, "--source", "synthetic:patients=1", "--patient",
		"p2", "made")
	if out, code := run(t, "import", "--data", data, records); code != 0 {
		t.Fatal(out)
	}
	add(1, absent, "--data", data, "--patient", "p2", "wrong")
	add(0, "", "--data", data, "--patient", "p1", "right")
	list, code := run(t, "account", "list", "--data", data)
	if code != 0 || strings.Contains(list, "wrong") {
		t.Errorf("%d, the account that was refused is there:\n%s", code, list)
	}
	url := serve(t, data)
	add(1, "Patient not found", "--url", url, "--patient", "p2", "far")
	add(0, "", "--url", url, "--patient", "p1", "near")
}

// The help and the errors contain the name with which the program was called.
func TestTheProgramIsNamedAsItWasCalled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--help"}, {"client", "add", "--help"}, {"import", "--no-such-flag"},
	} {
		cmd := exec.CommandContext(t.Context(), exe, args...)
		cmd.Args[0], cmd.Env = "/usr/local/bin/ehi-server", append(os.Environ(), binEnv+"=1")
		out, _ := cmd.CombinedOutput() // a bad flag is an error
		text := string(out)
		if !strings.Contains(text, "Usage: ehi-server ") || strings.Contains(text, "api: error") {
			t.Errorf("%v:\n%.300s", args, text)
		}
	}
}

// Only its owner can read what a server stores: others can neither read a file nor enter a
// folder, whatever the umask of the process.
func TestOnlyTheOwnerCanReadTheDataFolder(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	serve(t, data)
	n := 0
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // the server replaces some meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
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
