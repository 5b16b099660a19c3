package bus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/link/linktest"
)

// lagging is a cluster of three servers, one of which can be made to lag behind the others.
type lagging struct {
	urls  string
	last  string // URL of the one that can lag
	wires []*linktest.Wire
}

// lag stops the traffic between the last server and the others; with false it goes on.
func (l *lagging) lag(on bool) {
	var d time.Duration
	if on {
		d = linktest.Forever
	}
	for _, w := range l.wires {
		w.Slow(d)
	}
}

// newLagging starts the cluster. All routes from and to the last server lead through wires: it
// is told of no other address, and neither are the others.
func newLagging(t *testing.T) *lagging {
	t.Helper()
	l := &lagging{}
	var routes []*url.URL
	var ports []int
	for range 3 {
		port := freePort(t)
		w := linktest.NewWire(t, fmt.Sprintf("127.0.0.1:%d", port))
		l.wires, ports = append(l.wires, w), append(ports, port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: w.Addr().String()})
	}
	direct := func(n int) *url.URL {
		return &url.URL{
			Scheme: "nats",
			Host:   net.JoinHostPort("127.0.0.1", fmt.Sprint(ports[n])),
		}
	}
	var servers []*server.Server
	t.Cleanup(func() { stopAll(servers) })
	start := func(n int, routes ...*url.URL) {
		t.Helper()
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", n),
			Host:       "127.0.0.1", Port: server.RANDOM_PORT,
			JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{
				Name: "ehi", Host: "127.0.0.1", Port: ports[n],
				Advertise: l.wires[n].Addr().String(), NoAdvertise: true,
			},
			Routes: routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		servers = append(servers, s)
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("a server did not start")
		}
	}
	start(0, direct(1))
	start(1, direct(0))
	await(t, func() bool { return servers[0].NumRoutes() > 0 })
	start(2, routes[:2]...)
	l.urls = servers[0].ClientURL() + "," + servers[1].ClientURL()
	l.last = servers[2].ClientURL()
	return l
}

// leaveLeader makes another server than n2 the leader of a stream.
func leaveLeader(t *testing.T, urls, stream string) {
	t.Helper()
	js := jetStream(t, urls)
	await(t, func() bool {
		is, err := js.Stream(t.Context(), stream)
		if err != nil || is.CachedInfo().Cluster.Leader == "" {
			return false
		}
		if is.CachedInfo().Cluster.Leader != "n2" {
			return true
		}
		m, err := js.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, 5*time.Second)
		if err != nil {
			return false
		}
		var answer struct{ Success bool }
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			t.Error(err)
		}
		return false
	})
}

// connected returns a bus of the servers at some URLs.
func connected(t *testing.T, urls string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{
		Flags: bus.Flags{URL: urls, Dial: bus.Dial{Wait: time.Minute}},
		Audit: &bus.AuditConfig{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// A server of the cluster that lags behind tells what was. Newest tells what is.
func TestNewestWaitsForTheLeaderOfACluster(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	ahead, behind := connected(t, l.urls), connected(t, l.last)
	if err := ahead.Jobs.Create(t.Context(), newJob("a")); err != nil {
		t.Fatal(err)
	}
	whole(t, l.urls)
	leaveLeader(t, l.urls, "KV_"+bus.JobRecords)
	whole(t, l.urls)
	await(t, func() bool { // it has the bucket's description from then on
		_, err := behind.Jobs.Get(t.Context(), "a")
		return err == nil
	})

	l.lag(true)
	_, err := ahead.Jobs.Update(t.Context(), "a", func(j *ehi.Job) error {
		j.Status = ehi.Approved
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var old *ehi.Job
	await(t, func() bool { // NATS may choose another server to answer, whose answer lags, too
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		var err error
		old, err = behind.Jobs.Get(ctx, "a")
		return err == nil
	})
	if old.Status != ehi.AwaitingInput {
		t.Fatalf("the server does not lag: the job is %s", old.Status)
	}
	newest := make(chan error, 1)
	go func() {
		j, err := behind.Jobs.Newest(t.Context(), "a")
		if err == nil && j.Status != ehi.Approved {
			err = fmt.Errorf("the job is %s", j.Status)
		}
		newest <- err
	}()
	select {
	case err := <-newest:
		t.Errorf("answered without the leader: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	l.lag(false)
	if err := <-newest; err != nil {
		t.Error(err)
	}
}

// What this process has written it reads, although the server that it is connected to learns of
// it later than the leader.
func TestAProcessReadsWhatItHasWrittenToACluster(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	b := connected(t, l.last)
	whole(t, l.urls)
	leaveLeader(t, l.urls, "KV_"+bus.JobRecords)
	whole(t, l.urls)
	if err := b.Jobs.Create(t.Context(), newJob("a")); err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		_, err := b.Jobs.Update(t.Context(), "a", func(j *ehi.Job) error {
			j.Starts = n
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if j, err := b.Jobs.Get(t.Context(), "a"); err != nil || j.Starts != n {
			t.Fatalf("after start %d it reads %+v, %v", n, j, err)
		}
	}
}
