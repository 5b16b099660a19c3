package dataset_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ehi-server/exporter/dataset"
)

// correction is a store that gets folders whose indexes say something else time and again.
type correction struct {
	s    *dataset.Store
	from string // the folders are below it
}

const correctionHeader = "patient,path,title,status"

func newCorrection(t *testing.T, patients string) *correction {
	t.Helper()
	c := &correction{openStore(t, t.TempDir()), t.TempDir()}
	load(t, c.s, folder(t, map[string]string{"p.ndjson": patients}))
	return c
}

// says imports a folder whose index has these rows, and fails unless their number of problems and
// of removed documents is this.
func (c *correction) says(
	t *testing.T, folder, content string, problems, removed int64, rows ...string,
) {
	t.Helper()
	dir := filepath.Join(c.from, folder)
	delivery(t, dir, map[string]string{"x.txt": content},
		append([]string{correctionHeader}, rows...)...)
	for _, again := range []bool{false, true} {
		if again {
			removed = 0
		}
		rep := load(t, c.s, dir)
		if rep.Problems != problems || rep.DocumentsRemoved != removed {
			t.Errorf("%s says %q (again: %v): %+v", folder, rows, again, rep)
		}
	}
}

// The ways to name a patient of patientsNamed.
var spellings = []string{"a", "urn:mrn|m-a"}

// A removal means the document that its own index lists, however each row names the patient: the
// documents of other deliveries with this path stay, and so do those that come later.
func TestARemovalMeansItsOwnIndexHoweverThePatientIsNamed(t *testing.T) {
	for _, listed := range spellings {
		for _, removed := range spellings {
			for _, before := range []int{0, 1, 2} {
				c := newCorrection(t, patientsNamed("a", "b"))
				var kept []string
				for i := range before {
					content := fmt.Sprint("other ", i)
					c.says(t, content, content, 0, 0, "a,x.txt,,")
					kept = append(kept, "a x.txt "+content)
				}
				c.says(t, "own", "own", 0, 0, listed+",x.txt,,")
				c.says(t, "own", "own", 0, 1, removed+",x.txt,,entered-in-error")
				what := fmt.Sprintf("%s removed as %s", listed, removed)
				hold(t, c.s, what, kept, nil)
				c.says(t, "later", "later", 0, 0, "a,x.txt,,")
				hold(t, c.s, what, append([]string{"a x.txt later"}, kept...), nil)
				c.says(t, "own", "own", 0, 0, listed+",x.txt,,")
				hold(t, c.s, what+", and listed again",
					append([]string{"a x.txt later"}, append(kept, "a x.txt own")...), nil)
			}
		}
	}
}

// An index that removed a document of another one brings it back when it lists it, however it names
// the patient.
func TestADocumentComesBackHoweverThePatientIsNamed(t *testing.T) {
	for _, listed := range spellings {
		for _, removed := range spellings {
			c := newCorrection(t, patientsNamed("a", "b"))
			c.says(t, "scans", "x", 0, 0, "a,x.txt,,")
			c.says(t, "own", "x", 0, 1, removed+",x.txt,,entered-in-error")
			hold(t, c.s, "removed as "+removed, nil, nil)
			c.says(t, "own", "x", 0, 0, listed+",x.txt,,")
			hold(t, c.s, "listed as "+listed, []string{"a x.txt x"}, nil)
		}
	}
}

// A row that names its patient otherwise than before is no correction of the patient.
func TestAnIndexMayNameAPatientOtherwiseThanBefore(t *testing.T) {
	for i, first := range spellings {
		c := newCorrection(t, patientsNamed("a", "b"))
		then := spellings[1-i]
		c.says(t, "own", "x", 0, 0, first+",x.txt,,")
		c.says(t, "own", "x", 0, 0, then+",x.txt,,")
		hold(t, c.s, "named otherwise", []string{"a x.txt x"}, nil)
		c.says(t, "own", "x", 0, 0, first+",x.txt,Another title,")
		c.says(t, "own", "y", 0, 0, then+",x.txt,,")
		hold(t, c.s, "with another content", []string{"a x.txt y"}, nil)
		c.says(t, "own", "y", 0, 0, first+",x.txt,,", then+",x.txt,,")
		hold(t, c.s, "by both names", []string{"a x.txt y"}, nil)
		c.says(t, "own", "y", 0, 1, "b,x.txt,,")
		hold(t, c.s, "of another patient", nil, []string{"b x.txt y"})
	}
}

// A removal and a listing of one patient in one index are a removal, however the rows name the
// patient, and in any order.
func TestARemovalCountsMoreThanAListingByAnotherName(t *testing.T) {
	for i, listed := range spellings {
		rows := []string{listed + ",x.txt,,", spellings[1-i] + ",x.txt,,entered-in-error"}
		for _, again := range []int64{0, 1} { // a listing that comes first brings it back at first
			c := newCorrection(t, patientsNamed("a", "b"))
			c.says(t, "scans", "other", 0, 0, "a,x.txt,,")
			c.says(t, "own", "x", 0, 1, rows...)
			hold(t, c.s, "together", []string{"a x.txt other"}, nil)
			c.says(t, "own", "y", 0, 1, rows...)
			hold(t, c.s, "with another content", []string{"a x.txt other"}, nil)
			slices.Reverse(rows)
			c.says(t, "own", "y", 0, again, rows...)
			hold(t, c.s, "in another order", []string{"a x.txt other"}, nil)
		}
	}
}

// A removal by an identifier that nobody has yet removes nothing. When it turns out to be that of
// the patient, it removes the document of its own index and no other.
func TestARemovalByAnIdentifierThatBecomesKnownMeansItsOwnIndex(t *testing.T) {
	known := strings.ReplaceAll(patientsNamed("a"), `]}`,
		`,{"system":"urn:late","value":"l-a"}]}`)
	for _, together := range []bool{false, true} {
		for _, also := range []string{"", "b,x.txt,,"} {
			c := newCorrection(t, patientsNamed("a", "b"))
			c.says(t, "scans", "other", 0, 0, "a,x.txt,,")
			c.says(t, "own", "own", 0, 0, "a,x.txt,,")
			rows := []string{"urn:late|l-a,x.txt,,entered-in-error"}
			a, b, removed := []string{"a x.txt other", "a x.txt own"}, []string(nil), int64(0)
			if also != "" { // the index lists the path for another patient now
				rows, removed = append(rows, also), 1
				a, b = a[:1], []string{"b x.txt own"}
			}
			if !together {
				c.says(t, "own", "own", 1, removed, rows...)
				hold(t, c.s, "unknown", a, b)
			} else {
				delivery(t, filepath.Join(c.from, "own"), nil,
					append([]string{correctionHeader}, rows...)...)
			}
			fill(t, c.from, map[string]string{"p.ndjson": known})
			if together {
				load(t, c.s, c.from)
			} else {
				load(t, c.s, filepath.Join(c.from, "p.ndjson"))
			}
			hold(t, c.s, "known", []string{"a x.txt other"}, b)
			c.says(t, "own", "own", 0, 0, rows...)
			c.says(t, "later", "later", 0, 0, "urn:late|l-a,x.txt,,")
			hold(t, c.s, "again", []string{"a x.txt later", "a x.txt other"}, b)
		}
	}
}

// A document that an index lists by an identifier which becomes known is that of the patient, and
// a removal by another name of the patient means it.
func TestADocumentOfAnIdentifierThatBecomesKnownCanBeRemoved(t *testing.T) {
	c := newCorrection(t, patientsNamed("b"))
	c.says(t, "own", "own", 0, 0, "urn:mrn|m-a,x.txt,,")
	c.says(t, "scans", "other", 0, 0, "a,x.txt,,")
	load(t, c.s, folder(t, map[string]string{"p.ndjson": patientsNamed("a")}))
	hold(t, c.s, "known", []string{"a x.txt other", "a x.txt own"}, nil)
	c.says(t, "own", "own", 0, 1, "a,x.txt,,entered-in-error")
	hold(t, c.s, "removed", []string{"a x.txt other"}, nil)
}

// A document that an index lists by two names of a patient, of which one becomes known later, is
// kept once when the index comes again.
func TestADocumentListedByTwoNamesIsKeptOnce(t *testing.T) {
	c := newCorrection(t, patientsNamed("b"))
	rows := []string{"a,x.txt,,", "urn:mrn|m-a,x.txt,,"}
	c.says(t, "own", "own", 0, 0, rows...)
	load(t, c.s, folder(t, map[string]string{"p.ndjson": patientsNamed("a")}))
	c.says(t, "own", "own", 0, 0, rows...)
	hold(t, c.s, "known", []string{"a x.txt own"}, nil)
}

// An index that lists a document by an identifier moves it when the identifier is another
// patient's now, also if the document was first listed by the id.
func TestADocumentFollowsTheIdentifierThatItsIndexNames(t *testing.T) {
	c := newCorrection(t, patientsNamed("a", "b"))
	c.says(t, "own", "own", 0, 0, "a,x.txt,,")
	c.says(t, "own", "own", 0, 0, "urn:mrn|m-a,x.txt,,")
	moved := strings.ReplaceAll(patientsNamed("b"), "m-b", "m-a") +
		`{"resourceType":"Patient","id":"a"}` + "\n"
	load(t, c.s, folder(t, map[string]string{"p.ndjson": moved}))
	c.says(t, "own", "own", 0, 0, "urn:mrn|m-a,x.txt,,")
	hold(t, c.s, "moved", nil, []string{"b x.txt own"})
}

// A removal reaches the documents of patients who were merged into the one whom it names, before or
// after it came, and means those of its own index first.
func TestARemovalReachesWhoWasMergedIntoThePatient(t *testing.T) {
	const merged = `{"resourceType":"Patient","id":"a","link":[{"type":"replaced-by",` +
		`"other":{"reference":"Patient/b"}}]}` + "\n"
	for _, name := range []string{"b", "urn:mrn|m-b"} {
		for _, first := range []bool{true, false} {
			c := newCorrection(t, patientsNamed("a", "b"))
			merge := func() {
				load(t, c.s, folder(t, map[string]string{"p.ndjson": merged}))
			}
			c.says(t, "scans", "other", 0, 0, "a,x.txt,,")
			c.says(t, "own", "own", 0, 0, "a,x.txt,,")
			if first {
				merge()
				c.says(t, "own", "own", 0, 1, name+",x.txt,,entered-in-error")
			} else {
				c.says(t, "own", "own", 1, 0, name+",x.txt,,entered-in-error")
				merge()
			}
			hold(t, c.s, "own", []string{"a x.txt other"}, []string{"a x.txt other"})
			c.says(t, "removals", "", 0, 1, name+",x.txt,,entered-in-error")
			hold(t, c.s, "of another index", nil, nil)
		}
	}
}

// A removal for a patient whom the index does not list takes nothing from another patient.
func TestARemovalTakesNothingFromAnotherPatient(t *testing.T) {
	c := newCorrection(t, patientsNamed("a", "b"))
	c.says(t, "own", "own", 0, 0, "a,x.txt,,")
	c.says(t, "own", "own", 1, 0, "b,x.txt,,entered-in-error")
	hold(t, c.s, "of nobody's", []string{"a x.txt own"}, nil)
	c.says(t, "scans", "other", 0, 1, "b,x.txt,,") // what the removal waited for
	hold(t, c.s, "waiting", []string{"a x.txt own"}, nil)
	c.says(t, "own", "own", 0, 1, "b,x.txt,,")
	hold(t, c.s, "corrected", nil, []string{"b x.txt own"})
	c.says(t, "own", "own", 1, 0, "a,y.txt,,entered-in-error")
	c.says(t, "own", "own", 1, 0, "b,y.txt,,entered-in-error") // a correction of that
	fill(t, filepath.Join(c.from, "y"), map[string]string{"y.txt": "y"})
	c.says(t, "y", "", 0, 0, "a,y.txt,,")
	hold(t, c.s, "taken back", []string{"a y.txt y"}, []string{"b x.txt own"})
}

// Notes of an earlier version, which do not say whose they are, count for a patient by any name.
func TestNotesWithoutTheirPatientCountForAnyName(t *testing.T) {
	for _, listed := range spellings {
		for _, now := range spellings {
			for _, status := range []string{"", "entered-in-error"} {
				c := newCorrection(t, patientsNamed("a", "b"))
				c.says(t, "scans", "other", 0, 0, "a,x.txt,,")
				c.says(t, "own", "own", 0, 0, listed+",x.txt,,")
				if err := dataset.ForgetPatientsOfNotes(c.s); err != nil {
					t.Fatal(err)
				}
				want, removed := []string{"a x.txt other", "a x.txt own"}, int64(0)
				if status != "" {
					want, removed = want[:1], 1
				}
				c.says(t, "own", "own", 0, removed, now+",x.txt,,"+status)
				hold(t, c.s, fmt.Sprintf("%s, then %s %s", listed, now, status), want, nil)
			}
		}
	}
}

// A killed import of removals by another name of the patient removes its own documents alone when
// it runs again.
func TestAKilledRemovalByAnotherNameIsRunAgain(t *testing.T) {
	const documents = 300
	all := folder(t, map[string]string{"p/p.ndjson": patientsNamed("a", "b")})
	own, other := filepath.Join(all, "own"), filepath.Join(all, "other")
	rows, removals := []string{correctionHeader}, []string{correctionHeader}
	for i := range documents {
		name := fmt.Sprintf("%d.txt", i)
		fill(t, own, map[string]string{name: fmt.Sprint("own ", i)})
		fill(t, other, map[string]string{name: fmt.Sprint("other ", i)})
		rows = append(rows, "a,"+name+",,")
		removals = append(removals, "urn:mrn|m-a,"+name+",,entered-in-error")
	}
	reindex(t, other, rows...)
	rnd := rand.New(rand.NewPCG(5, 3))
	var took time.Duration
	kills := 0
	for round := range rounds(8) {
		dir := filepath.Join(t.TempDir(), "records")
		reindex(t, own, rows...)
		runImport(t, dir, all, 0)
		reindex(t, own, removals...)
		if round == 0 {
			took, _ = runImport(t, dir, own, 0)
		} else {
			for range 2 {
				if killImport(t, dir, own, &took, rnd) {
					kills++
				}
			}
			runImport(t, dir, own, 0)
		}
		s := openStore(t, dir)
		got := documentsOf(t, s, "a")
		foreign := slices.ContainsFunc(got, func(d string) bool {
			return !strings.Contains(d, "txt other ")
		})
		if len(got) != documents || foreign {
			t.Errorf("round %d: a has %d documents", round, len(got))
		}
		if rep := load(t, s, own); rep.Problems > 0 || rep.DocumentsRemoved > 0 {
			t.Errorf("round %d: %+v", round, rep)
		}
	}
	if kills == 0 {
		t.Error("no import was killed")
	}
}

// modelDocument is a document by what it is known by.
type modelDocument struct{ patient, path, content string }

// modelRow is what an index says of a path and a patient.
type modelRow struct{ index, path, patient string }

// documentModel is what the indexes of a store mean. It knows no spellings.
type documentModel struct {
	alive, graves map[modelDocument]bool
	claims        map[modelDocument]map[string]bool // the indexes that list it
	said          map[modelRow]string               // the content that the index lists
	waits         map[modelRow]bool                 // true if it may mean several
}

func newDocumentModel() *documentModel {
	return &documentModel{
		map[modelDocument]bool{}, map[modelDocument]bool{},
		map[modelDocument]map[string]bool{}, map[modelRow]string{}, map[modelRow]bool{},
	}
}

func (m *documentModel) disclaim(r modelRow) {
	d := modelDocument{r.patient, r.path, m.said[r]}
	delete(m.claims[d], r.index)
	if len(m.claims[d]) == 0 {
		delete(m.alive, d)
	}
}

func (m *documentModel) bury(d modelDocument) {
	if m.alive[d] {
		delete(m.alive, d)
		m.graves[d] = true
	}
}

// read is what the rows of one path mean: the content that a patient's row lists, or "" for a
// removal.
func (m *documentModel) read(index, path string, rows map[string]string) {
	usable := false
	for patient, content := range rows {
		r := modelRow{index, path, patient}
		before, listed := m.said[r]
		delete(m.waits, r)
		if content == "" {
			usable = usable || listed
			if !listed {
				m.waits[r] = false
			}
			continue
		}
		usable = true
		if listed && before != content {
			m.disclaim(r)
		}
		d := modelDocument{patient, path, content}
		if m.claims[d] == nil {
			m.claims[d] = map[string]bool{}
		}
		m.claims[d][index], m.alive[d], m.said[r] = true, true, content
		delete(m.graves, d)
	}
	for _, patient := range []string{"a", "b"} {
		r := modelRow{index, path, patient}
		if _, is := rows[patient]; is {
			continue
		}
		delete(m.waits, r)
		if _, listed := m.said[r]; usable && listed {
			m.disclaim(r)
			delete(m.said, r)
		}
	}
}

// remove is the end of an import of rows.
func (m *documentModel) remove(index, path string, rows map[string]string) {
	buried := map[string]bool{}
	for patient, content := range rows {
		r := modelRow{index, path, patient}
		if listed, is := m.said[r]; is && content == "" {
			d := modelDocument{patient, path, listed}
			buried[patient] = m.alive[d]
			m.bury(d)
		}
	}
	for r := range m.waits {
		if r.path != path {
			continue
		}
		grave := false
		for d := range m.graves {
			grave = grave || d.patient == r.patient && d.path == path
		}
		var means []modelDocument
		for d := range m.alive {
			if d.patient == r.patient && d.path == path {
				means = append(means, d)
			}
		}
		several := m.waits[r] || len(means) > 1
		switch {
		case buried[r.patient], grave && (m.waits[r] || len(means) == 0):
			delete(m.waits, r)
		case several:
			m.waits[r] = true
		case len(means) == 1:
			m.bury(means[0])
			buried[r.patient] = true
			delete(m.waits, r)
		}
	}
}

// Whatever indexes say after each other of the same paths, documents and removals are those that a
// model knows, which has no names of patients but their ids.
func TestIndexesMeanTheSameHoweverTheyNamePatients(t *testing.T) {
	s := openStore(t, t.TempDir())
	load(t, s, folder(t, map[string]string{"p.ndjson": strings.NewReplacer(
		`"m-a"}`, `"m-a"},{"system":"urn:two","value":"t-a"}`,
		`"m-b"}`, `"m-b"},{"system":"urn:two","value":"t-b"}`,
	).Replace(patientsNamed("a", "b"))}))
	rnd := rand.New(rand.NewPCG(1, 7))
	names := func(patient string) string {
		return []string{patient, "urn:mrn|m-" + patient, "urn:two|t-" + patient}[rnd.IntN(3)]
	}
	end := time.Now().Add(4 * time.Second)
	steps := 0
	for history := 0; history < 60 && time.Now().Before(end); history++ {
		from, m := t.TempDir(), newDocumentModel()
		path := fmt.Sprintf("%d.txt", history)
		var log []string
		for range 9 {
			steps++
			index := []string{"x", "y", "z"}[rnd.IntN(3)]
			dir := filepath.Join(from, index)
			content := fmt.Sprint(history, " content ", rnd.IntN(3))
			rows, lines := map[string]string{}, []string{correctionHeader}
			for _, patient := range []string{"a", "b"} {
				row := fmt.Sprintf("%s,%s,title %d,", names(patient), path, steps)
				switch rnd.IntN(4) {
				case 0:
					rows[patient] = ""
					row += "entered-in-error"
				case 1, 2:
					rows[patient] = content
				default:
					continue
				}
				lines = append(lines, row)
			}
			if rnd.IntN(2) == 0 {
				slices.Reverse(lines[1:])
			}
			delivery(t, dir, map[string]string{path: content}, lines...)
			log = append(log, fmt.Sprintf("%s has %s and says %q", index, content, lines[1:]))
			load(t, s, dir)
			if len(rows) > 0 {
				m.read(index, path, rows)
				m.remove(index, path, rows)
			}
			if !agree(t, s, m, path) {
				t.Fatal(strings.Join(log, "\n"))
			}
		}
		if err := os.RemoveAll(from); err != nil {
			t.Fatal(err)
		}
	}
	if steps < 50 {
		t.Errorf("only %d steps", steps)
	}
}

// agree reports whether a store has the documents of a model.
func agree(t *testing.T, s *dataset.Store, m *documentModel, path string) bool {
	t.Helper()
	for _, patient := range []string{"a", "b"} {
		var want, got []string
		for d := range m.alive {
			if d.patient == patient {
				want = append(want, fmt.Sprintf("%s %s %s", patient, path, d.content))
			}
		}
		slices.Sort(want)
		for _, d := range documentsOf(t, s, patient) {
			if strings.HasPrefix(d, patient+" "+path+" ") {
				got = append(got, d)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", patient, got, want)
			return false
		}
	}
	return true
}
