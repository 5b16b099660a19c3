package outside

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ehi-server/shared/built"
)

// kit is an installation that tests share: a folder with the scripts of testdata, or the reason
// why there is none.
type kit struct {
	dir    string
	absent error
}

// or skips the test if the kit is absent.
func (k kit) or(t *testing.T) kit {
	t.Helper()
	if k.absent != nil {
		t.Skip(k.absent)
	}
	return k
}

// install copies a folder of testdata and runs commands in the copy. Each is a program and its
// arguments; debian names the package of the program.
func install(name, debian string, commands ...[]string) kit {
	k := kit{dir: filepath.Join(folder, name)}
	if k.absent = os.CopyFS(k.dir, os.DirFS(filepath.Join("testdata", name))); k.absent != nil {
		return k
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, c := range commands {
		if _, err := exec.LookPath(c[0]); err != nil && !strings.Contains(c[0], "/") {
			k.absent = fmt.Errorf("%s is absent (Debian: %s)", c[0], debian)
			return k
		}
		run := exec.CommandContext(ctx, c[0], c[1:]...)
		run.Dir = k.dir
		if out, err := run.CombinedOutput(); err != nil {
			k.absent = fmt.Errorf("the packages of testdata/%s cannot be had: %w: %s", name, err,
				tail(string(out)))
			return k
		}
	}
	return k
}

// npm is the kit with the clients from npm and their scripts.
var npm = sync.OnceValue(func() kit {
	return install("npm", "npm", []string{"npm", "install", "--no-package-lock", "--ignore-scripts",
		"--no-audit", "--no-fund", "--legacy-peer-deps", "--omit=optional"})
})

// python is the kit with the clients and validators from PyPI, in the virtual environment env.
var python = sync.OnceValue(func() kit {
	return install("python", "python3-venv", []string{"python3", "-m", "venv", "env"},
		[]string{
			"env/bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r",
			"requirements.txt",
		})
})

// java is the kit with the jars from Maven. The file classpath lists them.
var java = sync.OnceValue(func() kit {
	return install("java", "maven, default-jdk-headless", []string{"javac", "-version"},
		[]string{"mvn", "-B", "-q", "dependency:build-classpath", "-Dmdep.outputFile=classpath"})
})

// node runs a script of the npm kit.
func (s *server) node(script string, env ...string) *program {
	s.t.Helper()
	k := npm().or(s.t)
	return begin(s.t, k.dir, append(env, "SERVER="+s.url), "node", script)
}

// python runs a command of the virtual environment.
func (s *server) python(env []string, command string, args ...string) *program {
	s.t.Helper()
	k := python().or(s.t)
	return begin(s.t, k.dir, append(env, "SERVER="+s.url), filepath.Join("env", "bin", command),
		args...)
}

// runJava runs a source file of the java kit.
func runJava(t *testing.T, source string, args ...string) *program {
	t.Helper()
	k := java().or(t)
	classpath, err := os.ReadFile(filepath.Join(k.dir, "classpath"))
	if err != nil {
		t.Fatal(err)
	}
	// for programs that run for seconds
	quick := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}
	args = append(append(quick, "-cp", strings.TrimSpace(string(classpath)), source), args...)
	return begin(t, k.dir, nil, "java", args...)
}

// keys returns the private keys of test_client_id, as the command keys prints them.
func (s *server) keys() []byte {
	s.t.Helper()
	out, err := exec.Command(built.Command(s.t, "ehi-server/api"), "keys", "--data",
		s.data).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}
