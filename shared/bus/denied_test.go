package bus

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/ehi"
)

// permitting is a NATS whose configuration can be changed.
type permitting struct {
	*server.Server
	t    *testing.T
	conf string
	dir  string
}

// serveWith starts a NATS with limits of its account and permissions of its user, as texts of a
// configuration; "" permits anything.
func serveWith(t *testing.T, limits, permissions string) *permitting {
	t.Helper()
	dir := t.TempDir()
	p := &permitting{t: t, conf: filepath.Join(dir, "nats.conf"), dir: dir}
	p.write("-1", limits, permissions)
	p.start()
	t.Cleanup(func() { p.Shutdown(); p.WaitForShutdown() })
	return p
}

func (p *permitting) start() {
	p.t.Helper()
	opts, err := server.ProcessConfigFile(p.conf)
	if err != nil {
		p.t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	if p.Server, err = server.NewServer(opts); err != nil {
		p.t.Fatal(err)
	}
	p.Start()
	if !p.ReadyForConnections(30 * time.Second) {
		p.t.Fatal("the NATS does not start")
	}
}

func (p *permitting) write(port, limits, permissions string) {
	p.t.Helper()
	if permissions != "" {
		permissions = ", permissions: {" + permissions + "}"
	}
	text := fmt.Sprintf(
		"listen: \"127.0.0.1:%s\"\njetstream {store_dir: %q}\n"+
			"accounts {EHI {%s, users: [{user: u, password: p%s}, {user: root, password: p}]}}\n",
		port, filepath.Join(p.dir, "js"), limits, permissions)
	if err := os.WriteFile(p.conf, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// permit starts NATS anew with other permissions of its user.
func (p *permitting) permit(permissions string) {
	p.t.Helper()
	p.write(strings.TrimPrefix(p.Addr().String(), "127.0.0.1:"), "jetstream: enabled", permissions)
	p.Shutdown()
	p.WaitForShutdown()
	p.start()
}

func (p *permitting) url() string { return strings.Replace(p.ClientURL(), "//", "//u:p@", 1) }

// jetStream is JetStream for the operator.
func (p *permitting) jetStream() jetstream.JetStream {
	p.t.Helper()
	conn, err := nats.Connect(p.ClientURL(), nats.UserInfo("root", "p"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		p.t.Fatal(err)
	}
	return js
}

// serving is a process with workers on a NATS.
func serving(t *testing.T, p *permitting) *Bus {
	t.Helper()
	b, err := Open(t.Context(), Config{
		Flags: Flags{URL: p.url()},
		Audit: &AuditConfig{},
		Log:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{}, len(ehi.Lanes()))
	for _, lane := range ehi.Lanes() {
		go func() {
			defer func() { ended <- struct{}{} }()
			for ctx.Err() == nil {
				if d, err := b.Next(ctx, lane); err == nil {
					t.Errorf("a command that nobody gave: %v", d)
				}
			}
		}()
	}
	t.Cleanup(func() {
		stop()
		for range ehi.Lanes() {
			<-ended
		}
		b.Close()
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !b.pulls.has(ehi.Bulk) ||
		!b.pulls.has(ehi.Interactive); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("no worker pulls")
		}
	}
	return b
}

// becomes waits until a check says what is wanted, "" for nothing.
func becomes(t *testing.T, b *Bus, want string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		err := check(t, b)
		if want == "" && err == nil ||
			want != "" && err != nil && strings.Contains(err.Error(), want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("want %q: %v", want, err)
		}
	}
}

// Whatever a request or a worker needs and NATS denies is told by a check, by its subject, and
// not any more when it is allowed again.
func TestACheckTellsWhatIsDenied(t *testing.T) {
	t.Parallel()
	p := serveWith(t, "jetstream: enabled", "")
	b := serving(t, p)
	becomes(t, b, "")
	for _, denied := range []string{
		"$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.CONSUMER.MSG.NEXT.EHI_BULK.>", "$JS.ACK.>",
		"$JS.ACK.EHI_INTERACTIVE.>",
		"$JS.API.CONSUMER.INFO.>", "$JS.API.STREAM.INFO.>", "$JS.API.DIRECT.GET.KV_ehi_tasks.>",
		"$JS.API.STREAM.MSG.GET.KV_ehi_auth",
		"$JS.API.CONSUMER.CREATE.KV_ehi_jobs.>", "ehi.start.bulk.>", "ehi.task.>", "ehi.audit.>",
		"$KV.ehi_jobs.>", "$KV.ehi_tasks.>", "$KV.ehi_auth.>", "$KV.ehi_sessions.>",
	} {
		b.watched.found(time.Time{}) // the next check lists the buckets
		p.permit(`publish: {deny: ["` + denied + `"]}`)
		becomes(t, b, "to "+strings.TrimSuffix(denied, ">"))
		p.permit("")
		becomes(t, b, "")
	}
	p.permit(`subscribe: {deny: ["_INBOX.>"]}`)
	becomes(t, b, "listen to _INBOX.")
	// What docs/operations.md says a user needs is enough.
	p.permit(`publish: {allow: ["$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$KV.>", "ehi.>"]},
		subscribe: {allow: ["_INBOX.>", "ehi.>"]}`)
	becomes(t, b, "")
}

// Settings of a stream that somebody changes from outside so that it takes no records are told
// by a check.
func TestACheckTellsWhatAStreamRefuses(t *testing.T) {
	t.Parallel()
	p := serveWith(t, "jetstream: enabled", "")
	b, js := serving(t, p), p.jetStream()
	buckets := []string{"KV_ehi_jobs", "KV_ehi_tasks", "KV_ehi_auth", "KV_ehi_sessions"}
	for what, c := range map[string]struct {
		change  func(*jetstream.StreamConfig, jetstream.StreamState)
		streams []string
		want    string
	}{
		"a limit of a message's size": {
			func(c *jetstream.StreamConfig, _ jetstream.StreamState) { c.MaxMsgSize = 300 },
			append(buckets, "EHI_AUDIT"), "max_msg_size",
		},
		"a limit of bytes": {
			func(c *jetstream.StreamConfig, s jetstream.StreamState) {
				c.MaxBytes = int64(s.Bytes) + 500
			},
			buckets, "max_bytes",
		},
		"a limit of messages": {
			func(c *jetstream.StreamConfig, s jetstream.StreamState) { c.MaxMsgs = int64(s.Msgs) },
			// by its settings, or by a write where one went first
			buckets, "max_msgs|maximum messages",
		},
		"other subjects": {
			func(c *jetstream.StreamConfig, _ jetstream.StreamState) {
				c.Subjects = []string{"elsewhere"}
			},
			append(buckets, "EHI_BULK", "EHI_INTERACTIVE", "EHI_AUDIT"), "no response from stream",
		},
	} {
		for _, name := range c.streams {
			is, err := js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			before := is.CachedInfo().Config
			config := before
			c.change(&config, is.CachedInfo().State)
			if _, err := js.UpdateStream(t.Context(), config); err != nil {
				t.Fatalf("%s for %s: %v", what, name, err)
			}
			err = check(t, b)
			if err == nil || !regexp.MustCompile(c.want).MatchString(err.Error()) {
				t.Errorf("%s for %s: %v", what, name, err)
			}
			if _, err := js.UpdateStream(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			becomes(t, b, "")
		}
	}
	pauses, err := js.Stream(t.Context(), "EHI_INTERACTIVE")
	if err != nil {
		t.Fatal(err)
	}
	_, err = pauses.PauseConsumer(t.Context(), "workers", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	becomes(t, b, "is paused")
	if _, err := pauses.ResumeConsumer(t.Context(), "workers"); err != nil {
		t.Fatal(err)
	}
	becomes(t, b, "")
	for _, name := range []string{"EHI_AUDIT", "EHI_BULK", "KV_ehi_jobs"} { // for good
		is, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		config := is.CachedInfo().Config
		config.Sealed = true
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if err := check(t, b); err == nil || !strings.Contains(err.Error(), "sealed") {
			t.Errorf("%s is sealed: %v", name, err)
		}
	}
}

// A lane gets those settings back by itself that keep its commands from coming, and a bucket
// those that keep records out.
func TestChangedSettingsAreSetBack(t *testing.T) {
	t.Parallel()
	p := serveWith(t, "jetstream: enabled", "")
	b, js := serving(t, p), p.jetStream()
	is, err := js.Stream(t.Context(), "EHI_BULK")
	if err != nil {
		t.Fatal(err)
	}
	config := is.CachedInfo().Config
	config.Subjects, config.MaxMsgSize = []string{"elsewhere"}, 10
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := b.Mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{bucketJobs, bucketSessions} {
		is, err := js.Stream(t.Context(), "KV_"+name)
		if err != nil {
			t.Fatal(err)
		}
		config := is.CachedInfo().Config
		config.MaxMsgSize, config.NoAck = 300, true
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.WatchForLoss(ctx) }()
	becomes(t, b, "")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A start that is denied something ends at once, with the subject.
func TestAStartTellsWhatIsDenied(t *testing.T) {
	for denied, want := range map[string]string{
		`publish: {deny: ["$JS.API.STREAM.INFO.>"]}`:                 "publish to $JS.API.STREAM.INFO.",
		`publish: {deny: ["$JS.API.STREAM.CREATE.KV_ehi_tasks"]}`:    "publish to $JS.API.STREAM.CREATE.KV_ehi_tasks",
		`publish: {deny: ["$JS.API.CONSUMER.>"]}`:                    "publish to $JS.API.CONSUMER.",
		`publish: {deny: ["$KV.ehi_sessions.>"]}`:                    "publish to $KV.ehi_sessions.",
		`publish: {deny: [">"]}`:                                     "publish to $JS.API.",
		`subscribe: {deny: [">"]}`:                                   "listen to _INBOX.",
		`publish: {deny: ["$JS.API.CONSUMER.CREATE.KV_ehi_jobs.>"]}`: "publish to $JS.API.CONSUMER.CREATE.KV_ehi_jobs.",
	} {
		p := serveWith(t, "jetstream: enabled", denied)
		began := time.Now()
		b, err := Open(t.Context(), Config{
			Flags: Flags{URL: p.url(), Dial: Dial{Wait: time.Minute}},
			Audit: &AuditConfig{},
		})
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", denied, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: said after %v", denied, took)
		}
	}
}
