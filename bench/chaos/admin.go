package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"ehi-server/api/client"
	"ehi-server/bench/verify"
	"ehi-server/shared/ehi"
)

// adminLogin returns an administrator's session, which is valid at every API.
func (u *user) adminLogin(ctx context.Context) (admin *client.Client, err error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, requestTime)
		admin, err = u.clients[0].AdminLogin(attempt, "admin", "admin-password")
		cancel()
		if err == nil {
			return admin, nil
		}
		e, ok := errors.AsType[*client.Error](err)
		if ok && e.Status != http.StatusServiceUnavailable {
			return nil, verify.Wrongf("%v", e)
		}
		if client.Sleep(ctx, retryPause) != nil {
			return nil, err
		}
	}
}

// asAdmin sends a request until the answer is something other than to try again.
func (u *user) asAdmin(
	ctx context.Context, admin *client.Client,
	send func(context.Context, *client.Client) (*client.Answer, error),
) (*client.Answer, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, requestTime)
		a, err := send(attempt, admin)
		cancel()
		if err == nil && a.Status != http.StatusServiceUnavailable {
			return a, nil
		}
		if err == nil {
			err = &client.Error{Request: "an administrator's request", Answer: *a}
		}
		if client.Sleep(ctx, retryPause) != nil {
			return nil, err
		}
	}
}

// adminJob reads a job through the administrators' API.
func (u *user) adminJob(
	ctx context.Context, admin *client.Client, id string,
) (j client.AdminJob, err error) {
	a, err := u.asAdmin(ctx, admin,
		func(ctx context.Context, c *client.Client) (*client.Answer, error) {
			return c.Do(ctx, http.MethodGet, "/admin/jobs/"+id, nil)
		})
	if err != nil {
		return j, err
	}
	if a.Status != http.StatusOK {
		return j, verify.Wrongf("job %s, as administrators see it: %d %.300s", id, a.Status, a.Body)
	}
	return j, json.Unmarshal(a.Body, &j)
}

// retrieved waits until a job is ready for review. done is false if the job failed after its
// last attempt.
func (u *user) retrieved(ctx context.Context, admin *client.Client, j job) (done bool, err error) {
	for {
		seen, err := u.adminJob(ctx, admin, j.id)
		switch {
		case err != nil:
			return false, err
		case seen.Status == ehi.Retrieved:
			return true, nil
		case seen.Status == ehi.Failed && strings.Contains(seen.Error, "attempts"):
			u.totals.gaveUp.Add(1)
			return false, nil
		case seen.Status != ehi.Requested:
			return false, verify.Wrongf("job %s is %s: %s", j.id, seen.Status, seen.Error)
		}
		if err := client.Sleep(ctx, retryPause); err != nil {
			return false, err
		}
	}
}

const documentName = "letter.txt"

// attach uploads a document. After a lost answer, the document may or may not have been stored.
func (u *user) attach(ctx context.Context, admin *client.Client, j job, document []byte) error {
	for {
		seen, err := u.adminJob(ctx, admin, j.id)
		if err != nil {
			return err
		}
		if len(seen.Attachments) > 0 {
			return nil
		}
		attempt, cancel := context.WithTimeout(ctx, requestTime)
		a, err := admin.AddFiles(attempt, j.id, client.File{Name: documentName, Data: document})
		cancel()
		if err == nil && a.Status != http.StatusOK && a.Status != http.StatusServiceUnavailable {
			return verify.Wrongf("the upload was answered %d: %.300s", a.Status, a.Body)
		}
		if client.Sleep(ctx, retryPause) != nil {
			return ctx.Err()
		}
	}
}

// verifyReviewed verifies an export with a document. The document may be there twice if it was
// uploaded again after a lost answer.
func (u *user) verifyReviewed(ctx context.Context, j job, m *ehi.Manifest, document []byte) error {
	rest := *m
	rest.Output = nil
	var documents int
	for _, e := range m.Output {
		if e.Type != "DocumentReference" || !strings.Contains(e.URL, "attachments") {
			rest.Output = append(rest.Output, e)
			continue
		}
		if _, err := u.file(ctx, j, e); err != nil {
			return err
		}
	}
	if err := u.verify(ctx, j, &rest); err != nil {
		return err
	}
	admin, err := u.adminLogin(ctx)
	if err != nil {
		return err
	}
	seen, err := u.adminJob(ctx, admin, j.id)
	if err != nil {
		return err
	}
	for _, a := range seen.Attachments {
		_, path, _ := strings.Cut(a.URL, "/jobs/")
		got, err := u.expect(ctx, http.StatusOK, j.token, http.MethodGet, "/jobs/"+path, nil)
		if err != nil {
			return err
		}
		if string(got.Body) != string(document) {
			return verify.Wrongf("the document of job %s reads %.100q", j.id, got.Body)
		}
		documents++
	}
	if documents == 0 {
		return verify.Wrongf("the document of job %s is lost", j.id)
	}
	return nil
}
