package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// registry is what the commands client, account and keys change: the authorization server of a
// data folder that no process serves from, or a running server.
type registry interface {
	AddClient(ctx context.Context, c auth.Client) (auth.Client, string, error)
	Clients(ctx context.Context) ([]auth.Client, error)
	Client(ctx context.Context, id string) (auth.Client, error)
	RotateSecret(ctx context.Context, id string) (string, error)
	RemoveClient(ctx context.Context, id string) error
	AddAccount(ctx context.Context, a auth.Account, password string) (auth.Account, error)
	Accounts(ctx context.Context) ([]auth.Account, error)
	SetPassword(ctx context.Context, kind, name, password string) error
	RemoveAccount(ctx context.Context, kind, name string) error
	ResetSecondFactor(ctx context.Context, kind, name string) error
	Keys(ctx context.Context) ([]auth.KeyInfo, error)
	RotateKeys(ctx context.Context, compromised bool) ([]auth.KeyInfo, error)
}

// external is the NATS that keeps the state, where that is not embedded.
type external struct {
	NATS       string     `help:"URL of an external NATS that holds the state. Default: the state of the embedded NATS in --data." name:"nats" env:"EHI_NATS" form:"nats"`
	NATSAccess bus.Access `embed:"" prefix:"nats-"`
}

// place is where the registry is.
type place struct {
	common
	remote
	external
	auth.KeyFlags
}

// remote is a running server with its administrator.
type remote struct {
	URL           string `help:"Work through the running server at this URL, and not on the data folder." name:"url" env:"EHI_URL" form:"url"`
	AdminUser     string `help:"User name of an administrator of the server at --url." default:"admin" env:"EHI_ADMIN_USER" form:"name"`
	AdminPassword string `help:"Password of that administrator." default:"admin-password" env:"EHI_ADMIN_PASSWORD" form:"text" secret:""`
	AdminCode     string `help:"Current code of that administrator's second factor, or a recovery code." env:"EHI_ADMIN_CODE" form:"text" secret:""`
}

// logIn signs in at the server.
func (r remote) logIn(ctx context.Context, open *client.Client) (*client.Client, error) {
	return open.AdminLoginWithCode(ctx, r.AdminUser, r.AdminPassword, r.AdminCode)
}

// with opens the registry for f.
func (p *place) with(ctx context.Context, f func(registry) error) error {
	if p.URL != "" {
		open := client.New(strings.TrimSuffix(p.URL, "/"))
		defer open.Close()
		admin, err := p.logIn(ctx, open)
		if err != nil {
			return err
		}
		return f(admin)
	}
	if err := backup.Unfinished(p.Data); err != nil {
		return err
	}
	b, err := bus.Open(ctx, bus.Config{
		Flags: bus.Flags{
			URL:        p.NATS,
			Replicas:   bus.KeepReplicas,
			Dial:       bus.Dial{Access: p.NATSAccess},
			Durability: durabilityOf(p.NATS),
		},
		StoreDir: filepath.Join(p.Data, backup.NATSFolder),
	})
	if errors.Is(err, bus.ErrInUse) {
		return fmt.Errorf("%w; use the running server: --url URL", err)
	}
	if err != nil {
		return err
	}
	defer b.Close()
	s, err := auth.New(ctx, auth.Config{KV: b.Auth, Flags: auth.Flags{KeyFlags: p.KeyFlags}})
	if err != nil {
		return err
	}
	defer s.Close()
	return f(s)
}

// durabilityOf makes what a command has stored survive a power loss: an external NATS decides
// about that itself.
func durabilityOf(nats string) bus.Durability {
	if nats != "" {
		return bus.Fast
	}
	return bus.Safe
}

type clientCmd struct {
	Add    clientAddCmd    `cmd:"" help:"Register a client. If it has a secret, the command prints it once."`
	List   clientListCmd   `cmd:"" help:"List the registered clients."`
	Show   clientShowCmd   `cmd:"" help:"Show a client."`
	Rotate clientRotateCmd `cmd:"" help:"Replace the secret of a client, and print the new one."`
	Remove clientRemoveCmd `cmd:"" help:"Remove a client. Its tokens are invalid immediately."`
}

type clientAddCmd struct {
	place
	Kind           auth.Kind     `help:"Kind of client: public, confidential-symmetric (with a secret) or confidential-asymmetric (with keys)." enum:"public,confidential-symmetric,confidential-asymmetric" default:"public"`
	ID             string        `help:"Client ID. Default: a random one." name:"id" form:"text"`
	Redirect       []string      `help:"Redirect URI, compared exactly. Repeat the flag for more." sep:"none" form:"text"`
	RedirectOrigin []string      `help:"Origin to which the release form may redirect, in addition to the redirect URIs. Repeat the flag for more." sep:"none" form:"text"`
	Scope          string        `help:"Scopes that the client may be granted, separated by spaces." required:"" form:"text"`
	JWKS           string        `help:"File with the public keys (JWKS) of a confidential-asymmetric client." name:"jwks" type:"existingfile"`
	JWKSURI        string        `help:"URL of the client's public keys (JWKS), instead of a file." name:"jwks-uri" form:"url"`
	Introspect     bool          `help:"The client is a resource server: it may introspect the tokens of others."`
	MaySkipForm    bool          `help:"Exports of this client may skip the patient's form. They then contain everything, including sensitive information. The consent page tells patients."`
	MaySkipReview  bool          `help:"Exports of this client may skip the administrator's review, unless --four-eyes is set. The consent page tells patients."`
	Package        ehi.Packaging `help:"How the client gets documents and tables if its kick-off does not say: files, each with a URL of its own, or zip." enum:"files,zip" default:"files"`
	Name           string        `arg:"" help:"Name of the client on the consent page."`
}

// Run registers a client.
func (c *clientAddCmd) Run(ctx context.Context) error {
	in := auth.Client{
		ID:              c.ID,
		Name:            c.Name,
		Kind:            c.Kind,
		RedirectURIs:    c.Redirect,
		RedirectOrigins: c.RedirectOrigin,
		Scope:           c.Scope,
		JWKSURI:         c.JWKSURI,
		Introspect:      c.Introspect,
		MaySkipForm:     c.MaySkipForm,
		MaySkipReview:   c.MaySkipReview,
		Package:         c.Package,
		CreatedBy:       "command line",
	}
	if c.JWKS != "" {
		var err error
		if in.JWKS, err = os.ReadFile(c.JWKS); err != nil {
			return err
		}
	}
	return c.with(ctx, func(r registry) error {
		added, secret, err := r.AddClient(ctx, in)
		if err != nil {
			return err
		}
		return printClient(added, secret)
	})
}

// printClient prints a client, and its secret if it is new.
func printClient(c auth.Client, secret string) error {
	fmt.Printf("client_id      %s\nclient_name    %s\nkind           %s\nscope          %s\n", c.ID,
		c.Name, c.Kind, c.Scope)
	for _, uri := range c.RedirectURIs {
		fmt.Printf("redirect_uri   %s\n", uri)
	}
	for _, origin := range c.RedirectOrigins {
		fmt.Printf("leads on to    %s\n", origin)
	}
	if c.JWKSURI != "" {
		fmt.Printf("jwks_uri       %s\n", c.JWKSURI)
	}
	if len(c.JWKS) > 0 {
		fmt.Printf("jwks           %s\n", c.JWKS)
	}
	if may := c.Privileges(); may != "" {
		fmt.Printf("privileges     %s\n", may)
	}
	if secret != "" {
		fmt.Printf("client_secret  %s\n", secret)
	}
	return nil
}

type clientListCmd struct{ place }

// Run lists the keys.
func (c *clientListCmd) Run(ctx context.Context) error {
	return c.with(ctx, func(r registry) error {
		list, err := r.Clients(ctx)
		for _, one := range list {
			fmt.Println(one)
		}
		return err
	})
}

// oneClient names a client on the command line.
type oneClient struct {
	place
	ID string `arg:"" help:"Client ID." name:"id"`
}

type clientShowCmd struct{ oneClient }

// Run shows a client.
func (c *clientShowCmd) Run(ctx context.Context) error {
	return c.with(ctx, func(r registry) error {
		one, err := r.Client(ctx, c.ID)
		if err != nil {
			return err
		}
		return printClient(one, "")
	})
}

type clientRotateCmd struct{ oneClient }

// Run rotates the keys.
func (c *clientRotateCmd) Run(ctx context.Context) error {
	return c.with(ctx, func(r registry) error {
		secret, err := r.RotateSecret(ctx, c.ID)
		if err == nil {
			fmt.Printf("client_secret  %s\n", secret)
		}
		return err
	})
}

type clientRemoveCmd struct{ oneClient }

// Run removes an account.
func (c *clientRemoveCmd) Run(ctx context.Context) error {
	return c.with(ctx, func(r registry) error { return r.RemoveClient(ctx, c.ID) })
}

type accountCmd struct {
	Add      accountAddCmd      `cmd:"" help:"Add an account for a patient or an administrator. The command reads the password from the terminal, or from the first line of its input."`
	List     accountListCmd     `cmd:"" help:"List the accounts."`
	Password accountPasswordCmd `cmd:"" help:"Set the password of an account. The sessions of an administrator end."`
	Remove   accountRemoveCmd   `cmd:"" help:"Remove an account. The sessions of an administrator end."`

	ResetSecondFactor accountResetCmd `cmd:"" help:"Reset the second factor of an administrator who has lost it. The administrator's sessions end."`
}

type accountAddCmd struct {
	place
	kinds.Flags
	Patient string    `help:"ID of the patient whose records the account opens." xor:"who" required:"" form:"text"`
	Role    auth.Role `help:"Role of an administrator: viewer, reviewer or admin." xor:"who" required:"" form:"text"`
	Name    string    `arg:"" help:"User name."`
}

// Run adds an account.
func (a *accountAddCmd) Run(ctx context.Context) error {
	password, err := readPassword()
	if err != nil {
		return err
	}
	return a.with(ctx, func(r registry) error {
		if a.Patient != "" && a.URL == "" {
			if err := a.lookUp(ctx); err != nil {
				return err
			}
		}
		_, err := r.AddAccount(ctx, auth.Account{Name: a.Name, Patient: a.Patient, Role: a.Role},
			password)
		return err
	})
}

// lookUp refuses a patient of whom there is no record, as a server does. Where the records
// cannot be opened (there may be none yet), it says so and refuses nobody.
func (a *accountAddCmd) lookUp(ctx context.Context) error {
	records, err := a.records()
	if err != nil {
		fmt.Fprintf(telemetry.Stderr, "note: nobody has looked whether there is a Patient %s: %v\n",
			a.Patient, err)
		return nil
	}
	if _, err = records.Patient(ctx, a.Patient); err != nil {
		err = fmt.Errorf("%w: %s", err, a.Patient)
	}
	return errors.Join(err, records.Close())
}

// records opens existing records for reading. It creates nothing.
func (a *accountAddCmd) records() (source.Source, error) {
	if a.Spec == "records" {
		folder := filepath.Join(a.Data, dataset.Folder)
		if none, err := dataset.None(folder); err != nil {
			return nil, err
		} else if none {
			return nil, fmt.Errorf("%s contains no records", folder)
		}
	}
	return kinds.Open(kinds.Config{Flags: a.Flags, Data: a.Data, ReadOnly: true})
}

// readPassword asks for a password, or reads it from the first line of an input that is no
// terminal.
func readPassword() (string, error) {
	if in := int(os.Stdin.Fd()); term.IsTerminal(in) {
		fmt.Fprint(os.Stderr, "Password: ")
		password, err := term.ReadPassword(in)
		fmt.Fprintln(os.Stderr)
		return string(password), err
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

type accountListCmd struct{ place }

// Run lists the keys.
func (a *accountListCmd) Run(ctx context.Context) error {
	return a.with(ctx, func(r registry) error {
		list, err := r.Accounts(ctx)
		for _, one := range list {
			what := "role " + string(one.Role)
			if one.Patient != "" {
				what = "patient " + one.Patient
			}
			fmt.Printf("%-24s %s\n", one.Name, what)
		}
		return err
	})
}

// named names an account on the command line.
type named struct {
	Patients bool   `help:"The account belongs to a patient, not an administrator."`
	Name     string `arg:"" help:"User name."`
}

func (n named) kind() string {
	if n.Patients {
		return "patient"
	}
	return "admin"
}

type accountPasswordCmd struct {
	place
	named
}

// Run sets a password.
func (a *accountPasswordCmd) Run(ctx context.Context) error {
	password, err := readPassword()
	if err != nil {
		return err
	}
	return a.with(ctx, func(r registry) error {
		return r.SetPassword(ctx, a.kind(), a.Name, password)
	})
}

type accountRemoveCmd struct {
	place
	named
}

// Run removes an account.
func (a *accountRemoveCmd) Run(ctx context.Context) error {
	return a.with(ctx, func(r registry) error { return r.RemoveAccount(ctx, a.kind(), a.Name) })
}

type accountResetCmd struct {
	place
	Configured bool   `help:"The name is the server's --admin-user, not an account."`
	Name       string `arg:"" help:"User name."`
}

// Run resets a second factor.
func (a *accountResetCmd) Run(ctx context.Context) error {
	kind := "admin"
	if a.Configured {
		kind = "config"
	}
	return a.with(ctx, func(r registry) error { return r.ResetSecondFactor(ctx, kind, a.Name) })
}

type keysCmd struct {
	Client keysClientCmd `cmd:"" default:"withargs" help:"Print the private keys (JWKS) with which test_client_id signs assertions as a backend service in sandbox mode (the default). The first use creates them."`
	List   keysListCmd   `cmd:"" help:"List the keys that sign tokens."`
	Rotate keysRotateCmd `cmd:"" help:"Create new keys that sign tokens. The old ones stay published until their tokens have expired."`
}

type keysClientCmd struct{ common }

// Run prints the keys.
func (k *keysClientCmd) Run() error {
	keys, err := auth.SandboxKeys(node.KeysFile(k.Data))
	if err != nil {
		return err
	}
	fmt.Println(string(keys))
	return nil
}

type keysListCmd struct{ place }

// Run lists the keys.
func (k *keysListCmd) Run(ctx context.Context) error {
	return k.with(ctx, func(r registry) error {
		keys, err := r.Keys(ctx)
		printKeys(keys)
		return err
	})
}

func printKeys(keys []auth.KeyInfo) {
	for _, k := range keys {
		what := "signs"
		if !k.Retired.IsZero() {
			what = "verifies, retired " + k.Retired.Format(time.RFC3339)
		}
		fmt.Printf("%-44s %-6s created %s, %s\n", k.ID, k.Algorithm, k.Made.Format(time.RFC3339),
			what)
	}
}

type keysRotateCmd struct {
	place
	Compromised bool `help:"The old keys may be compromised: remove them immediately. All access and ID tokens become invalid."`
}

// Run rotates the keys.
func (k *keysRotateCmd) Run(ctx context.Context) error {
	return k.with(ctx, func(r registry) error {
		keys, err := r.RotateKeys(ctx, k.Compromised)
		printKeys(keys)
		return err
	})
}
