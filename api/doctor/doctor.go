// Package doctor checks a configuration before a server uses it: the disk, the port, system
// limits, NATS and the clock. It reports what to change. It leaves nothing behind, except an
// empty data folder if there was none.
package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/api/backup"
	"ehi-server/api/node"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source/kinds"
	"ehi-server/shared/disk"
	"ehi-server/shared/link"
)

// State classifies a finding.
type State string

// The states. Only a Fault keeps a server from starting.
const (
	OK    State = "ok"
	Note  State = "note"
	Fault State = "FAULT"
)

// Finding is the result of one check, and what to change.
type Finding struct {
	State State
	What  string
	Text  string
}

// look is one check.
type look struct {
	what string
	at   func(ctx context.Context, c node.Config, data string) (State, string)
}

var looks = []look{
	{"settings", settings},
	{"data folder", folder},
	{"disk", speed},
	{"free space", space},
	{"records", records},
	{"address", address},
	{"NATS", bus},
	{"open files", openFiles},
	{"clock", clock},
	{"certificate", certificate},
	{"traces", traces},
	{"sensitive codes", table},
	{"mode", mode},
}

// goodFor is how long a certificate should remain valid. The alert has the same limit.
const goodFor = 14 * 24 * time.Hour

func certificate(_ context.Context, c node.Config, _ string) (State, string) {
	if c.TLS.Cert == "" && c.TLS.Key == "" {
		return OK, "none: plain HTTP, for this machine or behind a proxy"
	}
	if c.TLS.Cert == "" || c.TLS.Key == "" {
		return Fault, "--tls-cert and --tls-key must be set together"
	}
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return Fault, err.Error()
	}
	left := time.Until(pair.Leaf.NotAfter)
	text := fmt.Sprintf("for %v, until %s",
		append(pair.Leaf.DNSNames, addresses(pair.Leaf.IPAddresses)...),
		pair.Leaf.NotAfter.Format(time.DateOnly))
	switch {
	case left <= 0:
		return Fault, "expired: " + text
	case left < goodFor:
		return Note, "expires soon, renew it: " + text
	}
	return OK, text
}

func addresses(ips []net.IP) (out []string) {
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out
}

func traces(ctx context.Context, c node.Config, _ string) (State, string) {
	if c.Trace.Endpoint == "" {
		return OK, "off"
	}
	u, err := url.Parse(c.Trace.Endpoint)
	if err != nil || u.Host == "" {
		return Fault, "--trace-endpoint is not a URL"
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(),
			map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	d := net.Dialer{Timeout: dialTime}
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return Note, fmt.Sprintf("no collector answers at %s: %v", host, err)
	}
	return OK, "to " + host + closed(conn)
}

// dialTime is the time limit for connecting to a collector.
const dialTime = 3 * time.Second

// closed closes a connection and returns its error as part of the finding.
func closed(c net.Conn) string {
	if err := c.Close(); err != nil {
		return ": " + err.Error()
	}
	return ""
}

// Examine checks everything that a server with this configuration needs. If a restore into the
// data folder is unfinished, or a path in it has the wrong type, it stops there and changes
// nothing.
func Examine(ctx context.Context, c node.Config, data string) (out []Finding) {
	if err := backup.Unfinished(data); err != nil {
		return []Finding{{Fault, "data folder", err.Error()}}
	}
	if misplaced := node.Misplaced(data); len(misplaced) > 0 {
		return []Finding{{Fault, "data folder", strings.Join(misplaced, "; ")}}
	}
	for _, l := range looks {
		out = append(out, l.within(ctx, c, data))
	}
	return out
}

// lookTime is the time limit of a check.
const lookTime = 15 * time.Second

// within runs a check for at most lookTime. A check that hangs is a finding.
func (l look) within(ctx context.Context, c node.Config, data string) Finding {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	found := make(chan Finding, 1)
	go func() {
		state, text := l.at(ctx, c, data)
		found <- Finding{state, l.what, text}
	}()
	select {
	case f := <-found:
		return f
	case <-ctx.Done():
		return Finding{Fault, l.what, fmt.Sprintf("did not answer within %v", lookTime)}
	}
}

// Print writes findings as a list. It returns ErrFaults if one of them is a Fault.
func Print(w io.Writer, findings []Finding) error {
	var err error
	for _, f := range findings {
		if f.State == Fault {
			err = ErrFaults
		}
		if _, e := fmt.Fprintf(w, "%-5s  %-15s  %s\n", f.State, f.What, f.Text); e != nil {
			return e
		}
	}
	return err
}

// ErrFaults means that a server would not start.
var ErrFaults = errors.New("the configuration has faults that keep the server from starting")

func settings(_ context.Context, c node.Config, _ string) (State, string) {
	if wrong := c.Wrong(); len(wrong) > 0 {
		return Fault, strings.Join(wrong, "; ")
	}
	return OK, "all are within their limits"
}

func folder(_ context.Context, _ node.Config, data string) (State, string) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return Fault, fmt.Sprintf("cannot be created: %v", err)
	}
	info, err := os.Stat(data)
	if err != nil {
		return Fault, err.Error()
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Note,
			fmt.Sprintf("other users can open %s (%v): run chmod 700 on it", data,
				info.Mode().Perm())
	}
	return OK, data
}

const (
	probeBytes = 64 << 20
	probeSyncs = 20
	slowDisk   = 100 << 20 // bytes per second
	slowSync   = 20 * time.Millisecond
)

// speed writes and syncs as an export does.
func speed(_ context.Context, _ node.Config, data string) (State, string) {
	large, err := timed(data, probeBytes)
	if err != nil {
		return Fault, fmt.Sprintf("cannot be written to: %v", err)
	}
	small := make([]time.Duration, probeSyncs)
	for i := range small {
		if small[i], err = timed(data, 4096); err != nil {
			return Fault, fmt.Sprintf("cannot be written to: %v", err)
		}
	}
	slices.Sort(small)
	rate, median := probeBytes/large.Seconds(), small[probeSyncs/2]
	text := fmt.Sprintf("%.0f MB/s written and synced, %.1f ms for a small synced file", rate/1e6,
		float64(median.Microseconds())/1000)
	if rate < slowDisk || median > slowSync {
		return Note, text + ": exports cannot be faster; use a local SSD"
	}
	return OK, text
}

// timed writes and syncs a file of random bytes, then removes it.
func timed(dir string, size int) (took time.Duration, err error) {
	content := make([]byte, size)
	_, _ = rand.Read(content) // never fails (crypto/rand since Go 1.24)
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	begun := time.Now()
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync())
	return time.Since(begun), err
}

func space(_ context.Context, c node.Config, data string) (State, string) {
	free, err := disk.OS().Free(data)
	if err != nil {
		return Note, fmt.Sprintf("unknown: %v", err)
	}
	text := fmt.Sprintf("%.1f GB", float64(free)/1e9)
	switch {
	case disk.FewNames(data):
		return Fault, "the disk has almost no free inodes (df -i): remove files"
	case free < c.Jobs.MinFreeBytes:
		return Fault, text +
			fmt.Sprintf(", less than --min-free-bytes %d: the server would refuse kick-offs",
				c.Jobs.MinFreeBytes)
	case free < 10*c.Jobs.MinFreeBytes:
		return Note, text + ": close to --min-free-bytes"
	}
	return OK, text
}

func records(ctx context.Context, c node.Config, data string) (State, string) {
	const none = "no patients yet: import some, or start the server with demo patients"
	if err := kinds.Lost(data); err != nil && c.Source.Spec == "records" {
		return Fault, err.Error()
	}
	folder := filepath.Join(data, dataset.Folder)
	if files, err := os.ReadDir(folder); len(files) == 0 && c.Source.Spec == "records" &&
		(err == nil || errors.Is(err, fs.ErrNotExist)) {
		return Note, none // opening a store would create it, and it would no longer be new
	}
	// ReadOnly, because there may be no room to write.
	s, err := kinds.Open(kinds.Config{Flags: c.Source, Data: data, ReadOnly: true})
	if errors.Is(err, dataset.ErrInUse) {
		return Note, "in use by another process: a server runs on this folder"
	}
	if err != nil {
		return Fault, err.Error()
	}
	patients, err := s.Patients(ctx, 1000)
	if err := errors.Join(err, s.Close()); err != nil {
		return Fault, err.Error()
	}
	switch n := len(patients); n {
	case 0:
		return Note, "no patients: import some"
	case 1000:
		return OK, "1,000 patients or more"
	default:
		return OK, fmt.Sprintf("%d patients", n)
	}
}

func address(_ context.Context, c node.Config, _ string) (State, string) {
	ln, err := net.Listen("tcp", c.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return Fault, c.Addr + " is in use: another process listens on it"
	}
	if err != nil {
		return Fault, err.Error()
	}
	if err := ln.Close(); err != nil {
		return Fault, err.Error()
	}
	return OK, c.Addr + " is free"
}

func bus(ctx context.Context, c node.Config, _ string) (State, string) {
	if c.Bus.URL == "" {
		return OK, "embedded"
	}
	conn, err := nats.Connect(c.Bus.URL,
		append(c.Bus.Access.Options(), nats.Timeout(5*time.Second))...)
	if err != nil {
		return Fault, fmt.Sprintf("cannot connect to %s: %v", link.Servers(c.Bus.URL), err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return Fault, err.Error()
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		return Fault, fmt.Sprintf("%s has no JetStream: %v", link.Servers(c.Bus.URL), err)
	}
	rtt, err := conn.RTT()
	if err != nil {
		return Fault, err.Error()
	}
	text := fmt.Sprintf("%s, version %s, %.1f ms away",
		link.Servers(c.Bus.URL), conn.ConnectedServerVersion(), float64(rtt.Microseconds())/1000)
	if rtt > 10*time.Millisecond {
		return Note, text + ": slow, and each export waits for NATS several times"
	}
	return OK, text
}

func table(_ context.Context, c node.Config, _ string) (State, string) {
	if _, err := c.Release.Rules(); err != nil {
		return Fault, err.Error()
	}
	if c.Release.Table == "" {
		return OK, "the built-in table"
	}
	return OK, filepath.Base(c.Release.Table)
}

func mode(_ context.Context, c node.Config, _ string) (State, string) {
	if reasons := c.Unfit(); len(reasons) > 0 {
		return Fault, "not fit for " + c.Mode + " mode: " + strings.Join(reasons, "; ")
	}
	switch {
	case c.Tokens.Open:
		return Note,
			"--open needs no authentication: use it only on a machine that nobody else can reach"
	case c.Mode != "production" && c.Admin.Password == "admin-password":
		return Note,
			"sandbox with the default password: everyone who can reach the server can be its " +
				"administrator"
	}
	return OK, c.Mode
}
