package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	"ehi-server/shared/ehi"
)

// user runs flows, one after the other. It is as patient as a client must be whose server may
// restart at any moment: it repeats requests that get no answer, or 503 or 429.
type user struct {
	*fleet
	rng *rand.Rand
}

// Limits of one user's requests.
const (
	requestTime = 10 * time.Second // a stopped process delays a request
	retryPause  = 50 * time.Millisecond
	serviceAll  = "system/*.rs system/$ehi-export"
)

// work runs flows until calm is closed, and finishes the last one. Errors: anything that a
// server must not do, or did not do in time.
func (u *user) work(ctx context.Context, calm <-chan struct{}) error {
	for {
		kind := u.draw()
		if err := kind.run(u, ctx); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("stuck: %w", err)
			}
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		u.totals.flow(kind.name)
		select {
		case <-calm:
			return nil
		default:
		}
	}
}

// flow is a kind of user activity.
type flow struct {
	name   string
	weight int
	run    func(u *user, ctx context.Context) error
}

func flows() []flow {
	return []flow{
		{"a patient's export", 50, (*user).exportPatient},
		{"a patient's export with a form", 15, (*user).exportWithForm},
		{"a reviewed export with a document", 8, (*user).exportReviewed},
		{"a population's export", 6, (*user).exportAll},
		{"an export deleted while it runs", 15, (*user).exportDeleted},
		{"an export kept for later rounds", 6, (*user).exportKept},
	}
}

func (u *user) draw() flow {
	all, total := flows(), 0
	for _, f := range all {
		total += f.weight
	}
	n := u.rng.IntN(total)
	for _, f := range all {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	return all[0]
}

// api returns a random API.
func (u *user) api() *client.Client { return u.clients[u.rng.IntN(len(u.clients))] }

// request sends a request to random APIs until the answer is something other than to try again.
// target is relative to an API.
func (u *user) request(
	ctx context.Context, token, method, target string, body []byte, header ...string,
) (*client.Answer, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, requestTime)
		a, err := u.api().WithToken(token).Do(attempt, method, target, bytes.NewReader(body),
			header...)
		cancel()
		if err == nil && a.Status != http.StatusServiceUnavailable &&
			a.Status != http.StatusTooManyRequests {
			return a, nil
		}
		if err == nil {
			err = &client.Error{Request: method + " " + target, Answer: *a}
		}
		if client.Sleep(ctx, retryPause) != nil {
			return nil, err
		}
	}
}

// expect is request for an answer with a given status.
func (u *user) expect(
	ctx context.Context, status int, token, method, target string, body []byte, header ...string,
) (*client.Answer, error) {
	a, err := u.request(ctx, token, method, target, body, header...)
	if err == nil && a.Status != status {
		err = verify.Wrongf("%v", &client.Error{Request: method + " " + target, Answer: *a})
	}
	return a, err
}

// patientToken runs the code flow at the first API, whose origin the tokens are for.
func (u *user) patientToken(ctx context.Context, patient string) (token string, err error) {
	return u.token(ctx, func(ctx context.Context) (*client.Client, error) {
		c, _, err := u.clients[0].Authorize(ctx, patient)
		return c, err
	})
}

func (u *user) serviceToken(ctx context.Context) (string, error) {
	return u.token(ctx, func(ctx context.Context) (*client.Client, error) {
		return u.clients[0].Service(ctx, "test_client_secret", serviceAll)
	})
}

func (u *user) token(
	ctx context.Context, get func(context.Context) (*client.Client, error),
) (string, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, requestTime)
		c, err := get(attempt)
		cancel()
		if err == nil {
			return c.Token, nil
		}
		// A code is used up even if the answer to its exchange is lost: start the flow again.
		e, ok := errors.AsType[*client.Error](err)
		if ok && e.Status != http.StatusServiceUnavailable &&
			e.Status != http.StatusTooManyRequests {
			return "", verify.Wrongf("%v", e)
		}
		if client.Sleep(ctx, retryPause) != nil {
			return "", err
		}
	}
}

// job is an accepted export. If the answer to a kick-off is lost, another job may exist that no
// user knows.
type job struct {
	id, token string
	want      export
}

func (u *user) kickOff(ctx context.Context, token, target string, want export) (job, error) {
	a, err := u.expect(ctx, http.StatusAccepted, token, http.MethodPost, target, nil, "Prefer",
		"respond-async", "Accept", "application/fhir+json")
	if err != nil {
		return job{}, err
	}
	_, rest, _ := strings.Cut(a.Header.Get("Content-Location"), "/jobs/")
	id, tail, _ := strings.Cut(rest, "/")
	if tail != "status" {
		return job{}, verify.Wrongf("Content-Location %q", a.Header.Get("Content-Location"))
	}
	u.totals.jobs.Add(1)
	return job{id, token, want}, nil
}

func (u *user) patientJob(ctx context.Context, base string) (job, error) {
	patient := u.truth.ids[u.rng.IntN(len(u.truth.ids))]
	token, err := u.patientToken(ctx, patient)
	if err != nil {
		return job{}, err
	}
	return u.kickOff(ctx, token, base+"/fhir/Patient/"+patient+"/$ehi-export",
		u.truth.patients[patient])
}

func (u *user) exportPatient(ctx context.Context) error {
	j, err := u.patientJob(ctx, "/no-form/auto-approve")
	if err != nil {
		return err
	}
	return u.finishJob(ctx, j)
}

func (u *user) exportWithForm(ctx context.Context) error {
	j, err := u.patientJob(ctx, "/auto-approve")
	if err != nil {
		return err
	}
	a, err := u.request(ctx, j.token, http.MethodPost, "/jobs/"+j.id, wholeForm(), "Content-Type",
		"application/json")
	if err != nil {
		return err
	}
	// A submission counts even if its answer is lost.
	if a.Status != http.StatusOK && !strings.Contains(string(a.Body), "already customized") {
		return verify.Wrongf("the form was answered %d: %.200s", a.Status, a.Body)
	}
	return u.finishJob(ctx, j)
}

// wholeForm returns a form that releases everything.
func wholeForm() []byte {
	parameters, authorizations := map[string]any{}, map[string]any{}
	for _, c := range ehi.Categories() {
		parameters[string(c.Key)] = map[string]any{"name": c.Name, "enabled": true}
	}
	for _, a := range ehi.Authorizations() {
		authorizations[string(a.Key)] = map[string]any{"name": a.Name, "value": true}
	}
	body, err := json.Marshal(map[string]any{
		"parameters":     parameters,
		"authorizations": authorizations,
	})
	if err != nil { // it has only maps of strings and booleans
		panic(err)
	}
	return body
}

func (u *user) exportAll(ctx context.Context) error {
	token, err := u.serviceToken(ctx)
	if err != nil {
		return err
	}
	j, err := u.kickOff(ctx, token, "/no-form/auto-approve/fhir/$ehi-export", u.truth.all)
	if err != nil {
		return err
	}
	return u.finishJob(ctx, j)
}

func (u *user) exportDeleted(ctx context.Context) error {
	j, err := u.patientJob(ctx, "/no-form/auto-approve")
	if err != nil {
		return err
	}
	if err := client.Sleep(ctx, between(u.rng, 0, 30*time.Millisecond)); err != nil {
		return err
	}
	return u.remove(ctx, j)
}

func (u *user) exportKept(ctx context.Context) error {
	j, err := u.patientJob(ctx, "/no-form/auto-approve")
	if err != nil {
		return err
	}
	if done, err := u.download(ctx, j); err != nil || !done {
		return err
	}
	u.keep(j)
	return nil
}

func (u *user) exportReviewed(ctx context.Context) error {
	j, err := u.patientJob(ctx, "/no-form")
	if err != nil {
		return err
	}
	admin, err := u.adminLogin(ctx)
	if err != nil {
		return err
	}
	if done, err := u.retrieved(ctx, admin, j); err != nil || !done {
		return err
	}
	document := []byte("a document about " + j.id)
	if err := u.attach(ctx, admin, j, document); err != nil {
		return err
	}
	a, err := u.asAdmin(ctx, admin,
		func(ctx context.Context, c *client.Client) (*client.Answer, error) {
			return c.Do(ctx, http.MethodPost, "/admin/jobs/"+j.id+"/approve", nil)
		})
	if err != nil {
		return err
	}
	// An approval counts even if its answer is lost.
	if a.Status != http.StatusOK && !strings.Contains(string(a.Body), `\"approved\" state`) {
		return verify.Wrongf("the approval was answered %d: %.300s", a.Status, a.Body)
	}
	m, err := u.manifest(ctx, j)
	if err != nil {
		return err
	}
	if err := u.verifyReviewed(ctx, j, m, document); err != nil {
		return err
	}
	return u.remove(ctx, j)
}

// finishJob downloads and verifies a job, and deletes it.
func (u *user) finishJob(ctx context.Context, j job) error {
	if _, err := u.download(ctx, j); err != nil {
		return err
	}
	return u.remove(ctx, j)
}

// download waits for a manifest and verifies what it lists. done is false if the job reports
// that it failed after its last attempt.
func (u *user) download(ctx context.Context, j job) (done bool, err error) {
	m, err := u.manifest(ctx, j)
	if m == nil || err != nil {
		return false, err
	}
	return true, u.verify(ctx, j, m)
}

func (u *user) manifest(ctx context.Context, j job) (*ehi.Manifest, error) {
	for {
		a, err := u.request(ctx, j.token, http.MethodGet, "/jobs/"+j.id+"/status", nil)
		if err != nil {
			return nil, err
		}
		switch {
		case a.Status == http.StatusOK:
			m := &ehi.Manifest{}
			if err := json.Unmarshal(a.Body, m); err != nil {
				return nil, verify.Wrongf("manifest: %v", err)
			}
			return m, nil
		case a.Status == http.StatusInternalServerError &&
			strings.Contains(string(a.Body), "attempts"):
			u.totals.gaveUp.Add(1)
			return nil, nil
		case a.Status == http.StatusNotFound:
			return nil, verify.Wrongf("lost: job %s is not there any more", j.id)
		case a.Status != http.StatusAccepted:
			return nil, verify.Wrongf("status of job %s: %d %.300s", j.id, a.Status, a.Body)
		}
		if err := client.Sleep(ctx, retryPause); err != nil {
			return nil, fmt.Errorf("job %s is still %q", j.id, a.Header.Get("X-Progress"))
		}
	}
}

// verify reads every file of a manifest, through all faults, and compares them with the truth.
func (u *user) verify(ctx context.Context, j job, m *ehi.Manifest) error {
	got := export{}
	for _, e := range m.Output {
		t, err := u.file(ctx, j, e)
		if err != nil {
			return err
		}
		sum := got[e.Type]
		sum.Add(t)
		got[e.Type] = sum
		u.totals.files.Add(1)
		u.totals.bytes.Add(t.Bytes)
	}
	if err := j.want.compare(got); err != nil {
		return fmt.Errorf("job %s: %w", j.id, err)
	}
	return nil
}

func (u *user) file(ctx context.Context, j job, e ehi.ManifestEntry) (verify.Tally, error) {
	_, path, ok := strings.Cut(e.URL, "/jobs/")
	if !ok {
		return verify.Tally{}, verify.Wrongf("the manifest lists %q", e.URL)
	}
	e.URL = "/jobs/" + path
	for {
		attempt, cancel := context.WithTimeout(ctx, requestTime)
		t, err := verify.File(attempt, u.api().WithToken(j.token), e)
		cancel()
		if err == nil || errors.Is(err, verify.ErrWrong) {
			return t, err
		}
		refused, ok := errors.AsType[*client.Error](err)
		if ok && refused.Status != http.StatusServiceUnavailable {
			return t, verify.Wrongf("%v", err)
		}
		if client.Sleep(ctx, retryPause) != nil {
			return t, err
		}
	}
}

// remove deletes a job and checks that it is gone permanently, at every API as soon as it has
// been notified.
func (u *user) remove(ctx context.Context, j job) error {
	target := "/jobs/" + j.id + "/status"
	a, err := u.request(ctx, j.token, http.MethodDelete, target, nil)
	if err != nil {
		return err
	}
	// an earlier request whose answer was lost may have deleted it
	if a.Status != http.StatusAccepted && a.Status != http.StatusNotFound {
		return verify.Wrongf("DELETE of job %s: %d %.300s", j.id, a.Status, a.Body)
	}
	for {
		a, err := u.request(ctx, j.token, http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		if a.Status == http.StatusNotFound {
			return nil
		}
		if err := client.Sleep(ctx, retryPause); err != nil {
			return fmt.Errorf("job %s is still %d after its deletion", j.id, a.Status)
		}
	}
}
