package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
	"ehi-server/shared/telemetry"
)

// dial opens a raw connection to the server.
func (w *world) dial() net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.node.URL, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() }) // a test may have closed it
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// answer reads a response, and reports whether the connection then ended.
func (w *world) answer(c net.Conn) (status int, body string, closed bool) {
	w.t.Helper()
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		w.t.Fatal(err)
	}
	_, err = r.ReadByte()
	return resp.StatusCode, string(data), err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// EHI-16: a client that sends too much or too slowly gets an OperationOutcome, and its
// connection is closed.
func TestLimitsOfRequests(t *testing.T) {
	cfg := config()
	cfg.HTTP.ReadTimeout, cfg.HTTP.MaxHeaderBytes, cfg.HTTP.MaxBodyBytes =
		500*time.Millisecond, 4096, 2000
	w := start(t, t.TempDir(), cfg, node.Options{})
	for name, c := range map[string]struct {
		request string
		status  int
		says    string
	}{
		"a head that does not end": {
			"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-Slow: ",
			408,
			"timeout",
		},
		"a body that does not come": {
			"POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: " +
				"application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant_type",
			408,
			"timeout",
		},
		"a FHIR body that stops": {
			"POST /fhir/Patient/1/$ehi-export HTTP/1.1\r\nHost: x\r\nContent-Type: " +
				"application/fhir+json\r\nContent-Length: 100\r\n\r\n{",
			408,
			"OperationOutcome",
		},
		"a head that is too large": {
			"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("x", 5000) +
				"\r\n\r\n",
			431,
			"too-long",
		},
		"a URL that is too long": {
			"GET /fhir/metadata?" + strings.Repeat("x", 5000) + " HTTP/1.1\r\nHost: x\r\n\r\n",
			431,
			"too-long",
		},
		"a body that is too large": {
			"POST /fhir/Patient/1/$ehi-export HTTP/1.1\r\nHost: x\r\nContent-Type: " +
				"application/fhir+json\r\nContent-Length: 2001\r\n\r\n" + strings.Repeat(" ", 2001),
			413,
			"larger than 2000 bytes",
		},
		"a chunked one": {
			"POST /fhir/Patient/1/$ehi-export HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " +
				"chunked\r\n\r\nbb8\r\n" + strings.Repeat(" ", 3000) + "\r\n0\r\n\r\n",
			413,
			"larger than 2000 bytes",
		},
		"a body of just the right size": {
			"POST /fhir/Patient/1/$ehi-export HTTP/1.1\r\nHost: x\r\nContent-Type: " +
				"application/fhir+json\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat(" ", 2000),
			401,
			"OperationOutcome",
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn := w.dial()
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			status, body, closed := w.answer(conn)
			if status != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%d %s", status, body)
			}
			if (c.status == 408 || c.status == 431) != closed {
				t.Errorf("the connection is closed: %v", closed)
			}
		})
	}
	// each byte arrives in time, but not all of them
	t.Run("a head that comes byte by byte", func(t *testing.T) {
		conn := w.dial()
		for begun := time.Now(); time.Since(begun) < 5*time.Second; {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return // closed by the server
			}
			if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			_, err := conn.Read(make([]byte, 1))
			if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
				return // answered or closed
			}
		}
		t.Error("after 5 s the server still listens")
	})
}

// Uploads may be long, but must make progress. One that stops gets 408 and leaves nothing.
func TestUploadsThatStopAreRefused(t *testing.T) {
	cfg := config()
	cfg.HTTP.ReadTimeout = 500 * time.Millisecond
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form", p, nil)
	w.wait(j.ID, "retrieved")
	part := "--b\r\nContent-Disposition: form-data; name=\"attachments\"; " +
		"filename=\"a.txt\"\r\n\r\n"
	for name, c := range map[string]struct{ target, contentType, sent, says string }{
		"an import": {
			"/admin/import", "application/fhir+ndjson", `{"resourceType":"Patient"`,
			"cannot be read further",
		},
		"before a document": {
			"/admin/jobs/" + j.ID + "/add-files",
			"multipart/form-data; boundary=b",
			part[:30],
			"in time",
		},
		"at a document's head": {
			"/admin/jobs/" + j.ID + "/add-files",
			"multipart/form-data; boundary=b",
			part + "abc",
			"in time",
		},
		"within a large document": {
			"/admin/jobs/" + j.ID + "/add-files",
			"multipart/form-data; boundary=b",
			part + strings.Repeat("abc", 50_000),
			"in time",
		},
	} {
		t.Run(name, func(t *testing.T) {
			stops := make(chan struct{})
			defer close(stops)
			a, err := w.admin.Do(t.Context(), "POST", c.target,
				io.MultiReader(strings.NewReader(c.sent), stopped(stops)), "Content-Type",
				c.contentType)
			if err != nil {
				t.Fatal(err)
			}
			w.want(a, 408, c.says)
		})
	}
	if job := w.wait(j.ID, "retrieved"); len(job.Attachments) != 0 {
		t.Errorf("attached: %+v", job.Attachments)
	}
	err := w.node.Files.Walk(func(_ string, stored []files.Stored) error {
		for _, s := range stored {
			if s.Task < 0 {
				t.Errorf("%s is left over", s.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// stopped is a body that sends nothing more.
type stopped chan struct{}

func (s stopped) Read([]byte) (int, error) { <-s; return 0, io.EOF }

// If all connections have a request in progress, further ones get 503 and are closed; the others
// continue. Idle connections make room.
func TestLimitOfConnections(t *testing.T) {
	cfg := config()
	cfg.Connections.Most, cfg.Worker.Workers, cfg.FHIR.MaxHold, cfg.FHIR.MaxHeld =
		20, 0, time.Minute, 100
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat, tokens, err := w.open.Authorize(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	j := w.kickOff(pat, "/no-form", p, nil)
	w.open.Close()
	var busy []net.Conn
	for n := 1; n <= 20; n++ {
		await(t, "a poll that is held", func() bool {
			c := w.dial()
			if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			ask := "GET /jobs/" + j.ID +
				"/status HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\nAuthorization: Bearer " +
				tokens.AccessToken + "\r\n\r\n"
			if _, err := io.WriteString(c, ask); err != nil {
				return false
			}
			// until it is held or, over the limit, closed
			for testutil.ToFloat64(telemetry.HTTPHeld) < float64(n) {
				if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				_, err := c.Read(make([]byte, 1))
				if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
					return false // an idle connection of the start still exists
				}
			}
			busy = append(busy, c)
			return true
		})
	}
	for range 10 {
		c := w.dial()
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 503 {
			t.Errorf("a connection over the limit: %+v, %v", resp, err)
		}
	}
	_, err = w.node.Bus.Jobs.Update(t.Context(), j.ID, func(j *ehi.Job) error {
		return j.Fail("on purpose", time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range busy {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 500 {
			t.Errorf("a connection within the limit: %+v, %v", resp, err)
		}
	}
}

// A download is cut off if its client reads nothing. A slow client that makes progress is not
// cut off.
func TestStalledDownloadsAreCut(t *testing.T) {
	cfg := config()
	cfg.Connections.Stall, cfg.Jobs.AttachmentBytes = 500*time.Millisecond, 32<<20
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form", p, nil)
	w.wait(j.ID, "retrieved")
	large := bytes.Repeat([]byte("all that a socket's buffers hold, and more "), 1<<19)
	a, err := w.admin.AddFiles(t.Context(), j.ID, client.File{Name: "large.txt", Data: large})
	if err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	request := fmt.Sprintf("GET /jobs/%s/download/attachments/large.txt HTTP/1.1\r\nHost: "+
		"x\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", j.ID, pat.Token)
	stalled, slow := w.dial(), w.dial()
	for _, c := range []net.Conn{stalled, slow} {
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
	}
	got, chunk := 0, make([]byte, 256<<10)
	// longer than the stall limit in total, never in one pause
	for begun := time.Now(); time.Since(begun) < 2*time.Second; {
		n, err := slow.Read(chunk)
		if err != nil {
			t.Fatalf("the slow client was cut off after %d bytes: %v", got, err)
		}
		if got += n; got > 15<<20 {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if n, err := io.Copy(io.Discard, slow); err != nil || got+int(n) < len(large) {
		t.Errorf("the slow client got %d of %d bytes: %v", got+int(n), len(large), err)
	}
	n, err := io.Copy(io.Discard, stalled)
	if errors.Is(err, os.ErrDeadlineExceeded) || int(n) >= len(large) {
		t.Errorf("the stalled client got %d of %d bytes: %v", n, len(large), err)
	}
}

// Two thousand connections that send a head byte by byte, or nothing, or an incomplete body,
// delay nobody: a held poll continues, and new clients are served.
func TestSlowConnectionsHoldUpNobody(t *testing.T) {
	cfg := config()
	cfg.Connections.Most, cfg.FHIR.MaxHold, cfg.FHIR.MaxHeld, cfg.Worker.Workers =
		400, time.Minute, 100, 0
	w := start(t, t.TempDir(), cfg, node.Options{})
	p := w.demoPatient()
	pat := w.patient(p)
	j := w.kickOff(pat, "/no-form", p, nil)
	polled := w.poll(t.Context(), pat, j, "Prefer", "wait=60")
	held(t, 1)

	starts := []string{
		"",
		"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: " +
			"application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant",
	}
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			_ = c.Close()
		}
	}()
	served := 0
	for i := range 2000 {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.node.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		_, _ = io.WriteString(c, starts[i%len(starts)]) // the server may have closed it
		if i%100 != 99 {
			continue
		}
		if err := w.askAnew(); err != nil {
			t.Errorf("beside %d slow connections: %v", len(slow), err)
		} else {
			served++
		}
	}
	if served != 20 {
		t.Errorf("%d of 20 clients were served", served)
	}
	_, err := w.node.Bus.Jobs.Update(t.Context(), j.ID, func(j *ehi.Job) error {
		return j.Fail("on purpose", time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	a := answerOf(t, polled)
	if a.Status != 500 || !strings.Contains(string(a.Body), "on purpose") {
		t.Errorf("the held poll: %d %s", a.Status, a.Body)
	}
}

// askAnew sends one request on a new connection.
func (w *world) askAnew() error {
	c, err := net.Dial("tcp", strings.TrimPrefix(w.node.URL, "http://"))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
