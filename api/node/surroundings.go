package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"ehi-server/api/backup"
	"ehi-server/exporter/dataset"
	"ehi-server/shared/files"
)

// hindrances lists what around the process keeps it from serving, whatever its settings:
// addresses that others listen at, and links that lead nowhere, paths of the wrong kind. They
// are looked for before anything is opened, so that they are said at once.
func (c Config) hindrances(data string) (out []string) {
	for _, at := range []struct{ flag, addr string }{
		{"--addr", c.Addr}, {"--nats-listen", c.Bus.Listen},
	} {
		if at.addr == "" {
			continue
		}
		if err := free(at.addr); err != nil {
			out = append(out, fmt.Sprintf("%s %s: %v", at.flag, at.addr, err))
		}
	}
	for _, path := range []string{
		data,
		filepath.Join(data, dataset.Folder),
		filepath.Join(data, files.Folder),
		filepath.Join(data, backup.NATSFolder),
		KeysFile(data),
	} {
		if why := dangling(path); why != "" {
			out = append(out, why)
		}
	}
	misplaced := Misplaced(data)
	if more := len(misplaced) - mostNamed; more > 0 {
		misplaced = append(misplaced[:mostNamed],
			fmt.Sprintf("and %d more paths are of the wrong kind", more))
	}
	return append(out, misplaced...)
}

// mostNamed is how many paths of the wrong kind a message names.
const mostNamed = 5

// free is why nobody can listen at an address now.
func free(addr string) error {
	ln, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.New("another process listens there: end it, or choose another port (port " +
			"0: any that is free)")
	case errors.Is(err, syscall.EACCES):
		return errors.New("this user may not listen there: choose a port from 1024 on")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return errors.New(
			"this machine has no such address: choose one of its own, or 0.0.0.0 for all")
	case err != nil:
		return err
	}
	return ln.Close()
}

// dangling says where a path is a link to what is not there.
func dangling(path string) string {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return ""
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	target, err := os.Readlink(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s is a link to %s, which is not there: mount or make that, or remove "+
		"the link", path, target)
}
