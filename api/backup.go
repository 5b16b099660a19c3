package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/bus"
)

type backupCmd struct {
	Take   backupTakeCmd   `cmd:"" default:"withargs" help:"Write an archive (the default)."`
	Verify backupVerifyCmd `cmd:"" help:"Read a whole archive and compare it with its table of contents."`
}

type backupTakeCmd struct {
	common
	remote
	Recipient []string `help:"Public key (age1...) of a recipient. The archive is encrypted with age, and only recipients can read it. Repeat the flag for more. Default: no encryption." placeholder:"KEY" env:"EHI_BACKUP_RECIPIENT" form:"text"`
	Archive   string   `arg:"" help:"File to write. It must not exist."`

	Silence time.Duration `help:"With --url: time without data from the server after which the backup stops." default:"2m" range:"1s.." env:"EHI_BACKUP_SILENCE"`
}

// Run writes the archive. The file gets its name only after verification; a failed backup leaves
// no file.
func (b *backupTakeCmd) Run(ctx context.Context) error {
	c, err := backup.Save(b.Archive, b.Recipient, func(w io.Writer) error {
		if b.URL != "" {
			return b.fetch(ctx, w)
		}
		return b.take(ctx, w)
	})
	if err != nil {
		return fmt.Errorf("there is no backup %s: %w", b.Archive, err)
	}
	return report(b.Archive, c)
}

// fetch backs up a running server. It gives up if the server sends nothing for too long.
func (b *backupTakeCmd) fetch(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(b.Silence, func() {
		cancel(fmt.Errorf("%s has sent nothing for %v (--silence): "+
			"the server or something on the way to it hangs",
			b.URL, b.Silence))
	})
	defer silent.Stop()
	open := client.New(strings.TrimSuffix(b.URL, "/"))
	defer open.Close()
	err := b.stream(ctx, open, func(r io.Reader) error {
		_, err := io.Copy(w, heard{r, silent, b.Silence})
		return err
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the server or something on the way to it closed the connection; "+
			"see the log of the server: %w",
			err)
	}
	return err
}

// stream calls f with the archive from a running server.
func (b *backupTakeCmd) stream(ctx context.Context, open *client.Client, f func(io.Reader) error) error {
	admin, err := b.logIn(ctx, open)
	if err != nil {
		return err
	}
	return admin.Stream(ctx, "/admin/backup", f)
}

// heard reads from a server. silent fires if a single Read takes longer than limit.
type heard struct {
	io.Reader
	silent *time.Timer
	limit  time.Duration
}

// Read implements io.Reader.
func (h heard) Read(p []byte) (int, error) {
	h.silent.Reset(h.limit)
	defer h.silent.Stop()
	return h.Reader.Read(p)
}

// take backs up a data folder that no server uses.
func (b *backupTakeCmd) take(ctx context.Context, w io.Writer) error {
	log, err := b.logger()
	if err != nil {
		return err
	}
	c, err := node.Defaults()
	if err != nil {
		return err
	}
	c.Addr, c.Demo, c.Worker.Workers = "127.0.0.1:0", false, 0
	if err := kinds.Lost(b.Data); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(b.Data, dataset.Folder)); errors.Is(err, os.ErrNotExist) {
		c.Source.Spec = "synthetic:patients=1" // there is no record store, and none is to be made
	}
	if _, err := os.Stat(filepath.Join(b.Data, backup.NATSFolder)); err != nil {
		return fmt.Errorf("%s contains no state: check --data. To back up a server with an "+
			"external NATS, run it and use backup --url URL ARCHIVE: %w",
			b.Data, err)
	}
	n, err := node.Open(ctx, c, b.Data, log, node.Options{})
	if errors.Is(err, dataset.ErrInUse) || errors.Is(err, bus.ErrInUse) {
		return fmt.Errorf("%w; back up the running server: backup --url URL ARCHIVE", err)
	}
	if err != nil {
		return err
	}
	return errors.Join(n.BackupBy(ctx, w, filepath.Dir(b.Archive)), n.Close())
}

// report prints the contents of an archive. Errors: damaged.
func report(archive string, c backup.Contents) error {
	fmt.Printf("%s: %d files with %d bytes, %d records, of %s\nseal %s\n",
		archive, c.Files, c.Bytes, c.Records(), c.Made.Local().Format("2006-01-02 15:04:05"), c.Seal)
	for _, what := range c.Damage {
		fmt.Fprintln(os.Stderr, "damage:", what)
	}
	if len(c.Damage) > 0 {
		return damaged{archive, len(c.Damage)}
	}
	return nil
}

// damaged means that an archive is complete, but that this number of items was missing or
// damaged when it was made.
type damaged struct {
	archive string
	things  int
}

// Error implements error.
func (d damaged) Error() string {
	return fmt.Sprintf("%s is complete and can be restored, but %d items were missing or damaged "+
		"on the server: keep older backups", d.archive, d.things)
}

// ExitCode distinguishes this from an invalid archive.
func (damaged) ExitCode() int { return 2 }

// sealed is an archive that may be encrypted.
type sealed struct {
	Identity string `help:"Private key of a recipient of an encrypted archive, in a file as age-keygen writes it." type:"existingfile" env:"EHI_BACKUP_IDENTITY"`
	Archive  string `arg:"" help:"File to read." type:"existingfile"`
}

// read calls f with the archive, decrypted.
func (s sealed) read(f func(r io.Reader) error) error {
	file, err := os.Open(s.Archive)
	if err != nil {
		return err
	}
	defer file.Close() // read only
	archive, err := s.unseal(file)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Archive, err)
	}
	return f(archive)
}

// unseal decrypts an archive with --identity, if it is given.
func (s sealed) unseal(archive io.Reader) (io.Reader, error) {
	if s.Identity == "" {
		return backup.Unseal(archive, nil)
	}
	keys, err := os.Open(s.Identity)
	if err != nil {
		return nil, err
	}
	defer keys.Close() // read only
	return backup.Unseal(archive, keys)
}

type backupVerifyCmd struct{ sealed }

// Run verifies an archive.
func (v *backupVerifyCmd) Run() error {
	return v.read(func(r io.Reader) error {
		c, err := backup.Verify(r)
		if err != nil {
			return fmt.Errorf("%s: %w", v.Archive, err)
		}
		return report(v.Archive, c)
	})
}

type restoreCmd struct {
	common
	sealed
	external
	Replace bool `help:"Restore into a folder that is not empty. Its contents move to a folder .replaced-TIME in it." env:"EHI_BACKUP_REPLACE"`

	AcceptUnverified bool `help:"Accept an archive without a table of contents, such as one of an earlier build. The command cannot tell whether it is complete." env:"EHI_BACKUP_ACCEPT_UNVERIFIED"`
}

// Run restores an archive.
func (r *restoreCmd) Run(ctx context.Context) error {
	c, err := backup.Restore(ctx, r.read, backup.To{
		Data: r.Data, NATS: r.NATS, Access: r.NATSAccess, Replace: r.Replace, Unverified: r.AcceptUnverified,
	})
	switch {
	case errors.Is(err, backup.ErrUnverified):
		return fmt.Errorf("%s: %w; if you know that it is complete, use --accept-unverified",
			r.Archive, err)
	case errors.Is(err, backup.ErrNotEmpty) && r.NATS == "":
		return fmt.Errorf("%w: choose another --data, or use --replace", err)
	case err != nil:
		return fmt.Errorf("nothing was restored from %s: %w", r.Archive, err)
	}
	for _, what := range c.Damage {
		fmt.Fprintln(os.Stderr, "damaged when the backup was made:", what)
	}
	fmt.Printf("restored into %s: %d records\n", r.Data, c.Records())
	return nil
}
