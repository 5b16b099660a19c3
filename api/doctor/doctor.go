// Package doctor looks at a set-up before it serves: the disk, the port, the limits of the system, NATS, the clock; and says what to change.
// It leaves no more behind than an empty data folder where there was none.
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
	"ehi-server/exporter/release"
	"ehi-server/exporter/sources"
	"ehi-server/shared/disk"
	"ehi-server/shared/link"
)

// State is how a finding is meant.
type State string

// The states. Only a Fault keeps a server from serving.
const (
	OK    State = "ok"
	Note  State = "note"
	Fault State = "FAULT"
)

// Finding is what one look found, and what to change.
type Finding struct {
	State State
	What  string
	Text  string
}

// look is one part of the examination.
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

// goodFor is for how long a certificate should still be good: the alert fires then, too.
const goodFor = 14 * 24 * time.Hour

func certificate(_ context.Context, c node.Config, _ string) (State, string) {
	if c.TLSCert == "" && c.TLSKey == "" {
		return OK, "none: plain HTTP, for this machine or behind a proxy"
	}
	if c.TLSCert == "" || c.TLSKey == "" {
		return Fault, "--tls-cert and --tls-key go together"
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return Fault, err.Error()
	}
	left := time.Until(pair.Leaf.NotAfter)
	text := fmt.Sprintf("for %v, until %s", append(pair.Leaf.DNSNames, addresses(pair.Leaf.IPAddresses)...), pair.Leaf.NotAfter.Format(time.DateOnly))
	switch {
	case left <= 0:
		return Fault, "expired: " + text
	case left < goodFor:
		return Note, "renew it soon: " + text
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
		return Fault, "--trace-endpoint is no URL"
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	d := net.Dialer{Timeout: dialTime}
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return Note, fmt.Sprintf("nobody takes them at %s: %v", host, err)
	}
	return OK, "to " + host + closed(conn)
}

// dialTime is how long a collector may take to answer.
const dialTime = 3 * time.Second

// closed gives a connection back; what it says is part of the finding.
func closed(c net.Conn) string {
	if err := c.Close(); err != nil {
		return ": " + err.Error()
	}
	return ""
}

// Examine looks at everything that a server with this configuration needs. Where a restore into the data
// folder was not finished, or a path in there is of the wrong kind, it looks no further, and touches nothing.
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

// lookTime is how long a look may take.
const lookTime = 15 * time.Second

// within looks, for at most lookTime: what hangs is a finding.
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
		return Finding{Fault, l.what, fmt.Sprintf("has not answered for %v", lookTime)}
	}
}

// Print writes findings as a list. Errors: ErrFaults.
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

// ErrFaults says that something keeps the server from serving.
var ErrFaults = errors.New("something has to be changed before this can serve")

func settings(_ context.Context, c node.Config, _ string) (State, string) {
	if wrong := c.Wrong(); len(wrong) > 0 {
		return Fault, strings.Join(wrong, "; ")
	}
	return OK, "each is within its limits"
}

func folder(_ context.Context, _ node.Config, data string) (State, string) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return Fault, fmt.Sprintf("cannot be made: %v", err)
	}
	info, err := os.Stat(data)
	if err != nil {
		return Fault, err.Error()
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Note, fmt.Sprintf("%s is open to others (%v): chmod 700 it", data, info.Mode().Perm())
	}
	return OK, data
}

const (
	probeBytes = 64 << 20
	probeSyncs = 20
	slowDisk   = 100 << 20 // bytes a second
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
	text := fmt.Sprintf("%.0f MB/s written and synced, %.1f ms for a small synced file", rate/1e6, float64(median.Microseconds())/1000)
	if rate < slowDisk || median > slowSync {
		return Note, text + ": exports will be no faster; a local SSD is"
	}
	return OK, text
}

// timed writes and syncs a file of random bytes, and removes it.
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
		return Note, fmt.Sprintf("not known: %v", err)
	}
	text := fmt.Sprintf("%.1f GB", float64(free)/1e9)
	switch {
	case disk.FewNames(data):
		return Fault, "the disk has hardly room for more files (inodes; df -i), whatever bytes are free: remove some"
	case free < c.MinFreeBytes:
		return Fault, text + fmt.Sprintf(", less than --min-free-bytes %d: kick-offs would be refused", c.MinFreeBytes)
	case free < 10*c.MinFreeBytes:
		return Note, text + ": near to --min-free-bytes"
	}
	return OK, text
}

func records(ctx context.Context, c node.Config, data string) (State, string) {
	const none = "no patient yet: import some, or let the server make demo patients"
	if err := sources.Lost(data); err != nil && c.Source == "records" {
		return Fault, err.Error()
	}
	folder := filepath.Join(data, dataset.Folder)
	if files, err := os.ReadDir(folder); len(files) == 0 && c.Source == "records" && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return Note, none // and a store that is made by looking at it is not new any more
	}
	// Nothing is written: there may be no room for it.
	s, err := sources.Open(sources.Config{Spec: c.Source, Data: data, ReadOnly: true})
	if errors.Is(err, dataset.ErrInUse) {
		return Note, "held by another process: a server runs on this folder"
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
		return Note, "no patient: import some"
	case 1000:
		return OK, "1,000 patients or more"
	default:
		return OK, fmt.Sprintf("%d patients", n)
	}
}

func address(_ context.Context, c node.Config, _ string) (State, string) {
	ln, err := net.Listen("tcp", c.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return Fault, c.Addr + " is taken: another process listens there"
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
	if c.NATS == "" {
		return OK, "embedded"
	}
	conn, err := nats.Connect(c.NATS, append(c.NATSAccess.Options(), nats.Timeout(5*time.Second))...)
	if err != nil {
		return Fault, fmt.Sprintf("%s cannot be reached: %v", link.Servers(c.NATS), err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return Fault, err.Error()
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		return Fault, fmt.Sprintf("%s has no JetStream: %v", link.Servers(c.NATS), err)
	}
	rtt, err := conn.RTT()
	if err != nil {
		return Fault, err.Error()
	}
	text := fmt.Sprintf("%s, version %s, %.1f ms away",
		link.Servers(c.NATS), conn.ConnectedServerVersion(), float64(rtt.Microseconds())/1000)
	if rtt > 10*time.Millisecond {
		return Note, text + ": each export waits for several answers"
	}
	return OK, text
}

func table(_ context.Context, c node.Config, _ string) (State, string) {
	if _, err := release.RulesFromFile(c.SensitiveTable); err != nil {
		return Fault, err.Error()
	}
	if c.SensitiveTable == "" {
		return OK, "the shipped table"
	}
	return OK, filepath.Base(c.SensitiveTable)
}

func mode(_ context.Context, c node.Config, _ string) (State, string) {
	if reasons := c.Unfit(); len(reasons) > 0 {
		return Fault, "not fit for " + c.Mode + " mode: " + strings.Join(reasons, "; ")
	}
	switch {
	case c.Open:
		return Note, "--open answers everybody: only on a closed machine"
	case c.Mode != "production" && c.AdminPassword == "admin-password":
		return Note, "sandbox with the default password: anybody who reaches it is an administrator"
	}
	return OK, c.Mode
}
