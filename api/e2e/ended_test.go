package e2e

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/auth"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// gone requires that a job is deleted.
func (p *production) gone(job string) {
	p.t.Helper()
	if j, err := p.node.Bus.Jobs.Get(p.t.Context(), job); ehi.CodeOf(err) != ehi.NotFound {
		p.t.Errorf("job %s is there still: %+v, %v", job, j, err)
	}
}

// browserOf returns a browser in which a patient is signed in.
func (p *production) browserOf(account string) *browser {
	p.t.Helper()
	b := p.person()
	b.visit(p.open.Base + "/patient-login")
	b.submit("username", account, "password", patientPassword)
	b.sees(200, "Apps with access")
	return b
}

// withdraw ends the authorization of a job, on the page for that.
func (p *production) withdraw(account, job string) {
	p.t.Helper()
	j, err := p.node.Bus.Jobs.Get(p.t.Context(), job)
	if err != nil || j.Grant == "" {
		p.t.Fatalf("%+v, %v", j, err)
	}
	b, page := p.browserOf(account), p.open.Base+"/my/applications"
	b.visit(page)
	b.forge(page, page, url.Values{"_csrf": {b.field("_csrf")}, "id": {j.Grant}}.Encode())
	b.sees(200, "Apps with access")
}

// queued returns a job like another one, whose export was requested and does not start.
func (p *production) queued(like string) string {
	p.t.Helper()
	j, err := p.node.Bus.Jobs.Get(p.t.Context(), like)
	if err != nil {
		p.t.Fatal(err)
	}
	next := *j
	next.ID, next.Status, next.RequestedAt, next.Starts = "queued"+
		j.ID[:8], ehi.Requested, time.Now().UTC(), 1
	if err := p.node.Bus.Jobs.Create(p.t.Context(), &next); err != nil {
		p.t.Fatal(err)
	}
	return next.ID
}

// released returns an approved export with a document of the given size.
func (p *production) released(as *client.Client, patient string, size int) client.Job {
	p.t.Helper()
	j := p.kickOff(as, "/no-form", patient, nil)
	p.wait(j.ID, ehi.Retrieved)
	a, err := p.admin.AddFiles(p.t.Context(), j.ID, client.File{
		Name: "scan.pdf",
		Data: make([]byte, size),
	})
	if err == nil {
		p.want(a, 200, "")
		_, err = p.admin.Act(p.t.Context(), j.ID, "approve")
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return j
}

// startLasting starts a production server whose documents are larger than the buffers of
// connections.
func startLasting(t *testing.T) *production {
	return startProduction(t, func(c *node.Config) {
		c.FHIR.MaxHold, c.FHIR.MaxHeld, c.Jobs.AttachmentBytes = time.Minute, 100, bigDocument
	})
}

const bigDocument = 48 << 20

// A client that is removed and registered again under its id starts from nothing, however fast
// that happens. The tokens of its predecessor open nothing and do not get its privileges.
func TestEHI1AClientOfTheSameIDHasNoneOfTheOldTokens(t *testing.T) {
	t.Parallel()
	p := startLasting(t)
	ada := p.staff("ada")
	for range 3 { // at least one of them begins and ends within the same second
		<-time.After(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		app, got := p.letIn("app", "ann")
		again, err := ada.Client(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		if err := ada.RemoveClient(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ada.AddClient(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		p.want(p.do(app, "POST", "/no-form/fhir/Patient/"+p.ann+"/$ehi-export"), 401,
			"Invalid token")
		renewal := url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {got.RefreshToken},
			"client_id":     {"app"},
		}
		p.want(p.post("/auth/token", renewal), 400, "invalid_grant")
	}
}

// Nothing leaves for an application after the patient has withdrawn its access: waiting exports
// are cancelled, held polls and running downloads break off, and finished exports are closed to
// it, even with a new authorization. The patient keeps the finished copy, and exports of other
// patients continue.
// not in parallel with other tests that hold polls
func TestEHI7NothingLeavesAfterAWithdrawal(t *testing.T) {
	p := startLasting(t)
	app, _ := p.letIn("app", "ann")
	bob, _ := p.letIn("app", "bob")
	others := p.kickOff(bob, "", p.bob, nil)

	finished := p.released(app, p.ann, bigDocument)
	review := p.kickOff(app, "/no-form", p.ann, nil)
	p.wait(review.ID, ehi.Retrieved)
	open := p.kickOff(app, "", p.ann, nil)
	queued := p.queued(review.ID)
	form := p.browserOf("ann")
	form.visit(p.open.Base + "/jobs/" + open.ID + "/customize")
	form.sees(200, "Choose what to share")
	form.submit("p.labs", "on", "do", "preview")
	form.sees(200, "Choose what to share")

	polled := make(chan int, 1)
	go func() {
		a, err := app.Do(t.Context(), "GET", "/jobs/"+queued+"/status", nil, "Prefer", "wait=60")
		if err != nil {
			t.Error(err)
			a = &client.Answer{}
		}
		polled <- a.Status
	}()
	await(t, "a held poll", func() bool {
		return strings.Contains(string(p.do(p.open, "GET", "/metrics").Body),
			"\nehi_http_requests_held 1\n")
	})
	document := "/jobs/" + finished.ID + "/download/attachments/scan.pdf"
	begun, withdrawn := make(chan struct{}), make(chan struct{})
	broken := make(chan error, 1)
	go func() {
		broken <- app.Stream(t.Context(), document, func(r io.Reader) error {
			if _, err := io.CopyN(io.Discard, r, 1024); err != nil {
				return err
			}
			close(begun)
			<-withdrawn
			n, err := io.Copy(io.Discard, r)
			if err == nil || n >= bigDocument-1024 {
				return errors.New("the whole document went out")
			}
			return nil
		})
	}()
	<-begun

	ann := p.browserOf("ann")
	ann.visit(p.open.Base + "/my/applications")
	ann.submit()
	ann.sees(200, "No apps have access")
	close(withdrawn)

	if err := <-broken; err != nil {
		t.Errorf("the download under way: %v", err)
	}
	if status := <-polled; status != 404 && status != 401 {
		t.Errorf("the held poll was answered %d", status)
	}
	for _, id := range []string{open.ID, queued, review.ID} {
		p.gone(id)
	}
	form.submit("p.labs", "on")
	form.sees(404, "Export job not found!")
	form.visit(p.open.Base + "/jobs/" + open.ID + "/customize")
	form.sees(404, "Export job not found!")
	p.want(p.do(p.admin, "POST", "/admin/jobs/"+review.ID+"/approve"), 404, "")
	p.want(p.do(app, "GET", finished.StatusURL), 401, "")
	again, _ := p.letIn("app", "ann")
	for _, path := range []string{
		finished.StatusURL,
		"/jobs/" + finished.ID + "/metadata",
		document,
		"/jobs/" + finished.ID + "/download/Patient.ndjson",
	} {
		p.want(p.do(again, "GET", path), 404, "")
	}
	ann.visit(p.open.Base + "/my/requests/" + finished.ID + "/files/Patient.ndjson")
	ann.sees(200, `"resourceType":"Patient"`)
	p.want(p.do(bob, "GET", others.StatusURL), 202, "")
}

// An export that an application began under an expired authorization ends when a later
// authorization is withdrawn. What another valid authorization covers continues.
func TestAWithdrawalEndsWhatNoValidAuthorizationCovers(t *testing.T) {
	t.Parallel()
	p := startLasting(t)
	app, _ := p.letIn("app", "ann")
	kept := p.kickOff(app, "", p.ann, nil)
	second, _ := p.letIn("app", "ann")
	ended := p.kickOff(second, "", p.ann, nil)
	old := p.queued(ended.ID)
	_, err := p.node.Bus.Jobs.Update(t.Context(), old, func(j *ehi.Job) error {
		j.Grant = "ran-out"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.withdraw("ann", ended.ID)
	p.gone(ended.ID)
	p.gone(old)
	p.want(p.do(app, "GET", kept.StatusURL), 202, "")
}

// sized is a source that lets others act while a size is requested.
type sized struct {
	source.Source
	asked func()
}

func (s sized) Size(ctx context.Context, patients []string, native bool) (int64, error) {
	s.asked()
	return s.Source.Size(ctx, patients, native)
}

// A form was accepted, and while the server checks whether there is room for its export, the
// patient withdraws the authorization, in this process or another one. The form then has no
// effect, and its reservation is released for the next one.
func TestEHI7AWithdrawalOvertakesAFormThatWasLetIn(t *testing.T) {
	t.Parallel()
	for _, elsewhere := range []bool{false, true} {
		var waits atomic.Bool
		reached, goOn := make(chan struct{}), make(chan struct{})
		p := startProduction(t, func(c *node.Config) {
			c.Quotas.PatientExports, c.Quotas.Window, c.Quotas.PatientBytes = 1, time.Hour, 1<<40
		}, func(o *node.Options) {
			o.WrapSource = func(s source.Source) source.Source {
				return sized{s, func() {
					if waits.CompareAndSwap(true, false) {
						close(reached)
						<-goOn
					}
				}}
			}
		})
		app, _ := p.letIn("app", "ann")
		open := p.kickOff(app, "", p.ann, nil)
		form := p.browserOf("ann")
		form.visit(p.open.Base + "/jobs/" + open.ID + "/customize")
		form.sees(200, "Choose what to share")
		body := url.Values{"interaction": {form.field("interaction")}, "p.labs": {"on"}}.Encode()
		header := []string{
			"Content-Type",
			"application/x-www-form-urlencoded",
			"Cookie",
			form.cookies(),
			"Origin",
			p.open.Base,
		}
		waits.Store(true)
		sent := make(chan *client.Answer, 1)
		go func() {
			a, err := p.open.Do(t.Context(), "POST", "/jobs/"+open.ID, strings.NewReader(body),
				header...)
			if err != nil {
				t.Error(err)
				a = &client.Answer{}
			}
			sent <- a
		}()
		select {
		case <-reached:
		case a := <-sent:
			t.Fatalf("the form was not let in: %d %s", a.Status, a.Body)
		}
		if elsewhere {
			j, err := p.node.Bus.Jobs.Get(t.Context(), open.ID)
			if err != nil {
				t.Fatal(err)
			}
			p.elsewhere(func(a *auth.Server) error {
				_, err := a.Withdraw(t.Context(), p.ann, j.Grant)
				return err
			})
			await(t, "news of the withdrawal", func() bool {
				return p.do(app, "GET", open.StatusURL).Status == 401
			})
		} else {
			p.withdraw("ann", open.ID)
		}
		close(goOn)
		p.want(<-sent, 404, "Export job not found!")
		if elsewhere { // and nothing of its own job has begun before the keeper ends it
			j, err := p.node.Bus.Jobs.Get(t.Context(), open.ID)
			if err != nil || j.Status != ehi.AwaitingInput || j.Form != nil || j.Starts != 0 {
				t.Errorf("%+v, %v", j, err)
			}
			if err := p.node.Keeper.Also(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		p.gone(open.ID)

		again, _ := p.letIn("app", "ann")
		next := p.kickOff(again, "", p.ann, nil)
		form.visit(p.open.Base + "/jobs/" + next.ID + "/customize")
		form.submit("p.labs", "on")
		p.wait(next.ID, ehi.Retrieved)
	}
}

// An application whose registration was removed has no open forms and no exports: immediately in
// the process that removes it, elsewhere after a round of the keeper.
func TestEHI7NothingIsLeftOfARemovedApplication(t *testing.T) {
	t.Parallel()
	p := startLasting(t)
	for _, elsewhere := range []bool{false, true} {
		web, _ := p.letIn("web", "ann")
		open := p.kickOff(web, "", p.ann, nil)
		queued := p.queued(open.ID)
		form := p.browserOf("ann")
		form.visit(p.open.Base + "/jobs/" + open.ID + "/customize")
		form.sees(200, "Choose what to share")
		registered, err := p.admin.Client(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		if elsewhere {
			p.elsewhere(func(a *auth.Server) error { return a.RemoveClient(t.Context(), "web") })
			await(t, "news of the removal", func() bool {
				return p.do(p.admin, "GET", "/admin/clients/web").Status == 404
			})
		} else if err := p.admin.RemoveClient(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		form.submit("p.labs", "on")
		form.sees(404, "Export job not found!")
		if elsewhere {
			if err := p.node.Keeper.Also(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		p.gone(open.ID)
		p.gone(queued)
		if _, p.secrets["web"], err = p.admin.AddClient(t.Context(), registered); err != nil {
			t.Fatal(err)
		}
	}
}

// elsewhere acts as another process.
func (p *production) elsewhere(do func(*auth.Server) error) {
	p.t.Helper()
	a, err := auth.New(p.t.Context(), auth.Config{KV: p.node.Bus.Auth, Issuer: p.open.Base})
	if err != nil {
		p.t.Fatal(err)
	}
	defer a.Close()
	if err := do(a); err != nil {
		p.t.Fatal(err)
	}
}

// When an administrator removes an account, everything that it authorized ends: tokens, unused
// codes, and exports begun with them. What another account of the same patient authorized stays.
func TestRemovingAnAccountEndsWhatItAuthorized(t *testing.T) {
	t.Parallel()
	p := startLasting(t)
	_, err := p.admin.AddAccount(t.Context(), auth.Account{Name: "guardian", Patient: p.ann},
		patientPassword)
	if err != nil {
		t.Fatal(err)
	}
	app, got := p.letIn("app", "guardian")
	own, _ := p.letIn("app", "ann")
	code := p.code("guardian", p.request("app"))
	open, kept := p.kickOff(app, "", p.ann, nil), p.kickOff(own, "", p.ann, nil)
	if err := p.admin.RemoveAccount(t.Context(), "patient", "guardian"); err != nil {
		t.Fatal(err)
	}
	p.want(p.do(app, "GET", open.StatusURL), 401, "")
	p.want(p.post("/auth/token", url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {got.RefreshToken},
		"client_id":     {"app"},
	}), 400, "invalid_grant")
	p.want(p.post("/auth/token", p.redemption("app", code)), 400, "invalid_grant")
	p.gone(open.ID)
	p.want(p.do(own, "GET", kept.StatusURL), 202, "")
}

// A client that revokes its own token, as when a person signs out, does not cancel the patient's
// exports: they are there for the next authorization.
func TestSigningOutOfAnApplicationCancelsNothing(t *testing.T) {
	t.Parallel()
	p := startLasting(t)
	app, got := p.letIn("app", "ann")
	j := p.kickOff(app, "", p.ann, nil)
	p.want(p.post("/auth/revoke", url.Values{"token": {got.AccessToken}, "client_id": {"app"}}),
		200, "")
	p.want(p.do(app, "GET", j.StatusURL), 401, "")
	again, _ := p.letIn("app", "ann")
	p.want(p.do(again, "GET", j.StatusURL), 202, "")
}

// The stream of changes sends nothing more once its session ends, by a sign-out, a new password
// or the removal of the account.
func TestAStreamOfChangesEndsWithItsSession(t *testing.T) {
	t.Parallel()
	p := startLasting(t)
	app, _ := p.letIn("app", "ann")
	for name, end := range map[string]func(staff *client.Client, account string) error{
		"log-out": func(staff *client.Client, _ string) error {
			a, err := staff.Do(t.Context(), "GET", "/admin/logout", nil)
			p.want(a, 200, "")
			return err
		},
		"password": func(_ *client.Client, account string) error {
			return p.admin.SetPassword(t.Context(), "admin", account, staffPassword+" anew")
		},
		"removal": func(_ *client.Client, account string) error {
			return p.admin.RemoveAccount(t.Context(), "admin", account)
		},
	} {
		account := "watcher-" + name
		if _, err := p.admin.AddAccount(t.Context(), auth.Account{Name: account, Role: auth.Viewer},
			staffPassword); err != nil {
			t.Fatal(err)
		}
		staff := p.staff(account)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := staff.Stream(ctx, "/admin/ui/events", func(r io.Reader) error {
			lines := bufio.NewReader(r)
			before := p.kickOff(app, "", p.ann, nil)
			for { // it receives one change
				line, err := lines.ReadString('\n')
				if err != nil {
					return err
				}
				if strings.Contains(line, before.ID) {
					break
				}
			}
			if err := end(staff, account); err != nil {
				return err
			}
			after := p.kickOff(app, "", p.ann, nil)
			rest, err := io.ReadAll(lines)
			if strings.Contains(string(rest), after.ID) {
				t.Errorf("%s: it is told on: %s", name, rest)
			}
			// it breaks off, like every response whose authorization ends
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		})
		cancel()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if a := p.do(staff, "GET", "/admin/ui/events"); a.Status == http.StatusOK {
			t.Errorf("%s: the stream opens again", name)
		}
	}
}
