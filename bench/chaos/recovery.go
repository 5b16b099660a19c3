package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/ehi"
)

// recoveries measures the time from the death of a stand-alone worker to the next attempt at its
// tasks.
type recoveries struct {
	totals *totals
	conn   *nats.Conn
	kv     jetstream.KeyValue
	stop   context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	tasks   map[string]ehi.Task  // those in progress
	workers map[string]bool      // all that have ever had one
	orphans map[string]time.Time // tasks whose worker was killed, and when
}

func watchRecoveries(url string, t *totals) (*recoveries, error) {
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		// the watch recovers by itself
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &recoveries{
		totals:  t,
		conn:    conn,
		stop:    cancel,
		ended:   make(chan struct{}),
		tasks:   map[string]ehi.Task{},
		workers: map[string]bool{},
		orphans: map[string]time.Time{},
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	if w.kv, err = js.KeyValue(ctx, "ehi_tasks"); err != nil {
		return nil, err
	}
	watch, err := w.kv.WatchAll(ctx)
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(w.ended)
		for e := range watch.Updates() {
			if e != nil {
				w.see(e)
			}
		}
	}()
	return w, nil
}

func (w *recoveries) see(e jetstream.KeyValueEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var task ehi.Task
	if e.Operation() != jetstream.KeyValuePut || json.Unmarshal(e.Value(), &task) != nil ||
		task.Attempt == 0 {
		delete(w.tasks, e.Key())
		delete(w.orphans, e.Key())
		return
	}
	if died, ok := w.orphans[e.Key()]; ok && task.Worker != w.tasks[e.Key()].Worker {
		w.totals.recovered(task.TakenAt.Sub(died))
		delete(w.orphans, e.Key())
	}
	w.tasks[e.Key()], w.workers[task.Worker] = task, true
	if task.Committed {
		delete(w.tasks, e.Key())
		delete(w.orphans, e.Key())
	}
}

// killed records the tasks of a worker that is about to be killed. If NATS or the API dies, the
// recovery depends on more than the worker, so it is not counted.
func (w *recoveries) killed(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.HasPrefix(p.name, "exporter") {
		clear(w.orphans)
		return
	}
	for key, task := range w.tasks {
		if task.Worker == p.worker() {
			w.orphans[key] = time.Now()
		}
	}
}

// names returns the workers that have ever had a task.
func (w *recoveries) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.workers))
}

func (w *recoveries) close() {
	w.stop()
	w.conn.Close()
	<-w.ended
}
