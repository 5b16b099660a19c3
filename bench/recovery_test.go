package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/api/client"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// BenchmarkRecovery kills (-9) one of two workers during an export, and measures the time until
// the other one takes the task, with the defaults of the command line. It checks that each
// export is complete in the end.
func BenchmarkRecovery(b *testing.B) {
	f := newPair(b)
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		took = append(took, f.killOne(b))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), "p50-s")
	b.ReportMetric(took[len(took)-1].Seconds(), "max-s")
}

// pair is an API without workers, and two processes that work for it.
type pair struct {
	api     *process
	nats    string
	source  string
	workers map[string]*process // by worker name
	service *client.Client
	patient string
	tasks   jetstream.KeyWatcher
}

func newPair(b *testing.B) *pair {
	b.Helper()
	addr, err := freeAddress()
	if err != nil {
		b.Fatal(err)
	}
	made := synthetic.Config{Patients: 1, Resources: 400_000, Seed: seed(b)}
	f := &pair{
		nats: "nats://" + addr,
		source: fmt.Sprintf("EHI_SOURCE=synthetic:patients=1,resources=%d,seed=%d", made.Resources,
			made.Seed),
		workers: map[string]*process{},
	}
	f.api = startOn(b, b.TempDir(), f.source, "EHI_WORKERS=0", "EHI_NATS_LISTEN="+addr)
	for range 2 {
		f.addWorker(b)
	}
	if f.service, err = f.api.open.Service(b.Context(), "test_client_secret",
		"system/*.rs system/$ehi-export"); err != nil {
		b.Fatal(err)
	}
	f.patient = onlyPatient(b, made)
	conn, err := nats.Connect(f.nats)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	kv, err := js.KeyValue(b.Context(), "ehi_tasks")
	if err != nil {
		b.Fatal(err)
	}
	if f.tasks, err = kv.WatchAll(b.Context(), jetstream.UpdatesOnly()); err != nil {
		b.Fatal(err)
	}
	return f
}

// addWorker starts a process that joins the API and writes to its exports folder.
func (f *pair) addWorker(b *testing.B) {
	b.Helper()
	data := b.TempDir()
	if err := os.Symlink(filepath.Join(f.api.data, files.Folder),
		filepath.Join(data, files.Folder)); err != nil {
		b.Fatal(err)
	}
	p := startOn(b, data, f.source, "EHI_WORKERS=1", "EHI_NATS="+f.nats)
	host, err := os.Hostname()
	if err != nil {
		b.Fatal(err)
	}
	f.workers[host+"-"+strconv.Itoa(p.cmd.Process.Pid)] = p
}

// onlyPatient returns the id of the only patient that the processes generate.
func onlyPatient(b *testing.B, made synthetic.Config) string {
	b.Helper()
	s, err := synthetic.NewSource(made)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	list, err := s.Patients(b.Context(), 1)
	if err != nil || len(list) != 1 {
		b.Fatalf("%v, %v", list, err)
	}
	return list[0].ID
}

// killOne kills the worker that takes an export, and returns how long the other one took to take
// the task.
func (f *pair) killOne(b *testing.B) time.Duration {
	b.Helper()
	j, err := f.service.KickOff(b.Context(), noForm, f.patient, nil)
	if err != nil {
		b.Fatal(err)
	}
	first := f.nextTask(b, j.ID)
	died := time.Now()
	victim := f.workers[first.Worker]
	if victim == nil {
		b.Fatalf("the export is with %s", first.Worker)
	}
	victim.kill(b)
	delete(f.workers, first.Worker)
	second := f.nextTask(b, j.ID)
	if second.Attempt != 2 || second.Worker == first.Worker {
		b.Fatalf("after %+v came %+v", first, second)
	}
	took := second.TakenAt.Sub(died)
	m := waitFor(b, f.service, j, 5*time.Millisecond)
	var total int64
	for _, e := range m.Output {
		total += e.Count
	}
	if total < 400_000 {
		b.Errorf("the export has %d resources", total)
	}
	if err := f.service.Delete(b.Context(), j.StatusURL); err != nil {
		b.Fatal(err)
	}
	f.addWorker(b)
	return took
}

// nextTask waits for the next attempt at a job's task.
func (f *pair) nextTask(b *testing.B, job string) (t ehi.Task) {
	b.Helper()
	for {
		select {
		case e := <-f.tasks.Updates():
			if e != nil && strings.HasPrefix(e.Key(), job+".") &&
				json.Unmarshal(e.Value(), &t) == nil && !t.Committed {
				return t
			}
		case <-time.After(time.Minute):
			b.Fatal("the export is with nobody")
		}
	}
}
