// Package client is a Go client of the EHI Export API. It covers authorization, kick-off, the
// release form, polling, download and deletion, and the routes of administrators. Tests,
// benchmarks and the load generator use it to drive a server. It shares only the wire types with
// the server.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
)

// Defaults of the sandbox.
const (
	ClientID    = "test_client_id"
	RedirectURI = "http://127.0.0.1:3000/"
	Scope       = "offline_access patient/$ehi-export patient/*.rs launch/patient"
)

// Client talks to one server as an application or an administrator. Copies share connections.
type Client struct {
	Base  string // origin, without a trailing slash
	Token string // bearer token; "" for none
	sid   string // administrator's session
	http  *http.Client
}

// New returns a client without credentials. It does not follow redirects.
func New(base string) *Client { return NewSecured(base, nil) }

// NewSecured is New with a TLS configuration for https origins; nil for the default.
func NewSecured(base string, secured *tls.Config) *Client {
	return &Client{Base: base, http: &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1024,
			MaxIdleConns:        2048,
			DisableCompression:  true,
			TLSClientConfig:     secured,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
}

// Through returns a copy whose transport is wrapped.
func (c *Client) Through(wrap func(http.RoundTripper) http.RoundTripper) *Client {
	out, own := *c, *c.http
	own.Transport = wrap(own.Transport)
	out.http = &own
	return &out
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Answer is a response whose body has been read.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Error is an unexpected response.
type Error struct {
	Request string
	Answer
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s answered %d: %.300s", e.Request, e.Status, e.Body)
}

// Do sends a request. target is a path or a complete URL.
func (c *Client) Do(
	ctx context.Context, method, target string, body io.Reader, header ...string,
) (*Answer, error) {
	resp, err := c.send(ctx, method, target, body, header...)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // read to its end below
	data, err := io.ReadAll(resp.Body)
	return &Answer{resp.StatusCode, resp.Header, data}, err
}

func (c *Client) send(
	ctx context.Context, method, target string, body io.Reader, header ...string,
) (*http.Response, error) {
	if strings.HasPrefix(target, "/") {
		target = c.Base + target
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if c.sid != "" {
		req.Header.Set("Cookie", c.sid)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.http.Do(req)
}

// expect sends a request and returns an *Error for any other status.
func (c *Client) expect(
	ctx context.Context, status int, method, target string, body io.Reader, header ...string,
) (*Answer, error) {
	a, err := c.Do(ctx, method, target, body, header...)
	if err != nil {
		return nil, err
	}
	if a.Status != status {
		return a, &Error{method + " " + target, *a}
	}
	return a, nil
}

// Tokens is the response of the token endpoint.
type Tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
	Patient      string `json:"patient"`
}

// Authorize runs the code flow with PKCE through the sandbox's shortcut (SMART-10). It returns a
// client with the patient's token.
func (c *Client) Authorize(ctx context.Context, patient string) (*Client, Tokens, error) {
	return c.AuthorizeFor(ctx, patient, Scope)
}

// AuthorizeFor is Authorize with the given scopes.
func (c *Client) AuthorizeFor(
	ctx context.Context, patient, scopes string,
) (*Client, Tokens, error) {
	verifier := random()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type":         {"code"},
		"client_id":             {ClientID},
		"redirect_uri":          {RedirectURI},
		"scope":                 {scopes},
		"state":                 {"st"},
		"aud":                   {c.Base + "/fhir"},
		"code_challenge_method": {"S256"},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(sum[:])},
		"_patient":              {patient}, "_auth_success": {"1"},
	}
	a, err := c.expect(ctx, http.StatusFound, http.MethodGet, "/auth/authorize?"+q.Encode(), nil)
	if err != nil {
		return nil, Tokens{}, err
	}
	back, err := url.Parse(a.Header.Get("Location"))
	if err != nil {
		return nil, Tokens{}, err
	}
	code := back.Query().Get("code")
	if code == "" {
		return nil, Tokens{}, fmt.Errorf("no code in %s", back)
	}
	var t Tokens
	err = c.form(ctx, "/auth/token", url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {RedirectURI},
		"client_id":     {ClientID},
		"code_verifier": {verifier},
	}, &t)
	return &Client{Base: c.Base, Token: t.AccessToken, http: c.http}, t, err
}

// WithToken returns a copy with the given bearer token.
func (c *Client) WithToken(token string) *Client {
	return &Client{Base: c.Base, Token: token, http: c.http}
}

// WithCookies returns a copy that sends the given Cookie header.
func (c *Client) WithCookies(header string) *Client {
	out := *c
	out.sid = header
	return &out
}

// Service authenticates as the sandbox's backend service with its secret. It returns a client
// with system scopes.
func (c *Client) Service(ctx context.Context, secret, scope string) (*Client, error) {
	var t Tokens
	err := c.form(ctx, "/auth/token",
		url.Values{
			"grant_type":    {"client_credentials"},
			"client_id":     {ClientID},
			"client_secret": {secret},
			"scope":         {scope},
		}, &t)
	return &Client{Base: c.Base, Token: t.AccessToken, http: c.http}, err
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand since Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (c *Client) form(ctx context.Context, path string, v url.Values, into any) error {
	a, err := c.expect(ctx, http.StatusOK, http.MethodPost, path, strings.NewReader(v.Encode()),
		"Content-Type", "application/x-www-form-urlencoded")
	if err != nil {
		return err
	}
	return json.Unmarshal(a.Body, into)
}

// Job is a job as announced by its kick-off.
type Job struct {
	ID        string
	StatusURL string
	Link      string // the Link header; "" without the form
}

// KickOff starts a patient's export. base is "" or one of the path variants of EHI-1. body is a
// Parameters resource or nil.
func (c *Client) KickOff(ctx context.Context, base, patient string, body []byte) (Job, error) {
	return c.Start(ctx, http.MethodPost, base+"/fhir/Patient/"+patient+"/$ehi-export", body)
}

// Start kicks off an operation, for example GET /fhir/Patient/$export?_type=Patient. body is a
// Parameters resource or nil. header has pairs of additional headers.
func (c *Client) Start(
	ctx context.Context, method, target string, body []byte, header ...string,
) (Job, error) {
	var r io.Reader
	header = append([]string{"Prefer", "respond-async", "Accept", "application/fhir+json"},
		header...)
	if body != nil {
		r = bytes.NewReader(body)
		header = append(header, "Content-Type", "application/fhir+json")
	}
	a, err := c.expect(ctx, http.StatusAccepted, method, target, r, header...)
	if err != nil {
		return Job{}, err
	}
	j := Job{StatusURL: a.Header.Get("Content-Location"), Link: a.Header.Get("Link")}
	_, rest, ok := strings.Cut(j.StatusURL, "/jobs/")
	id, tail, _ := strings.Cut(rest, "/")
	if !ok || tail != "status" {
		return j, fmt.Errorf("Content-Location is %q", j.StatusURL)
	}
	j.ID = id
	return j, nil
}

// Submit sends the release form as the job's client.
func (c *Client) Submit(ctx context.Context, job string, form any) (*Answer, error) {
	return c.postJSON(ctx, "/jobs/"+job, form)
}

func (c *Client) postJSON(ctx context.Context, path string, v any) (*Answer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return c.Do(ctx, http.MethodPost, path, bytes.NewReader(body), "Content-Type",
		"application/json")
}

// Wait polls the status until it gets the manifest. pause is the time between polls; 0 means the
// server's Retry-After.
func (c *Client) Wait(
	ctx context.Context, statusURL string, pause time.Duration,
) (*ehi.Manifest, error) {
	for {
		a, err := c.Do(ctx, http.MethodGet, statusURL, nil)
		if err != nil {
			return nil, err
		}
		switch a.Status {
		case http.StatusOK:
			m := &ehi.Manifest{}
			return m, json.Unmarshal(a.Body, m)
		case http.StatusAccepted:
		default:
			return nil, &Error{"GET " + statusURL, *a}
		}
		if pause == 0 {
			err = retryAfter(ctx, a)
		} else {
			err = Sleep(ctx, pause)
		}
		if err != nil {
			return nil, err
		}
	}
}

// retryAfter waits for the Retry-After of a response.
func retryAfter(ctx context.Context, a *Answer) error {
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil {
		return fmt.Errorf("Retry-After: %w", err)
	}
	return Sleep(ctx, time.Duration(seconds)*time.Second)
}

// Sleep waits for d. It returns the error of ctx if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Download reads one file.
func (c *Client) Download(ctx context.Context, target string) ([]byte, error) {
	a, err := c.expect(ctx, http.StatusOK, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	return a.Body, nil
}

// Stream passes a file to f while it arrives.
func (c *Client) Stream(ctx context.Context, target string, f func(io.Reader) error) error {
	resp, err := c.send(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read to its end, or given up
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		return &Error{"GET " + target, Answer{resp.StatusCode, resp.Header, body}}
	}
	return f(resp.Body)
}

// StreamFrom passes a file to f from an offset in bytes on, with the header of the answer. From 0,
// it asks for the whole file. Otherwise it asks by Range for the rest of the version with an
// ETag, and an answer that is not exactly this rest is an error.
func (c *Client) StreamFrom(
	ctx context.Context, target string, from int64, etag string,
	f func(h http.Header, r io.Reader) error,
) error {
	status, header := http.StatusOK, []string(nil)
	if from > 0 {
		status = http.StatusPartialContent
		header = []string{"Range", fmt.Sprintf("bytes=%d-", from), "If-Range", etag}
	}
	resp, err := c.send(ctx, http.MethodGet, target, nil, header...)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read to its end, or given up
	part := resp.Header.Get("Content-Range")
	rest := from == 0 || strings.HasPrefix(part, fmt.Sprintf("bytes %d-", from)) &&
		resp.Header.Get("ETag") == etag
	if resp.StatusCode == status && rest {
		return f(resp.Header, resp.Body)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // an error says no more than that
	if err != nil {
		return err
	}
	return &Error{"GET " + target, Answer{resp.StatusCode, resp.Header, body}}
}

// Delete cancels or deletes a job.
func (c *Client) Delete(ctx context.Context, statusURL string) error {
	_, err := c.expect(ctx, http.StatusAccepted, http.MethodDelete, statusURL, nil)
	return err
}

// AdminLogin returns a client with an administrator's session.
func (c *Client) AdminLogin(ctx context.Context, user, password string) (*Client, error) {
	return c.AdminLoginWithCode(ctx, user, password, "")
}

// AdminLoginWithCode is AdminLogin for an administrator with a second factor. code is the
// current code or a recovery code; "" for none.
func (c *Client) AdminLoginWithCode(
	ctx context.Context, user, password, code string,
) (*Client, error) {
	in := map[string]string{"username": user, "password": password}
	if code != "" {
		in["code"] = code
	}
	a, err := c.postJSON(ctx, "/admin/login", in)
	if err != nil {
		return nil, err
	}
	if a.Status != http.StatusOK {
		return nil, &Error{"POST /admin/login", *a}
	}
	sid, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	return &Client{Base: c.Base, sid: sid, http: c.http}, nil
}

// AdminJob is a job as administrators see it (EHI-10).
type AdminJob struct {
	Reason   string           `json:"reason"` // of the decision
	ID       string           `json:"id"`
	Status   ehi.Status       `json:"status"`
	Manifest *ehi.Manifest    `json:"manifest"`
	Counts   map[string]int64 `json:"counts"`
	Withheld map[string]int64 `json:"withheld"`
	Held     struct {
		Waiting  int64 `json:"waiting"`
		Released int64 `json:"released"`
	} `json:"held"` // documents and tables that fall under no line of the form
	// administrators who have approved, with four eyes
	Approvals   []string `json:"approvals"`
	Contents    string   `json:"contents"` // digest of what the decision is about
	Error       string   `json:"error"`
	AutoApprove bool     `json:"autoApprove"`
	Attachments []struct {
		Title string `json:"title"`
		URL   string `json:"url"`
		Size  int64  `json:"size"`
		Hash  string `json:"hash"`
		Type  string `json:"contentType"`
	} `json:"attachments"`
	Parameters map[string]struct {
		Enabled bool `json:"enabled"`
	} `json:"parameters"`
}

// Job reads a job.
func (c *Client) Job(ctx context.Context, id string) (AdminJob, error) {
	a, err := c.expect(ctx, http.StatusOK, http.MethodGet, "/admin/jobs/"+id, nil)
	return adminJob(a, err)
}

// Act approves or rejects a job in its current state. action is approve or reject.
func (c *Client) Act(ctx context.Context, id, action string) (AdminJob, error) {
	j, err := c.Job(ctx, id)
	if err != nil {
		return j, err
	}
	return c.Decide(ctx, j, action)
}

// Decide approves or rejects a job that somebody has reviewed. The server refuses if the job has
// changed since. action is approve or reject.
func (c *Client) Decide(ctx context.Context, j AdminJob, action string) (AdminJob, error) {
	a, err := c.postJSON(ctx, "/admin/jobs/"+j.ID+"/"+action,
		map[string]string{"contents": j.Contents})
	if err == nil && a.Status != http.StatusOK {
		err = &Error{"POST /admin/jobs/" + j.ID + "/" + action, *a}
	}
	return adminJob(a, err)
}

func adminJob(a *Answer, err error) (j AdminJob, _ error) {
	if err != nil {
		return j, err
	}
	return j, json.Unmarshal(a.Body, &j)
}

// ImportOptions are the options of an import through a server.
type ImportOptions struct {
	// Name is the name of the input in the report.
	Name string
	// Document means that the input is one JSON document (a Bundle or a resource) instead of
	// NDJSON. Both may be gzipped.
	Document bool
	// Strict stops at the first bad line or bundle entry.
	Strict bool
	// Charset is the encoding of text that is not UTF-8.
	Charset string
}

// Import streams records into the server's store. It waits while another import runs. If the
// server refuses for any other reason, such as a full disk, Import returns an Error.
func (c *Client) Import(
	ctx context.Context, o ImportOptions, open func() (io.ReadCloser, error),
) (r source.Report, err error) {
	target := "/admin/import?" + url.Values{
		"name":    {o.Name},
		"strict":  {strconv.FormatBool(o.Strict)},
		"charset": {o.Charset},
	}.Encode()
	contentType := "application/fhir+ndjson"
	if o.Document {
		contentType = "application/fhir+json"
	}
	for {
		body, err := open()
		if err != nil {
			return r, err
		}
		// closes the body
		a, err := c.Do(ctx, http.MethodPost, target, body, "Content-Type", contentType)
		if err != nil {
			return r, err
		}
		if a.Status == http.StatusServiceUnavailable &&
			bytes.Contains(a.Body, []byte(source.Busy)) {
			if err := retryAfter(ctx, a); err != nil {
				return r, err
			}
			continue
		}
		err = json.Unmarshal(a.Body, &r)
		// the report explains the failure
		told := err == nil && (r.Problems > 0 || len(r.Unplaced) > 0)
		if a.Status != http.StatusOK && !told {
			return r, &Error{"POST /admin/import", *a}
		}
		return r, err
	}
}

// File is a document to upload.
type File struct {
	Name string
	Data []byte
}

// AddFiles uploads documents.
func (c *Client) AddFiles(ctx context.Context, id string, files ...File) (*Answer, error) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, f := range files {
		part, err := w.CreateFormFile("attachments", f.Name)
		if err != nil {
			return nil, err
		}
		if _, err := part.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return c.Do(ctx, http.MethodPost, "/admin/jobs/"+id+"/add-files", &body, "Content-Type",
		w.FormDataContentType())
}

// RemoveFiles removes documents by name.
func (c *Client) RemoveFiles(ctx context.Context, id string, names ...string) (*Answer, error) {
	return c.postJSON(ctx, "/admin/jobs/"+id+"/remove-files", map[string][]string{"params": names})
}

// Held is a document or table that falls under no line of the form.
type Held struct {
	Name        string `json:"name"`
	Title       string `json:"title"`
	ContentType string `json:"contentType"`
	Size        int64  `json:"size"` // bytes
	Released    bool   `json:"released"`
	// With are the names of the files that are released with a table.
	With []string `json:"with"`
}

// ListHeld lists the first 1000 documents and tables of a job that need a decision, behind the
// name after ("": from the first).
func (c *Client) ListHeld(ctx context.Context, id, after string) (list []Held, err error) {
	path := "/admin/jobs/" + id + "/held?after=" + url.QueryEscape(after)
	a, err := c.Do(ctx, http.MethodGet, path, nil)
	if err == nil && a.Status != http.StatusOK {
		err = &Error{"GET " + path, *a}
	}
	if err != nil {
		return nil, err
	}
	return list, json.Unmarshal(a.Body, &list)
}

// DecideHeld releases and withholds documents and tables that need a decision, by their names. The
// job is as it was when they were looked at.
func (c *Client) DecideHeld(
	ctx context.Context, j AdminJob, release, withhold []string,
) (*Answer, error) {
	return c.postJSON(ctx, "/admin/jobs/"+j.ID+"/held",
		map[string]any{"release": release, "withhold": withhold, "contents": j.Contents})
}

// jobPause is the pause between two polls of WaitJob.
const jobPause = 10 * time.Millisecond

// WaitJob waits until a job has a status. It polls a hundred times per second, and is meant for
// tests.
func (c *Client) WaitJob(ctx context.Context, id string, status ehi.Status) (AdminJob, error) {
	for {
		j, err := c.Job(ctx, id)
		if err != nil || j.Status == status {
			return j, err
		}
		if j.Status.Settled() {
			return j, fmt.Errorf("job %s ended as %s: %s", id, j.Status, j.Error)
		}
		if err := Sleep(ctx, jobPause); err != nil {
			return j, err
		}
	}
}
