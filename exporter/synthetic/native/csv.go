package native

import (
	"ehi-server/exporter/synthetic/outline"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// csvShape is tables with images and a DICOM series.
func csvShape() shape {
	s := shape{name: "csv-zip", tables: newCSV, once: []kind{photograph, diagram}}
	s.once = append(append(s.once, slices3...), letter)
	return s
}

// imageFiles are the names of the documents that the table images names, in their order.
var imageFiles = []string{
	"photograph-1.jpg", "body-diagram-2.png", "slice-1-3.dcm", "slice-2-4.dcm", "slice-3-5.dcm",
}

// imageFile is the name of an image, if there is one.
var imageFile = made("string", func(dst []byte, r *row) []byte {
	if !r.cfg.has(r.sub) {
		return dst
	}
	return append(dst, imageFiles[r.sub]...)
})

// hard are cells that readers of CSV take wrongly if they do not know RFC 4180, and cells that a
// spreadsheet takes for formulas.
var hard = []string{
	"Two lines:\nfirst and second", "Lines end with CRLF:\r\nas those of the file",
	`A "quoted" word`,
	"Commas, semicolons; and tabs\tin one cell", `=HYPERLINK("https://example.org","result")`,
	"+1 617 555 0100", "-2+3", "@SUM(A1:A9)", "Zoë Müller, 37.2 °C, 日本語", `"`,
	" spaces at both ends ", "plain",
}

// newCSV returns the tables of csv-zip. They name patients by their record numbers.
func newCSV(ids *sharedIDs) *schema {
	byNumber := []string{"record_number"}
	byEncounter := []string{"encounter_key", "record_number"}
	person := column{"record_number", "The patient", recordNumber.to("persons.record_number")}
	encounter := column{"encounter_key", "The encounter", visitID.to("encounters.encounter_key")}
	remarks := column{"remarks", "Free text", pick(append(hard, sentences...)...)}
	s := &schema{
		name:  "synthetic-csv-zip",
		title: "Tables of a synthetic practice system",
		about: "Comma-separated tables of a practice system that does not exist. Images are files " +
			"beside the tables, which the table images names. Cells that a spreadsheet takes for " +
			"formulas are as they are in the system.",
		delimiter:     ',',
		terminator:    "\r\n",
		format:        "csv",
		mediaType:     "text/csv",
		patientSystem: "urn:oid:2.16.840.1.113883.19.5",
		lookups: append(staff(ids),
			codes("gender", "Genders", "F female", "M male"),
			coded("test", "Tests and vital signs", loinc, tests()),
			coded("diagnosis", "Diagnoses of ICD-10-CM", icd10, diagnoses),
			coded("vaccine", "Vaccines of CVX", cvx, vaccines),
			codes("encounter_kind", "Kinds of encounters", "OFF office", "TEL telephone"),
			codes("item", "What is invoiced", "V1 short visit", "V2 visit", "L1 blood test"),
		),
	}
	s.tables = []table{
		{name: "persons", title: "Persons: One row for each patient.", category: always,
			patient: byNumber, grain: perPatient(1), columns: []column{
				{"record_number", "Medical record number", recordNumber.own()},
				{"patient_resource", "The Patient", patientID.to("")},
				{"given_name", "Given name", word(func(r *row) string { return r.Given })},
				{"family_name", "Family name", word(func(r *row) string { return r.Family })},
				{"birth_date", "Date of birth", born},
				{"gender_code", "Gender", genderCode},
				{"facility_id", "Facility that keeps the record", facilityID},
			}},
		{name: "addresses", title: "Addresses", category: general, patient: byNumber,
			grain: perPatient(2), columns: []column{
				{"address_key", "Key", rowKey}, person,
				{"street", "Street and number", street},
				{"city", "City", word(func(r *row) string { return r.City })},
				remarks,
			}},
		{name: "contacts", title: "Next of kin", category: general, patient: byNumber,
			grain: perPatient(1), columns: []column{
				{"contact_key", "Key", rowKey}, person,
				{"related_person", "The person", linked("RelatedPerson",
					func(*row) uint32 { return outline.RelatedPersonAt })},
				{"name", "Name", word(func(r *row) string { return r.Relative })},
			}},
		{name: "encounters", title: "Encounters: One row for each visit.", category: visits,
			date: "started_at", patient: byNumber, grain: perVisit(1), columns: []column{
				{"encounter_key", "ID of the encounter", visitID.own()}, person,
				{"encounter_kind_code", "Kind", from("encounter_kind")},
				{"facility_id", "Facility", facilityID}, {"site_id", "Building", siteID},
				theClinician, {"started_at", "Start", start}, {"ended_at", "End", end}, remarks,
			}},
		{name: "encounter_diagnoses", title: "Diagnoses of encounters", category: visits,
			patient: byEncounter, grain: perVisit(2), key: []string{"encounter_key", "line"},
			columns: []column{
				encounter, {"line", "Number of the diagnosis", line},
				{"diagnosis_code", "Code of ICD-10-CM", from("diagnosis").coded(icd10)}, remarks,
			}},
		{name: "conditions", title: "Conditions", category: general, date: "onset_on",
			patient: byNumber, grain: perProblem(1), columns: []column{
				{"condition_key", "Key", rowKey}, person,
				{"condition_resource", "The condition", linked("Condition", (*row).problem)},
				{"diagnosis_code", "Code of ICD-10-CM", problemCode.coded(icd10)},
				{"condition_name", "Name", problemConcept(false)},
				{"onset_on", "Date of the onset", date}, remarks,
			}},
		{name: "measurements", title: "Vital signs", category: visits, date: "taken_at",
			patient: byEncounter, grain: perVisit(4), columns: []column{
				{"measurement_key", "Key", rowKey}, encounter,
				{"observation", "The observation", linked("Observation",
					func(r *row) uint32 { return r.visit.Vital(r.sub) })},
				{"test_code", "Code of LOINC", vital(true).to("test").coded(loinc)},
				{"value", "Value", figure(func(r *row) int64 {
					return int64(r.visit.Vitals[r.sub])
				})},
				{"taken_at", "When it was measured", start},
			}},
		{name: "results", title: "Laboratory results", category: results, date: "reported_at",
			patient: byEncounter, grain: perTest(5), columns: []column{
				{"result_key", "Key", rowKey}, encounter,
				{"observation", "The observation", linked("Observation",
					func(r *row) uint32 { return r.visit.Result(r.sub) })},
				{"test_code", "Code of LOINC", lab(true).to("test").coded(loinc)},
				{"value", "Value", figure(func(r *row) int64 {
					return int64(r.visit.Labs[r.sub])
				})},
				{"reported_at", "When it was reported", end}, remarks,
			}},
		{name: "prescriptions", title: "Prescriptions", category: general, date: "written_at",
			patient: byEncounter, grain: perPrescription(1), columns: []column{
				{"prescription_key", "Key", rowKey}, encounter,
				{"request", "The prescription", linked("MedicationRequest",
					func(r *row) uint32 { return r.visit.Done() })},
				{"drug_id", "The drug", drugID}, {"quantity", "Number of units", count(10, 80)},
				{"written_at", "When it was written", start}, remarks,
			}},
		{name: "vaccinations", title: "Vaccinations", category: general, date: "given_at",
			patient: byEncounter, grain: perVaccination(1), columns: []column{
				{"vaccination_key", "Key", rowKey}, encounter,
				{"immunization", "The immunization", linked("Immunization",
					func(r *row) uint32 { return r.visit.Done() })},
				{"vaccine_code", "Code of CVX", from("vaccine").coded(cvx)},
				{"given_at", "When it was given", start},
			}},
		{name: "texts", title: "Texts: What clinicians wrote.", category: visits,
			date: "written_at", patient: byEncounter, grain: perVisit(1), columns: []column{
				{"text_key", "Key", rowKey}, encounter, theClinician,
				{"written_at", "When it was written", end},
				{"security_label", "Security label", maybe(50, pick("R")).labelled()},
				{"body", "Text", pick(append(hard, sentences...)...)},
			}},
		{name: "letters", title: "Letters between patients and clinicians", category: general,
			date: "sent_on", patient: byNumber, grain: perPatient(3), columns: []column{
				{"letter_key", "Key", rowKey}, person,
				{"topic", "Topic", each("appointment", "social work", "bill")},
				{"sent_on", "When it was sent", later(100, 2000)}, remarks,
			},
			sensitive: []datapackage.Sensitive{{
				Field:         "topic",
				Values:        []string{"social work"},
				Authorization: string(ehi.Confidential),
			}}},
		{name: "invoices", title: "Invoices", category: billing, date: "created_at",
			patient: byEncounter, grain: perVisit(1), columns: []column{
				{"invoice_key", "Key", rowKey}, encounter,
				{"claim", "The claim", linked("Claim",
					func(r *row) uint32 { return r.visit.Claim() })},
				{"total", "Total in dollars", claimTotal},
				{"created_at", "When it was made", end},
			}},
		{name: "invoice_lines", title: "Lines of invoices", category: billing,
			patient: []string{"invoice_key", "encounter_key", "record_number"},
			grain:   perVisit(2), key: []string{"invoice_key", "line"}, columns: []column{
				{"invoice_key", "The invoice", parent("invoices.invoice_key", 2)},
				{"line", "Number of the line", line}, {"item_code", "Item", from("item")},
				{"amount", "Amount in dollars", amount(20, 300)}, remarks,
			}},
		{name: "images", title: "Images: Which file shows what.", category: imaging,
			patient: byNumber, grain: perPatient(len(imageFiles)), columns: []column{
				{"image_key", "Key", rowKey}, person,
				{"file_name", "Name of the file", imageFile},
				{"caption", "What it shows", each("Skin", "Findings", "Chest", "Chest", "Chest")},
			}},
		// Nobody has classified this table, on purpose: an export must hold it back.
		{name: "changes", title: "Changes of the record", category: unknown, date: "changed_at",
			patient: byEncounter, grain: perVisit(2), columns: []column{
				{"change_key", "Key", rowKey}, encounter, theClinician,
				{"changed_at", "When it changed", minutes(0, 60)}, remarks,
			}},
	}
	return s
}
