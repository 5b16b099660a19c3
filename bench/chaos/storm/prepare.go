package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ehi-server/api/client"
	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
)

const (
	secret = "test_client_secret" // of the sandbox's client
	scopes = "system/*.rs system/$ehi-export"
	pause  = 20 * time.Millisecond // between two polls
)

// kept is a finished export.
type kept struct {
	status string            // its URL
	files  map[string]string // the checksum of the content at each URL of its manifest
}

// storm is the common starting point of all rounds.
type storm struct {
	*config
	binary string
	addr   string
	closed string // a data folder whose server was stopped
	killed string // one whose server was killed
	ids    []string
	kept   []kept
	fresh  map[string]string // the expected checksum of an export of each patient
}

// prepare creates the data: patients, and exports of them.
func prepare(ctx context.Context, c *config, dir, binary string) (*storm, error) {
	s := &storm{
		config: c,
		binary: binary,
		closed: filepath.Join(dir, "closed"),
		killed: filepath.Join(dir, "killed"),
		fresh:  map[string]string{},
	}
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.addr = ln.Addr().String()
	if err := ln.Close(); err != nil {
		return nil, err
	}
	p, err := s.serve(s.closed, filepath.Join(dir, "prepare.log"))
	if err != nil {
		return nil, err
	}
	if p.await(ctx, time.Minute) != lives {
		return nil, fmt.Errorf("the server does not start: %s", p.log)
	}
	err = s.export(ctx, p.client)
	if err == nil {
		err = s.copyLiving()
	}
	return s, errors.Join(err, p.end(syscall.SIGTERM, time.Minute))
}

// copyLiving copies the folder of an idle server, which still updates the state of its NATS
// consumers. If a file disappears during the copy, it starts again.
func (s *storm) copyLiving() (err error) {
	for range 10 {
		err = os.CopyFS(s.killed, os.DirFS(s.closed))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(s.killed); err != nil {
			return err
		}
	}
	return err
}

// fill creates the record store.
func (s *storm) fill(ctx context.Context) (err error) {
	store, err := kinds.Store(kinds.Config{Data: s.closed})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	// not the demo patients' seed
	made := synthetic.Config{Patients: s.Patients, Resources: 60, Seed: s.Seed + 1_000_000}
	if err := store.Generate(ctx, made, time.Now(), func(int, int) {}); err != nil {
		return err
	}
	list, err := store.Patients(ctx, s.Patients+1)
	for _, p := range list {
		s.ids = append(s.ids, p.ID)
	}
	return err
}

// export creates the exports that are kept, and records the expected export of each patient.
func (s *storm) export(ctx context.Context, anybody *client.Client) error {
	c, err := anybody.Service(ctx, secret, scopes)
	if err != nil {
		return err
	}
	for _, target := range []string{
		"/fhir/$export",
		"/fhir/Patient/$export?_type=Observation",
		"/no-form/auto-approve/fhir/$ehi-export",
	} {
		j, err := c.Start(ctx, "POST", target, nil)
		if err != nil {
			return err
		}
		k := kept{status: j.StatusURL, files: map[string]string{}}
		m, err := c.Wait(ctx, j.StatusURL, pause)
		if err != nil {
			return err
		}
		for _, e := range m.Output {
			body, err := c.Download(ctx, e.URL)
			if err != nil {
				return err
			}
			k.files[e.URL] = sum(body)
		}
		s.kept = append(s.kept, k)
	}
	for _, id := range s.ids {
		if s.fresh[id], err = exportOne(ctx, c, id); err != nil {
			return err
		}
	}
	return nil
}

// exportOne exports a patient, and returns an order-independent checksum of the lines of all
// files.
func exportOne(ctx context.Context, c *client.Client, id string) (string, error) {
	j, err := c.KickOff(ctx, "/no-form/auto-approve", id, nil)
	if err != nil {
		return "", err
	}
	m, err := c.Wait(ctx, j.StatusURL, pause)
	if err != nil {
		return "", err
	}
	lines, err := linesOf(ctx, c, m)
	if err != nil {
		return "", err
	}
	return sum([]byte(strings.Join(lines, "\n"))), c.Delete(ctx, j.StatusURL)
}

func linesOf(ctx context.Context, c *client.Client, m *ehi.Manifest) (lines []string, err error) {
	for _, e := range m.Output {
		body, err := c.Download(ctx, e.URL)
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")...)
	}
	slices.Sort(lines)
	return lines, nil
}

func sum(body []byte) string {
	s := sha256.Sum256(body)
	return string(s[:])
}
