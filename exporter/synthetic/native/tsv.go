package native

import (
	"ehi-server/exporter/synthetic/outline"
	"ehi-server/shared/datapackage"
	"ehi-server/shared/ehi"
)

// Categories of tables.
var (
	always  = datapackage.Always
	visits  = category(ehi.Visits)
	results = category(ehi.Labs)
	billing = category(ehi.Billing)
	general = category(ehi.MedicalRecord)
	imaging = category(ehi.Radiology)
	papers  = category(ehi.OtherDocuments)
	unknown = "" // nobody has classified the table
)

// How tables lead to the patient.
var (
	byPatient = []string{"patient_id"}
	byVisit   = []string{"visit_id", "patient_id"}
	byNote    = []string{"note_id", "visit_id", "patient_id"}
)

func perPatient(times int) grain { return grain{of: ofPatient, times: times} }
func perProblem(times int) grain { return grain{of: ofProblem, times: times} }
func perVisit(times int) grain   { return grain{of: ofVisit, every: 1, times: times} }

// Visits of one kind, see outline.Visit.
func perTest(times int) grain         { return grain{of: ofVisit, every: 2, times: times} }
func perProcedure(times int) grain    { return grain{of: ofVisit, every: 4, times: times} }
func perVaccination(times int) grain  { return grain{of: ofVisit, every: 4, rest: 1, times: times} }
func perPrescription(times int) grain { return grain{of: ofVisit, every: 4, rest: 2, times: times} }
func perQuestion(times int) grain     { return grain{of: ofVisit, every: 4, rest: 3, times: times} }

// Columns of many tables.
var (
	thePatient   = column{"patient_id", "The patient", patientID}
	theVisit     = column{"visit_id", "The visit", visitID}
	theClinician = column{"clinician_id", "The clinician", clinicianID}
	comment      = column{"comment", "Free text", pick(sentences...)}
	recordedAt   = column{"recorded_at", "When it was written down", end}
)

func tsvShape() shape {
	return shape{
		name:       "tsv-tables",
		tables:     newTSV,
		once:       []kind{letter},
		everyVisit: []kind{note},
	}
}

// newTSV returns the tables of tsv-tables.
func newTSV(ids *sharedIDs) *schema {
	s := &schema{
		name:  "synthetic-tsv-tables",
		title: "Tables of a synthetic record system",
		about: "Tab-separated tables of a relational record system that does not exist. Notes are " +
			"rich-text files beside the tables, which the table note names.",
		delimiter:  '\t',
		terminator: "\n",
		format:     "tsv",
		mediaType:  "text/tab-separated-values",
		lookups:    tsvLookups(ids),
	}
	for _, part := range [][]table{
		personTables(), problemTables(), visitTables(), orderTables(), medicationTables(),
		noteTables(), billingTables(), otherTables(),
	} {
		s.tables = append(s.tables, part...)
	}
	return s
}

func personTables() []table {
	return []table{
		{name: "patient", title: "Patients: One row for each patient.", category: always,
			patient: byPatient, grain: perPatient(1), columns: []column{
				{"patient_id", "ID of the patient", patientID.own()},
				{"record_number", "Medical record number", recordNumber},
				{"birth_date", "Date of birth", born},
				{"gender_code", "Administrative gender", genderCode},
				{"marital_status_code", "Marital status", from("marital_status")},
				{"language_code", "Preferred language", from("language")},
				{"facility_id", "Facility that keeps the record", facilityID},
				{"care_role_id", "General practitioner", roleID},
				{"registered_at", "When the patient was registered", start},
			}},
		{name: "patient_name", title: "Names of patients", category: always, patient: byPatient,
			grain: perPatient(2), columns: []column{
				{"patient_name_id", "Key", rowKey},
				thePatient,
				{"name_kind", "Official name or nickname", each("official", "usual")},
				{"given_name", "Given name", word(func(r *row) string { return r.Given })},
				{"family_name", "Family name", word(func(r *row) string { return r.Family })},
				{"spelled_as", "Spelling on old documents", maybe(4,
					pick("José", "Zoë", "François", "Søren", "Łukasz"))},
				{"valid_from", "First day of the name", date},
			}},
		{name: "patient_address", title: "Addresses of patients", category: general,
			patient: byPatient, grain: perPatient(2), columns: []column{
				{"patient_address_id", "Key", rowKey},
				thePatient,
				{"address_kind_code", "Kind of address", eachOf("address_kind")},
				{"street", "Street and number", street},
				{"city", "City", word(func(r *row) string { return r.City })},
				{"state", "State", pick("MA")},
				{"valid_from", "First day of the address", date},
			}},
		{name: "patient_phone", title: "Telephone numbers of patients", category: general,
			patient: byPatient, grain: perPatient(2), columns: []column{
				{"patient_phone_id", "Key", rowKey},
				thePatient,
				{"contact_kind_code", "Kind of number", eachOf("contact_kind")},
				{"phone_number", "Number", figure(func(r *row) int64 {
					return int64(r.Phone + r.sub)
				})},
				{"may_leave_message", "Whether a message may be left", flag(2)},
			}},
		{name: "patient_identifier", title: "Identifiers of patients in other systems",
			category: general, patient: byPatient, grain: perPatient(2), columns: []column{
				{"patient_identifier_id", "Key", rowKey},
				thePatient,
				{"issuer", "Who issued the identifier", each("Insurance", "Former clinic")},
				{"identifier", "Identifier", count(100_000_000, 900_000_000)},
			}},
		{name: "patient_contact", title: "Next of kin", category: general, patient: byPatient,
			grain: perPatient(1), columns: []column{
				{"patient_contact_id", "Key", rowKey},
				thePatient,
				{"related_person_id", "The person", linked("RelatedPerson",
					func(*row) uint32 { return outline.RelatedPersonAt })},
				{"relation_code", "Relation to the patient", from("relation")},
				{"given_name", "Given name", word(func(r *row) string { return r.Relative })},
				{"family_name", "Family name", word(func(r *row) string { return r.Family })},
				{"is_emergency_contact", "Whether to call in an emergency", flag(2)},
			}},
		{name: "patient_preference", title: "Preferences of patients", category: general,
			patient: byPatient, grain: perPatient(3), columns: []column{
				{"patient_preference_id", "Key", rowKey},
				thePatient,
				{"topic", "What the preference is about", each("contact", "diet", "room")},
				{"preference", "The preference", pick("by letter", "vegetarian", "no pork",
					"single room", "near a window", "by telephone")},
			}},
		{name: "patient_consent", title: "Consents of patients", category: general,
			date: "signed_on", patient: byPatient, grain: perPatient(2), columns: []column{
				{"patient_consent_id", "Key", rowKey},
				thePatient,
				{"consent_kind_code", "Kind of consent", eachOf("consent_kind")},
				{"signed_on", "Date of the signature", later(0, 400)},
				{"is_withdrawn", "Whether the patient withdrew it", flag(20)},
			}},
		{name: "care_team", title: "Care teams", category: general, patient: byPatient,
			grain: perPatient(1), columns: []column{
				{"care_team_id", "Key", rowKey},
				thePatient,
				{"team_resource", "The team", linked("CareTeam",
					func(r *row) uint32 { return r.CareTeam() })},
				{"name", "Name", pick("Primary care team", "Diabetes team")},
			}},
		{name: "care_team_member", title: "Members of care teams", category: general,
			patient: []string{"care_team_id", "patient_id"}, grain: perPatient(3),
			columns: []column{
				{"care_team_member_id", "Key", rowKey},
				{"care_team_id", "The team", parent("care_team.care_team_id", 3)},
				theClinician,
				{"duty", "Duty in the team", each("lead", "nurse", "dietician")},
				{"joined_on", "First day in the team", later(0, 300)},
			}},
		{name: "care_plan", title: "Care plans", category: general, patient: byPatient,
			grain: perPatient(1), columns: []column{
				{"care_plan_id", "Key", rowKey},
				thePatient,
				{"plan_resource", "The plan", linked("CarePlan",
					func(r *row) uint32 { return r.Plan() })},
				{"name", "Name", pick("Diabetes self management plan")},
				comment,
			}},
		{name: "care_plan_activity", title: "Activities of care plans", category: general,
			patient: []string{"care_plan_id", "patient_id"}, grain: perPatient(4),
			columns: []column{
				{"care_plan_activity_id", "Key", rowKey},
				{"care_plan_id", "The plan", parent("care_plan.care_plan_id", 4)},
				{"activity", "What to do", each("Walk 30 minutes a day", "Measure glucose",
					"Keep a diary", "See the dietician")},
				{"planned_for", "Planned date", later(30, 900)},
				comment,
			}},
		{name: "goal", title: "Goals of patients", category: general, patient: byPatient,
			grain: perPatient(1), columns: []column{
				{"goal_id", "Key", rowKey},
				thePatient,
				{"goal_resource", "The goal", linked("Goal",
					func(r *row) uint32 { return r.Goal() })},
				{"goal_text", "The goal in words", pick("Walk 30 minutes a day")},
			}},
	}
}

func problemTables() []table {
	return []table{
		{name: "problem", title: "Problem list: Chronic and past conditions.", category: general,
			date: "onset_on", patient: byPatient, grain: perProblem(1), columns: []column{
				{"problem_id", "Key", rowKey},
				thePatient,
				{"condition_resource", "The condition", linked("Condition", (*row).problem)},
				{"diagnosis_code", "Code of ICD-10-CM", problemCode.coded(icd10)},
				{"snomed_code", "Code of SNOMED CT", problemConcept(true).coded(snomed)},
				{"problem_name", "Name", problemConcept(false)},
				{"problem_status_code", "Status", from("problem_status")},
				{"severity_code", "Severity", from("severity")},
				{"onset_on", "Date of the onset", date},
				comment,
			}},
		{name: "problem_history", title: "Changes of the problem list", category: general,
			date: "changed_on", patient: []string{"problem_id", "patient_id"},
			grain: perProblem(2), columns: []column{
				{"problem_history_id", "Key", rowKey},
				{"problem_id", "The problem", parent("problem.problem_id", 2)},
				{"condition_resource", "The condition", linked("Condition", (*row).problem)},
				{"diagnosis_code", "Code of ICD-10-CM", problemCode.coded(icd10)},
				{"changed_on", "Date of the change", later(1, 900)},
				theClinician,
				comment,
			}},
		{name: "allergy", title: "Allergies", category: general, date: "recorded_on",
			patient: byPatient, grain: perPatient(1), columns: []column{
				{"allergy_id", "Key", rowKey},
				thePatient,
				{"allergy_resource", "The allergy", linked("AllergyIntolerance",
					func(r *row) uint32 { return r.Allergy() })},
				{"allergen_code", "What the patient is allergic to", eachOf("allergen")},
				{"severity_code", "Severity", from("severity")},
				{"recorded_on", "When it was written down", date},
			}},
		{name: "allergy_reaction", title: "Reactions of allergies", category: general,
			patient: []string{"allergy_id", "patient_id"}, grain: perPatient(2),
			columns: []column{
				{"allergy_reaction_id", "Key", rowKey},
				{"allergy_id", "The allergy", parent("allergy.allergy_id", 2)},
				{"reaction_code", "Reaction", eachOf("reaction")},
				comment,
			}},
		{name: "family_history", title: "Conditions of relatives", category: general,
			patient: byPatient, grain: perPatient(1), columns: []column{
				{"family_history_id", "Key", rowKey},
				thePatient,
				{"history_resource", "The entry", linked("FamilyMemberHistory",
					func(r *row) uint32 { return r.FamilyHistory() })},
				{"relation_code", "Relative", from("relation")},
				{"condition_name", "Condition", pick("Hypertensive disorder")},
			}},
		{name: "device", title: "Devices of patients", category: general, patient: byPatient,
			grain: perPatient(1), columns: []column{
				{"device_id", "Key", rowKey},
				thePatient,
				{"device_resource", "The device", linked("Device",
					func(r *row) uint32 { return r.Device() })},
				{"device_name", "Name", pick("Blood pressure monitor")},
				{"serial_number", "Serial number", count(1_000_000, 9_000_000)},
			}},
		{name: "risk_score", title: "Scores of risks", category: general, date: "computed_on",
			patient: byPatient, grain: perPatient(4), columns: []column{
				{"risk_score_id", "Key", rowKey},
				thePatient,
				{"risk_kind_code", "What the risk is of", eachOf("risk_kind")},
				{"score", "Score in percent", amount(0, 40)},
				{"computed_on", "When it was computed", later(200, 1500)},
			}},
		{name: "social_history", title: "Social history", category: general,
			date: "recorded_at", patient: byVisit, grain: perQuestion(1), columns: []column{
				{"social_history_id", "Key", rowKey},
				theVisit,
				{"observation_resource", "The observation", linked("Observation",
					func(r *row) uint32 { return r.visit.Done() })},
				{"topic", "Topic", pick("Tobacco smoking status")},
				{"answer", "Answer", pick("Never smoked")},
				recordedAt,
			}},
		{name: "genetic_result", title: "Genetic tests", category: results, date: "reported_on",
			patient: byPatient, grain: perPatient(1), columns: []column{
				{"genetic_result_id", "Key", rowKey},
				thePatient,
				{"observation_resource", "The observation", linked("Observation",
					func(r *row) uint32 { return r.other(outline.GeneticAfter) })},
				{"loinc_code", "Code of LOINC", pick("51968-6").coded(loinc)},
				{"finding", "Finding", pick("No variant found")},
				{"reported_on", "Date of the report", later(1200, 1)},
			}},
	}
}

func visitTables() []table {
	return []table{
		{name: "visit", title: "Visits: One row for each encounter.", category: visits,
			date: "started_at", patient: byPatient, grain: perVisit(1), columns: []column{
				{"visit_id", "ID of the visit", visitID.own()},
				thePatient,
				{"visit_number", "Number of the visit", figure(func(r *row) int64 {
					return int64(r.visit.N) + 1
				})},
				{"visit_kind_code", "Kind of visit", from("visit_kind")},
				{"visit_status_code", "Status", from("visit_status")},
				{"facility_id", "Facility", facilityID},
				{"site_id", "Building", siteID},
				theClinician,
				{"started_at", "Start", start},
				{"ended_at", "End", end},
				{"reason", "Why the patient came", pick(reasons...)},
			}},
		{name: "visit_status_history", title: "Changes of the status of visits",
			category: visits, date: "changed_at", patient: byVisit, grain: perVisit(3),
			columns: []column{
				{"visit_status_history_id", "Key", rowKey},
				theVisit,
				{"visit_status_code", "New status", eachOf("visit_status")},
				{"changed_at", "When it changed", minutes(0, 15)},
				theClinician,
			}},
		{name: "visit_provider", title: "People who took part in visits", category: visits,
			patient: byVisit, grain: perVisit(2), columns: []column{
				{"visit_provider_id", "Key", rowKey},
				theVisit,
				theClinician,
				{"duty_code", "Duty", eachOf("duty")},
				{"arrived_at", "When the person arrived", minutes(0, 15)},
			}},
		{name: "visit_diagnosis", title: "Diagnoses of visits", category: visits,
			date: "recorded_at", patient: byVisit, grain: perVisit(2), key: []string{
				"visit_id", "line"}, columns: []column{
				theVisit,
				{"line", "Number of the diagnosis", line},
				{"diagnosis_code", "Code of ICD-10-CM", from("diagnosis").coded(icd10)},
				{"is_primary", "Whether it is the main diagnosis", each("true", "false").as(
					"boolean")},
				recordedAt,
				comment,
			}},
		{name: "visit_space", title: "Rooms of visits", category: visits, patient: byVisit,
			grain: perVisit(1), columns: []column{
				{"visit_space_id", "Key", rowKey},
				theVisit,
				{"facility_id", "Facility", facilityID.to("")},
				{"department_code", "Department", each("GEN")},
				{"room", "Room", count(100, 300)},
			},
			foreign: []datapackage.ForeignKey{foreign("department",
				[]string{"facility_id", "department_code"},
				[]string{"facility_id", "department_code"})}},
		{name: "visit_vehicle", title: "How patients came", category: visits, patient: byVisit,
			grain: perVisit(1), columns: []column{
				{"visit_id", "The visit", visitID},
				{"arrival_code", "How the patient came", from("arrival")},
				{"needs_escort", "Whether somebody came along", flag(5)},
			}},
		{name: "triage", title: "Triage", category: visits, date: "assessed_at",
			patient: byVisit, grain: perProcedure(1), columns: []column{
				{"triage_id", "Key", rowKey},
				theVisit,
				{"order_priority_code", "Urgency", from("order_priority")},
				{"assessed_at", "When", start},
				comment,
			}},
		{name: "appointment", title: "Appointments", category: visits, date: "planned_for",
			patient: byVisit, grain: perVisit(1), columns: []column{
				{"appointment_id", "Key", rowKey},
				theVisit,
				{"planned_for", "Planned start", minutes(-20, 30)},
				{"planned_minutes", "Planned length in minutes", count(10, 50)},
				{"appointment_status_code", "Status", from("appointment_status")},
				{"made_on", "When it was made", later(-60, 50)},
				comment,
			}},
		{name: "appointment_reminder", title: "Reminders of appointments", category: visits,
			date: "sent_on", patient: []string{"appointment_id", "visit_id", "patient_id"},
			grain: perVisit(2), columns: []column{
				{"appointment_reminder_id", "Key", rowKey},
				{"appointment_id", "The appointment", parent("appointment.appointment_id", 2)},
				{"contact_kind_code", "How it was sent", from("contact_kind")},
				{"sent_on", "When it was sent", later(-7, 6)},
			}},
		{name: "vital_sign", title: "Vital signs", category: visits, date: "taken_at",
			patient: byVisit, grain: perVisit(4), columns: []column{
				{"vital_sign_id", "Key", rowKey},
				theVisit,
				{"observation_resource", "The observation", linked("Observation",
					func(r *row) uint32 { return r.visit.Vital(r.sub) })},
				{"test_code", "Code of LOINC", vital(true).to("test").coded(loinc)},
				{"value", "Value", figure(func(r *row) int64 {
					return int64(r.visit.Vitals[r.sub])
				})},
				{"unit_code", "Unit", each(units(outline.Vitals)...).to("unit.code")},
				{"taken_at", "When it was measured", start},
				{"taken_by", "Who measured", clinicianID},
			}},
		{name: "procedure", title: "Procedures", category: visits, date: "started_at",
			patient: byVisit, grain: perProcedure(1), columns: []column{
				{"procedure_id", "Key", rowKey},
				theVisit,
				{"procedure_resource", "The procedure", linked("Procedure",
					func(r *row) uint32 { return r.visit.Done() })},
				{"snomed_code", "Code of SNOMED CT", pick("430193006").coded(snomed)},
				{"procedure_name", "Name", pick("Medication reconciliation")},
				{"started_at", "Start", start},
				comment,
			}},
		{name: "procedure_step", title: "Steps of procedures", category: visits,
			patient: []string{"procedure_id", "visit_id", "patient_id"}, grain: perProcedure(3),
			key: []string{"procedure_id", "line"}, columns: []column{
				{"procedure_id", "The procedure", parent("procedure.procedure_id", 3)},
				{"line", "Number of the step", line},
				{"step", "What was done", each("List of medication", "Interview", "Correction")},
				{"done_by", "Who did it", clinicianID},
				comment,
			}},
		{name: "referral", title: "Referrals", category: visits, date: "written_at",
			patient: byVisit, grain: perProcedure(1), columns: []column{
				{"referral_id", "Key", rowKey},
				theVisit,
				{"specialty", "Specialty", pick(specialties...)},
				{"written_at", "When it was written", end},
				{"reason", "Reason", pick(sentences...)},
			}},
		{name: "immunization", title: "Immunizations", category: general, date: "given_at",
			patient: byVisit, grain: perVaccination(1), columns: []column{
				{"immunization_id", "Key", rowKey},
				theVisit,
				{"immunization_resource", "The immunization", linked("Immunization",
					func(r *row) uint32 { return r.visit.Done() })},
				{"vaccine_code", "Code of CVX", from("vaccine").coded(cvx)},
				{"lot_number", "Lot number", count(10_000, 90_000)},
				{"given_at", "When it was given", start},
				{"body_site_code", "Where it was given", from("body_site")},
			}},
		{name: "questionnaire_answer_sheet", title: "Filled questionnaires", category: general,
			date: "answered_at", patient: byVisit, grain: perQuestion(1), columns: []column{
				{"answer_sheet_id", "Key", rowKey},
				theVisit,
				{"questionnaire_code", "Questionnaire", pick("HAB").to("questionnaire.code")},
				{"answered_at", "When it was filled in", start},
			}},
		{name: "questionnaire_answer", title: "Answers to questions", category: general,
			patient: []string{"answer_sheet_id", "visit_id", "patient_id"}, grain: perQuestion(4),
			columns: []column{
				{"questionnaire_answer_id", "Key", rowKey},
				{"answer_sheet_id", "The sheet",
					parent("questionnaire_answer_sheet.answer_sheet_id", 4)},
				{"questionnaire_code", "Questionnaire", pick("HAB")},
				{"question_number", "Number of the question", line},
				{"answer", "Answer", pick("never", "sometimes", "often", "every day")},
			},
			foreign: []datapackage.ForeignKey{foreign("question",
				[]string{"questionnaire_code", "question_number"},
				[]string{"questionnaire_code", "question_number"})}},
	}
}

func orderTables() []table {
	return []table{
		{name: "lab_order", title: "Laboratory orders", category: results, date: "ordered_at",
			patient: byVisit, grain: perTest(1), columns: []column{
				{"lab_order_id", "Key", rowKey},
				theVisit,
				{"order_resource", "The order", linked("ServiceRequest",
					func(r *row) uint32 { return r.visit.Order() })},
				{"panel_code", "Code of LOINC", pick("51990-0").coded(loinc)},
				{"order_status_code", "Status", from("order_status")},
				{"order_priority_code", "Urgency", from("order_priority")},
				{"ordered_by", "Who ordered it", clinicianID},
				{"ordered_at", "When it was ordered", start},
				comment,
			}},
		{name: "lab_order_history", title: "Changes of laboratory orders", category: results,
			date: "changed_at", patient: []string{"lab_order_id", "visit_id", "patient_id"},
			grain: perTest(3), columns: []column{
				{"lab_order_history_id", "Key", rowKey},
				{"lab_order_id", "The order", parent("lab_order.lab_order_id", 3)},
				{"order_status_code", "New status", eachOf("order_status")},
				{"changed_at", "When it changed", minutes(0, 600)},
			}},
		{name: "specimen", title: "Specimens", category: results, date: "collected_at",
			patient: byVisit, grain: perTest(1), columns: []column{
				{"specimen_id", "Key", rowKey},
				theVisit,
				{"lab_order_id", "The order", parent("lab_order.lab_order_id", 1)},
				{"specimen_resource", "The specimen", linked("Specimen",
					func(r *row) uint32 { return r.visit.Specimen() })},
				{"specimen_kind_code", "Kind", from("specimen_kind")},
				{"collected_at", "When it was collected", start},
				{"volume_ml", "Volume in milliliters", amount(2, 8)},
			}},
		{name: "lab_result", title: "Laboratory results", category: results,
			date: "reported_at", patient: byVisit, grain: perTest(5), columns: []column{
				{"lab_result_id", "Key", rowKey},
				theVisit,
				{"lab_order_id", "The order", parent("lab_order.lab_order_id", 5)},
				{"specimen_id", "The specimen", parent("specimen.specimen_id", 5)},
				{"observation_resource", "The observation", linked("Observation",
					func(r *row) uint32 { return r.visit.Result(r.sub) })},
				{"test_code", "Code of LOINC", lab(true).to("test").coded(loinc)},
				{"value", "Value", figure(func(r *row) int64 {
					return int64(r.visit.Labs[r.sub])
				})},
				{"unit_code", "Unit", each(units(outline.Labs)...).to("unit.code")},
				{"abnormal_flag_code", "High or low", from("abnormal_flag")},
				{"reported_at", "When it was reported", end},
			}},
		{name: "lab_result_comment", title: "Comments on laboratory results", category: results,
			patient: []string{"lab_result_id", "visit_id", "patient_id"}, grain: perTest(5),
			key: []string{"lab_result_id"}, columns: []column{
				{"lab_result_id", "The result", parent("lab_result.lab_result_id", 1)},
				{"written_by", "Who wrote it", clinicianID},
				comment,
				{"is_for_patient", "Whether the patient sees it", flag(2)},
			}},
		{name: "lab_report", title: "Laboratory reports", category: results, date: "issued_at",
			patient: byVisit, grain: perTest(1), columns: []column{
				{"lab_report_id", "Key", rowKey},
				theVisit,
				{"lab_order_id", "The order", parent("lab_order.lab_order_id", 1)},
				{"report_resource", "The report", linked("DiagnosticReport",
					func(r *row) uint32 { return r.visit.Panel() })},
				{"issued_at", "When it was issued", end},
				comment,
			}},
		{name: "imaging_study", title: "Imaging studies", category: imaging,
			date: "started_on", patient: byPatient, grain: perPatient(1), columns: []column{
				{"imaging_study_id", "Key", rowKey},
				thePatient,
				{"study_resource", "The study", linked("ImagingStudy",
					func(r *row) uint32 { return r.other(outline.StudyAfter) })},
				{"modality", "Modality", pick("DX")},
				{"started_on", "Date", later(800, 1)},
				comment,
			}},
		{name: "imaging_report", title: "Reports of imaging studies", category: imaging,
			patient: []string{"imaging_study_id", "patient_id"}, grain: perPatient(1),
			columns: []column{
				{"imaging_report_id", "Key", rowKey},
				{"imaging_study_id", "The study", parent("imaging_study.imaging_study_id", 1)},
				{"report_resource", "The report", linked("DiagnosticReport",
					func(r *row) uint32 { return r.other(outline.RadiologyAfter) })},
				{"conclusion", "Conclusion", pick("No acute finding.")},
			}},
	}
}

func medicationTables() []table {
	return []table{
		{name: "prescription", title: "Prescriptions", category: general, date: "written_at",
			patient: byVisit, grain: perPrescription(1), columns: []column{
				{"prescription_id", "Key", rowKey},
				theVisit,
				{"request_resource", "The prescription", linked("MedicationRequest",
					func(r *row) uint32 { return r.visit.Done() })},
				{"drug_id", "The drug", drugID},
				{"route_code", "Route", from("route")},
				{"frequency_code", "How often", from("frequency")},
				{"quantity", "Number of units", count(10, 80)},
				{"written_at", "When it was written", start},
				{"written_by", "Who wrote it", clinicianID},
			}},
		{name: "prescription_instruction", title: "Instructions to patients", category: general,
			patient: []string{"prescription_id", "visit_id", "patient_id"},
			grain:   perPrescription(2), key: []string{"prescription_id", "line"},
			columns: []column{
				{"prescription_id", "The prescription", parent("prescription.prescription_id", 2)},
				{"line", "Number of the line", line},
				{"instruction", "Instruction", each("Take with food", "Do not drive")},
			}},
		{name: "dispense", title: "Dispensed drugs", category: general, date: "handed_over_at",
			patient: []string{"prescription_id", "visit_id", "patient_id"},
			grain:   perPrescription(1), columns: []column{
				{"dispense_id", "Key", rowKey},
				{"prescription_id", "The prescription", parent("prescription.prescription_id", 1)},
				{"dispense_resource", "The dispense", linked("MedicationDispense",
					func(r *row) uint32 { return r.visit.Dispense() })},
				{"quantity", "Number of units", count(10, 80)},
				{"handed_over_at", "When the patient got it", end},
			}},
		{name: "medication_administration", title: "Given drugs", category: general,
			date: "given_at", patient: byVisit, grain: perProcedure(2), columns: []column{
				{"medication_administration_id", "Key", rowKey},
				theVisit,
				{"drug_name", "Drug", pick("acetaminophen", "ibuprofen", "saline 0.9 %")},
				{"route_code", "Route", from("route")},
				{"dose", "Dose", amount(1, 50)},
				{"given_at", "When it was given", minutes(1, 30)},
				{"given_by", "Who gave it", clinicianID},
			}},
		{name: "medication_review", title: "Reviews of medication", category: general,
			date: "reviewed_at", patient: byVisit, grain: perProcedure(1), columns: []column{
				{"medication_review_id", "Key", rowKey},
				theVisit,
				{"reviewed_by", "Who reviewed", clinicianID},
				{"reviewed_at", "When", end},
				comment,
			}},
	}
}

func noteTables() []table {
	return []table{
		{name: "note", title: "Notes: What clinicians wrote. The text is a file of its own.",
			category: visits, date: "written_at", patient: byVisit, grain: perVisit(1),
			columns: []column{
				{"note_id", "Key", rowKey},
				theVisit,
				{"note_kind_code", "Kind of note", keyOf("note_kind", rowsNoteKind)},
				{"title", "Title", chosen([]string{progress.title, telephone.title}, rowsNoteKind)},
				{"file_name", "Name of the file with the text", noteFile},
				{"written_by", "Who wrote it", clinicianID},
				{"written_at", "When it was written", end},
				{"security_label", "Security label", maybe(50, pick("R")).labelled()},
			}},
		{name: "note_section", title: "Sections of notes", category: visits, patient: byNote,
			grain: perVisit(4), key: []string{"note_id", "line"}, columns: []column{
				{"note_id", "The note", parent("note.note_id", 4)},
				{"line", "Number of the section", line},
				{"heading", "Heading", each("Subjective", "Objective", "Assessment", "Plan")},
				{"section_text", "Text", pick(sentences...)},
			}},
		{name: "note_signature", title: "Signatures of notes", category: visits,
			date: "signed_at", patient: byNote, grain: perVisit(1), columns: []column{
				{"note_id", "The note", parent("note.note_id", 1)},
				{"signed_by", "Who signed", clinicianID},
				{"signed_at", "When", end},
			}},
		{name: "note_addendum", title: "Addenda to notes", category: visits, date: "added_on",
			patient: byNote, grain: perVisit(1), columns: []column{
				{"note_addendum_id", "Key", rowKey},
				{"note_id", "The note", parent("note.note_id", 1)},
				{"added_on", "When it was added", later(1, 10)},
				{"added_by", "Who added it", clinicianID},
				{"addendum", "Text", pick(sentences...)},
			}},
		{name: "message", title: "Messages between patients and clinicians", category: general,
			date: "sent_on", patient: byPatient, grain: perPatient(8), columns: []column{
				{"message_id", "Key", rowKey},
				thePatient,
				{"message_topic_code", "Topic", eachOf("message_topic")},
				{"communication_resource", "The conversation, if it is in the record",
					linked("Communication", func(r *row) uint32 {
						if r.sub == socialWork {
							return r.other(outline.ConversationAfter)
						}
						return r.limit
					})},
				{"sent_on", "When it was sent", later(100, 2000)},
				{"body", "Text", pick(sentences...)},
			},
			sensitive: []datapackage.Sensitive{{
				Field:         "message_topic_code",
				Values:        []string{"SOC"},
				Authorization: string(ehi.Confidential),
			}}},
		{name: "message_recipient", title: "Recipients of messages", category: general,
			patient: []string{"message_id", "patient_id"}, grain: perPatient(8),
			columns: []column{
				{"message_id", "The message", parent("message.message_id", 1)},
				theClinician,
				{"is_read", "Whether it was read", flag(2)},
			}},
		{name: "document", title: "Documents: What was scanned or received.", category: papers,
			date: "created_on", patient: byPatient, grain: grain{of: ofDocument, times: 1},
			columns: []column{
				{"document_id", "Key", rowKey},
				thePatient,
				{"document_resource", "The document", linked("DocumentReference",
					func(r *row) uint32 {
						return r.other(outline.DocumentAfter) + uint32(r.n)
					})},
				{"loinc_code", "Code of LOINC", concepts(outline.Documents, true, (*row).nth).
					coded(loinc)},
				{"title", "Title", concepts(outline.Documents, false, (*row).nth)},
				{"created_on", "Date", date},
			}},
	}
}

func billingTables() []table {
	return []table{
		{name: "account", title: "Accounts of patients", category: billing, patient: byPatient,
			grain: perPatient(1), columns: []column{
				{"account_id", "Key", rowKey},
				thePatient,
				{"opened_on", "Opened", date},
				{"balance", "Balance in dollars", amount(0, 900)},
			}},
		{name: "coverage", title: "Insurance", category: billing, patient: byPatient,
			grain: perPatient(1), columns: []column{
				{"coverage_id", "Key", rowKey},
				thePatient,
				{"coverage_resource", "The coverage", linked("Coverage",
					func(*row) uint32 { return outline.CoverageAt })},
				{"payer_kind_code", "Kind of payer", from("payer_kind")},
				{"member_number", "Number of the member", count(1_000_000, 9_000_000)},
				{"valid_from", "First day", date},
			}},
		{name: "coverage_check", title: "Checks of insurance", category: billing,
			date: "checked_at", patient: byVisit, grain: perVisit(1), columns: []column{
				{"coverage_check_id", "Key", rowKey},
				theVisit,
				{"checked_at", "When", start},
				{"answer", "Answer of the payer", pick("covered", "covered after copayment")},
			}},
		{name: "charge", title: "Charges", category: billing, date: "charged_at",
			patient: byVisit, grain: perVisit(2), columns: []column{
				{"charge_id", "Key", rowKey},
				theVisit,
				{"charge_item_code", "What is charged", from("charge_item")},
				{"amount", "Amount in dollars", amount(20, 300)},
				{"charged_at", "When", end},
				theClinician,
			}},
		{name: "claim", title: "Claims", category: billing, date: "created_at",
			patient: byVisit, grain: perVisit(1), columns: []column{
				{"claim_id", "Key", rowKey},
				theVisit,
				{"claim_resource", "The claim", linked("Claim",
					func(r *row) uint32 { return r.visit.Claim() })},
				{"claim_status_code", "Status", from("claim_status")},
				{"total", "Total in dollars", claimTotal},
				{"created_at", "When it was sent", end},
			}},
		{name: "claim_line", title: "Lines of claims", category: billing,
			patient: []string{"claim_id", "visit_id", "patient_id"}, grain: perVisit(2),
			key: []string{"claim_id", "line"}, columns: []column{
				{"claim_id", "The claim", parent("claim.claim_id", 2)},
				{"line", "Number of the line", line},
				{"charge_item_code", "What is charged", from("charge_item")},
				{"quantity", "Quantity", count(1, 3)},
				{"amount", "Amount in dollars", amount(20, 300)},
			}},
		{name: "claim_adjustment", title: "Adjustments of lines of claims", category: billing,
			patient: []string{"claim_id", "visit_id", "patient_id"}, grain: perVisit(4),
			columns: []column{
				{"claim_adjustment_id", "Key", rowKey},
				{"claim_id", "The claim", parent("claim.claim_id", 4)},
				{"line", "Number of the line", made("integer", func(dst []byte, r *row) []byte {
					return number(dst, int64(r.sub/2+1))
				})},
				{"adjustment_reason_code", "Reason", from("adjustment_reason")},
				{"amount", "Amount in dollars", amount(1, 50)},
			},
			foreign: []datapackage.ForeignKey{foreign("claim_line",
				[]string{"claim_id", "line"}, []string{"claim_id", "line"})}},
		{name: "claim_diagnosis", title: "Diagnoses of claims", category: billing,
			patient: []string{"claim_id", "visit_id", "patient_id"}, grain: perVisit(1),
			columns: []column{
				{"claim_id", "The claim", parent("claim.claim_id", 1)},
				{"diagnosis_code", "Code of ICD-10-CM", from("diagnosis").coded(icd10)},
			}},
		{name: "payment", title: "Payments", category: billing, date: "paid_on",
			patient: []string{"claim_id", "visit_id", "patient_id"}, grain: perVisit(1),
			columns: []column{
				{"payment_id", "Key", rowKey},
				{"claim_id", "The claim", parent("claim.claim_id", 1)},
				{"benefit_resource", "The explanation of benefits",
					linked("ExplanationOfBenefit", func(r *row) uint32 {
						return r.visit.Benefit()
					})},
				{"amount", "Amount in dollars", amount(20, 300)},
				{"paid_on", "When it was paid", later(10, 40)},
			}},
		{name: "statement", title: "Bills to patients", category: billing, date: "sent_on",
			patient: []string{"account_id", "patient_id"}, grain: perPatient(6),
			columns: []column{
				{"statement_id", "Key", rowKey},
				{"account_id", "The account", parent("account.account_id", 6)},
				{"sent_on", "When it was sent", later(100, 2000)},
				{"amount", "Amount in dollars", amount(0, 400)},
			}},
	}
}

func otherTables() []table {
	return []table{
		{name: "task", title: "Tasks of clinicians", category: general, date: "due_on",
			patient: byVisit, grain: perVisit(1), columns: []column{
				{"task_id", "Key", rowKey},
				theVisit,
				{"task_status_code", "Status", from("task_status")},
				{"assigned_to", "Who does it", clinicianID},
				{"due_on", "When it is due", later(1, 20)},
				{"task_text", "What to do", pick(sentences...)},
			}},
		// Nobody has classified this table, on purpose: an export must hold it back.
		{name: "access_log", title: "Access log: Who opened the record.", category: unknown,
			date: "opened_at", patient: byVisit, grain: perVisit(3), columns: []column{
				{"access_log_id", "Key", rowKey},
				theVisit,
				{"opened_by", "Who opened the record", clinicianID},
				{"opened_at", "When", minutes(-30, 120)},
				{"workstation", "Workstation", count(1000, 9000)},
			}},
	}
}
