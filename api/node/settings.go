package node

import (
	"fmt"
	"net/url"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"ehi-server/api/staff"
	"ehi-server/auth"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/settings"
)

// Forms are what texts of the server's command line have to be, beside those that every command
// line has.
var Forms = settings.Forms{
	"source": kinds.Forms["source"],
	"grant": {
		Name: "a grant type that clients may register: " +
			strings.Join(auth.RegistrableGrants(), ", "),
		Fits: func(text string) bool {
			return slices.Contains(auth.RegistrableGrants(), text)
		},
	},
	"host": {
		Name: "a host, such as app.example.org, or .example.org for all below it",
		Fits: func(text string) bool {
			return settings.IsHost(strings.TrimPrefix(text, ".")) && strings.Trim(text, ".") != ""
		},
	},
}

// Wrong lists the settings that no server can work with, in whatever mode.
func (c Config) Wrong() []string {
	out, err := settings.Of(&c, Forms)
	if err != nil { // the command line has been read by the same tags
		panic(err)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		out = append(out, "--tls-cert and --tls-key go together")
	}
	if c.Bus.URL == "" && (c.Bus.Access.Creds != "" || c.Bus.Access.CA != "") {
		out = append(out, "--nats-creds and --nats-ca are for an external NATS: give --nats too")
	}
	if c.MemoryLimit > 0 && c.MemoryLimit < leastMemory {
		out = append(out,
			fmt.Sprintf("--memory-limit is %d: it must be 0, or %d or more", c.MemoryLimit,
				leastMemory))
	}
	if limit := os.Getenv("GOMEMLIMIT"); limit != "" && debug.SetMemoryLimit(-1) < leastMemory {
		out = append(out,
			fmt.Sprintf("GOMEMLIMIT is %s: it must be %d or more, in bytes or as 64MiB, or off",
				limit, leastMemory))
	}
	return out
}

// leastMemory is the least heap with which a server does more than collect garbage.
const leastMemory = 48 << 20

// Defaults is what a server without flags runs with: the defaults of the command line, and the
// environment. Errors: a variable that cannot be read.
func Defaults() (c Config, err error) {
	parser, err := kong.New(&c)
	if err != nil {
		return c, err
	}
	_, err = parser.Parse(nil)
	return c, err
}

// settings are the configuration as administrators may see it.
func (c Config) settings() (out []staff.Setting) {
	parser, err := kong.New(&c)
	if err != nil { // the command line has been read by the same tags
		panic(err)
	}
	for _, f := range parser.Model.Flags {
		value := fmt.Sprint(f.Target.Interface())
		if f.Target.Kind() == reflect.Pointer {
			if value = ""; !f.Target.IsNil() {
				value = fmt.Sprint(f.Target.Elem().Interface())
			}
		}
		if f.Tag.Has("secret") && value != "" {
			value = "(set)"
		}
		// credentials of NATS, or of a collector
		if u, err := url.Parse(value); err == nil && u.User != nil {
			u.User = url.User("(set)")
			value, _ = url.PathUnescape(u.String())
		}
		if f.Name != "help" {
			out = append(out, staff.Setting{Flag: "--" + f.Name, Value: value})
		}
	}
	return out
}
