package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/api/node"
	"ehi-server/api/openapi"
)

// hostileValues are what somebody outside may put anywhere: long, binary, with what NATS, HTTP and file
// systems give a meaning to, and nothing at all.
var hostileValues = []string{
	"", "*", ">", ".", "..", "a.b", "a b", "=", "$KV.ehi_jobs.>", "ü", "\x00\xff\x1b", "%00%2e%2e%2f", "'\"<>;,\\",
	strings.Repeat("x", 65), strings.Repeat("x", 4097), strings.Repeat("x.", 4000), strings.Repeat("é", 3000),
}

// rawConn speaks HTTP/1.1 byte by byte, so that a request may be what no client library sends.
type rawConn struct {
	t    *testing.T
	addr string
	conn net.Conn
	in   *bufio.Reader
}

// send sends a request and reads its answer; a request that ends its connection has the status 0.
func (r *rawConn) send(method, target string, header []string, body string) int {
	r.t.Helper()
	if r.conn == nil {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			r.t.Fatal(err)
		}
		r.conn, r.in = conn, bufio.NewReader(conn)
	}
	if err := r.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		r.t.Fatal(err)
	}
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%s\r\n%s", method, target, r.addr, len(body), strings.Join(header, ""), body)
	_, err := io.WriteString(r.conn, text)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(r.in, &http.Request{Method: method})
	}
	if err != nil {
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			r.t.Errorf("%s %.100q with %.200q: no answer", method, target, header)
		}
		r.close()
		return 0
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") { // it has no end
		r.close()
		return resp.StatusCode
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.Body.Close(); err != nil || resp.Close || resp.ContentLength < 0 {
		r.close()
	}
	return resp.StatusCode
}

func (r *rawConn) close() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}

// No request stops the server: every route is asked with hostile values in every position, and the
// server is asked after each whether it is ready still. One name that NATS could not read was enough
// to end the connection to it for good. EHI_HOSTILE=all asks with every value in every position.
func TestNoRequestStopsTheServer(t *testing.T) {
	cfg := config()
	cfg.PollBurst, cfg.Hold, cfg.MaxHold = 0, 0, 0
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	j := w.kickOff(w.patient(p), "/no-form", p, nil)
	session := staffIn(w, "admin", "admin-password").cookies()
	raw := &rawConn{t: t, addr: strings.TrimPrefix(w.node.URL, "http://")}
	t.Cleanup(raw.close)
	watch := &rawConn{t: t, addr: raw.addr}
	t.Cleanup(watch.close)

	all, turn := os.Getenv("EHI_HOSTILE") == "all", 0
	asked, failed := 0, 0
	ask := func(what, method, target string, header []string, body string) {
		t.Helper()
		if turn++; !all && turn%len(hostileValues)%6 != 0 { // each position has its turn with some of the values
			return
		}
		asked++
		if status := raw.send(method, target, header, body); status >= 500 && status != 501 && status != 505 && status != 503 {
			t.Errorf("%s: %s %.100s answers %d", what, method, target, status)
		}
		if status := watch.send("GET", "/readyz", nil, ""); status != 200 {
			failed++
			t.Errorf("after %s: %s %.100s: the server is not ready: %d", what, method, target, status)
		}
		if failed > 5 {
			t.Fatal("too many failures")
		}
	}
	query, token := queryNames(t, w), w.patient(p).Token
	routes := 0
	for _, o := range openapi.Operations() {
		if slices.Contains([]string{"POST /admin/backup", "GET /admin/backup", "GET /admin/debug/pprof/{profile}"}, o.String()) {
			continue // they take seconds, whatever is asked
		}
		routes++
		credentials := []string{"Accept: */*\r\n", "Authorization: Bearer " + token + "\r\n"}
		if slices.Contains(o.Security, "session") && !strings.HasSuffix(o.Path, "/logout") {
			credentials = []string{"Accept: */*\r\n", "Cookie: " + session + "\r\n"}
		}
		plain := sample(o.Path, p, j.ID)
		for _, v := range hostileValues {
			escaped := url.PathEscape(v)
			for _, name := range placeholders(o.Path) {
				ask("path "+name, o.Method, strings.ReplaceAll(strings.NewReplacer("{"+name+"}", "\x01").Replace(o.Path), "\x01", escaped), credentials, "")
			}
			for _, name := range query[o.Path+" "+o.Method] {
				ask("query "+name, o.Method, plain+"?"+url.QueryEscape(name)+"="+url.QueryEscape(v), credentials, "")
			}
			for _, name := range []string{"sid", "ehi_patient", "ehi_csrf", "ehi_admin_csrf", "ehi_flash", "ehi_lang"} {
				ask("cookie "+name, o.Method, plain, []string{"Cookie: " + name + "=" + oneLine(v) + "\r\n"}, "")
			}
			for _, name := range []string{"Authorization", "X-Interaction-Token", "Accept", "Prefer", "Content-Type", "Accept-Language", "Range", "If-None-Match", "X-Forwarded-For", "X-Forwarded-Host", "X-Request-Id", "Traceparent", "Origin", "Referer"} {
				ask("header "+name, o.Method, plain, append(slices.Clone(credentials[:1]), name+": "+oneLine(v)+"\r\n"), "")
			}
			if o.Method == "POST" {
				form := url.Values{}
				for _, name := range []string{"username", "password", "_csrf", "id", "client_id", "code", "refresh_token", "token", "grant_type", "redirect_uri", "client_assertion", "patient", "name"} {
					form.Set(name, v)
				}
				ask("body", o.Method, plain, append(slices.Clone(credentials), "Content-Type: application/x-www-form-urlencoded\r\n"), form.Encode())
			}
		}
	}
	w.want(w.do(w.open, "GET", "/healthz"), 200, "")
	t.Logf("%d routes, %d values, %d requests; the server was ready after each", routes, len(hostileValues), asked)
}

// oneLine leaves everything in a value but the ends of lines, which would begin another header.
func oneLine(v string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(v) }

// sample is a path of an operation: of a patient and a job that are there, and else of nothing that is.
func sample(path, patient, job string) string {
	return strings.NewReplacer("/Patient/{id}", "/Patient/"+patient, "/jobs/{id}", "/jobs/"+job,
		"{id}", "none", "{file}", "none", "{kind}", "admin", "{name}", "none", "{profile}", "none", "{group}", "none").Replace(path)
}

// placeholders are the names of a path's parameters.
func placeholders(path string) (out []string) {
	for _, part := range strings.Split(path, "{")[1:] {
		name, _, _ := strings.Cut(part, "}")
		out = append(out, name)
	}
	return out
}

// queryNames lists the query parameters of each operation by the API's document, and one that none has.
func queryNames(t *testing.T, w *world) map[string][]string {
	t.Helper()
	var doc struct {
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components struct {
			Parameters map[string]struct{ Name, In string } `json:"parameters"`
		} `json:"components"`
	}
	if err := json.Unmarshal(w.do(w.open, "GET", "/openapi.json").Body, &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for path, methods := range doc.Paths {
		for method, data := range methods {
			var o struct {
				Parameters []struct {
					Name, In string
					Ref      string `json:"$ref"`
				}
			}
			if json.Unmarshal(data, &o) != nil {
				continue // a member that is no operation
			}
			names := []string{"unknown"}
			for _, p := range o.Parameters {
				if p.Ref != "" {
					shared := doc.Components.Parameters[p.Ref[strings.LastIndexByte(p.Ref, '/')+1:]]
					p.Name, p.In = shared.Name, shared.In
				}
				if p.In == "query" {
					names = append(names, p.Name)
				}
			}
			out[path+" "+strings.ToUpper(method)] = names
		}
	}
	return out
}
