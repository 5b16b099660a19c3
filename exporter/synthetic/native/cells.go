package native

import "ehi-server/exporter/synthetic/outline"

// as changes the type of a value.
func (v value) as(typ string) value { v.typ = typ; return v }

// labelled says that the cells are security labels.
func (v value) labelled() value { v.label = true; return v }

// nth is the number of the row among the patient's.
func (r *row) nth() int { return r.n }

// other returns the number of one of the resources that outline.Others counts.
func (r *row) other(place uint32) uint32 { return r.others + place }

// problem returns the number of the Condition of a row of ofProblem.
func (r *row) problem() uint32 {
	switch i := r.item - r.Conditions; {
	case i < 0:
		return outline.ConditionAt + uint32(r.item)
	case i == len(outline.Sensitive):
		return r.other(outline.InfectionAfter)
	default:
		return r.other(outline.SensitiveAfter + 2*uint32(i))
	}
}

// condition returns the place of the row's problem in outline.Chronic, or after it in sensitive.
func (r *row) condition() int {
	if r.item < r.Conditions {
		return (r.FirstChronic + r.item) % len(outline.Chronic)
	}
	return len(outline.Chronic) + r.item - r.Conditions
}

// problemCode is the code of a problem in ICD-10-CM.
var problemCode = chosen(append(chronicICD[:len(chronicICD):len(chronicICD)], sensitiveICD...),
	(*row).condition)

// problemConcept is the code in SNOMED CT or the name of a problem.
func problemConcept(code bool) value {
	all := append(outline.Chronic[:len(outline.Chronic):len(outline.Chronic)], sensitive...)
	return concepts(all, code, (*row).condition)
}

// recordNumber is the medical record number, as in the Patient.
var recordNumber = made("string", func(dst []byte, r *row) []byte {
	return number(append(dst, "MRN"...), int64(outline.FirstNumber+r.K))
})

// genderCode is F or M.
var genderCode = made("string", func(dst []byte, r *row) []byte {
	return append(dst, r.Gender[0]-'a'+'A')
}).to("gender")

var street = made("string", func(dst []byte, r *row) []byte {
	return append(number(dst, int64(r.Street)), " Main Street"...)
})

// claimTotal is the total of the Claim.
var claimTotal = made("number", func(dst []byte, r *row) []byte {
	return append(number(dst, int64(r.visit.Amount)), ".50"...)
})

// socialWork is the row of a patient's messages about the conversation with the social worker.
const socialWork = 3

// The kinds of notes in the look-up table note_kind, by the place of a note.
const progressNote, telephoneNote = 0, 1

// noteKind is the place of the kind of note n of a patient: one in four is of a telephone call.
func noteKind(p *patient, n int) int {
	if (p.K+uint64(n))%4 == 3 {
		return telephoneNote
	}
	return progressNote
}

func rowsNoteKind(r *row) int { return noteKind(r.patient, r.n) }

// noteFile is the name of the document with a note, if there is one. A letter comes before them.
var noteFile = made("string", func(dst []byte, r *row) []byte {
	const letters = 1
	if !r.cfg.has(letters + r.n) {
		return dst
	}
	return append(dst, noteName(r.patient, r.n)...)
})

func vital(code bool) value { return measured(outline.Vitals, code) }
func lab(code bool) value   { return measured(outline.Labs, code) }

// measured is the code or the name of what a row measures.
func measured(list []outline.Measure, code bool) value {
	all := make([]outline.Concept, len(list))
	for i, m := range list {
		all[i] = m.Concept
	}
	return concepts(all, code, func(r *row) int { return r.sub })
}

// units are the units of measures.
func units(list []outline.Measure) (out []string) {
	for _, m := range list {
		out = append(out, m.Unit)
	}
	return out
}

// tests are all measures.
func tests() (out []outline.Concept) {
	for _, list := range [][]outline.Measure{outline.Vitals, outline.Labs} {
		for _, m := range list {
			out = append(out, m.Concept)
		}
	}
	return out
}

// tsvLookups are the look-up tables of tsv-tables.
func tsvLookups(ids *sharedIDs) []lookup {
	department := lookup{
		name:  "department",
		title: "Departments of facilities",
		fields: []column{
			{"facility_id", "The facility", value{
				fhir: "Organization", refers: "facility.facility_id", required: true,
			}},
			{"department_code", "Code within the facility", value{required: true}},
			{"name", "Name", value{}},
		},
		key: []string{"facility_id", "department_code"},
	}
	for i := range outline.Organizations.Count {
		id := string(ids[outline.Organizations.First+i][:])
		department.rows = append(department.rows,
			[]string{id, "GEN", "General medicine"}, []string{id, "LAB", "Laboratory"})
	}
	question := lookup{
		name:  "question",
		title: "Questions of questionnaires",
		fields: []column{
			{"questionnaire_code", "The questionnaire", value{
				refers: "questionnaire", required: true,
			}},
			{"question_number", "Number", value{typ: "integer", required: true}},
			{"question", "The question", value{}},
		},
		key: []string{"questionnaire_code", "question_number"},
		rows: [][]string{
			{"HAB", "1", "How often do you exercise?"},
			{"HAB", "2", "How often do you eat vegetables?"},
			{"HAB", "3", "How often do you sleep badly?"},
			{"HAB", "4", "How often do you drink sugared drinks?"},
		},
	}
	return append(staff(ids), department, question,
		codes("gender", "Genders", "F female", "M male"),
		codes("marital_status", "Marital statuses", "S single", "M married", "D divorced",
			"W widowed"),
		codes("language", "Languages", "en English", "es Spanish", "pt Portuguese", "zh Chinese"),
		codes("address_kind", "Kinds of addresses", "HOME home", "MAIL for letters"),
		codes("contact_kind", "Kinds of contacts", "HOME home telephone", "CELL mobile telephone",
			"MAIL letter"),
		codes("consent_kind", "Kinds of consents", "TREAT treatment", "SHARE sharing of records"),
		codes("relation", "Relations", "MTH mother", "FTH father", "SPO spouse", "CHD child"),
		codes("problem_status", "Statuses of problems", "A active", "R resolved"),
		codes("severity", "Severities", "MI mild", "MO moderate", "SE severe"),
		codes("allergen", "Allergens", "PEANUT peanuts"),
		codes("reaction", "Reactions", "HIVES hives", "COUGH cough"),
		codes("risk_kind", "Kinds of risks", "FALL fall", "READM readmission", "STROKE stroke",
			"HEART heart attack"),
		codes("visit_kind", "Kinds of visits", "OFF office", "TEL telephone", "VID video"),
		codes("visit_status", "Statuses of visits", "ARR arrived", "IN in progress",
			"FIN finished"),
		codes("duty", "Duties in visits", "ATT attending", "ASS assisting"),
		codes("arrival", "Ways of arrival", "WALK on foot", "CAR by car", "BUS by bus",
			"AMB by ambulance"),
		codes("order_priority", "Urgencies", "R routine", "U urgent", "S immediately"),
		codes("order_status", "Statuses of orders", "N new", "C collected", "F final"),
		codes("appointment_status", "Statuses of appointments", "K kept", "L came late"),
		coded("test", "Tests and vital signs", loinc, tests()),
		codes("unit", "Units of UCUM", "mm[Hg] millimeters of mercury", "/min per minute",
			"kg kilograms", "mg/dL milligrams in a deciliter", "mmol/L millimoles in a liter"),
		codes("abnormal_flag", "Flags of results", "N normal", "H high", "L low"),
		codes("specimen_kind", "Kinds of specimens", "BLD blood", "SER serum"),
		coded("diagnosis", "Diagnoses of ICD-10-CM", icd10, diagnoses),
		coded("vaccine", "Vaccines of CVX", cvx, vaccines),
		codes("body_site", "Sites of the body", "LA left arm", "RA right arm"),
		codes("route", "Routes of drugs", "PO by mouth", "IV into a vein", "INH inhaled"),
		codes("frequency", "Frequencies of drugs", "QD once a day", "BID twice a day",
			"PRN as needed"),
		codes("note_kind", "Kinds of notes", "PROG progress note", "PHON telephone note"),
		codes("message_topic", "Topics of messages", "APP appointment", "RES result", "MED drug",
			"SOC social work", "BILL bill", "REF referral", "FORM form", "OTH other"),
		codes("payer_kind", "Kinds of payers", "COM commercial", "MCR public, for the elderly",
			"MCD public, for low incomes"),
		codes("charge_item", "What is charged", "V1 short visit", "V2 visit", "V3 long visit",
			"L1 blood test", "M1 material"),
		codes("claim_status", "Statuses of claims", "SENT sent", "PAID paid", "DEN denied"),
		codes("adjustment_reason", "Reasons of adjustments", "CON contract", "DED deductible",
			"COP copayment"),
		codes("task_status", "Statuses of tasks", "O open", "D done"),
		codes("questionnaire", "Questionnaires", "HAB habits of life"),
	)
}
