package pairing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/native"
	"ehi-server/exporter/pipeline"
	"ehi-server/exporter/reading"
	"ehi-server/exporter/release"
	"ehi-server/exporter/selection"
	"ehi-server/exporter/source"
	"ehi-server/shared/bus"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/fingerprint"
	"ehi-server/shared/kv"
)

// Parts are the parts of a process that decide what its exports contain and where they are
// stored.
type Parts struct {
	Bus    *bus.Bus
	Source source.Source
	Files  Exports
	Rules  *release.Rules
	// Name identifies this process's workers to people: host and process.
	Name string
	Log  *slog.Logger
}

// Exports is the part of the export file store (files.Store) that distinguishes it from other
// stores.
type Exports interface {
	// DrawProof writes a new text. It removes all other texts except last, the previous one (""
	// if there is none).
	DrawProof(last string) (text string, err error)
	// HasProof reports whether a text exists.
	HasProof(text string) (bool, error)
	// Proofs returns the existing texts, and Root the location of the store, for people.
	Proofs() []string
	Root() string
	// SetSpillBytes sets the size above which an output gets a file of its own.
	SetSpillBytes(n int)
}

// code is a digest of everything in the build that decides what an export releases.
var code = sync.OnceValue(func() string {
	return fingerprint.Of(ehi.Text, fhir.Text, source.Text, dataset.Text, selection.Text,
		release.Text, native.Text, reading.Text, datapackage.Text, pipeline.Text)
})

// rules identifies all release rules: those of the build and those that are configured.
func (p *Parts) rules() string { return code() + "-" + p.Rules.Digest() }

// Server publishes what exporters must have, for the process whose records, folder, rules and
// limits count. If several servers share a NATS, the one that started last counts. If it stops,
// another one takes over.
type Server struct {
	Parts
	limits ehi.Limits
	id     string
	at     time.Time
	wake   chan struct{}
	// present is when this server last announced itself. Only Run uses it.
	present time.Time

	mu     sync.Mutex
	proof  string     // the text in the exports folder
	author string     // the ID of the server whose terms count
	said   *ehi.Terms // the terms that this server last published
	known  map[string]bool
	draw   bool // an exporter has joined since the last text
	// undrawn is the error of the last attempt to write or read the text; nil if it succeeded.
	undrawn error
}

// presenceEvery is how often a process announces that it is running.
const presenceEvery = bus.PresenceTTL / 3

// tendEvery is the interval of checks that no event triggers: whether the text is still in the
// folder.
const tendEvery = 2 * time.Second

// settle is how long changes are collected before they are published. Each import changes the
// records twice.
const settle = 50 * time.Millisecond

// ErrOtherServer means that a server with other exports or other records uses the same NATS.
// Their exporters would take each other's commands.
var ErrOtherServer = errors.New("another server runs on this NATS that this one does not fit")

// Open publishes what exporters must have; Run keeps it up to date. Errors: ErrOtherServer.
func Open(ctx context.Context, p Parts, limits ehi.Limits) (*Server, error) {
	s := &Server{
		Parts:  p,
		limits: limits.OrDefaults(),
		id:     rand.Text(),
		at:     time.Now().UTC(),
		wake:   make(chan struct{}, 1),
		known:  map[string]bool{},
	}
	for {
		before, revision, err := p.Bus.Fleet.TermsAt(ctx)
		if err != nil {
			return nil, err
		}
		if p.Bus.IsShared() {
			if err := fits(ctx, p.Bus.Fleet, before, p.Source, p.Files); err != nil {
				return nil, err
			}
		}
		// on a conflict, another server started at the same moment
		if err := s.begin(ctx, before, revision); !kv.IsConflict(err) {
			return s, err
		}
	}
}

// begin writes the first text to the folder, and replaces the terms of a revision.
func (s *Server) begin(ctx context.Context, before *ehi.Terms, revision uint64) (err error) {
	last := ""
	if before != nil {
		last = before.Files
	}
	// the disk may be full; Run tries again
	if s.proof, err = s.Files.DrawProof(last); err != nil {
		s.draw, s.undrawn = true, err
		s.Log.Error("write into the folder of the exports what tells it from others: exports "+
			"wait for that", "err", err)
	}
	if err := s.Bus.Fleet.ServerIsThere(ctx, s.id); err != nil {
		return err
	}
	t := s.Terms()
	if err := s.Bus.Fleet.ReplaceTerms(ctx, t, revision); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said, s.author = &t, s.id
	return nil
}

// Fits checks that a running server on the same NATS has the same folder and the same records.
// It changes nothing. Open checks this too, for servers that start at the same moment; but by
// then this server has adopted the state, so callers check before they open the state, see
// bus.Config. Errors: ErrOtherServer.
func Fits(ctx context.Context, fleet *bus.Fleet, own source.Source, folder Exports) error {
	other, err := fleet.Terms(ctx)
	if err != nil {
		return err
	}
	return fits(ctx, fleet, other, own, folder)
}

// fits is Fits for the terms of a server. A server that has stopped does not count. One that was
// killed counts for bus.PresenceTTL.
func fits(
	ctx context.Context, fleet *bus.Fleet, other *ehi.Terms, own source.Source, folder Exports,
) error {
	if other == nil {
		return nil
	}
	there, err := fleet.IsServerThere(ctx, other.ID)
	if err != nil || !there {
		return err
	}
	same, err := folder.HasProof(other.Files)
	switch records := own.Records(); {
	case err != nil:
		return err
	case !same:
		return fmt.Errorf(
			"%w: %s has its exports in %s (with the text %s in %s), and this one in %s (with %s): "+
				"give both the same folder, or this one another --nats; one that was killed "+
				"counts for %v",
			ErrOtherServer, other.Server, other.Folder, other.Files, files.ProofsFolder,
			folder.Root(), texts(folder.Proofs()), bus.PresenceTTL)
	case records.Identity != other.Records.Identity:
		return fmt.Errorf("%w: %s has the records %s, and this one %s: "+
			"give both the same --source and the same record store, or this one another --nats; "+
			"one that was killed counts for %v",
			ErrOtherServer, other.Server, other.Records.Identity, records.Identity, bus.PresenceTTL)
	}
	return nil
}

// texts formats the texts of a folder for people.
func texts(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// Terms returns the current terms of this server.
func (s *Server) Terms() ehi.Terms {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ehi.Terms{
		Server: s.Name, ID: s.id, At: s.at, Folder: s.Files.Root(),
		Traits: ehi.Traits{
			Records: s.Source.Records(),
			Files:   s.proof,
			Rules:   s.rules(),
			Build:   ehi.RecordVersion,
		},
		Limits: s.limits,
	}
}

// Check reports why no exporter, including this process's own, takes commands: the text that
// identifies the exports folder cannot be written or read. It returns nil for a nil Server.
func (s *Server) Check() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.undrawn == nil || s.author != s.id {
		return nil
	}
	return fmt.Errorf("exports wait until the server can write and read %s of that folder: %w",
		files.ProofsFolder, s.undrawn)
}

// IsAuthor reports whether this server's terms count.
func (s *Server) IsAuthor() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.author == s.id
}

// say publishes the terms.
func (s *Server) say(ctx context.Context) error {
	t := s.Terms()
	if err := s.Bus.Fleet.SetTerms(ctx, t); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said, s.author = &t, s.id
	return nil
}

func (s *Server) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run publishes the terms again whenever they change, and writes a new text to the folder
// whenever an exporter joins, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	defer s.Source.OnRecords(s.rouse)()
	defer s.Bus.OnReopen(s.rouse)()
	var stops []func()
	for _, follow := range []func() (func(), error){
		func() (func(), error) { return s.Bus.Fleet.FollowTerms(ctx, s.heard) },
		func() (func(), error) { return s.Bus.Fleet.OnJoin(ctx, s.joined) },
	} {
		stop, err := s.patiently(ctx, follow)
		if err != nil {
			break
		}
		stops = append(stops, stop)
	}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	said := ""
	for ctx.Err() == nil {
		if err := s.tend(ctx); err != nil && ctx.Err() == nil {
			if said != err.Error() {
				s.Log.Warn("tell exporters what they must have", "err", err)
			}
			said = err.Error()
			pause(ctx, time.Second)
			continue
		}
		said = ""
		select {
		case <-s.wake:
			pause(ctx, settle)
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	for _, stop := range stops {
		stop()
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if err := s.Bus.Fleet.ServerLeaves(leave, s.id); err != nil {
		// they notice when the record expires
		s.Log.Debug("take leave of the exporters", "err", err)
	}
	return nil
}

// leaveTime bounds the announcement that a process stops.
const leaveTime = time.Second

// patiently calls follow until it succeeds. Errors: ctx's.
func (s *Server) patiently(ctx context.Context, follow func() (func(), error)) (func(), error) {
	for {
		stop, err := follow()
		if err == nil || ctx.Err() != nil {
			return stop, err
		}
		s.Log.Warn("follow the exporters", "err", err)
		pause(ctx, time.Second)
	}
}

// heard handles the terms that count.
func (s *Server) heard(t *ehi.Terms, _ uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.author
	if s.author = ""; t != nil {
		s.author = t.ID
	}
	if was == s.id && s.author != s.id && t != nil {
		s.Log.Warn("another server says from now on what exporters must have", "server", t.Server)
	}
	if s.author != s.id {
		s.rouse()
	}
}

// joined handles an announcement of an exporter.
func (s *Server) joined(e ehi.Exporter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[e.ID] {
		return
	}
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[e.ID] = true
	if !e.Embedded {
		s.draw = true
		s.rouse()
	}
}

// maxKnown bounds the number of remembered exporters. A forgotten one causes a new text when it
// announces itself.
const maxKnown = 10_000

// tend makes sure that the terms that count are correct.
func (s *Server) tend(ctx context.Context) error {
	if time.Since(s.present) > presenceEvery {
		if err := s.Bus.Fleet.ServerIsThere(ctx, s.id); err != nil {
			return err
		}
		s.present = time.Now()
	}
	s.mu.Lock()
	author, proof := s.author, s.proof
	s.mu.Unlock()
	if is, err := s.Files.HasProof(proof); author == s.id {
		s.mu.Lock()
		if err != nil || !s.draw {
			s.undrawn = err
		}
		// somebody removed the text, or the folder is a different one
		s.draw = s.draw || err == nil && !is
		s.mu.Unlock()
	}
	if author != s.id {
		there := author != ""
		if there {
			var err error
			if there, err = s.Bus.Fleet.IsServerThere(ctx, author); err != nil {
				return err
			}
		}
		if there {
			return nil // the other server publishes
		}
		s.mu.Lock()
		s.draw = true // the other server may have removed this one's text
		s.mu.Unlock()
	}
	drew, err := s.redraw()
	if err != nil {
		return err
	}
	t := s.Terms()
	s.mu.Lock()
	same := !drew && author == s.id && s.said != nil && reflect.DeepEqual(*s.said, t)
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.say(ctx)
}

// redraw writes a new text to the folder if one is due.
func (s *Server) redraw() (drew bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draw {
		return false, nil
	}
	text, err := s.Files.DrawProof(s.proof)
	if s.undrawn = err; err != nil {
		return false, fmt.Errorf("write into the folder of the exports: %w", err)
	}
	s.proof, s.draw = text, false
	return true, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
