package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"ehi-server/api/condition"
	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/disk"
	"ehi-server/shared/files/local"
	"ehi-server/shared/weburl"
)

// hugePages are pages that no list has, among them those whose place in a list is more than a
// number holds.
var hugePages = []string{
	strconv.Itoa(math.MaxInt64),
	strconv.Itoa(math.MaxInt64 - 1),
	strconv.Itoa(math.MaxInt64/50 + 2),
	strconv.Itoa(math.MaxInt64/100 + 2),
	strconv.Itoa(1 << 62),
	strconv.Itoa(1 << 58),
	"18446744073709551616",
	"99999999999999999999",
	strconv.Itoa(math.MinInt64),
	"-1",
	"0",
	"x",
	"",
}

// A page number of any size leads to a page, or is refused; it is never an error of the server.
func TestPageNumbersOfAnySize(t *testing.T) {
	s := routed(t, func(c *Config) {
		c.Admins.User, c.Admins.Password = "admin", "a long password of a test"
	})
	in := answer(s, "POST", "/admin/login",
		`{"username":"admin","password":"a long password of a test"}`, "Content-Type", asJSON)
	sid := cookieOf(in, "sid")
	patient := patientSessionOf(t, s, "p")
	for _, page := range hugePages {
		for _, path := range []string{
			"/admin/ui/jobs?page=", "/admin/ui/clients?page=", "/admin/ui/accounts?page=",
			"/admin/jobs?limit=", "/admin/audit?limit=1&after=",
			"/admin/ui/audit?after=", "/my/requests?page=",
		} {
			a := answer(s, "GET", path+page, "", "Cookie", sid+"; "+patient, "Accept", "text/html")
			status := a.StatusCode()
			if status != http.StatusOK && status != http.StatusBadRequest {
				t.Errorf("%s%s answers %d: %.300s", path, page, status, a.Body())
			}
		}
	}
}

// cookieOf is a cookie of an answer, as it is sent back.
func cookieOf(a *fasthttp.Response, name string) string {
	cookie, _, _ := strings.Cut(string(a.Header.PeekCookie(name)), ";")
	return cookie
}

// patientSessionOf logs a patient in, and returns the cookie.
func patientSessionOf(t *testing.T, s *Server, patient string) string {
	t.Helper()
	var rc fasthttp.RequestCtx
	c := s.app.AcquireCtx(&rc)
	defer s.app.ReleaseCtx(c)
	if err := s.patients.LogIn(c, patient, auth.Account{}); err != nil {
		t.Fatal(err)
	}
	return cookieOf(&rc.Response, request.PatientSession)
}

// The links to a page in other languages stay on this server, however the page was asked for.
func TestLanguageLinksStayHere(t *testing.T) {
	s := routed(t)
	for _, target := range []string{
		"//evil.example",
		"//evil.example/x?lang=es",
		"///evil.example",
		"/.//evil.example",
		"/x/..//evil.example",
		`/\\evil.example`,
		`/\evil.example`,
		"/%2F/evil.example",
		"/%2f%2fevil.example",
		"http://evil.example//evil.example/",
		"https:evil.example",
		"/%5cevil.example",
		"//evil.example?a=://",
		"http://evil.example/patient-login", "/\t/evil.example",
	} {
		for _, at := range []string{target, "/patient-login?action=" + target} {
			a := answer(s, "GET", at, "", "Accept", "text/html")
			for _, part := range strings.Split(string(a.Body()), `href="`)[1:] {
				link, _, _ := strings.Cut(part, `"`)
				link = strings.ReplaceAll(link, "&amp;", "&")
				if _, ok := weburl.Local("http://server.test", link); !ok {
					t.Errorf("%q has a link to %q", at, link)
				}
			}
			if !strings.Contains(string(a.Body()), "hreflang") &&
				a.StatusCode() != http.StatusFound && a.StatusCode() != http.StatusBadRequest {
				t.Errorf("%q has no links to other languages: %d %.200s", at, a.StatusCode(),
					a.Body())
			}
		}
	}
}

// countingDisk counts the files that are made on a disk.
type countingDisk struct {
	disk.FS
	made atomic.Int64
	full atomic.Bool
}

func (d *countingDisk) Create(name string) (disk.File, error) {
	d.made.Add(1)
	if d.full.Load() {
		return nil, errors.New("the disk is full")
	}
	return d.FS.Create(name)
}

// However often readiness is asked for, the disk syncs about once a second; a disk that fails is
// told of.
func TestReadinessSparesTheDisk(t *testing.T) {
	s := routed(t)
	counting := &countingDisk{FS: disk.OS()}
	store, err := local.Open(local.Config{Root: t.TempDir(), Disk: counting})
	if err != nil {
		t.Fatal(err)
	}
	s.Condition = condition.New(condition.Parts{
		State: s.Bus,
		Log:   s.Log,
		Others: map[string]func(context.Context) error{
			"the folder of the exports": func(context.Context) error { return store.Check() },
		},
	})
	s.readiness.condition = s.Condition
	asked := 0
	for counting.made.Load() < 2 { // the second one after a second
		if a := answer(s, "GET", "/readyz", ""); a.StatusCode() != http.StatusOK {
			t.Fatalf("%d", a.StatusCode())
		}
		asked++
	}
	if asked < 10 {
		t.Errorf("%d requests made the disk sync twice", asked)
	}
	counting.full.Store(true)
	began := time.Now()
	for answer(s, "GET", "/readyz", "").StatusCode() != http.StatusServiceUnavailable {
		if time.Since(began) > time.Minute {
			t.Fatal("a full disk is ready")
		}
	}
}
