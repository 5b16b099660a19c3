package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"ehi-server/api/client"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// round is one damage to a copy of the data, and its outcome.
type round struct {
	*storm
	rng      *rand.Rand
	dir      string // contains the copy and the log
	done     string // a description of the damage
	harms    []harm
	refused  bool
	reported bool
	cut      error // the error of a client whose connection is refused or reset
	faults   []string
}

// outcome returns the allowed outcome of the round, or FAULT.
func (r *round) outcome() string {
	switch {
	case len(r.faults) > 0:
		return "FAULT"
	case r.refused:
		return "refused, with a message that names the damage"
	case r.reported:
		return "reported: what is damaged fails, and the rest is as before"
	}
	return "as before"
}

func (r *round) faultf(format string, a ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, a...))
}

func (r *round) data() string { return filepath.Join(r.dir, "data") }

// run damages the data and checks the server. Errors: those of the storm itself.
func (r *round) run(ctx context.Context) error {
	from, was := r.closed, "stopped"
	if r.rng.IntN(2) == 0 {
		from, was = r.killed, "killed"
	}
	if err := os.CopyFS(r.data(), os.DirFS(from)); err != nil {
		return err
	}
	during := r.rng.IntN(3) == 0
	r.done = "a server that was " + was
	if !during {
		r.done += ", before it starts: "
		return errors.Join(r.damage(), r.start(ctx, nil))
	}
	r.done += ", while it runs: "
	// the server must also handle the damage at its next start
	return errors.Join(r.start(ctx, r.damage), r.start(ctx, nil))
}

// damage does one to three harms.
func (r *round) damage() error {
	for n := range 1 + r.rng.IntN(6)/4 + r.rng.IntN(6)/5 {
		h, err := harmOne(r.rng, r.data())
		if err != nil {
			if n > 0 { // nothing is left to damage
				return nil
			}
			return err
		}
		if len(r.harms) > 0 {
			r.done += "; "
		}
		r.harms = append(r.harms, h)
		r.done += h.String()
	}
	return nil
}

// start starts a server, damages the data if damage is not nil, checks the server, and stops it.
func (r *round) start(ctx context.Context, damage func() error) error {
	if r.refused || len(r.faults) > 0 {
		return nil
	}
	before, _, err := tree(filepath.Join(r.data(), files.Folder))
	if err != nil {
		return err
	}
	p, err := r.serve(r.data(), filepath.Join(r.dir, "log"))
	if err != nil {
		return err
	}
	switch p.await(ctx, r.Limit) {
	case refused:
		return r.refusal(p)
	case hangs:
		r.faultf("it neither starts nor ends within %v", r.Limit)
		return errors.Join(p.end(syscall.SIGKILL, r.Limit))
	case lives:
	}
	if damage != nil {
		if err := damage(); err != nil {
			return errors.Join(err, p.end(syscall.SIGKILL, r.Limit))
		}
	}
	r.look(ctx, p.client)
	wait := endTime
	if r.cut != nil {
		wait = r.Limit
	}
	if p.hasEnded(wait) {
		return r.refusal(p)
	}
	if r.cut != nil {
		r.faultf("it lives, and takes no connection: %v", r.cut)
	}
	if err := p.end(syscall.SIGTERM, r.Limit); errors.Is(err, errHangs) {
		r.faultf("told to stop, it does not end within %v", r.Limit)
	} else if err != nil {
		return err
	}
	said, err := p.said()
	if err != nil {
		return err
	}
	if words := crashed(said); words != "" {
		r.faultf("it crashed: %.300q", words)
	}
	if r.reported && !complains(said) {
		r.faultf("nothing in its log says that something is wrong")
	}
	return r.removed(before)
}

// refusal checks the last output of a server that has ended by itself.
func (r *round) refusal(p *served) error {
	said, err := p.said()
	if err != nil {
		return err
	}
	r.refused = true
	if words := crashed(said); words != "" {
		r.faultf("it crashed: %.300q", words)
		return nil
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		r.faultf("it ended with exit code %d", code)
	}
	for _, h := range r.harms {
		top, _, _ := strings.Cut(h.path, "/")
		if strings.Contains(said, filepath.Base(h.path)) ||
			strings.Contains(said, filepath.Join(r.data(), top)) {
			return nil
		}
		stream := streamOf(h.path)
		if stream != "" && strings.Contains(said, "stream "+stream+" of NATS is damaged") {
			return nil
		}
	}
	r.faultf("its last words name nothing that is damaged: %.400q", said[max(0, len(said)-400):])
	return nil
}

// streamOf returns the embedded NATS stream that a file belongs to, or "".
func streamOf(path string) string {
	_, below, _ := strings.Cut(path, "/streams/")
	stream, _, _ := strings.Cut(below, "/")
	return stream
}

// look requests everything that was there before.
func (r *round) look(ctx context.Context, anybody *client.Client) {
	ctx, cancel := context.WithTimeout(ctx, 4*r.Limit)
	defer cancel()
	c, err := anybody.Service(ctx, secret, scopes)
	if r.failed("a token", err) {
		return
	}
	r.lookAtPatients(ctx, c)
	for _, k := range r.kept {
		r.lookAtExport(ctx, c, k)
	}
	id := r.ids[r.rng.IntN(len(r.ids))]
	got, err := exportOne(ctx, c, id)
	if !r.failed("a new export", err) && got != r.fresh[id] {
		r.faultf("a new export of %s is another one", id)
	}
	a, err := anybody.Do(ctx, http.MethodGet, "/readyz", nil)
	if err != nil || a.Status != http.StatusOK {
		r.reported = true
	}
}

// failed classifies an error as a report of the damage or as a fault.
func (r *round) failed(what string, err error) bool {
	if err == nil {
		return false
	}
	answer, is := errors.AsType[*client.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		r.faultf("%s: stuck: %v", what, err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE):
		r.cut = err
	case is && answer.Answer.Status >= 500, is && answer.Answer.Status == http.StatusNotFound, is &&
		answer.Answer.Status == http.StatusGone, !is && errors.Is(err, io.ErrUnexpectedEOF), !is &&
		strings.Contains(err.Error(), "EOF"):
		r.reported = true
	default:
		r.faultf("%s: %v", what, err)
	}
	return true
}

// lookAtPatients checks that the patients are the same as before.
func (r *round) lookAtPatients(ctx context.Context, c *client.Client) {
	a, err := c.Do(ctx, http.MethodGet, "/fhir/Patient?_count=100", nil)
	if err == nil && a.Status != http.StatusOK {
		err = &client.Error{Request: "GET /fhir/Patient", Answer: *a}
	}
	if r.failed("the patients", err) {
		return
	}
	var found struct {
		Entry []struct{ Resource struct{ ID string } }
	}
	if err := json.Unmarshal(a.Body, &found); err != nil {
		r.faultf("the patients: %v", err)
		return
	}
	var ids []string
	for _, e := range found.Entry {
		ids = append(ids, e.Resource.ID)
	}
	slices.Sort(ids)
	if want := slices.Sorted(slices.Values(r.ids)); !slices.Equal(ids, want) {
		r.faultf("the patients are %v and were %v", ids, want)
	}
}

// lookAtExport downloads all files of an export that was finished before.
func (r *round) lookAtExport(ctx context.Context, c *client.Client, k kept) {
	m, err := c.Wait(ctx, k.status, pause)
	if r.failed("a manifest", err) {
		return
	}
	if missing := r.missing(m, k); missing != "" {
		r.faultf("the manifest of an export is without %s, or has others", missing)
	}
	for _, e := range m.Output {
		body, err := c.Download(ctx, e.URL)
		if !r.failed("a file", err) && sum(body) != k.files[e.URL] {
			r.faultf("%s is another one: %d bytes", e.URL, len(body))
		}
	}
}

// missing returns a file that a manifest should list but does not, or the other way round.
func (r *round) missing(m *ehi.Manifest, k kept) string {
	listed := map[string]bool{}
	for _, e := range m.Output {
		listed[e.URL] = true
		if _, known := k.files[e.URL]; !known {
			return e.URL
		}
	}
	for url := range k.files {
		if !listed[url] {
			return url
		}
	}
	return ""
}

// removed returns intact files of exports that are gone.
func (r *round) removed(before []string) error {
	after, _, err := tree(filepath.Join(r.data(), files.Folder))
	if err != nil {
		return err
	}
	for _, name := range before {
		// not a file of an export but the folder's proof, which is created again
		if strings.HasPrefix(name, ".") {
			continue
		}
		at := filepath.Join(files.Folder, name)
		harmed := slices.ContainsFunc(r.harms, func(h harm) bool {
			return h.path == at || strings.HasPrefix(at, h.path+"/")
		})
		if !harmed && !slices.Contains(after, name) &&
			!slices.ContainsFunc(after,
				func(a string) bool { return filepath.Base(a) == filepath.Base(name) }) {
			r.faultf("%s was whole and has been removed", at)
		}
	}
	return nil
}
