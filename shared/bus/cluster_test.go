package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
)

// cluster starts three NATS servers that know each other, and returns their URLs with commas
// between them.
func cluster(t *testing.T) (urls string, servers []*server.Server) {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		port := freePort(t)
		ports = append(ports, port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	var all []string
	for n, port := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", n),
			Host:       "127.0.0.1",
			Port:       server.RANDOM_PORT,
			JetStream:  true,
			StoreDir:   t.TempDir(),
			NoSigs:     true,
			NoLog:      true,
			Cluster:    server.ClusterOpts{Name: "ehi", Host: "127.0.0.1", Port: port},
			Routes:     routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		servers = append(servers, s)
	}
	t.Cleanup(func() { stopAll(servers) })
	for _, s := range servers {
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("a server did not start")
		}
		all = append(all, s.ClientURL())
	}
	return strings.Join(all, ","), servers
}

func stopAll(servers []*server.Server) {
	for _, s := range servers {
		s.Shutdown()
	}
	for _, s := range servers {
		s.WaitForShutdown()
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// everything is the number of streams: two lanes, five buckets, the audit trail.
const everything = 8

// jetStream is JetStream of the NATS at some URLs.
func jetStream(t *testing.T, urls string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(urls)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// streams tells how many copies there are of each stream.
func streams(t *testing.T, urls string) map[string]int {
	t.Helper()
	js := jetStream(t, urls)
	copies := map[string]int{}
	await(t, func() bool { // those whose leader is being chosen are left out
		list := js.ListStreams(t.Context())
		for info := range list.Info() {
			copies[info.Config.Name] = info.Config.Replicas
		}
		return list.Err() == nil && len(copies) == everything
	})
	return copies
}

// A cluster keeps three copies of everything, that which is there already too; fewer only where
// that is asked for.
func TestAClusterKeepsCopiesOfEverything(t *testing.T) {
	t.Parallel()
	urls, servers := cluster(t)
	join := func(replicas int) *bus.Bus {
		t.Helper()
		b, err := bus.Open(t.Context(), bus.Config{
			Flags: bus.Flags{URL: urls, Replicas: replicas, Dial: bus.Dial{Wait: time.Minute}},
			Audit: &bus.AuditConfig{},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	copied := func(when string, want int) {
		t.Helper()
		for name, n := range streams(t, urls) {
			if n != want {
				t.Errorf("%s: %d copies of %s", when, n, name)
			}
		}
	}
	b := join(1)
	if err := b.Jobs.Create(t.Context(), newJob("a")); err != nil {
		t.Fatal(err)
	}
	b.Close()
	copied("where one is asked for", 1)
	join(bus.KeepReplicas).Close()
	copied("after an exporter's start", 1)
	b = join(0)
	copied("by default", 3)
	b.Close()
	join(bus.KeepReplicas).Close()
	copied("after an exporter's start on three", 3)

	b = join(0)
	defer b.Close()
	whole(t, urls)
	servers[0].Shutdown()
	servers[0].WaitForShutdown()
	await(t, func() bool {
		j, err := b.Jobs.Get(t.Context(), "a")
		return err == nil && j.Status == ehi.AwaitingInput
	})
	await(t, func() bool { return b.Jobs.Create(t.Context(), newJob("b")) == nil })
	await(t, func() bool { return b.PublishStart(t.Context(), ehi.Interactive, "b", 1) == nil })
	var last error
	defer func() {
		if t.Failed() {
			inHand, waiting, err := b.InHand(context.WithoutCancel(t.Context()), ehi.Interactive)
			t.Logf("%d commands in a worker's hands, %d waiting, %v; the last answer: %v", inHand,
				waiting, err, last)
		}
	}()
	await(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var d *bus.Delivery
		d, last = b.Next(ctx, ehi.Interactive)
		return last == nil && d.Job == "b"
	})
	if _, err := b.Jobs.Get(t.Context(), "nobody"); !isNotFound(err) {
		t.Errorf("a job that there is not: %v", err)
	}
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*ehi.Error](err)
	return ok && e.Code == ehi.NotFound
}

func await(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	// elections of three servers on busy processors
	for end := time.Now().Add(3 * time.Minute); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// whole waits until every copy of every stream has come up with its leader.
func whole(t *testing.T, urls string) {
	t.Helper()
	js := jetStream(t, urls)
	await(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		list, seen := js.ListStreams(ctx), 0
		for info := range list.Info() {
			if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != 2 {
				return false
			}
			seen++
			for _, r := range info.Cluster.Replicas {
				if !r.Current || r.Offline {
					return false
				}
			}
			if info.Config.Retention == jetstream.WorkQueuePolicy &&
				!workersAreCopied(ctx, js, info.Config.Name) {
				return false
			}
		}
		return list.Err() == nil && seen == everything
	})
}

// Where only servers hold the consumer of a lane that are away, while others hold the lane,
// commands go on all the same.
func TestALaneWhoseConsumerIsLostGoesOn(t *testing.T) {
	t.Parallel()
	urls, servers := cluster(t)
	b, err := bus.Open(t.Context(), bus.Config{
		Flags: bus.Flags{URL: urls, Dial: bus.Dial{Wait: time.Minute}},
		Audit: &bus.AuditConfig{},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	whole(t, urls)
	js := jetStream(t, urls)
	// A lane's consumer has to have as many copies as the lane by its kind: another kind of
	// stream stands in.
	if err := js.DeleteStream(t.Context(), "EHI_BULK"); err != nil {
		t.Fatal(err)
	}
	lane, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "EHI_BULK", Subjects: []string{"ehi.start.bulk.>", "ehi.task.bulk.*.*"}, Replicas: 3,
		Discard: jetstream.DiscardNew,
	})
	if err != nil {
		t.Fatal(err)
	}
	workers, err := lane.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "workers",
		AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	holder := workers.CachedInfo().Cluster.Leader
	for _, s := range servers {
		if s.Name() == holder {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
	await(t, func() bool { return b.PublishStart(t.Context(), ehi.Bulk, "b", 1) == nil })
	await(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		d, err := b.Next(ctx, ehi.Bulk)
		return err == nil && d.Job == "b"
	})
}

// workersAreCopied reports whether the consumer of a lane has as many copies as the lane: it
// gets them after it.
func workersAreCopied(ctx context.Context, js jetstream.JetStream, stream string) bool {
	workers, err := js.Consumer(ctx, stream, "workers")
	if err != nil {
		return false
	}
	cluster := workers.CachedInfo().Cluster
	if cluster == nil || cluster.Leader == "" || len(cluster.Replicas) != 2 {
		return false
	}
	for _, r := range cluster.Replicas {
		if !r.Current || r.Offline {
			return false
		}
	}
	return true
}

// More copies than there can be are refused, by the reason.
func TestCopiesThatCannotBeKeptAreRefused(t *testing.T) {
	if _, err := bus.Open(t.Context(),
		bus.Config{StoreDir: t.TempDir(), Flags: bus.Flags{Replicas: 3}}); !errors.Is(err,
		bus.ErrOneServer) {
		t.Errorf("embedded: %v", err)
	}
	one, err := bus.Open(t.Context(), bus.Config{
		StoreDir: t.TempDir(),
		Flags:    bus.Flags{Listen: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	b, err := bus.Open(t.Context(), bus.Config{Flags: bus.Flags{URL: one.ClientURL(), Replicas: 3}})
	if err == nil {
		b.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "--nats-replicas") {
		t.Errorf("on a single server: %v", err)
	}
}
