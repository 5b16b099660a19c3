package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ehi-server/api/client"
	"ehi-server/shared/ehi"
)

// errWrong is an answer that cannot be right: a file that is not what its manifest says, or not what it was before.
var errWrong = errors.New("wrong answer")

func wrongf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errWrong, fmt.Sprintf(format, a...))
}

// user drives flows, one after the other.
type user struct {
	*config
	open *client.Client
	rec  *recorder
	sums *sums
}

// run does one flow; due is when it should have begun.
func (u *user) run(ctx context.Context, a action, patient string, due time.Time) {
	ctx, cancel := context.WithTimeout(ctx, u.FlowTimeout)
	defer cancel()
	s, err := u.flow(ctx, a, patient)
	if err != nil {
		u.rec.failed(s, err)
		return
	}
	u.rec.took(flow, time.Since(due))
	u.rec.ended(a)
}

// flow returns the step that failed.
func (u *user) flow(ctx context.Context, a action, patient string) (s step, err error) {
	c, err := u.authorize(ctx, patient)
	if err != nil {
		return authorize, err
	}
	job, err := u.kickOff(ctx, c, patient)
	if err != nil {
		return kickOff, err
	}
	state := "running"
	u.rec.move("", state)
	move := func(to string) { u.rec.move(state, to); state = to }
	defer func() {
		if err != nil { // nothing is left behind where that can be helped
			_ = c.Delete(context.WithoutCancel(ctx), job.StatusURL)
		}
		move("")
	}()
	if a == abortIt {
		move("aborting")
		return remove, u.remove(ctx, c, job)
	}
	m, err := u.wait(ctx, c, job)
	if err != nil {
		return status, err
	}
	move("complete")
	if a == exportAll {
		move("downloading")
		if err := u.fetch(ctx, c, patient, m); err != nil {
			return download, err
		}
	}
	return remove, u.remove(ctx, c, job)
}

func (u *user) authorize(ctx context.Context, patient string) (*client.Client, error) {
	switch u.Auth {
	case "none":
		return u.open, nil
	case "token":
		return u.open.WithToken(u.Token), nil
	}
	start := time.Now()
	var c *client.Client
	var err error
	if u.Auth == "service" {
		c, err = u.open.Service(ctx, u.Secret, serviceScope)
	} else {
		c, _, err = u.open.Authorize(ctx, patient)
	}
	if err == nil {
		u.rec.took(authorize, time.Since(start))
	}
	return c, err
}

// serviceScope opens every kick-off of a backend service.
const serviceScope = "system/*.rs system/$ehi-export"

// kickOff starts an export. A server that is busy says when to come again.
func (u *user) kickOff(ctx context.Context, c *client.Client, patient string) (client.Job, error) {
	target := strings.ReplaceAll(u.KickOff, "{patient}", patient)
	for {
		start := time.Now()
		job, err := c.Start(ctx, u.Method, target, nil)
		if e, ok := errors.AsType[*client.Error](err); ok && busy(e.Status) {
			u.rec.refuse(kickOff)
			if err := pause(ctx, e.Header); err != nil {
				return job, err
			}
			continue
		}
		if err == nil {
			u.rec.took(kickOff, time.Since(start))
		}
		return job, err
	}
}

func busy(code int) bool {
	return code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable
}

// pause waits for as long as Retry-After says.
func pause(ctx context.Context, h http.Header) error {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil {
		return wrongf("Retry-After %q", h.Get("Retry-After"))
	}
	return sleep(ctx, time.Duration(seconds)*time.Second)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait polls at the pace that the server tells, to the manifest.
func (u *user) wait(ctx context.Context, c *client.Client, job client.Job) (*ehi.Manifest, error) {
	begun := time.Now()
	for {
		start := time.Now()
		a, err := c.Do(ctx, http.MethodGet, job.StatusURL, nil)
		if err != nil {
			return nil, err
		}
		switch {
		case a.Status == http.StatusOK:
			u.rec.took(status, time.Since(start))
			u.rec.took(complete, time.Since(begun))
			m := &ehi.Manifest{}
			if err := json.Unmarshal(a.Body, m); err != nil {
				return nil, wrongf("manifest: %v", err)
			}
			return m, nil
		case busy(a.Status):
			u.rec.refuse(status)
		case a.Status == http.StatusAccepted:
			u.rec.took(status, time.Since(start))
		default:
			return nil, &client.Error{Request: "GET " + job.StatusURL, Answer: *a}
		}
		if u.Pause > 0 && a.Status == http.StatusAccepted {
			err = sleep(ctx, u.Pause)
		} else {
			err = pause(ctx, a.Header)
		}
		if err != nil {
			return nil, err
		}
	}
}

// fetch downloads and verifies all files. Where an export is one patient's, it has to be the same each time.
func (u *user) fetch(ctx context.Context, c *client.Client, patient string, m *ehi.Manifest) error {
	if len(m.Output) == 0 {
		return wrongf("a manifest without files")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(u.DownloadUsers)
	var mu sync.Mutex
	var whole sum
	for _, e := range m.Output {
		group.Go(func() error {
			start := time.Now()
			f, err := u.file(ctx, c, e)
			if err != nil {
				return err
			}
			u.rec.took(download, time.Since(start))
			u.rec.got(f.lines, f.bytes)
			mu.Lock()
			defer mu.Unlock()
			whole.add(f.sum)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !u.sums.same(strings.ReplaceAll(u.KickOff, "{patient}", patient), whole) {
		return wrongf("the export of patient %s is not what it was before", patient)
	}
	return nil
}

// file reads one file: as many lines as its manifest says, each a resource of its type, none empty, the last one ended (REAL-3).
func (u *user) file(ctx context.Context, c *client.Client, e ehi.ManifestEntry) (f verified, err error) {
	err = c.Stream(ctx, e.URL, func(r io.Reader) error {
		lines := bufio.NewReaderSize(r, 64<<10)
		var long []byte
		for {
			line, err := lines.ReadSlice('\n')
			f.bytes += int64(len(line))
			if errors.Is(err, bufio.ErrBufferFull) {
				long = append(long, line...)
				continue
			}
			if errors.Is(err, io.EOF) && len(line) == 0 && len(long) == 0 {
				return nil
			}
			if errors.Is(err, io.EOF) {
				return wrongf("%s does not end with a newline", e.URL)
			}
			if err != nil {
				return err
			}
			if len(long) > 0 {
				line = append(long, line...)
				long = line[:0]
			}
			f.lines++
			if !ofType(line, e.Type) {
				return wrongf("line %d of %s is no %s: %.80q", f.lines, e.URL, e.Type, line)
			}
			f.sum.add(sha256.Sum256(line))
		}
	})
	if err == nil && f.lines != e.Count {
		err = wrongf("%s has %d lines, the manifest says %d", e.URL, f.lines, e.Count)
	}
	return f, err
}

type verified struct {
	lines, bytes int64
	sum          sum
}

// ofType reports whether a line is a JSON object of a resource type, wherever in it the type stands; "" is any type.
func ofType(line []byte, typ string) bool {
	if typ == "" {
		return json.Valid(line)
	}
	if bytes.HasPrefix(line, []byte(`{"resourceType":"`+typ+`"`)) {
		return json.Valid(line)
	}
	var v struct {
		ResourceType string `json:"resourceType"`
	}
	return json.Unmarshal(line, &v) == nil && v.ResourceType == typ
}

// sum is a checksum of lines in whatever order.
type sum [32]byte

func (s *sum) add(other [32]byte) {
	carry := 0
	for i := range s {
		carry += int(s[i]) + int(other[i])
		s[i] = byte(carry)
		carry >>= 8
	}
}

// sums remembers what each export was when it came first.
type sums struct {
	mu    sync.Mutex
	first map[string]sum
}

// same reports whether an export is what it was before.
func (s *sums) same(key string, got sum) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, known := s.first[key]
	if !known {
		s.first[key] = got
	}
	return !known || first == got
}

// remove deletes the job; then it has to be gone (EHI-13).
func (u *user) remove(ctx context.Context, c *client.Client, job client.Job) error {
	start := time.Now()
	if err := c.Delete(ctx, job.StatusURL); err != nil {
		return err
	}
	u.rec.took(remove, time.Since(start))
	a, err := c.Do(ctx, http.MethodGet, job.StatusURL, nil)
	if err != nil {
		return err
	}
	if a.Status != http.StatusNotFound {
		return wrongf("the status of a deleted job is %d", a.Status)
	}
	return nil
}

// find lists patients by a bulk export of the type Patient.
func find(ctx context.Context, open *client.Client, cfg *config) ([]string, error) {
	c := open
	var err error
	switch cfg.Auth {
	case "token":
		c = open.WithToken(cfg.Token)
	case "sandbox", "service":
		if c, err = open.Service(ctx, cfg.Secret, serviceScope); err != nil {
			return nil, err
		}
	}
	job, err := c.Start(ctx, http.MethodGet, "/fhir/Patient/$export?_type=Patient", nil)
	if err != nil {
		return nil, err
	}
	m, err := c.Wait(ctx, job.StatusURL, 0)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range m.Output {
		err := c.Stream(ctx, e.URL, func(r io.Reader) error {
			for d := json.NewDecoder(r); len(ids) < cfg.Patients; {
				var p struct {
					ID string `json:"id"`
				}
				if err := d.Decode(&p); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
				ids = append(ids, p.ID)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	if len(ids) == 0 {
		return nil, errors.New("the server exports no patient")
	}
	return ids, c.Delete(ctx, job.StatusURL)
}
