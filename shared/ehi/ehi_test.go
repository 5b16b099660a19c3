package ehi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// model is what a job may do next, told without the table: an oracle for it.
type model struct {
	status ehi.Status
	form   bool
	auto   bool
}

// The state machine: whatever is done in whatever order, the job and the
// model agree, and an illegal step changes nothing.
func TestStatusTableAsAStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{ehi.AwaitingInput, rapid.Bool().Draw(t, "form"), rapid.Bool().Draw(t, "auto")}
		if !m.form {
			m.status = ehi.Requested
		}
		j := &ehi.Job{
			ID:          "j",
			Tasks:       1,
			Status:      m.status,
			WithForm:    m.form,
			AutoApprove: m.auto,
			CreatedAt:   t0,
		}
		step := func(legal bool, next ehi.Status, do func() error) {
			before, err := json.Marshal(j)
			if err != nil {
				t.Fatal(err)
			}
			err = do()
			if legal != (err == nil) {
				t.Fatalf("from %s to %s: %v", m.status, next, err)
			}
			if legal {
				m.status = next
				return
			}
			if ehi.CodeOf(err) != ehi.Conflict {
				t.Fatalf("an illegal step is %v", err)
			}
			if after, _ := json.Marshal(j); string(after) != string(before) {
				t.Fatalf("an illegal step changed %s to %s", before, after)
			}
		}
		done := ehi.Retrieved
		if m.auto {
			done = ehi.Approved
		}
		task := ehi.Task{
			TransactionTime: t0,
			Files:           []ehi.File{{Type: "Patient", Count: 1, Bytes: 10}},
		}
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(*rapid.T) {
				step(m.status == ehi.AwaitingInput, ehi.Requested, func() error {
					return j.Submit(ehi.ReleaseForm{}, "p", t0)
				})
			},
			"complete": func(*rapid.T) {
				step(m.status == ehi.Requested, done, func() error {
					return j.Complete(task, t0, time.Hour)
				})
			},
			"fail": func(*rapid.T) {
				step(m.status == ehi.Requested, ehi.Failed, func() error {
					return j.Fail("why", t0)
				})
			},
			"approve": func(*rapid.T) {
				step(m.status == ehi.Retrieved, ehi.Approved, func() error {
					return j.Approve("a", t0, time.Hour)
				})
			},
			"reject": func(*rapid.T) {
				step(m.status == ehi.Retrieved, ehi.Rejected, func() error {
					return j.Reject("a", t0)
				})
			},
			"abort": func(*rapid.T) {
				step(m.status != ehi.Aborted, ehi.Aborted, func() error {
					return j.SetStatus(ehi.Aborted)
				})
			},
			"": func(t *rapid.T) {
				if j.Status != m.status || !j.Status.Valid() {
					t.Fatalf("the job is %s, the model %s", j.Status, m.status)
				}
				if (j.Status == ehi.Approved) != (!j.ApprovedAt.IsZero() &&
					j.Status != ehi.Aborted) ||
					j.Status == ehi.Retrieved != (j.CanAttach() == nil) {
					t.Fatalf("%+v", j)
				}
			},
		})
	})
}

func TestNothingLeavesAnEndButByDeletion(t *testing.T) {
	for _, s := range ehi.Statuses() {
		for _, next := range ehi.Statuses() {
			if s.Settled() && s.CanBecome(next) && next != ehi.Aborted {
				t.Errorf("%s can become %s", s, next)
			}
		}
		if s != ehi.Aborted && !s.CanBecome(ehi.Aborted) {
			t.Errorf("%s cannot be deleted", s)
		}
	}
	if ehi.Status("x").Valid() {
		t.Error("x is a status")
	}
}

func TestCompleteAddsTheTasksUp(t *testing.T) {
	j := &ehi.Job{Status: ehi.Requested, AutoApprove: true}
	if err := j.Plan(3, 100, t0, ehi.Records{}); err != nil {
		t.Fatal(err)
	}
	later := t0.Add(time.Minute)
	tasks := []ehi.Task{
		{
			Number:          2,
			TransactionTime: later,
			Files: []ehi.File{
				{Type: "A", Count: 1, Bytes: 10}, {Type: "B", Count: 2, Bytes: 20},
			},
			Withheld: map[string]int64{"x": 1},
		},
		{
			Number:          0,
			TransactionTime: t0,
			Files:           []ehi.File{{Type: "A", Count: 3, Bytes: 30}},
			Withheld:        map[string]int64{"x": 2, "y": 3},
		},
		{Number: 1, Files: []ehi.File{{Type: "OperationOutcome", Error: true, Count: 4, Bytes: 5}}},
	}
	for i, task := range tasks {
		if j.Status != ehi.Requested {
			t.Errorf("the job is %s after %d tasks", j.Status, i)
		}
		if err := j.Complete(task, later, time.Hour); err != nil {
			t.Fatal(err)
		}
		before := *j
		err := j.Complete(task, later, time.Hour)
		if ehi.CodeOf(err) != ehi.Conflict || cmp.Diff(before, *j) != "" {
			t.Errorf("counted task %d twice: %v", task.Number, err)
		}
	}
	want := &ehi.Job{
		Status:          ehi.Approved,
		AutoApprove:     true,
		Tasks:           3,
		Done:            ehi.Bits{7},
		Planned:         100,
		CompletedAt:     later,
		ApprovedAt:      later,
		ExpiresAt:       later.Add(time.Hour),
		TransactionTime: t0,
		Counts:          map[string]int64{"A": 4, "B": 2},
		Withheld:        map[string]int64{"x": 3, "y": 3},
		Bytes:           65,
		Errors:          4,
		Files:           4,
	}
	if d := cmp.Diff(want, j); d != "" {
		t.Error(d)
	}
	if j.Expired(later) || !j.Expired(later.Add(time.Hour)) {
		t.Error("Expired is off")
	}
	if err := j.Plan(1, 1, t0, ehi.Records{}); ehi.CodeOf(err) != ehi.Conflict {
		t.Errorf("planned a finished job: %v", err)
	}
}

// EHI-7.
func TestEHI7FormIsReadAndShownAgain(t *testing.T) {
	f, err := ehi.ParseReleaseForm([]byte(`{"parameters":{"labs":{"name":"x","enabled":true,` +
		`"from":"2019","to":"2020-05","notes":" n "},
		"visits":{"enabled":false,"from":"2019"},"medicalRecord":{"enabled":true,"from":"2019"}},
		"authorizations":{"hiv":{"name":"HIV","value":true},"genetic":{"value":true,"text":" BRCA "},"other":{"value":"none"},"mentalHealth":{"value":false},"confidential":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := ehi.ReleaseForm{
		Parameters: map[ehi.Category]ehi.Choice{
			ehi.Labs:          {From: "2019", To: "2020-05", Notes: "n"},
			ehi.MedicalRecord: {},
		},
		Authorizations: map[ehi.Authorization]string{ehi.HIV: "true", ehi.Genetic: "true"},
		Texts: map[ehi.Authorization]string{
			ehi.Genetic:        "BRCA",
			ehi.OtherSensitive: "none",
		},
	}
	if d := cmp.Diff(want, f); d != "" {
		t.Fatal(d)
	}
	parameters, authorizations := f.MarshalWire()
	wire, err := json.Marshal(map[string]any{
		"parameters":     parameters,
		"authorizations": authorizations,
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := ehi.ParseReleaseForm(wire)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, again); d != "" {
		t.Errorf("the wire form reads differently:\n%s", d)
	}
}

// EHI-8: a text decides nothing, whatever it says, also in the record of an earlier build, which
// took it for consent.
func TestEHI8OnlyATickAuthorises(t *testing.T) {
	for _, text := range []string{
		"none", "No", "n/a", "-", "no, do not release", "yes", "BRCA", "TRUE", "1", "on",
	} {
		for _, key := range []ehi.Authorization{ehi.Genetic, ehi.OtherSensitive} {
			for _, value := range []string{
				`{"value":"` + text + `"}`,
				`{"value":false,"text":"` + text + `"}`,
				`{"text":"` + text + `"}`,
			} {
				form, err := ehi.ParseReleaseForm([]byte(`{"parameters":{},"authorizations":{"` +
					string(key) + `":` + value + `}}`))
				if err != nil || form.Authorizes(key) || form.Texts[key] != text {
					t.Errorf("%s %s: authorised %v, text %q, %v", key, value, form.Authorizes(key),
						form.Texts[key], err)
				}
			}
			old := ehi.ReleaseForm{Authorizations: map[ehi.Authorization]string{key: text}}
			if old.Authorizes(key) {
				t.Errorf("a record that says %q of %s authorises", text, key)
			}
		}
	}
	form, err := ehi.ParseReleaseForm(
		[]byte(`{"parameters":{},"authorizations":{"genetic":{"value":true}}}`))
	if err != nil || !form.Authorizes(ehi.Genetic) {
		t.Errorf("a tick without a text: %+v, %v", form, err)
	}
}

// EHI-8: neither the order of names nor their case decides whether something is authorised.
func TestEHI8AFormHasOneReading(t *testing.T) {
	for _, body := range []string{
		`{"parameters":{},"authorizations":{"hiv":{"value":false,"VALUE":true}}}`,
		`{"parameters":{},"authorizations":{"hiv":{"Value":true}}}`,
		`{"parameters":{},"Authorizations":{"hiv":{"value":true}}}`,
		`{"parameters":{},"authorizations":{},"AUTHORIZATIONS":{"hiv":{"value":true}}}`,
	} {
		form, err := ehi.ParseReleaseForm([]byte(body))
		if err != nil || form.Authorizes(ehi.HIV) {
			t.Errorf("%s authorises: %v, %v", body, form.Authorizes(ehi.HIV), err)
		}
	}
	for _, body := range []string{
		`{"parameters":{},"authorizations":{"hiv":{"value":false,"value":true}}}`,
		`{"parameters":{},"authorizations":{"hiv":{"value":true,"value":null}}}`,
		`{"parameters":{},"authorizations":{"hiv":{"value":true},"hiv":{"value":false}}}`,
		`{"parameters":{},"authorizations":{"hiv":{"value":true},"h\u0069v":{}}}`,
		`{"parameters":{},"authorizations":{"hiv":{"value":true}},"authorizations":{}}`,
		`{"parameters":{"labs":{"enabled":true,"enabled":false}}}`,
	} {
		_, err := ehi.ParseReleaseForm([]byte(body))
		if ehi.CodeOf(err) != ehi.Invalid || !strings.Contains(err.Error(), "two fields") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// A text is as long as the page's maxlength lets people type, whatever their letters take in UTF-8.
func TestEHI7TextsAreMeasuredInLetters(t *testing.T) {
	for _, letter := range []string{"x", "ñ", "診", "😀"} {
		long := strings.Repeat(letter, ehi.MaxNote)
		body := `{"parameters":{"labs":{"enabled":true,"notes":"` + long +
			`"}},"authorizations":{"other":{"value":"` + long + `"}}}`
		form, err := ehi.ParseReleaseForm([]byte(body))
		if err != nil || form.Parameters["labs"].Notes != long || form.Texts["other"] != long {
			t.Errorf("%d times %s: %v", ehi.MaxNote, letter, err)
		}
		var j ehi.Job
		if err := j.Explain(strings.Repeat(letter, 500)); err != nil {
			t.Error(err)
		}
		if err := j.Explain(strings.Repeat(letter, 501)); ehi.CodeOf(err) != ehi.Invalid {
			t.Errorf("a longer reason of %s: %v", letter, err)
		}
	}
}

func TestEHI7BadFormsNameWhatIsWrong(t *testing.T) {
	for body, text := range map[string]string{
		`{`:                                      "JSON",
		`null`:                                   "parameters",
		`{}`:                                     "parameters",
		`{"parameters":[1,2]}`:                   "parameters",
		`{"parameters":{},"authorizations":"x"}`: "authorizations",
		`{"parameters":{"nope":{"enabled":true}}}`:                           `"nope"`,
		`{"parameters":{},"authorizations":{"nope":{"value":true}}}`:         `"nope"`,
		`{"parameters":{"labs":{"enabled":true,"from":"soon"}}}`:             `"soon"`,
		`{"parameters":{"labs":{"enabled":true,"from":"2020","to":"2019"}}}`: "after",
		`{"parameters":{},"authorizations":{"hiv":{"value":"yes"}}}`:         `"hiv"`,
		`{"parameters":{},"authorizations":{"hiv":{"value":1}}}`:             `"hiv"`,
		`{"parameters":{"labs":{"enabled":true,"notes":"` + strings.Repeat("x", 201) +
			`"}}}`: "longer",
		`{"parameters":{},"authorizations":{"other":{"value":"` + strings.Repeat("x", 201) +
			`"}}}`: "longer",
		`{"parameters":{"labs":{"enabled":"true"}}}`: "enabled",
		`{"parameters":{}} {}`:                       "JSON",
	} {
		_, err := ehi.ParseReleaseForm([]byte(body))
		if ehi.CodeOf(err) != ehi.Invalid || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// EHI-6.
func TestEHI6KickOffIsRead(t *testing.T) {
	k, err := ehi.ParseKickOff(ehi.Asked{
		Lenient: true,
		Parameters: []fhir.Parameter{
			{Name: "_type", Value: "Patient,Observation"},
			{Name: "_type", Value: "Patient"},
			{Name: "_since", Value: "2020-01-01T00:00:00Z"},
			{Name: "category", Value: "labs, visits"},
			{Name: "from", Value: "2019"},
			{Name: "what", Value: "x"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := ehi.KickOff{
		Types:      []string{"Patient", "Observation"},
		Since:      time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		Categories: []ehi.Category{ehi.Labs, ehi.Visits},
		From:       "2019",
		Dropped: []ehi.Notice{
			{Code: ehi.Unsupported, Text: `Ignored: Unknown parameter "what"`},
		},
	}
	if d := cmp.Diff(want, k); d != "" {
		t.Error(d)
	}
}

func FuzzReleaseForm(f *testing.F) {
	f.Add([]byte(`{"parameters":{"labs":{"enabled":true,"from":"2019","to":"2020"}},` +
		`"authorizations":{"genetic":{"value":"x"}}}`))
	f.Add([]byte(`{"parameters":{"labs":null},"authorizations":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		form, err := ehi.ParseReleaseForm(body)
		if err != nil {
			if ehi.CodeOf(err) != ehi.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		record, err := json.Marshal(form)
		if err != nil || len(record) > 16<<10 {
			t.Fatalf("a record of %d bytes, %v", len(record), err)
		}
	})
}
