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
	// pages are those of the documentation that native files link to.
	pages *verify.Pages
}

// run runs one flow.
func (u *user) run(ctx context.Context, o order) {
	ctx, cancel := context.WithTimeout(ctx, u.FlowTimeout)
	defer cancel()
	s, err := u.flow(ctx, o)
	if err != nil {
		u.rec.failed(s, err)
		return
	}
	u.rec.took(flow, time.Since(o.due))
	u.rec.ended(o.action)
}

// flow runs one flow and returns the step that failed.
func (u *user) flow(ctx context.Context, o order) (s step, err error) {
	c, err := u.authorize(ctx, o)
	if err != nil {
		return authorize, err
	}
	job, err := u.kickOff(ctx, c, o)
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
	if o.action == abortIt {
		move("aborting")
		return remove, u.remove(ctx, c, job)
	}
	m, err := u.wait(ctx, c, job)
	if err != nil {
		return status, err
	}
	move("complete")
	if o.action != pollOnly {
		move("downloading")
		if s, err := u.fetch(ctx, c, o, m); err != nil {
			return s, err
		}
	}
	return remove, u.remove(ctx, c, job)
}

func (u *user) authorize(ctx context.Context, o order) (*client.Client, error) {
	switch u.Auth {
	case "none":
		return u.open, nil
	case "token":
		return u.open.WithToken(u.Token), nil
	}
	start := time.Now()
	var c *client.Client
	var err error
	if u.Auth == "service" || o.action == population {
		c, err = u.open.Service(ctx, u.Secret, serviceScope)
	} else {
		c, _, err = u.open.Authorize(ctx, o.patient)
	}
	if err == nil {
		u.rec.took(authorize, time.Since(start))
	}
	return c, err
}

// serviceScope permits every kick-off of a backend service.
const serviceScope = "system/*.rs system/$ehi-export"

// target returns the kick-off of a flow, in the server's default packaging.
func (c *config) target(o order) string {
	if o.action == population {
		return c.Population
	}
	return strings.ReplaceAll(c.KickOff, "{patient}", o.patient)
}

// packaged returns the kick-off of a flow in its packaging.
func (c *config) packaged(o order) string {
	target, separator := c.target(o), "?"
	if o.packaging == "" {
		return target
	}
	if strings.Contains(target, "?") {
		separator = "&"
	}
	return target + separator + "_package=" + string(o.packaging)
}

// kickOff starts an export. It repeats the request when a busy server asks for that.
func (u *user) kickOff(ctx context.Context, c *client.Client, o order) (client.Job, error) {
	target := u.packaged(o)
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

// fetch downloads and verifies all files, and returns the step that failed. The export of the same
// records must be the same each time, in whatever packaging.
func (u *user) fetch(
	ctx context.Context, c *client.Client, o order, m *ehi.Manifest,
) (step, error) {
	if len(m.Output) == 0 {
		return download, verify.Wrongf("a manifest without files")
	}
	n := &verify.Native{Client: c, Pages: u.pages, Resume: o.resume}
	if strings.Contains(u.KickOff, "{patient}") {
		n.Patient = o.patient
	}
	whole, err := u.resources(ctx, n, m)
	if err != nil {
		return download, err
	}
	content, err := u.native(ctx, n)
	if err != nil {
		return native, err
	}
	u.rec.verified(content)
	if why := u.sums.differ(u.target(o), whole.Sum, content); why != "" {
		return download, verify.Wrongf("an export by %s is not what it was before: %s", u.target(o),
			why)
	}
	return "", nil
}

// resources downloads and verifies the files of the manifest.
func (u *user) resources(
	ctx context.Context, n *verify.Native, m *ehi.Manifest,
) (whole verify.Tally, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(u.DownloadUsers)
	var mu sync.Mutex
	for _, e := range m.Output {
		group.Go(func() error {
			start := time.Now()
			f, err := n.File(ctx, e)
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
	return whole, group.Wait()
}

// native downloads and verifies the documents and tables that the files of the manifest list.
func (u *user) native(ctx context.Context, n *verify.Native) (content verify.Content, err error) {
	files, err := n.Files(ctx)
	if err != nil {
		return content, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(u.DownloadUsers)
	for _, f := range files {
		group.Go(func() error {
			start := time.Now()
			if err := n.Get(ctx, f); err != nil {
				return err
			}
			u.rec.took(native, time.Since(start))
			u.rec.got(0, f.Size)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return content, err
	}
	return n.Content()
}

// sums stores what the first export of each kind was.
type sums struct {
	mu    sync.Mutex
	first map[string]exportSum
}

// exportSum is what an export holds.
type exportSum struct {
	resources verify.Sum
	native    verify.Content
}

func newSums() *sums { return &sums{first: map[string]exportSum{}} }

// differ says how an export differs from the first one; "" if it does not.
func (s *sums) differ(key string, resources verify.Sum, native verify.Content) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, known := s.first[key]
	if !known {
		s.first[key] = exportSum{resources, native}
		return ""
	}
	if first.resources != resources {
		return "the resources differ"
	}
	return first.native.Difference(native)
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
