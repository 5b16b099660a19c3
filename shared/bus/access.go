package bus

import (
	"errors"
	"net"

	"github.com/nats-io/nats.go"
)

// Access holds the credentials between processes and NATS. Commands embed it as flags.
type Access struct {
	Password string `help:"Password of the NATS user ehi. The embedded NATS requires it from exporters, and an external NATS receives it as credentials." secret:"" env:"EHI_NATS_PASSWORD" form:"text"`
	Creds    string `help:"Credentials file (JWT and seed of a user) for an external NATS." type:"existingfile" env:"EHI_NATS_CREDS"`
	CA       string `help:"PEM file with the certificate authorities for an external NATS. The connection then uses TLS." name:"ca" type:"existingfile" env:"EHI_NATS_CA"`
}

// user is the NATS user of Access.Password.
const user = "ehi"

// Options returns the options of a connection.
func (a Access) Options() (opts []nats.Option) {
	if a.Password != "" {
		opts = append(opts, nats.UserInfo(user, a.Password))
	}
	if a.Creds != "" {
		opts = append(opts, nats.UserCredentials(a.Creds))
	}
	if a.CA != "" {
		opts = append(opts, nats.RootCAs(a.CA))
	}
	return opts
}

// ErrOpen is returned by Open if the embedded NATS would accept connections from other machines
// without a password. Its clients can read and change all commands and records.
var ErrOpen = errors.New("the embedded NATS would be open to other machines: set a password " +
	"(--nats-password), or listen on loopback")

// open reports whether processes of other machines can reach an address.
func open(host string) bool {
	if host == "localhost" {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}
