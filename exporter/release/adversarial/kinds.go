package adversarial

import "ehi-server/shared/ehi"

// kind describes a resource type: how it is released, and where its resources have References.
type kind struct {
	typ string
	// category is the form line; "" for types without one.
	category ehi.Category
	// supporting resources are released with those that refer to them.
	supporting bool
	// part resources belong to those that refer to them, and are withheld with them.
	part bool
	// patient is the field that refers to the patient; "" if there is none.
	patient string
	// about is the place that says what the resource is about; "" if there is none. With uses,
	// the resource releases its target; otherwise it only describes it.
	about string
	uses  bool
	// why is the place that says why the resource exists; "" if there is none.
	why string
	// orders are further places of that kind: what it answers, or is a part of.
	orders []string
	// each is the place of ingredients, each of which can withhold the resource; "" if there is
	// none.
	each string
	// members are the places of its parts. Visits, Patients and supporting resources do not
	// count as parts.
	members []string
	// consists are the places that name what a text about the resource also describes.
	consists []string
	// holds is the list of inner resources; "" if there is none.
	holds string
	// places are further places, see place. The first one may equal about.
	places []string
	// when is the field with the date; "" if there is none.
	when string
	// defines reports that it is a form or a plan with a canonical URL.
	defines bool
}

// Places follow the nesting of the JSON. a/b is field b of the objects in a. a[] is a list. a!/b
// is a field of entries that describe their target, so that they are removed with it. a!/b[] is
// a field of sections, whose remaining content is kept. a@b is a URL, and a^b a canonical one.
var kinds = []kind{
	{typ: "Condition", category: ehi.MedicalRecord, patient: "subject", places: []string{
		"evidence/detail", "recorder", "extension/valueReference", "extension@valueUri",
		"description~",
		"extension/valueIdentifier", "extension^valueCanonical",
	}},
	{
		typ:      "Observation",
		patient:  "subject",
		members:  []string{"hasMember[]", "focus[]", "basedOn[]", "partOf[]"},
		consists: []string{"hasMember[]"},
		when:     "effectiveDateTime",
		places: []string{
			"basedOn[]", "partOf[]",
			"hasMember[]", "device", "performer[]", "focus[]", "description~",
		},
	},
	{typ: "Encounter", category: ehi.Visits, patient: "subject", when: "period", places: []string{
		"reasonReference[]", "serviceProvider", "extension@valueCanonical",
	}},
	{typ: "Procedure", category: ehi.Visits, patient: "subject", why: "reasonReference[]",
		orders: []string{"basedOn[]", "partOf[]", plan},
		when:   "performedDateTime",
		places: []string{
			"basedOn[]", "partOf[]", plan,
			"reasonReference[]", "focalDevice/manipulated", "extension/extension/valueReference",
		}},
	{
		typ:      "Claim",
		category: ehi.Billing,
		patient:  "patient",
		why:      "prescription",
		when:     "billablePeriod",
		places: []string{
			"provider", "related!/claim", "related!/reference", "diagnosis!/diagnosisReference",
			"diagnosis!/diagnosisReference",
			"supportingInfo!/valueReference", "item!/encounter", "item!/locationReference",
			"item!/locationReference", "careTeam!/provider",
			"insurance/coverage",
		},
	},
	{
		typ:      "ExplanationOfBenefit",
		category: ehi.Billing,
		patient:  "patient",
		about:    "claim",
		when:     "billablePeriod",
		places: []string{
			"provider", "related!/claim", "related!/reference", "procedure!/procedureReference",
			"diagnosis!/diagnosisReference", "item!/encounter", "item!/encounter",
			"addItem!/locationReference", "careTeam!/provider", "insurance/coverage",
		},
	},
	{
		typ:      "ClaimResponse",
		category: ehi.MedicalRecord,
		patient:  "patient",
		about:    "request",
		places:   []string{"insurer", "request"},
	},
	{
		typ:      "MedicationRequest",
		category: ehi.MedicalRecord,
		patient:  "subject",
		about:    "medicationReference",
		uses:     true,
		why:      "reasonReference[]",
		places: []string{
			"requester", "reasonReference[]",
		},
	},
	{
		typ:      "ServiceRequest",
		category: ehi.MedicalRecord,
		patient:  "subject",
		why:      "reasonReference[]",
		places: []string{
			"performer[]", "reasonReference[]",
		},
	},
	{
		typ:      "Task",
		category: ehi.MedicalRecord,
		patient:  "for",
		about:    "focus",
		why:      "partOf[]",
		places: []string{
			"owner", "partOf[]", "input!/valueReference",
		},
	},
	{
		typ:      "Provenance",
		category: ehi.MedicalRecord,
		about:    "target[]",
		places:   []string{"agent/who", "entity!/what"},
	},
	{
		typ:      "DetectedIssue",
		category: ehi.MedicalRecord,
		patient:  "patient",
		about:    "implicated[]",
		places:   []string{"author"},
	},
	{
		typ:      "Communication",
		category: ehi.MedicalRecord,
		patient:  "subject",
		about:    "about[]",
		places: []string{
			"sender", "contained/subject", containedItem, "payload@contentUrl", "recipient[]",
			"recipient[]",
		},
	},
	{
		typ:      "List",
		category: ehi.MedicalRecord,
		patient:  "subject",
		about:    "entry!/item",
		consists: []string{"entry!/item"},
		places:   []string{"encounter"},
	},
	{typ: "CarePlan", category: ehi.MedicalRecord, patient: "subject", about: "addresses[]",
		orders: []string{plan}, places: []string{
			plan,
			"activity!/reference", "activity!/outcomeReference", "contributor[]", "goal[]",
			"goal[]",
		}},
	{
		typ:      "Composition",
		category: ehi.MedicalRecord,
		patient:  "subject",
		about:    "section!/entry[]",
		consists: []string{"section!/entry[]"},
		places:   []string{"encounter", "custodian"},
	},
	{
		typ:      "DocumentReference",
		category: ehi.OtherDocuments,
		patient:  "subject",
		when:     "date",
		members:  []string{"context/related[]"},
		consists: []string{"context/related[]"},
		places: []string{
			"context/related[]",
			"content/attachment@url", "content/attachment@url", "custodian", "context/encounter",
		},
	},
	{
		typ:      "DiagnosticReport",
		patient:  "subject",
		members:  []string{"result[]", "basedOn[]"},
		consists: []string{"result[]"},
		when:     "effectiveDateTime",
		places: []string{
			"basedOn[]",
			"presentedForm@url", "presentedForm@url", "result[]", "performer[]",
		},
	},
	{typ: "Basic", category: ehi.MedicalRecord, about: "subject", uses: true, places: []string{
		"author", "extension/valueReference", "extension/valueIdentifier",
	}},
	{typ: "QuestionnaireResponse", category: ehi.MedicalRecord, patient: "subject",
		orders: []string{form}, places: []string{
			"author", "item!/valueReference", "item!/valueReference", form, form,
		}},
	{
		typ:      "Media",
		category: ehi.OtherDocuments,
		patient:  "subject",
		why:      "partOf[]",
		when:     "createdDateTime",
		places: []string{
			"operator", "partOf[]",
		},
	},
	{typ: "MessageHeader", category: ehi.MedicalRecord, about: "focus[]",
		consists: []string{"focus[]"}, places: []string{
			"sender", "author", "response/details", "response/identifier~",
		}},
	{typ: "Bundle", category: ehi.MedicalRecord, holds: "entry"},
	{
		typ:      "Parameters",
		category: ehi.MedicalRecord,
		holds:    "parameter",
		places:   []string{"parameter!/valueReference"},
	},
	{typ: "Binary", category: ehi.MedicalRecord},
	{typ: "Device", supporting: true, patient: "patient", places: []string{"owner", "location"}},
	{
		typ:        "Medication",
		supporting: true,
		each:       "ingredient/itemReference",
		places:     []string{"manufacturer", "ingredient/itemReference"},
	},
	{typ: "Practitioner", supporting: true, places: []string{"qualification/issuer"}},
	{typ: "Organization", supporting: true, places: []string{"partOf", "endpoint[]"}},
	{
		typ:      "Appointment",
		category: ehi.MedicalRecord,
		why:      "reasonReference[]",
		places:   []string{"slot[]", "slot[]", "supportingInformation[]"},
	},
	{typ: "Slot", part: true, category: ehi.MedicalRecord, places: []string{"schedule"}},
	{
		typ:      "Schedule",
		part:     true,
		category: ehi.MedicalRecord,
		places:   []string{"actor[]", "actor[]"},
	},
	{
		typ:      "Goal",
		part:     true,
		category: ehi.MedicalRecord,
		patient:  "subject",
		places:   []string{"expressedBy", "outcomeReference[]"},
	},
	{typ: "RelatedPerson", part: true, category: ehi.MedicalRecord, patient: "patient"},
	{
		typ:      "Questionnaire",
		part:     true,
		category: ehi.MedicalRecord,
		defines:  true,
		places:   []string{"^derivedFrom[]"},
	},
	{
		typ:      "PlanDefinition",
		part:     true,
		category: ehi.MedicalRecord,
		defines:  true,
		places: []string{
			"^library[]", "action^definitionCanonical", "action/action^definitionCanonical",
		},
	},
}

// form and plan are the places by which a response or an activity names what it follows.
const form, plan = "^questionnaire", "^instantiatesCanonical[]"

// containedItem is the place of an entry in a contained List, which describes its target as any
// List does.
const containedItem = "contained/entry/item"

// toActors are the fields that, according to R4, only refer to persons, places and things.
var toActors = map[string]bool{
	"recorder": true, "device": true, "performer": true, "serviceProvider": true, "provider": true,
	"requester": true, "owner": true,
	"who": true, "author": true, "sender": true, "manufacturer": true, "issuer": true,
	"endpoint": true, "medicationReference": true,
	"custodian": true, "contributor": true, "location": true, "locationReference": true,
	"manipulated": true, "generalPractitioner": true,
	"managingOrganization": true, "operator": true, "organization": true, "insurer": true,
	"recipient": true, "expressedBy": true, "actor": true,
}

// number is the field of a related bill with an Identifier, not a Reference. foreign is that of
// an extension.
const number, foreign = "reference", "valueIdentifier"

// isNumber reports whether a place has an Identifier.
func (p place) isNumber() bool { return p.field == number || p.field == foreign }

// toStatements are the fields that, according to R4, never refer to persons, places, things or
// parts. An identifier in one of them names none of these.
var toStatements = map[string]bool{
	"hasMember": true, "prescription": true, "claim": true, "diagnosisReference": true,
	"encounter": true, "procedureReference": true,
	"addresses": true, "result": true, number: true, foreign: true, "coverage": true,
	"details": true,
}

// sensitives are codings that withhold a resource without the patient's authorization. Labels
// are in meta.security, codes anywhere. Some contain Cyrillic letters or Arabic digits.
var sensitives = []struct {
	coding string
	label  bool
	needs  ehi.Authorization
}{
	{`{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}`, true, ehi.HIV},
	{`{"code":"42CFRPart2"}`, true, ehi.AlcoholAndDrug},
	{`{"code":"psy","system":"http://hl7.org/fhir/v3/ActCode"}`, true, ehi.MentalHealth},
	{`{"system":"urn:oid:2.16.840.1.113883.5.25","code":"V"}`, true, ehi.Confidential},
	{
		`{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality|1","code":"R"}`,
		true,
		ehi.Confidential,
	},
	{`{"display":"42 CFR Part 2"}`, true, ehi.AlcoholAndDrug},
	{`{"system":"http://example.org/labels","code":"Hiv"}`, true, ehi.HIV},
	{`{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}`, false, ehi.HIV},
	{`{"code":"t7411xa","system":"urn:oid:2.16.840.1.113883.6.90"}`, false, ehi.DomesticViolence},
	{`{"code":"F11.20"}`, false, ehi.AlcoholAndDrug},
	{`{"system":"http:\/\/snomed.info\/sct","display":"x","code":"86406008|x|"}`, false, ehi.HIV},
	{`{"c\u006fde":"Z15.01","system":"ICD-10-CM"}`, false, ehi.Genetic},
	{`{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"Ｂ２０"}`, false, ehi.HIV},
	{`{"code":"B19-B24","system":"2.16.840.1.113883.6.90"}`, false, ehi.HIV},
	{`{"system":"http://snomed.info/sct","display":"86406008"}`, false, ehi.HIV},
	{`{"system":"http://snomed.info/sct","code":8.6406008e7}`, false, ehi.HIV},
	{`"F11.20"`, false, ehi.AlcoholAndDrug},
	{`{"system":"http://id.who.int/icd/release/11/2024-01/mms","code":"1С62.Z"}`, false, ehi.HIV},
	{`{"system":"urn:oid:2.16.840.1.113883.6.73","code":"J05AF٠١"}`, false, ehi.HIV},
	{`{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F1O.2O"}`, false, ehi.AlcoholAndDrug},
	{`{"code":"FI1.20","system":"urn:oid:2.16.840.1.113883.6.90"}`, false, ehi.AlcoholAndDrug},
	{`{"system":"http://hl7.org/fhir/sid/icd-10","code":"Fl1.20"}`, false, ehi.AlcoholAndDrug},
	{`{"code":"6C4O"}`, false, ehi.AlcoholAndDrug},
	{`{"system":"http://id.who.int/icd/release/11/mms","code":"IC62.Z"}`, false, ehi.HIV},
	{`{"system":"http://id.who.int/icd/release/11/mms","code":"1C5Z to 1C6Z"}`, false, ehi.HIV},
	{`{"code":"BlockL1-1C6","system":"http://id.who.int/icd/release/11/mms"}`, false, ehi.HIV},
	{`{"system":"http://id.who.int/icd/release/11/2024-01/mms","code":"1C6"}`, false, ehi.HIV},
	{`{"system":"ICD-11","code":"1C6"}`, false, ehi.HIV},
	{`{"system":"https://www.cdc.gov/nchs/icd","code":"B20"}`, false, ehi.HIV},
	{`{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B19..B25"}`, false, ehi.HIV},
	{`{"system":"http://snomed.info/sct","code":"0086406008"}`, false, ehi.HIV},
}

// groups are document groups with a code of the document's type.
var groups = []struct {
	coding   string
	category ehi.Category
}{
	{`{"system":"http://example.org/own","code":"letter"}`, ehi.OtherDocuments},
	{`{"system":"http://loinc.org","code":"18842-5"}`, ehi.DischargeSummary},
	{`{"code":"18748-4","system":"http:\/\/loinc.org"}`, ehi.Radiology},
}
