package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/shared/bus"
)

type backupCmd struct {
	common
	remote
	Recipient []string `help:"Public key (age1...) of who may read the archive, which is encrypted with age; may be repeated. Default: it is not encrypted." placeholder:"KEY" env:"EHI_BACKUP_RECIPIENT" form:"text"`
	Archive   string   `arg:"" help:"File to write; it must not be there yet."`
}

// Run writes the archive; what fails leaves no file.
func (b *backupCmd) Run(ctx context.Context) (err error) {
	f, err := os.OpenFile(b.Archive, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(b.Archive))
		}
	}()
	w, err := backup.Seal(f, b.Recipient)
	if err != nil {
		return err
	}
	if b.URL != "" {
		err = b.fetch(ctx, w)
	} else {
		err = b.take(ctx, w)
	}
	return errors.Join(err, w.Close(), f.Sync())
}

// fetch backs a running server up.
func (b *backupCmd) fetch(ctx context.Context, w io.Writer) error {
	open := client.New(strings.TrimSuffix(b.URL, "/"))
	defer open.Close()
	admin, err := b.logIn(ctx, open)
	if err != nil {
		return err
	}
	return admin.Stream(ctx, "/admin/backup", func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// take backs a data folder up that no server holds.
func (b *backupCmd) take(ctx context.Context, w io.Writer) error {
	log, err := b.logger()
	if err != nil {
		return err
	}
	c, err := node.Defaults()
	if err != nil {
		return err
	}
	c.Addr, c.Demo, c.Workers = "127.0.0.1:0", false, 0
	n, err := node.Open(ctx, c, b.Data, log, node.Options{})
	if errors.Is(err, dataset.ErrInUse) || errors.Is(err, bus.ErrInUse) {
		return fmt.Errorf("%w; back that server up: backup --url URL ARCHIVE", err)
	}
	if err != nil {
		return err
	}
	return errors.Join(n.Backup(ctx, w), n.Close())
}

type restoreCmd struct {
	common
	NATSAccess bus.Access `embed:"" prefix:"nats-"`
	NATS       string     `help:"URL of an external NATS that takes the state. Default: the embedded one's folder in --data." name:"nats" env:"EHI_NATS" form:"nats"`
	Identity   string     `help:"File with the private key of one of the recipients of an encrypted archive, as age-keygen writes it." type:"existingfile" env:"EHI_BACKUP_IDENTITY"`
	WithoutEnd bool       `help:"Take an archive whose state has no end, such as one of an earlier build: nothing says that it is whole." env:"EHI_BACKUP_WITHOUT_END"`
	Archive    string     `arg:"" help:"File to read." type:"existingfile"`
}

// Run restores the archive.
func (r *restoreCmd) Run(ctx context.Context) error {
	f, err := os.Open(r.Archive)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	archive, err := r.unseal(f)
	if err != nil {
		return err
	}
	err = backup.Restore(ctx, archive, r.Data, r.NATS, r.NATSAccess)
	switch {
	case !errors.Is(err, backup.ErrNoEnd):
		return err
	case r.WithoutEnd:
		return nil
	}
	return fmt.Errorf("%w; if you know that it is whole, restore it into another empty folder with --without-end", err)
}

// unseal reads an archive, with --identity where it is given.
func (r *restoreCmd) unseal(archive io.Reader) (io.Reader, error) {
	if r.Identity == "" {
		return backup.Unseal(archive, nil)
	}
	keys, err := os.Open(r.Identity)
	if err != nil {
		return nil, err
	}
	defer keys.Close() // read only
	return backup.Unseal(archive, keys)
}
