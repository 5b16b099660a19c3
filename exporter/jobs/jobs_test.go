package jobs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/keeper"
	"ehi-server/exporter/release"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a service on an embedded NATS, with a record store of a few patients.
type house struct {
	t *testing.T
	*Service
	cfg            Config
	deps           Deps
	state          string // the folder of NATS
	patients       []ehi.Patient
	patient, other ehi.Patient // the first two
	authority      *authority
	reviewers      *reviewers
}

// authority lets all clients continue, except those in ended.
type authority struct {
	mu        sync.Mutex
	ended     map[string]bool // clients
	skips     bool
	packaging ehi.Packaging // of every client
	dormant   string
}

func (a *authority) end(client string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended[client] = true
}

func (a *authority) StillValidFromMemory(of Authorization) (valid, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.ended[of.Client], true
}

func (a *authority) StillValid(_ context.Context, of Authorization) (bool, error) {
	valid, _ := a.StillValidFromMemory(of)
	return valid, nil
}

func (a *authority) Withdrawals() func(client, patient string) bool {
	return func(string, string) bool { return false }
}

func (a *authority) Dormant(client string) bool { return client == a.dormant }

func (a *authority) MaySkip(string) (form, review bool) { return a.skips, a.skips }

func (a *authority) Packaging(string) ehi.Packaging { return a.packaging }

// reviewers lets all administrators approve, except those in gone.
type reviewers struct{ gone []string }

func (r *reviewers) MayApprove(name, _ string) bool { return !slices.Contains(r.gone, name) }

func (r *reviewers) SamePerson(one, other string) bool { return strings.EqualFold(one, other) }

// newHouse creates a service for two patients. change may change its configuration before.
func newHouse(t *testing.T, change func(*Config)) *house {
	t.Helper()
	return newHouseOf(t, 2, change)
}

// newHouseOf is newHouse for a number of patients.
func newHouseOf(t *testing.T, n int, change func(*Config)) *house {
	t.Helper()
	store, err := dataset.Open(dataset.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	population := synthetic.Config{Patients: n, Seed: 1}
	if err := store.Generate(t.Context(), population, time.Now(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	patients, err := store.Patients(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	exports, err := local.Open(local.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := release.RulesFromFile("")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{
		t: t, state: t.TempDir(), patients: patients, patient: patients[0], other: patients[1],
		authority: &authority{ended: map[string]bool{}}, reviewers: &reviewers{},
		cfg: Config{
			Flags: Flags{
				JobTTL:             time.Hour,
				AttachmentBytes:    1 << 10,
				AttachmentsPerCall: 2,
				ClientJobs:         100,
				ClientBulkJobs:     100,
				Compression:        ehi.Identity,
			},
			FileTTL: time.Hour,
		},
	}
	if change != nil {
		change(&h.cfg)
	}
	h.deps = Deps{
		Source:    store,
		Rules:     rules,
		Files:     exports,
		Authority: h.authority,
		Reviewers: h.reviewers,
		Remove: func(ctx context.Context, job string) error {
			return keeper.Delete(ctx, h.Bus, exports, job, nil)
		},
		Doubt: func(string) {}, Log: slog.New(slog.DiscardHandler),
	}
	h.start()
	t.Cleanup(h.stop)
	return h
}

// start starts the service on its state.
func (h *house) start() {
	h.t.Helper()
	b, err := bus.Open(h.t.Context(), bus.Config{StoreDir: h.state, Audit: &bus.AuditConfig{}})
	if err != nil {
		h.t.Fatal(err)
	}
	h.deps.Bus = b
	if h.Service, err = New(h.cfg, h.deps); err != nil {
		b.Close()
		h.t.Fatal(err)
	}
}

func (h *house) stop() {
	h.Service.Close()
	h.Bus.Close()
}

// The actors of tests.
func (h *house) app() ehi.Actor {
	return ehi.Actor{
		Kind:     ehi.ActorClient,
		ClientID: "app",
		Patient:  h.patient.ID,
		Sender:   ehi.Sender{Address: "192.0.2.1", Request: "r1"},
	}
}

var (
	service  = ehi.Actor{Kind: ehi.ActorClient, ClientID: "back", Service: true}
	reviewer = ehi.Actor{Kind: ehi.ActorStaff, Name: "rita", Duty: ehi.DutyReview, Mark: "1"}
	second   = ehi.Actor{Kind: ehi.ActorStaff, Name: "sam", Duty: ehi.DutyReview, Mark: "2"}
	viewer   = ehi.Actor{Kind: ehi.ActorStaff, Name: "vera", Duty: ehi.DutyView}
	chief    = ehi.Actor{Kind: ehi.ActorStaff, Name: "chief", Duty: ehi.DutyAdminister}
)

func (h *house) self() ehi.Actor { return ehi.Actor{Kind: ehi.ActorPatient, Name: h.patient.ID} }

// kicked returns a job that the application has kicked off.
func (h *house) kicked() *ehi.Job {
	h.t.Helper()
	j, err := h.KickOff(h.t.Context(), h.app(), Ask{Subject: h.patient.ID})
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// retrieved returns a job whose files wait for review.
func (h *house) retrieved() *ehi.Job {
	h.t.Helper()
	j, err := h.Submit(h.t.Context(), h.self(), h.kicked(), ehi.ReleaseForm{})
	if err != nil {
		h.t.Fatal(err)
	}
	j, err = h.Bus.Jobs.Update(h.t.Context(), j.ID, func(j *ehi.Job) error {
		return j.Complete(ehi.Task{Job: j.ID, Committed: true}, now(), h.FileTTL)
	})
	if err == nil {
		j, err = h.Record(h.t.Context(), j.ID) // as reviewers read it
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// trail returns the audit events of a job, oldest first: the action, the actor and the outcome.
func (h *house) trail(job string) (said []string) {
	h.t.Helper()
	for _, e := range h.events(job) {
		said = append(said, string(e.Action)+" by "+e.Agent+": "+string(e.Outcome))
	}
	return said
}

// events returns the audit events of a job, oldest first.
func (h *house) events(job string) (out []ehi.Event) {
	h.t.Helper()
	if err := h.Bus.Audit.Flush(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	err := h.Bus.Audit.Read(h.t.Context(), bus.AuditFilter{},
		func(_ uint64, e ehi.Event) (bool, error) {
			if e.Job == job {
				out = append(out, e)
			}
			return true, nil
		})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// Each field of the actor's ehi.Sender reaches the trail, also in its stored form.
func TestEachFieldOfTheSenderIsInTheTrail(t *testing.T) {
	h := newHouse(t, nil)
	j, self := h.kicked(), h.self()
	sender := reflect.ValueOf(&self.Sender).Elem()
	for i := range sender.NumField() {
		sender.Field(i).SetString(sender.Type().Field(i).Name + "-1")
	}
	if _, err := h.Submit(t.Context(), self, j, ehi.ReleaseForm{}); err != nil {
		t.Fatal(err)
	}
	events := h.events(j.ID)
	if last := events[len(events)-1]; last.Action != ehi.ActionForm || last.Sender != self.Sender {
		t.Errorf("the trail has %+v, the sender is %+v", last, self.Sender)
	}
}

func (h *house) wantTrail(job string, want ...string) {
	h.t.Helper()
	if got := h.trail(job); !slices.Equal(got, want) {
		h.t.Errorf("the trail says\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"),
			strings.Join(want, "\n\t"))
	}
}

func wantCode(t *testing.T, what string, err error, want ehi.Code) {
	t.Helper()
	if got := ehi.CodeOf(err); got != want {
		t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

// EHI-1, EHI-7: a job waits for the form of its patient, and nobody else can send it. Each step
// is in the audit trail.
func TestEHI7AFormIsItsPatientsAlone(t *testing.T) {
	h := newHouse(t, nil)
	j := h.kicked()
	if j.Status != ehi.AwaitingInput || !j.WithForm {
		t.Fatalf("the job is %+v", j)
	}
	stranger := ehi.Actor{Kind: ehi.ActorPatient, Name: h.other.ID}
	for name, a := range map[string]ehi.Actor{
		"another patient": stranger,
		"its client":      h.app(),
		"staff":           chief,
		"nobody":          {},
	} {
		_, err := h.Submit(t.Context(), a, j, ehi.ReleaseForm{})
		wantCode(t, name, err, ehi.Forbidden)
	}
	done, err := h.Submit(t.Context(), h.self(), j, ehi.ReleaseForm{})
	if err != nil || done.Status != ehi.Requested || done.RequestedBy != "patient" {
		t.Fatalf("%+v, %v", done, err)
	}
	_, err = h.Submit(t.Context(), h.self(), j, ehi.ReleaseForm{})
	wantCode(t, "a second time", err, ehi.Conflict)
	said := h.trail(j.ID)
	if len(said) != 7 || said[0] != "kick-off by patient "+h.patient.ID+": ok" ||
		said[5] != "form by patient "+h.patient.ID+": ok" ||
		said[6] != "form by patient "+h.patient.ID+": refused" {
		t.Errorf("the trail says %q", said)
	}
}

// A job says from which records and by which rules it was requested. A form that is submitted
// later is for the rules of its submission, which its page has shown.
func TestAJobSaysItsRecordsAndRules(t *testing.T) {
	h := newHouse(t, nil)
	j := h.kicked()
	if j.Records != h.Source.Records() || j.Records == (ehi.Records{}) ||
		j.Rules != h.Rules.Digest() || j.Rules == "" {
		t.Errorf("records %v, rules %q", j.Records, j.Rules)
	}
	nothing, err := release.SensitiveTable(strings.NewReader("# nothing is sensitive\n"))
	if err != nil {
		t.Fatal(err)
	}
	h.Rules = release.NewRules(nothing)
	done, err := h.Submit(t.Context(), h.self(), j, ehi.ReleaseForm{})
	if err != nil || done.Rules == j.Rules || done.Rules != h.Rules.Digest() {
		t.Errorf("after the form: rules %q, not %q, %v", done.Rules, h.Rules.Digest(), err)
	}
}

// In the sandbox a client sends the form of its own job in its own name.
func TestASandboxesClientSendsItsForm(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Sandbox = true })
	done, err := h.Submit(t.Context(), h.app(), h.kicked(), ehi.ReleaseForm{})
	if err != nil || done.RequestedBy != "client app" {
		t.Fatalf("%+v, %v", done, err)
	}
	another := h.app()
	another.ClientID = "other"
	_, err = h.Submit(t.Context(), another, h.kicked(), ehi.ReleaseForm{})
	wantCode(t, "another client", err, ehi.Forbidden)
}

// On the pages a patient finds exports of the own record only, and no deleted ones. An unfinished
// export ends with the authorization of its application.
func TestAPatientFindsTheOwnExports(t *testing.T) {
	h := newHouse(t, nil)
	j, ended := h.kicked(), h.kicked()
	stranger := ehi.Actor{Kind: ehi.ActorPatient, Name: h.other.ID}
	if got, err := h.FindForPatient(t.Context(), h.self(), j.ID); err != nil || got.ID != j.ID {
		t.Errorf("the own one: %v, %v", got, err)
	}
	for name, a := range map[string]ehi.Actor{
		"another patient": stranger, "the application": h.app(), "nobody": {},
	} {
		_, err := h.FindForPatient(t.Context(), a, j.ID)
		wantCode(t, name, err, ehi.NotFound)
	}
	if err := h.Delete(t.Context(), h.self(), j); err != nil {
		t.Fatal(err)
	}
	_, err := h.FindForPatient(t.Context(), h.self(), j.ID)
	wantCode(t, "a deleted one", err, ehi.NotFound)
	h.authority.end("app")
	_, err = h.FindForPatient(t.Context(), h.self(), ended.ID)
	wantCode(t, "one whose authorization has ended", err, ehi.NotFound)
}

// EHI-8, EHI-10: administrators read files from the review on, everyone else once they are
// approved.
func TestWhoMayReadFiles(t *testing.T) {
	h := newHouse(t, nil)
	staff := ehi.Actor{Kind: ehi.ActorStaff, Name: "ada", Duty: ehi.DutyView}
	for status, want := range map[ehi.Status][]bool{ // patient, client, administrator
		ehi.AwaitingInput: {false, false, false},
		ehi.Requested:     {false, false, false},
		ehi.Retrieved:     {false, false, true},
		ehi.Approved:      {true, true, true},
		ehi.Rejected:      {false, false, false},
		ehi.Failed:        {false, false, false},
		ehi.Aborted:       {false, false, false},
	} {
		for i, a := range []ehi.Actor{h.self(), h.app(), staff} {
			err := h.CheckFiles(a, &ehi.Job{Status: status})
			if (err == nil) != want[i] || err != nil && ehi.CodeOf(err) != ehi.NotFound {
				t.Errorf("%s, %s: %v", status, a.Kind, err)
			}
		}
	}
}

// For a client, other patients and other clients' jobs do not exist.
func TestOtherPatientsAndJobsAreNotFound(t *testing.T) {
	h := newHouse(t, nil)
	for _, subject := range []string{h.other.ID, "nobody"} {
		_, err := h.KickOff(t.Context(), h.app(), Ask{Subject: subject})
		if !errors.Is(err, ErrPatientNotFound) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	// before anything is said about the parameters, but not before a fault that was ordered
	unreadable := ehi.Errorf(ehi.Invalid, "The body is not a Parameters resource")
	_, err := h.KickOff(t.Context(), h.app(), Ask{Subject: h.other.ID, Unreadable: unreadable})
	wantCode(t, "another patient, with a bad body", err, ehi.NotFound)
	_, err = h.KickOff(t.Context(), h.app(), Ask{Subject: h.app().Patient, Unreadable: unreadable})
	wantCode(t, "its own patient, with a bad body", err, ehi.Invalid)
	_, err = h.KickOff(t.Context(), h.app(), Ask{Subject: h.other.ID, Fault: func() error {
		return ehi.Errorf(ehi.Throttled, "The client ordered this")
	}})
	wantCode(t, "another patient, with a fault", err, ehi.Throttled)
	j := h.kicked()
	other := h.app()
	other.Patient = h.other.ID
	for name, a := range map[string]ehi.Actor{
		"another patient's token": other,
		"a service":               service,
		"nobody":                  {},
	} {
		_, err := h.FindOwn(t.Context(), a, j.ID)
		wantCode(t, name, err, ehi.NotFound)
	}
	if got, err := h.FindOwn(t.Context(), h.app(), j.ID); err != nil || got.ID != j.ID {
		t.Errorf("its own: %v, %v", got, err)
	}
	h.authority.end("app")
	_, err = h.FindOwn(t.Context(), h.app(), j.ID)
	wantCode(t, "once its authorization has ended", err, ehi.NotFound)
}

// EHI-1: only clients that may skip the form and the review do. If two administrators must
// approve, no client skips the review.
func TestEHI1WhoMaySkipFormAndReview(t *testing.T) {
	both := Ask{SkipForm: true, SkipReview: true}
	for name, as := range map[string]struct {
		change func(*Config)
		skips  bool
		ask    Ask
		want   ehi.Code
	}{
		"a client":         {ask: both, want: ehi.Forbidden},
		"a client, review": {ask: Ask{SkipReview: true}, want: ehi.Forbidden},
		"one who is let":   {ask: both, skips: true},
		"the sandbox":      {ask: both, change: func(c *Config) { c.Sandbox = true }},
		"four eyes": {
			ask:    both,
			skips:  true,
			change: func(c *Config) { c.FourEyes = true },
			want:   ehi.Forbidden,
		},
		"four eyes, the form": {
			ask:    Ask{SkipForm: true},
			skips:  true,
			change: func(c *Config) { c.FourEyes = true },
		},
		"four eyes, even in a sandbox": {
			ask:    both,
			change: func(c *Config) { c.FourEyes, c.Sandbox = true, true },
			want:   ehi.Forbidden,
		},
	} {
		h := newHouse(t, as.change)
		h.authority.skips, as.ask.Subject = as.skips, h.patient.ID
		j, err := h.KickOff(t.Context(), h.app(), as.ask)
		wantCode(t, name, err, as.want)
		if err == nil &&
			(j.WithForm == as.ask.SkipForm || j.AutoApprove != as.ask.SkipReview ||
				j.Status != ehi.Requested) {
			t.Errorf("%s: the job is %+v", name, j)
		}
	}
}

// If the authorization of a kick-off ends before its job is stored, no job remains.
func TestAKickOffThatIsRefusedLeavesNoJob(t *testing.T) {
	h := newHouse(t, nil)
	h.authority.end("app")
	_, err := h.KickOff(t.Context(), h.app(), Ask{Subject: h.patient.ID})
	wantCode(t, "a void token", err, ehi.Unauthenticated)
	h.Drain()
	_, err = h.KickOff(t.Context(), service, Ask{Subject: h.patient.ID})
	wantCode(t, "while the process is being stopped", err, ehi.Transient)
	if ids := h.Bus.Jobs.IDs(); len(ids) != 0 {
		t.Errorf("there are jobs: %v", ids)
	}
}

// Only reviewers review. They decide about the contents that they have seen, and each decision
// is in the audit trail.
func TestAReviewIsForReviewers(t *testing.T) {
	h := newHouse(t, nil)
	j := h.retrieved()
	for name, a := range map[string]ehi.Actor{
		"a viewer":    viewer,
		"the patient": h.self(),
		"the client":  h.app(),
		"nobody":      {},
	} {
		_, err := h.Approve(t.Context(), a, j, Decision{})
		wantCode(t, name+" approves", err, ehi.Forbidden)
		_, err = h.Reject(t.Context(), a, j, Decision{})
		wantCode(t, name+" rejects", err, ehi.Forbidden)
	}
	_, err := h.Approve(t.Context(), reviewer, j, Decision{Contents: "another"})
	wantCode(t, "of something else", err, ehi.Conflict)
	done, err := h.Approve(t.Context(), reviewer, j, Decision{
		Contents: j.Contents(),
		Reason:   "fine",
	})
	if err != nil || done.Status != ehi.Approved || done.DecidedBy != "rita" ||
		done.Reason != "fine" {
		t.Fatalf("%+v, %v", done, err)
	}
	_, err = h.Reject(t.Context(), reviewer, j, Decision{})
	wantCode(t, "after that", err, ehi.Conflict)
	said := h.trail(j.ID)
	want := []string{
		"approve by admin rita: refused", "approve by admin rita: ok",
		"reject by admin rita: refused",
	}
	if len(said) < 3 || !slices.Equal(said[len(said)-3:], want) {
		t.Errorf("the trail says %q", said)
	}
}

// If two administrators must approve, the same person cannot approve twice, and the approval of
// someone who may no longer approve does not count.
func TestTwoCurrentReviewersMustApprove(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.FourEyes = true })
	j := h.retrieved()
	seen := Decision{Contents: j.Contents()}
	first, err := h.Approve(t.Context(), reviewer, j, seen)
	if err != nil || first.Status != ehi.Retrieved ||
		!slices.Equal(h.Approvers(first), []string{"rita"}) {
		t.Fatalf("%+v, %v", first, err)
	}
	again := reviewer
	again.Name = "RITA"
	for _, a := range []ehi.Actor{reviewer, again} {
		_, err = h.Approve(t.Context(), a, j, seen)
		wantCode(t, a.Name+" again", err, ehi.Conflict)
	}
	h.reviewers.gone = []string{"rita"}
	half, err := h.Approve(t.Context(), second, j, seen)
	if err != nil || half.Status != ehi.Retrieved ||
		!slices.Equal(h.Approvers(half), []string{"sam"}) {
		t.Fatalf("beside one who is gone: %+v, %v", half, err)
	}
	h.reviewers.gone = nil
	third := ehi.Actor{Kind: ehi.ActorStaff, Name: "theo", Duty: ehi.DutyReview, Mark: "3"}
	done, err := h.Approve(t.Context(), third, j, seen)
	if err != nil || done.Status != ehi.Approved {
		t.Fatalf("%+v, %v", done, err)
	}
}

// If two administrators must approve, both have seen the same: an approval names the contents
// that were seen, and a new document ends earlier approvals.
func TestTwoApproveTheSameThing(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.FourEyes = true })
	j := h.retrieved()
	_, err := h.Approve(t.Context(), reviewer, j, Decision{})
	wantCode(t, "without contents", err, ehi.Invalid)
	seen := Decision{Contents: j.Contents()}
	first, err := h.Approve(t.Context(), reviewer, j, seen)
	if err != nil || first.Status != ehi.Retrieved || len(h.Approvers(first)) != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	u, err := h.Upload(reviewer, first)
	if err == nil {
		err = u.Add("letter.txt", "", strings.NewReader("a letter"))
	}
	if err != nil {
		t.Fatal(err)
	}
	after, err := u.Commit(t.Context(), nil)
	if err != nil || len(h.Approvers(after)) != 0 {
		t.Fatalf("approved before anybody has seen the letter: %+v, %v", after, err)
	}
	_, err = h.Approve(t.Context(), second, after, seen)
	wantCode(t, "the export before the letter", err, ehi.Conflict)
	for n, a := range []ehi.Actor{reviewer, second} {
		want := []ehi.Status{ehi.Retrieved, ehi.Approved}[n]
		after, err = h.Approve(t.Context(), a, after, Decision{Contents: after.Contents()})
		if err != nil || after.Status != want {
			t.Fatalf("%+v, %v", after, err)
		}
	}
}

// An export whose authorization has ended cannot be approved, but it can be rejected.
func TestJobsOfEndedAuthorizationsAreNotApproved(t *testing.T) {
	h := newHouse(t, nil)
	j := h.retrieved()
	h.authority.end("app")
	_, err := h.Approve(t.Context(), reviewer, j, Decision{})
	wantCode(t, "approved", err, ehi.Conflict)
	done, err := h.Reject(t.Context(), reviewer, j, Decision{})
	if err != nil || done.Status != ehi.Rejected {
		t.Errorf("rejected: %+v, %v", done, err)
	}
}

// EHI-11: an upload stores all of its documents or none. After a failure the stored ones are
// removed.
func TestEHI11AnUploadIsAllOrNothing(t *testing.T) {
	h := newHouse(t, nil)
	j := h.retrieved()
	_, err := h.Upload(viewer, j)
	wantCode(t, "a viewer", err, ehi.Forbidden)
	u, err := h.Upload(reviewer, j)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Add("letter.txt", "", strings.NewReader("Dear patient")); err != nil {
		t.Fatal(err)
	}
	tooLarge := u.Add("large.txt", "", io.LimitReader(endless{}, 2<<10))
	wantCode(t, "too large", tooLarge, ehi.TooLarge)
	_, err = u.Commit(t.Context(), tooLarge)
	wantCode(t, "the upload", err, ehi.TooLarge)
	stored := 0
	if err := h.Files.(files.Store).Walk(func(string, []files.Stored) error {
		stored++
		return nil
	}); err != nil || stored != 0 {
		t.Errorf("%d jobs have files, %v", stored, err)
	}
	if u, err = h.Upload(reviewer, j); err != nil {
		t.Fatal(err)
	}
	_, err = u.Commit(t.Context(), nil)
	wantCode(t, "without a document", err, ehi.Invalid)
	if u, err = h.Upload(reviewer, j); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := u.Add("letter.txt", "", strings.NewReader("Dear patient")); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, "more than a call may have", u.Add("letter.txt", "", strings.NewReader("")),
		ehi.Invalid)
	after, err := u.Commit(t.Context(), nil)
	if err != nil || len(after.Attachments) != 2 ||
		after.Attachments[0].Name == after.Attachments[1].Name {
		t.Fatalf("%+v, %v", after, err)
	}
	_, err = h.Detach(t.Context(), reviewer, after, "none")
	wantCode(t, "a document that is not there", err, ehi.NotFound)
	if after, err = h.Detach(t.Context(), reviewer, after, "letter.txt"); err != nil ||
		len(after.Attachments) != 1 {
		t.Errorf("%+v, %v", after, err)
	}
}

// endless is text without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// EHI-13: a job can be deleted by its client, by its patient, and by administrators with that
// duty, but by nobody else.
func TestEHI13WhoMayDelete(t *testing.T) {
	h := newHouse(t, nil)
	another := ehi.Actor{Kind: ehi.ActorPatient, Name: h.other.ID}
	for name, as := range map[string]struct {
		by   ehi.Actor
		want ehi.Code
	}{
		"its client": {by: h.app()}, "its patient": {by: h.self()}, "an administrator": {by: chief},
		"a reviewer": {reviewer, ehi.Forbidden}, "another patient": {another, ehi.NotFound},
		"a service": {service, ehi.NotFound}, "nobody": {ehi.Actor{}, ehi.NotFound},
	} {
		j := h.kicked()
		wantCode(t, name, h.Delete(t.Context(), as.by, j), as.want)
		_, err := h.Record(t.Context(), j.ID)
		if gone := errors.Is(err, ErrNotFound) || isNotFound(err); gone != (as.want == "") {
			t.Errorf("%s: the job is gone: %v (%v)", name, gone, err)
		}
	}
}

// The server deletes the jobs of an ended authorization, and the audit trail says why.
func TestJobsOfEndedAuthorizationsAreDeleted(t *testing.T) {
	h := newHouse(t, nil)
	j, sleeping := h.kicked(), h.app()
	sleeping.ClientID, h.authority.dormant = "asleep", "asleep"
	kept, err := h.KickOff(t.Context(), sleeping, Ask{Subject: h.patient.ID})
	if err != nil {
		t.Fatal(err)
	}
	h.authority.end("app")
	h.authority.end("asleep")
	if err := h.DeleteUnauthorizedNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Bus.Jobs.Get(t.Context(), j.ID); !isNotFound(err) {
		t.Errorf("the job: %v", err)
	}
	if _, err := h.Bus.Jobs.Get(t.Context(), kept.ID); err != nil {
		t.Errorf("one of another mode: %v", err)
	}
	h.wantTrail(j.ID, "kick-off by patient "+h.patient.ID+": ok", "delete by server: ok")
}

// Quotas count by client and by patient. Refused kick-offs do not count, and the error says when
// to try again.
func TestAQuotaThatIsUsedUp(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Quotas = Quotas{Window: time.Hour, ClientKickOffs: 2} })
	h.kicked()
	_, err := h.KickOff(t.Context(), h.app(), Ask{Subject: "nobody"})
	wantCode(t, "nobody", err, ehi.NotFound)
	h.kicked()
	_, err = h.KickOff(t.Context(), h.app(), Ask{Subject: h.patient.ID})
	wantCode(t, "the third", err, ehi.Throttled)
	e, ok := errors.AsType[*ehi.Error](err)
	if !ok || e.RetryAfter <= 0 || e.RetryAfter > time.Hour {
		t.Errorf("it says %+v", err)
	}
}

// NAT-1: what the kick-off says about documents and tables counts, then what the client is
// registered for. A population always has archives.
func TestNAT1TheClientsPackagingIsTheDefault(t *testing.T) {
	for _, c := range []struct {
		registered ehi.Packaging
		asked      string
		want       ehi.Packaging
	}{
		{"", "", ehi.PackageFiles},
		{ehi.PackageFiles, "", ehi.PackageFiles},
		{ehi.PackageZIP, "", ehi.PackageZIP},
		{ehi.PackageZIP, "files", ehi.PackageFiles},
		{"", "zip", ehi.PackageZIP},
	} {
		h := newHouse(t, nil)
		h.authority.packaging = c.registered
		ask := Ask{Subject: h.patient.ID}
		if c.asked != "" {
			ask.Parameters = []fhir.Parameter{{Name: "_package", Value: c.asked}}
		}
		j, err := h.KickOff(t.Context(), h.app(), ask)
		if err != nil || j.Packaging() != c.want {
			t.Errorf("%+v: %s, %v", c, j.Packaging(), err)
		}
		population, err := h.KickOff(t.Context(), service,
			Ask{Level: ehi.AllPatients})
		if err != nil || population.Packaging() != ehi.PackageZIP ||
			population.KickOff.Package != "" {
			t.Errorf("%+v: a population gets %+v, %v", c, population, err)
		}
	}
}
