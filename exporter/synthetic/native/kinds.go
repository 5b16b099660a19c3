package native

import (
	"strconv"
	"time"

	"ehi-server/exporter/synthetic/media"
	"ehi-server/exporter/synthetic/outline"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

func ofLOINC(code, display string) fhir.Coding {
	return fhir.Coding{System: loinc, Code: code, Display: display}
}

// picture chooses one of the pictures.
func (s *sheet) picture() int { return int(s.draw(1) & 7) }

// The resources that documents belong to.

func itsEncounter(s *sheet) (typ string, n uint32) {
	if s.visit == nil {
		return "Encounter", s.limit
	}
	return "Encounter", s.visit.First
}

func itsStudy(s *sheet) (typ string, n uint32) {
	return "ImagingStudy", s.others + outline.StudyAfter
}

// itsDocument is the DocumentReference of a kind of outline.Documents.
func itsDocument(i uint32) func(s *sheet) (typ string, n uint32) {
	return func(s *sheet) (typ string, n uint32) {
		return "DocumentReference", s.others + outline.DocumentAfter + i
	}
}

// The kinds of documents of several shapes.
var (
	// letter has no category, on purpose: an export must hold it back.
	letter = kind{name: "letter", title: "Scanned letter", write: func(s *sheet) *media.File {
		return media.RTF("Letter", []string{s.about(), s.date(), s.sentence(1)}, s.size)
	}}
	note = kind{instead: func(s *sheet) *kind {
		if noteKind(s.patient, s.n) == telephoneNote {
			return &telephone
		}
		return &progress
	}}
	progress  = noted("Progress note", ofLOINC("11506-3", "Progress note"))
	telephone = noted("Telephone note", ofLOINC("34748-4", "Telephone encounter Note"))
	summary   = kind{
		name:     "discharge-summary",
		title:    "Discharge summary",
		category: ehi.DischargeSummary,
		typ:      ofLOINC("18842-5", "Discharge summary"),
		belongs:  itsDocument(0),
		write: func(s *sheet) *media.File {
			return media.PDF("Discharge summary", []string{
				s.about(), s.date(), s.sentence(1), s.sentence(2), s.sentence(3),
			}, s.size)
		},
	}
	photograph = kind{
		name:     "photograph",
		title:    "Skin of the left forearm",
		category: ehi.Photographs,
		typ:      ofLOINC("72170-4", "Photographic image"),
		belongs: func(s *sheet) (typ string, n uint32) {
			return "Media", s.others + outline.PhotographAfter
		},
		write: func(s *sheet) *media.File { return media.JPEG(s.picture(), s.about(), s.size) },
	}
	diagram = kind{
		name:     "body-diagram",
		title:    "Diagram of findings",
		category: ehi.OtherDocuments,
		labels: []fhir.Coding{{
			System:  "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
			Code:    "R",
			Display: "restricted",
		}},
		belongs: itsEncounter,
		write:   func(s *sheet) *media.File { return media.PNG(s.picture(), s.about(), s.size) },
	}
	scan = kind{
		name:     "pathology-report",
		title:    "Scanned pathology report",
		category: ehi.Pathology,
		typ:      ofLOINC("11526-1", "Pathology study"),
		belongs:  itsDocument(2),
		write:    func(s *sheet) *media.File { return media.TIFF(s.picture(), s.about(), s.size) },
	}
	slices3 = []kind{slice(1), slice(2), slice(3)}
)

// noted returns a kind of notes.
func noted(title string, typ fhir.Coding) kind {
	return kind{
		title:    title,
		category: ehi.Visits,
		typ:      typ,
		belongs:  itsEncounter,
		named:    func(s *sheet) string { return noteStem(s.patient, s.n) },
		write: func(s *sheet) *media.File {
			return media.RTF(title, []string{
				s.about(), s.date(), "Subjective: " + s.sentence(1),
				"Objective: " + s.sentence(2), "Plan: " + s.sentence(3),
			}, s.size)
		},
	}
}

// noteStem is the name of the file with note n of a patient, without extension.
func noteStem(p *patient, n int) string {
	return "note-" + strconv.FormatUint(p.K<<rowBits|uint64(n), 10)
}

// noteName is the name of the file with note n of a patient.
func noteName(p *patient, n int) string { return noteStem(p, n) + ".rtf" }

// slice is image n of the series of the patient's ImagingStudy.
func slice(n int) kind {
	return kind{
		name:     "slice-" + strconv.Itoa(n),
		title:    "Chest X-ray, image " + strconv.Itoa(n) + " of 3",
		category: ehi.Radiology,
		typ:      ofLOINC("18748-4", "Diagnostic imaging study"),
		belongs:  itsStudy,
		write: func(s *sheet) *media.File {
			const root = "1.2.840.99999999."
			uid := strconv.Itoa(s.Study)
			instance := root + "1." + uid
			if n > 1 || s.n > 0 {
				instance += "." + strconv.Itoa(3*s.n+n)
			}
			return media.DICOM(media.Slice{
				Study:       root + "2." + uid,
				Series:      root + uid,
				Instance:    instance,
				Number:      3*s.n + n,
				PatientName: s.Family + "^" + s.Given,
				PatientID:   "MRN" + strconv.FormatUint(outline.FirstNumber+s.K, 10),
				Sex:         string(s.Gender[0] - 'a' + 'A'),
				Born:        s.Born,
				Taken:       time.Unix(s.at, 0).UTC(),
				Description: "Chest X-ray",
			}, s.size)
		},
	}
}
