package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/api/openapi"
	"ehi-server/api/openid/openidtest"
	"ehi-server/exporter/synthetic"
)

// hostileValues are values that an outsider may put anywhere: long, binary, with special
// characters of NATS, HTTP and file systems, and empty.
var hostileValues = []string{
	"", "*", ">", ".", "..", "a.b", "a b", "=", "$KV.ehi_jobs.>", "ü", "\x00\xff\x1b",
	"%00%2e%2e%2f", "'\"<>;,\\",
	strings.Repeat("x", 65), strings.Repeat("x", 4097), strings.Repeat("x.", 4000),
	strings.Repeat("é", 3000),
}

// turnOf returns which value a position gets in a turn. A hash spreads the positions over the
// values, so that each value has about as many, and that as many turns as there are values cover
// everything.
func turnOf(position string, turn int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(position)) // never fails
	return int((uint64(h.Sum32()) + uint64(turn)) % uint64(len(hostileValues)))
}

// takes reports whether a position belongs to this world in a turn. Two worlds share the
// positions, and swap them after every value has had its turn.
func (h *hostileWorld) takes(position string, turn int) bool {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte("world " + position)) // never fails
	return ((int(sum.Sum32()>>8)+turn/len(hostileValues))%2 == 1) == h.second
}

// hostileTurn reads EHI_HOSTILE: all, or the number of a turn. By default, each day has its own
// turn.
func hostileTurn(t *testing.T) (all bool, turn int) {
	switch v := os.Getenv("EHI_HOSTILE"); v {
	case "all":
		return true, 0
	case "":
		return false, int(time.Now().Unix() / 86400)
	default:
		turn, err := strconv.Atoi(v)
		if err != nil || turn < 0 {
			t.Fatalf("EHI_HOSTILE=%s: it is \"all\", or the number of a turn", v)
		}
		return false, turn
	}
}

// Every value of every position has its turn, and the values are spread evenly over the turns.
func TestHostileValuesTakeTurns(t *testing.T) {
	t.Parallel()
	const positions = 2000
	n := len(hostileValues)
	per := make([]int, n)
	first, second := &hostileWorld{}, &hostileWorld{second: true}
	firsts := 0
	for i := range positions {
		position := fmt.Sprint("position ", i)
		if first.takes(position, 20000) == second.takes(position, 20000) ||
			first.takes(position, 20000) == first.takes(position, 20000+n) {
			t.Fatalf("%s is not taken by one world, then by the other one", position)
		}
		if first.takes(position, 20000) {
			firsts++
		}
		seen := map[int]bool{}
		for turn := range n {
			seen[turnOf(fmt.Sprint("position ", i), 20000+turn)] = true
		}
		if len(seen) != n {
			t.Fatalf("position %d has %d of %d values", i, len(seen), n)
		}
		per[turnOf(fmt.Sprint("position ", i), 20000)]++
	}
	if firsts < positions*2/5 || firsts > positions*3/5 {
		t.Errorf("one world takes %d of %d positions", firsts, positions)
	}
	least, most := slices.Min(per), slices.Max(per)
	if least < positions/n/2 || most > positions/n*2 {
		t.Errorf("values of one turn: %v", per)
	}
}

// rawConn speaks HTTP/1.1 byte by byte, so that a request can be one that no client library
// sends.
type rawConn struct {
	t    *testing.T
	addr string
	tls  *tls.Config // nil for no TLS
	conn net.Conn
	in   *bufio.Reader
	set  map[string]bool // names of the cookies that responses set
}

func (r *rawConn) dial() error {
	var err error
	if r.tls == nil {
		r.conn, err = net.Dial("tcp", r.addr)
	} else {
		r.conn, err = tls.Dial("tcp", r.addr, r.tls)
	}
	r.in = bufio.NewReader(r.conn)
	return err
}

// framing are the headers that determine where a request ends. After a hostile one, nothing else
// is sent.
var framing = []string{"Content-Length", "Transfer-Encoding", "Expect", "Connection"}

// send sends a request and reads its response. If the request ends its connection, the status is
// 0.
func (r *rawConn) send(method, target string, header []string, body string) int {
	r.t.Helper()
	if r.conn == nil {
		if err := r.dial(); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		r.t.Fatal(err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(header, func(line string) bool {
			return strings.HasPrefix(line, name+":")
		})
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\n", method, target)
	if !has("Host") {
		fmt.Fprintf(&text, "Host: %s\r\n", r.addr)
	}
	if !has("Content-Length") && !has("Transfer-Encoding") {
		fmt.Fprintf(&text, "Content-Length: %d\r\n", len(body))
	}
	if has("Transfer-Encoding") {
		body = "0\r\n\r\n" // the end of a chunked body
	}
	_, err := io.WriteString(r.conn, text.String()+strings.Join(header, "")+"\r\n"+body)
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
	for _, c := range resp.Cookies() {
		if r.set != nil {
			r.set[c.Name] = true
		}
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") { // it has no end
		r.close()
		return resp.StatusCode
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.Body.Close(); err != nil || resp.Close || resp.ContentLength < 0 ||
		slices.ContainsFunc(framing, has) {
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

// hostileWorld is a server that gets hostile values, with the credentials for it.
type hostileWorld struct {
	w            *world
	patient, job string
	spare        string // a job that may be deleted
	second       bool   // the second of the two worlds that share the positions
	bearer       string
	// staff and person are the session cookies of an administrator and of the patient, and the
	// tokens of their forms.
	staff, person           string
	staffToken, personToken string
}

// hostileSandbox is a sandbox over HTTP; hostileProduction is a server in production mode over
// TLS. Both have an OpenID provider, so that the server reads what a browser brings back from
// it.
func hostileSandbox(t *testing.T) *hostileWorld {
	provider, cfg := openidtest.Open(t), config()
	cfg.FHIR.PollBurst, cfg.FHIR.Hold, cfg.FHIR.MaxHold = 0, 0, 0
	cfg.StaffOIDC = provider.Config()
	// backups are made repeatedly
	data := generated(t, synthetic.Config{Patients: 1, Resources: 60})
	w := start(t, data, cfg, node.Options{})
	h := &hostileWorld{w: w, patient: w.demoPatient()}
	pat := w.patient(h.patient)
	h.begin(pat, newBrowser(t), newBrowser(t), "admin", "admin-password", "patient", h.patient,
		"password", "x")
	return h
}

func hostileProduction(t *testing.T) *hostileWorld {
	provider := openidtest.Open(t)
	p := startProduction(t, func(c *node.Config) {
		c.FHIR.PollBurst, c.FHIR.Hold, c.FHIR.MaxHold, c.Registration.Token =
			0, 0, 0, registrationToken
		c.StaffOIDC = provider.Config()
	})
	pat, _ := p.letIn("app", "ann")
	h := &hostileWorld{w: p.world, patient: p.ann, second: true}
	h.begin(pat, p.person(), p.person(), "root", adminPassword, "username", "ann", "password",
		patientPassword)
	return h
}

// begin opens a session of an administrator and of a patient, and starts two exports.
func (h *hostileWorld) begin(
	pat *client.Client, staff, person *browser, name, password string, fill ...string,
) {
	base := h.w.open.Base
	h.bearer = pat.Token
	h.job, h.spare = h.w.kickOff(pat, "/no-form", h.patient, nil).ID,
		h.w.kickOff(pat, "/no-form", h.patient, nil).ID
	staff.visit(base + "/admin")
	staff.submitTo("/admin/ui/login", "username", name, "password", password)
	staff.sees(200, "Exports", name)
	staff.visit(base + "/admin/ui/clients")
	h.staff, h.staffToken = staff.cookies(), staff.field("_csrf")
	person.visit(base + "/patient-login?action=%2Fmy%2Frequests")
	person.submit(fill...)
	person.sees(200, "Your requests")
	h.person, h.personToken = person.cookies(), person.field("_csrf")
}

// credentials returns the headers for an operation, and the token of its forms.
func (h *hostileWorld) credentials(o openapi.Operation) (header []string, token string) {
	header = []string{"Accept: */*\r\n", "Referer: " + h.w.open.Base + "/\r\n"}
	cookies, token := h.person, h.personToken
	switch {
	case strings.HasSuffix(o.Path, "logout"): // it would end the session
		return header[:1], ""
	case strings.HasPrefix(o.Path, "/admin"):
		cookies, token = h.staff, h.staffToken
	case slices.Contains(o.Security, "initial"):
		return append(header, "Authorization: Bearer "+registrationToken+"\r\n"), ""
	case slices.Contains(o.Security, "bearer"):
		return append(header, "Authorization: Bearer "+h.bearer+"\r\n"), ""
	}
	return append(header, "Cookie: "+cookies+"\r\n"), token
}

// stand reports whether the credentials are still valid, so that requests with them were
// accepted.
func (h *hostileWorld) stand(watch *rawConn) error {
	for path, header := range map[string]string{
		"/admin/jobs":                "Cookie: " + h.staff,
		"/my/requests":               "Cookie: " + h.person,
		"/fhir/Patient/" + h.patient: "Authorization: Bearer " + h.bearer,
	} {
		if status := watch.send("GET", path, []string{header + "\r\n"}, ""); status != 200 {
			return fmt.Errorf("%s answers %d to its credentials", path, status)
		}
	}
	return nil
}

// fields returns the other fields of forms, so that the server reads the hostile one.
func (h *hostileWorld) fields(o openapi.Operation, token string) map[string]string {
	out := map[string]string{
		"_csrf":    token,
		"username": "admin",
		"password": "wrong",
		"patient":  h.patient,
	}
	if strings.HasPrefix(o.Path, "/auth/") {
		out["grant_type"], out["client_id"], out["client_secret"] =
			"refresh_token", client.ClientID, "x"
		out["refresh_token"], out["token"], out["redirect_uri"] = "x", "x", "https://app.example/cb"
	}
	return out
}

// hostileRequest is a request with a hostile value in one position.
type hostileRequest struct {
	position, method, target string
	header                   []string
	body                     string
}

// with calls ask with every request for an operation that has the value in one position.
func (h *hostileWorld) with(
	o openapi.Operation, at positions, in input, v string, ask func(hostileRequest),
) {
	job := h.job
	if o.Method == "DELETE" {
		job = h.spare
	}
	plain, line :=
		sample(o.Path, h.patient, job), strings.NewReplacer("\r", "", "\n", "").Replace(v)
	credentials, token := h.credentials(o)
	put := func(position, target string, header []string, body string) {
		ask(hostileRequest{position, o.Method, target, header, body})
	}
	for _, name := range placeholders(o.Path) {
		target := strings.ReplaceAll(o.Path, "{"+name+"}", url.PathEscape(v))
		put("path "+name, sample(target, h.patient, job), credentials, "")
	}
	if strings.HasPrefix(o.Path, "/fhir/") {
		put("path faults", "/faulty/"+url.PathEscape(v)+plain, credentials, "")
	}
	for _, name := range in.query {
		put("query "+name, plain+"?"+url.QueryEscape(name)+"="+url.QueryEscape(v), credentials, "")
	}
	all := url.Values{}
	for _, name := range at.fields {
		all.Set(name, v)
	}
	put("query of every name", plain+"?"+all.Encode(), credentials, "")
	open := []string{"Accept: */*\r\n"}
	for _, name := range at.cookies {
		put("cookie "+name, plain, append(slices.Clone(open), "Cookie: "+name+"="+line+"\r\n"), "")
		beside := h.cookiesBut(o, name)
		put("cookie "+name+" with credentials", plain,
			instead(credentials, "Cookie", name+"="+line, beside), "")
	}
	for _, name := range at.headers {
		put("header "+name, plain, instead(open, name, line, ""), "")
		put("header "+name+" with credentials", plain, instead(credentials, name, line, ""), "")
	}
	if o.Method == "GET" || o.Method == "DELETE" {
		return
	}
	const form, object = "Content-Type: application/x-www-form-urlencoded\r\n",
		"Content-Type: application/json\r\n"
	put("form of every name", plain, append(slices.Clone(credentials), form), all.Encode())
	put("object of every name", plain, append(slices.Clone(credentials), object),
		objectOf(at.fields, v))
	put("body", plain, append(slices.Clone(credentials), object), v)
	for mime, names := range in.body {
		for _, name := range names {
			if strings.HasSuffix(mime, "json") {
				put(mime+" "+name, plain, append(slices.Clone(credentials), object),
					objectOf([]string{name}, v))
				continue
			}
			filled := url.Values{name: {v}}
			for other, good := range h.fields(o, token) {
				if other != name {
					filled.Set(other, good)
				}
			}
			put(mime+" "+name, plain, append(slices.Clone(credentials), form), filled.Encode())
		}
	}
}

// cookiesBut returns the cookies of an operation's credentials except one.
func (h *hostileWorld) cookiesBut(o openapi.Operation, name string) string {
	header, _ := h.credentials(o)
	for _, line := range header {
		if cookies, ok := strings.CutPrefix(line, "Cookie: "); ok {
			all := strings.Split(strings.TrimSpace(cookies), "; ")
			all = slices.DeleteFunc(all, func(c string) bool {
				return strings.HasPrefix(c, name+"=")
			})
			return strings.Join(all, "; ")
		}
	}
	return ""
}

// instead replaces a header. If more is not empty, it precedes the value, as another cookie
// does.
func instead(header []string, name, value, more string) []string {
	out := slices.DeleteFunc(slices.Clone(header), func(line string) bool {
		return strings.HasPrefix(line, name+":")
	})
	if more != "" {
		value = more + "; " + value
	}
	return append(out, name+": "+value+"\r\n")
}

// objectOf returns a JSON object whose members all have the same value.
func objectOf(names []string, v string) string {
	out := map[string]string{}
	for _, name := range names {
		out[name] = v
	}
	data, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings: cannot fail
	}
	return string(data)
}

// No request stops the server. The test sends hostile values to every route, in every position
// that the source names, with credentials and without. After each request it checks that the
// server is still ready. (A single name that NATS could not read once ended the connection to it
// for good.) By default, each position gets one of the values, another one each day, in one of
// the two worlds, and in the other one once all values have had their day. EHI_HOSTILE=all sends
// all values to both.
func TestNoRequestStopsTheServer(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T) *hostileWorld{
		"sandbox over HTTP": hostileSandbox, "production over TLS": hostileProduction,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			askEverything(t, begin(t))
		})
	}
}

func askEverything(t *testing.T, h *hostileWorld) {
	_, addr, _ := strings.Cut(h.w.node.URL, "://")
	secure := roots(t, h.w.node.Config().TLS.Cert)
	raw := &rawConn{t: t, addr: addr, tls: secure, set: map[string]bool{}}
	t.Cleanup(raw.close)
	watch := &rawConn{t: t, addr: addr, tls: secure}
	t.Cleanup(watch.close)
	all, turn := hostileTurn(t)
	at, takes := readPositions(t), inputs(t, h.w)
	operations := openapi.Operations()
	spots, asked, failed := map[string]bool{}, 0, 0
	statuses := map[int]int{}
	ask := func(r hostileRequest) {
		asked++
		status := raw.send(r.method, r.target, r.header, r.body)
		if statuses[status]++; status >= 500 && status != 501 && status != 505 && status != 503 {
			t.Errorf("%s: %s %.100s answers %d", r.position, r.method, r.target, status)
		}
		if status := watch.send("GET", "/readyz", nil, ""); status != 200 {
			failed++
			t.Errorf("after %s: %s %.100s: the server is not ready: %d", r.position, r.method,
				r.target, status)
		}
		if failed > 5 {
			t.Fatal("too many failures")
		}
	}
	for _, o := range operations {
		for i, v := range hostileValues {
			h.with(o, at, takes[o.String()], v, func(r hostileRequest) {
				position := o.String() + " " + r.position
				if spots[position] = true; all ||
					h.takes(position, turn) && turnOf(position, turn) == i {
					ask(r)
				}
			})
		}
		if err := h.stand(watch); err != nil {
			t.Fatalf("after %s: %v", o, err)
		}
	}
	h.w.want(h.w.do(h.w.open, "GET", "/healthz"), 200, "")
	for name := range raw.set {
		if !slices.Contains(at.cookies, name) {
			t.Errorf("the server sets the cookie %s, which is no position", name)
		}
	}
	t.Logf("turn %d, all %v: %d routes, %d positions, %d values: %d requests, and the server was "+
		"ready after each",
		turn, all, len(operations), len(spots), len(hostileValues), asked)
	t.Logf("%d headers, %d cookies, %d fields; statuses %v", len(at.headers), len(at.cookies),
		len(at.fields), statuses)
}

// sample returns a path of an operation, with an existing patient and job, and otherwise with
// things that do not exist.
func sample(path, patient, job string) string {
	return strings.NewReplacer("/Patient/{id}", "/Patient/"+patient, "/jobs/{id}", "/jobs/"+job,
		"{id}", "none", "{file}", "none", "{kind}", "admin", "{name}", "none", "{profile}", "none",
		"{group}", "none").Replace(path)
}

// placeholders returns the names of a path's parameters.
func placeholders(path string) (out []string) {
	for _, part := range strings.Split(path, "{")[1:] {
		name, _, _ := strings.Cut(part, "}")
		out = append(out, name)
	}
	return out
}
