package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	"ehi-server/shared/ehi"
)

// user runs flows, one after the other.
type user struct {
	*config
	open *client.Client
	rec  *recorder
	sums *sums
}

// run runs one flow; due is its scheduled start.
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

// flow runs one flow and returns the step that failed.
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
		if err != nil { // clean up if possible
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

// serviceScope permits every kick-off of a backend service.
const serviceScope = "system/*.rs system/$ehi-export"

// kickOff starts an export. It repeats the request when a busy server asks for that.
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

// pause waits for the time in Retry-After.
func pause(ctx context.Context, h http.Header) error {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil {
		return verify.Wrongf("Retry-After %q", h.Get("Retry-After"))
	}
	return client.Sleep(ctx, time.Duration(seconds)*time.Second)
}

// wait polls, at the pace that the server requests, until the manifest is available.
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
				return nil, verify.Wrongf("manifest: %v", err)
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
			err = client.Sleep(ctx, u.Pause)
		} else {
			err = pause(ctx, a.Header)
		}
		if err != nil {
			return nil, err
		}
	}
}

// fetch downloads and verifies all files. The export of a single patient must be the same each
// time.
func (u *user) fetch(ctx context.Context, c *client.Client, patient string, m *ehi.Manifest) error {
	if len(m.Output) == 0 {
		return verify.Wrongf("a manifest without files")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(u.DownloadUsers)
	var mu sync.Mutex
	var whole verify.Tally
	for _, e := range m.Output {
		group.Go(func() error {
			start := time.Now()
			f, err := verify.File(ctx, c, e)
			if err != nil {
				return err
			}
			u.rec.took(download, time.Since(start))
			u.rec.got(f.Lines, f.Bytes)
			mu.Lock()
			defer mu.Unlock()
			whole.Add(f)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !u.sums.same(strings.ReplaceAll(u.KickOff, "{patient}", patient), whole.Sum) {
		return verify.Wrongf("the export of patient %s is not what it was before", patient)
	}
	return nil
}

// sums stores the checksum of the first export of each kind.
type sums struct {
	mu    sync.Mutex
	first map[string]verify.Sum
}

// same reports whether an export equals the first one.
func (s *sums) same(key string, got verify.Sum) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, known := s.first[key]
	if !known {
		s.first[key] = got
	}
	return !known || first == got
}

// remove deletes the job and checks that it is gone (EHI-13).
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
		return verify.Wrongf("the status of a deleted job is %d", a.Status)
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
