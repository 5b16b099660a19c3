package staff

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/backup"
	"ehi-server/api/request"
	"ehi-server/shared/ehi"
)

// maxRecipients is for how many recipients one backup is encrypted at most.
const maxRecipients = 32

// Backups sends administrators archives of everything that the server keeps.
type Backups struct {
	// Write writes an archive; nil where none can be had.
	Write  func(ctx context.Context, w io.Writer) error
	Trail  Trail
	Sender Streamer
	Log    *slog.Logger
}

// Routes registers the API.
func (h *Backups) Routes(r Router) { r.On("GET", "/admin/backup", h.handleBackup) }

// handleBackup streams an archive, encrypted with age if the parameter recipient names public keys.
// A backup that fails on its way ends too early, which a restore detects.
func (h *Backups) handleBackup(c *fiber.Ctx) error {
	if h.Write == nil {
		return ehi.Errorf(ehi.Unsupported, "This server cannot make a backup")
	}
	recipients, err := recipientsOf(c)
	if err != nil {
		return err
	}
	by, name, mime := request.AdministratorName(c), "ehi-backup.tar.zst", "application/zstd"
	e := ehi.Event{Action: ehi.ActionBackup}
	if len(recipients) > 0 {
		name, mime = name+".age", fiber.MIMEOctetStream
		e.Detail = "encrypted for " + strings.Join(recipients, ", ")
	}
	h.Trail.Record(c, nil, e)
	c.Attachment(name)
	c.Set(fiber.HeaderContentType, mime) // Attachment sets one by the name's ending
	h.Sender.SendChunked(c, func(w *bufio.Writer) error {
		// the request's context ends before its body is written
		err := h.writeSealed(context.Background(), w, recipients)
		if err != nil {
			return fmt.Errorf("backup for %s: %w", by, err)
		}
		h.Log.Info("backup", "by", by, "encrypted", len(recipients) > 0)
		return nil
	})
	return nil
}

// writeSealed writes a backup for recipients. After an error its end is missing.
func (h *Backups) writeSealed(ctx context.Context, w *bufio.Writer, recipients []string) error {
	sealed, err := backup.Seal(w, recipients)
	if err != nil {
		return err
	}
	if err := h.Write(ctx, sealed); err != nil {
		return err
	}
	if err := sealed.Close(); err != nil {
		return err
	}
	return w.Flush()
}

// recipientsOf are the public keys that a backup is to be encrypted for; none for a backup in the
// clear. Errors: ehi.Invalid, also for a parameter without a value, because its sender wants an
// encrypted archive.
func recipientsOf(c *fiber.Ctx) (out []string, err error) {
	for name, value := range c.Request().URI().QueryArgs().All() {
		if string(name) != "recipient" {
			return nil, ehi.Errorf(ehi.Invalid, "The only parameter of a backup is recipient")
		}
		out = append(out, string(value))
	}
	if len(out) > maxRecipients {
		return nil, ehi.Errorf(ehi.Invalid,
			"A backup is encrypted for at most %d recipients", maxRecipients)
	}
	for _, key := range out {
		if _, err := backup.Seal(io.Discard, []string{key}); err != nil {
			return nil, ehi.Errorf(ehi.Invalid,
				"recipient must be the public key that age-keygen prints: age1...")
		}
	}
	return out, nil
}
