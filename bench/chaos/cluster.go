package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/bench/verify"
	"ehi-server/shared/bus"
)

// clustered is a fleet whose NATS is a cluster of three servers, any one of which may die.
var clustered = shape{
	name:      "three NATS servers, two APIs and an exporter",
	servers:   3,
	apis:      []int{2, 1},
	exporters: 1,
}

// composeServers sets up the processes of a NATS cluster, and returns all URLs.
func (f *fleet) composeServers() (urls string, err error) {
	var clients, routes []string
	for range f.shape.servers {
		c, err := freeAddress()
		if err != nil {
			return "", err
		}
		r, err := freeAddress()
		if err != nil {
			return "", err
		}
		clients, routes = append(clients, c), append(routes, r)
	}
	for n, c := range clients {
		host, port, err := net.SplitHostPort(c)
		if err != nil {
			return "", err
		}
		name := fmt.Sprintf("nats-%d", n)
		f.add(name, f.binaries.nats, "--jetstream", "--store_dir", filepath.Join(f.dir, name),
			"--addr", host, "--port", port, "--name", name,
			"--cluster_name", "ehi", "--cluster", "nats://"+routes[n], "--routes",
			"nats://"+strings.Join(routes, ",nats://"))
	}
	return "nats://" + strings.Join(clients, ",nats://"), nil
}

// nats returns the processes of the cluster.
func (f *fleet) nats() []*process { return f.all[:f.shape.servers] }

// killServers is the fault in a round of a clustered fleet. It kills one server, every other
// time the leader of the jobs. In each third round it also kills a second one.
func (f *fleet) killServers(ctx context.Context, n int, r *rand.Rand) (string, error) {
	kept, err := f.finished(ctx)
	if err != nil {
		return "", err
	}
	victims := f.nats()
	r.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	if n%2 == 0 {
		leader, err := f.leader(ctx)
		if err != nil {
			return "", err
		}
		for i, p := range victims {
			if p.name == leader {
				victims[0], victims[i] = victims[i], victims[0]
			}
		}
	}
	told, err := f.killOne(ctx, victims[0])
	if err == nil && n%3 == 2 {
		told += ", and " + victims[1].name
		err = f.killAnother(ctx, victims[1], kept)
	}
	if err != nil {
		return told, err
	}
	return told, f.revived(ctx)
}

// down is how long a killed server stays down: until it is revived.
const down = 24 * time.Hour

// killOne kills a server, and measures the time until a later kick-off is accepted.
func (f *fleet) killOne(ctx context.Context, p *process) (told string, err error) {
	began := time.Now()
	if !f.kill(ctx, p) {
		return "", fmt.Errorf("%s was down already", p.name)
	}
	u := &user{fleet: f, rng: rand.New(rand.NewPCG(f.Seed, uint64(began.UnixNano())))}
	limit, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	if err := f.accepted(limit, u); err != nil {
		return "", fmt.Errorf("no kick-off is accepted after %s was killed: %w", p.name, err)
	}
	took := time.Since(began)
	f.totals.accepted(took)
	return fmt.Sprintf("%s killed, the next kick-off accepted after %.1f s", p.name,
		took.Seconds()), nil
}

func (f *fleet) kill(ctx context.Context, p *process) bool {
	p.fault.Lock()
	defer p.fault.Unlock()
	if !p.end(ctx, ending{signal: sigkill, down: down}) {
		return false
	}
	f.totals.kills.Add(1)
	return p.gone(ctx)
}

// accepted repeats the kick-off of an export that needs a form until one is accepted.
func (f *fleet) accepted(ctx context.Context, u *user) error {
	_, err := u.kickOff(ctx, f.probe, "/fhir/$ehi-export", nil)
	return err
}

// killAnother kills a second server. Then kick-offs must be refused by 503 with Retry-After, and
// downloads must work.
func (f *fleet) killAnother(ctx context.Context, p *process, kept job) error {
	if !f.kill(ctx, p) {
		return fmt.Errorf("%s was down already", p.name)
	}
	u := &user{fleet: f, rng: rand.New(rand.NewPCG(f.Seed, 3))}
	refused := func(ctx context.Context) error {
		a, err := u.api().WithToken(f.probe).Do(ctx, http.MethodPost, "/fhir/$ehi-export", nil,
			"Prefer", "respond-async", "Accept", "application/fhir+json")
		switch {
		case err != nil:
			return err
		case a.Status != http.StatusServiceUnavailable:
			return fmt.Errorf("a kick-off is answered %d with one server of three", a.Status)
		case a.Header.Get("Retry-After") == "":
			return verify.Wrongf("503 without Retry-After")
		}
		return nil
	}
	if err := f.eventually(ctx, refused); err != nil {
		return err
	}
	began := time.Now()
	if _, err := u.download(ctx, kept); err != nil {
		return fmt.Errorf("download with one server of three: %w", err)
	}
	f.totals.downloaded(time.Since(began))
	return nil
}

// finished returns an export that can be downloaded.
func (f *fleet) finished(ctx context.Context) (job, error) {
	u := &user{fleet: f, rng: rand.New(rand.NewPCG(f.Seed, 4))}
	ctx, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	if f.probe == "" {
		token, err := u.serviceToken(ctx)
		if err != nil {
			return job{}, err
		}
		f.probe = token
	}
	j, err := u.patientJob(ctx, "/no-form/auto-approve")
	if err != nil {
		return j, err
	}
	if done, err := u.download(ctx, j); err != nil || !done {
		return j, errors.Join(err, fmt.Errorf("job %s was given up: %v", j.id, !done))
	}
	u.keep(j)
	return j, nil
}

// leader returns the name of the server that leads the stream of the jobs.
func (f *fleet) leader(ctx context.Context) (name string, err error) {
	err = f.eventually(ctx, func(ctx context.Context) error {
		return f.streams(ctx, func(info *jetstream.StreamInfo) error {
			if info.Config.Name == "KV_"+bus.JobRecords && info.Cluster != nil {
				name = info.Cluster.Leader
			}
			return nil
		})
	})
	return name, err
}

// streams calls see with each stream.
func (f *fleet) streams(ctx context.Context, see func(*jetstream.StreamInfo) error) error {
	conn, err := nats.Connect(f.natsURL)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	list := js.ListStreams(ctx)
	var errs []error
	for info := range list.Info() {
		errs = append(errs, see(info))
	}
	return errors.Join(append(errs, list.Err())...)
}

// revived restarts killed servers, and waits until each has caught up.
func (f *fleet) revived(ctx context.Context) error {
	for _, p := range f.nats() {
		if p.pid.Load() != 0 {
			continue
		}
		select {
		case p.revive <- struct{}{}:
		case <-time.After(f.Patience):
			return fmt.Errorf("%s is down, and its supervisor does not start it again", p.name)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.eventually(ctx, func(ctx context.Context) error {
		seen := 0
		err := f.streams(ctx, func(info *jetstream.StreamInfo) error {
			seen++
			return whole(info)
		})
		if err == nil && seen < 7 {
			err = fmt.Errorf("only %d streams have a leader", seen)
		}
		return err
	})
}

// whole reports whether a stream has three identical copies.
func whole(info *jetstream.StreamInfo) error {
	if info.Config.Replicas != 3 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
		state, _ := json.Marshal(info.Cluster) // for the error message
		return fmt.Errorf("stream %s has %d copies: %s", info.Config.Name, info.Config.Replicas,
			state)
	}
	for _, r := range info.Cluster.Replicas {
		if !r.Current || r.Offline {
			return fmt.Errorf("%s is behind in stream %s", r.Name, info.Config.Name)
		}
	}
	return nil
}
