package synthetic_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"testing"

	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/exporter/synthetic/outline"
)

// Tests, benchmarks and stored exports hold what the generator made of a seed. A digest here may
// change only on purpose.
func TestTheLinesOfASeedStayTheSame(t *testing.T) {
	for settings, want := range map[string]string{
		"":                               "c7758614c3ec9922",
		"seed=7,patients=1000000":        "f42d055470df3087",
		"resources=3":                    "7ee70581f2d7f198",
		"resources=40,seed=2":            "fa1c0b9c30fcacea",
		"resources=100,size=600,seed=11": "673582a112a70d2b",
		"resources=2000,errors=0.01":     "64aef1796fe179e3",
	} {
		c, sum := config(t, settings), sha256.New()
		for k := range 30 {
			lines := generate(t, c, k*max(1, c.Patients/100))
			sum.Write(bytes.Join(lines, []byte{'\n'}))
		}
		if got := hex.EncodeToString(sum.Sum(nil)[:8]); got != want {
			t.Errorf("%s: the digest is %s, want %s", strconv.Quote(settings), got, want)
		}
	}
}

// The same holds for tables and documents, but for images: the compressors of the standard library
// may change.
func TestTheNativeContentOfASeedStaysTheSame(t *testing.T) {
	for settings, want := range map[string]string{
		"native=tsv-tables":                    "9b83910369b13a6d",
		"native=csv-zip,seed=5":                "d5de177b7f903ecc",
		"native=ndjson-files,resources=300":    "2a14dd665dec7b32",
		"native=ccda,document-bytes=20k":       "eb2aa8530ee11f5b",
		"native=mixed,documents=20,patients=3": "d85bcf83174ced7e",
	} {
		s, c := nativeSource(t, settings)
		sum := sha256.New()
		for k := range 3 {
			r := open(t, s, c, k)
			if tables := r.Tables(); tables != nil {
				for _, of := range tables.Resources {
					sum.Write([]byte(rowsOf(t, r, of.Name)))
				}
			}
			for _, d := range documentsOf(t, r, source.Query{}) {
				if d.ContentType != "image/jpeg" && d.ContentType != "image/png" {
					sum.Write(content(t, &d))
				}
			}
		}
		if got := hex.EncodeToString(sum.Sum(nil)[:8]); got != want {
			t.Errorf("%s: the digest is %s, want %s", settings, got, want)
		}
	}
}

// Native content refers to resources by the numbers of package outline.
func TestTheNumbersOfAnOutlineAreThoseOfItsResources(t *testing.T) {
	for _, settings := range []string{"", "resources=3", "resources=150", "resources=1000"} {
		c := config(t, settings)
		d := outline.NewDrawer(outline.Config{Seed: c.Seed, Resources: c.Resources})
		for k := range 20 {
			types := typesByID(t, c, k)
			p := d.Person(uint64(k))
			check := func(n uint32, typ string) {
				t.Helper()
				if c.Resources > 0 && int(n) >= c.Resources {
					typ = ""
				}
				id := p.ID
				if id.Number(n); types[string(id[:])] != typ {
					t.Fatalf("%s: resource %d of patient %d is a %q, want a %q", settings, n, k,
						types[string(id[:])], typ)
				}
			}
			check(outline.PatientAt, "Patient")
			check(outline.RelatedPersonAt, "RelatedPerson")
			check(outline.CoverageAt, "Coverage")
			for i := range p.Conditions {
				check(outline.ConditionAt+uint32(i), "Condition")
			}
			check(p.CareTeam(), "CareTeam")
			check(p.Goal(), "Goal")
			check(p.Plan(), "CarePlan")
			check(p.Allergy(), "AllergyIntolerance")
			check(p.FamilyHistory(), "FamilyMemberHistory")
			check(p.Device(), "Device")
			after := p.Device() + 1
			d.Visits(&p, outline.Parts{
				Visit: func(v *outline.Visit) bool {
					checkVisit(check, v)
					after = v.After()
					return true
				},
				Others: func(first uint32) {
					checkOthers(check, first)
					after = first + outline.Others
				},
			})
			check(after, "")
		}
	}
}

func typesByID(t *testing.T, c synthetic.Config, k int) map[string]string {
	types := map[string]string{}
	for _, line := range generate(t, c, k) {
		var r struct{ ResourceType, ID string }
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		types[r.ID] = r.ResourceType
	}
	return types
}

func checkVisit(check func(n uint32, typ string), v *outline.Visit) {
	check(v.First, "Encounter")
	for i := range v.Vitals {
		check(v.Vital(i), "Observation")
	}
	if v.Tested() {
		check(v.Order(), "ServiceRequest")
		check(v.Specimen(), "Specimen")
		for i := range v.Labs {
			check(v.Result(i), "Observation")
		}
		check(v.Panel(), "DiagnosticReport")
	}
	switch {
	case v.Treated():
		check(v.Done(), "Procedure")
	case v.Vaccinated():
		check(v.Done(), "Immunization")
	case v.Prescribed():
		check(v.Done(), "MedicationRequest")
		check(v.Dispense(), "MedicationDispense")
	case v.Asked():
		check(v.Done(), "Observation")
	}
	check(v.Claim(), "Claim")
	check(v.Benefit(), "ExplanationOfBenefit")
}

func checkOthers(check func(n uint32, typ string), first uint32) {
	for i := range outline.Documents {
		check(first+outline.DocumentAfter+uint32(i), "DocumentReference")
	}
	check(first+outline.StudyAfter, "ImagingStudy")
	check(first+outline.RadiologyAfter, "DiagnosticReport")
	check(first+outline.PhotographAfter, "Media")
	for i := range outline.Sensitive {
		check(first+outline.SensitiveAfter+2*uint32(i), "Condition")
	}
	check(first+outline.InfectionAfter, "Condition")
	check(first+outline.GeneticAfter, "Observation")
	check(first+outline.ConversationAfter, "Communication")
}
