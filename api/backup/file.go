package backup

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ehi-server/shared/disk"
	"ehi-server/shared/telemetry"
)

// Save writes an archive to a new file, encrypted if there are recipients. It verifies the
// archive while write writes it, and again by reading the file back. Only then does the file get
// its name. Until then it is called NAME.partial-*. After an error it is removed. Errors:
// fs.ErrExist, those of write and Verify.
func Save(name string, recipients []string, write func(w io.Writer) error) (c Contents, err error) {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return c, errors.Join(err, fmt.Errorf("%s: %w", name, fs.ErrExist))
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".partial-*")
	if err != nil {
		return c, err
	}
	// if the record store ends the process
	defer telemetry.AtExit(func() { _ = os.Remove(f.Name()) })()
	named := false
	defer func() {
		err = errors.Join(err, f.Close())
		if !named {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	out := &hashed{f, sha256.New()}
	if c, err = seal(out, recipients, write); err != nil {
		return c, err
	}
	if err := out.written(); err != nil {
		return c, err
	}
	named, err = give(f.Name(), name)
	return c, errors.Join(err, disk.OS().SyncDir(filepath.Dir(name)))
}

// seal encrypts and verifies the output of write.
func seal(
	out io.Writer, recipients []string, write func(w io.Writer) error,
) (c Contents, err error) {
	sealed, err := Seal(out, recipients)
	if err != nil {
		return c, err
	}
	v := newVerifier(sealed)
	err = write(v)
	if c, err = v.close(err); err != nil {
		return c, err
	}
	return c, sealed.Close()
}

// hashed is a file with the hash of what was written to it. Only Write writes to it.
type hashed struct {
	file *os.File
	sum  hash.Hash
}

// Write implements io.Writer.
func (h *hashed) Write(p []byte) (int, error) {
	n, err := h.file.Write(p)
	_, _ = h.sum.Write(p[:n]) // never fails
	return n, err
}

// written syncs the file and reads it back.
func (h *hashed) written() error {
	if err := h.file.Sync(); err != nil {
		return err
	}
	if _, err := h.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	back := sha256.New()
	if _, err := io.Copy(back, h.file); err != nil {
		return err
	}
	if !bytes.Equal(back.Sum(nil), h.sum.Sum(nil)) {
		return fmt.Errorf("%w: the disk returned other data than was written", ErrChanged)
	}
	return nil
}

// give renames a file to a name that no file has. given reports whether the old name is gone.
// Errors: fs.ErrExist.
func give(old, name string) (given bool, err error) {
	err = os.Link(old, name)
	switch {
	case err == nil:
		err = os.Remove(old)
		return err == nil, err
	case errors.Is(err, fs.ErrExist):
		return false, err
	}
	if _, err := os.Lstat(name); err == nil { // a file system without links
		return false, fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	err = os.Rename(old, name)
	return err == nil, err
}

// verifier passes an archive on and verifies it at the same time.
type verifier struct {
	to   io.Writer
	pipe *io.PipeWriter
	done chan struct{}
	c    Contents // of the archive, valid once done is closed
	err  error
}

func newVerifier(to io.Writer) *verifier {
	r, w := io.Pipe()
	v := &verifier{to: to, pipe: w, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		v.c, v.err = Verify(r)
		_ = r.CloseWithError(errors.Join(ErrChanged, v.err)) // always nil; no reader waits any more
	}()
	return v
}

// Write implements io.Writer.
func (v *verifier) Write(p []byte) (int, error) {
	if _, err := v.pipe.Write(p); err != nil {
		return 0, err
	}
	return v.to.Write(p)
}

// close ends the archive and returns its contents. err is the error of writing it.
func (v *verifier) close(err error) (Contents, error) {
	_ = v.pipe.CloseWithError(err) // always nil
	<-v.done
	if err == nil {
		err = v.err
	}
	return v.c, err
}
