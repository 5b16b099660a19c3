package synthetic

import (
	"fmt"

	"ehi-server/exporter/synthetic/outline"
)

// Code systems.
const (
	sct    = "http://snomed.info/sct"
	loinc  = "http://loinc.org"
	rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
	hl7    = "http://terminology.hl7.org/CodeSystem/"
	dicom  = "http://dicom.nema.org/resources/ontology/DCM"
)

func coding(system, code, display string) string {
	return fmt.Sprintf(`{"coding":[{"system":%q,"code":%q,"display":%q}]}`, system, code, display)
}

// to returns a Reference to the resource whose ID is in a slot.
func to(typ, slot string) string { return `{"reference":"` + typ + `/{{` + slot + `}}"}` }

// References of many templates.
var (
	aPatient      = to("Patient", "patient")
	anEncounter   = to("Encounter", "encounter")
	aPractitioner = to("Practitioner", "practitioner")
	anOrg         = to("Organization", "organization")
	aCondition    = to("Condition", "condition")
	aCoverage     = to("Coverage", "coverage")
)

// each returns a template for every item of a list.
func each[T any](list []T, of func(T) *template) []*template {
	out := make([]*template, 0, len(list))
	for _, item := range list {
		out = append(out, of(item))
	}
	return out
}

// Shared by all patients.
var (
	organizationT = resource("Organization",
		`"active":true,"type":[`+coding(hl7+"organization-type", "prov", "Healthcare Provider")+
			`],"name":"{{city}} General Hospital","address":[{"city":"{{city}}","state":"MA",`+
			`"country":"US"}]`)
	locationT = resource("Location",
		`"status":"active","name":"{{city}} General Hospital, main building",`+
			`"managingOrganization":`+anOrg)
	practitionerT = resource("Practitioner",
		`"identifier":[{"system":"http://hl7.org/fhir/sid/us-npi","value":"{{number}}"}],`+
			`"active":true,`+
			`"name":[{"family":"{{family}}","given":["{{given}}"],"prefix":["Dr."]}]`)
	roleT = resource("PractitionerRole",
		`"active":true,"practitioner":`+aPractitioner+`,"organization":`+anOrg+
			`,"code":[`+coding(sct, "59058001", "General physician")+`]`)
	medicationTs = each(outline.Drugs, func(d outline.Concept) *template {
		return resource("Medication", `"status":"active","code":`+coding(rxnorm, d.Code, d.Display))
	})
)

// Once per record.
var (
	patientT = resource("Patient",
		`"identifier":[{"system":"urn:oid:2.16.840.1.113883.19.5","value":"MRN{{number}}"}],`+
			`"name":[{"use":"official","family":"{{family}}","given":["{{given}}"]}],`+
			`"telecom":[{"system":"phone","value":"{{phone}}","use":"home"}],`+
			`"gender":"{{gender}}","birthDate":"{{born}}","address":[{"line":["{{street}} Main `+
			`Street"],"city":"{{city}}","state":"MA","postalCode":"0{{postal}}","country":"US"}],`+
			`"generalPractitioner":[`+to("PractitionerRole", "role")+`],"managingOrganization":`+
			anOrg)
	relatedT = resource("RelatedPerson",
		`"active":true,"patient":`+aPatient+`,"relationship":[`+
			coding(hl7+"v3-RoleCode", "NOK", "next of kin")+
			`],"name":[{"family":"{{family}}","given":["{{relative}}"]}]`)
	coverageT = resource("Coverage",
		`"status":"active","type":`+coding(hl7+"v3-ActCode", "HIP", "health insurance plan policy")+
			`,"beneficiary":`+aPatient+`,"period":{"start":"{{since}}"},"payor":[`+anOrg+`]`)
	chronicTs = each(outline.Chronic, func(c outline.Concept) *template {
		return resource("Condition",
			`"clinicalStatus":`+coding(hl7+"condition-clinical", "active", "Active")+
				`,"category":[`+
				coding(hl7+"condition-category", "problem-list-item", "Problem List Item")+
				`],"code":`+coding(sct, c.Code, c.Display)+
				`,"subject":`+aPatient+`,"onsetDateTime":"{{since}}","recordedDate":"{{since}}"`)
	})
	careTeamT = resource("CareTeam",
		`"status":"active","subject":`+aPatient+`,"participant":[{"member":`+aPatient+
			`},{"member":`+aPractitioner+
			`}],"managingOrganization":[`+anOrg+`]`)
	goalT = resource("Goal",
		`"lifecycleStatus":"active","description":{"text":"Walk 30 minutes a day"},"subject":`+
			aPatient+`,"addresses":[`+aCondition+`]`)
	planT = resource("CarePlan",
		`"status":"active","intent":"plan","category":[`+
			coding(sct, "698360004", "Diabetes self management plan")+
			`],"subject":`+aPatient+`,"careTeam":[`+to("CareTeam", "careTeam")+`],"addresses":[`+
			aCondition+`],"goal":[`+to("Goal", "goal")+`]`)
	allergyT = resource("AllergyIntolerance",
		`"clinicalStatus":`+coding(hl7+"allergyintolerance-clinical", "active", "Active")+
			`,"code":`+coding(sct, "91935009", "Allergy to peanuts")+`,"patient":`+aPatient+
			`,"recordedDate":"{{since}}"`)
	familyT = resource("FamilyMemberHistory",
		`"status":"completed","patient":`+aPatient+`,"relationship":`+
			coding(hl7+"v3-RoleCode", "MTH", "mother")+
			`,"condition":[{"code":`+coding(sct, "38341003", "Hypertensive disorder")+`}]`)
	deviceT = resource("Device",
		`"status":"active","deviceName":[{"name":"Blood pressure monitor",`+
			`"type":"user-friendly-name"}],"type":`+
			coding(sct, "43770009", "Sphygmomanometer")+`,"patient":`+aPatient)
)

// The resources of a visit.
var (
	encounterT = resource("Encounter",
		`"status":"finished","class":{"system":"`+hl7+`v3-ActCode","code":"AMB"},"type":[`+
			coding(sct, "185345009", "Encounter for symptom")+`],"subject":`+aPatient+
			`,"participant":[{"individual":`+aPractitioner+
			`}],"period":{"start":"{{start}}","end":"{{end}}"},"location":[{"location":`+
			to("Location", "location")+`}],"serviceProvider":`+anOrg)
	vitalTs = each(outline.Vitals, func(m outline.Measure) *template {
		return resource("Observation",
			observed("vital-signs", "Vital Signs", m.Concept)+`,"valueQuantity":`+quantity(m))
	})
	smokingT = resource("Observation",
		observed("social-history", "Social History", outline.Concept{
			Code:    "72166-2",
			Display: "Tobacco smoking status",
		})+`,"valueString":"Never smoked"`)
	labTs = each(outline.Labs, func(m outline.Measure) *template {
		return resource("Observation",
			observed("laboratory", "Laboratory", m.Concept)+`,"issued":"{{end}}","specimen":`+
				to("Specimen", "specimen")+
				`,"valueQuantity":`+quantity(m))
	})
	orderT = resource("ServiceRequest",
		`"status":"completed","intent":"order","code":`+
			coding(loinc, "51990-0", "Basic metabolic panel")+
			`,"subject":`+aPatient+`,"encounter":`+anEncounter+`,"requester":`+aPractitioner)
	specimenT = resource("Specimen",
		`"type":`+coding(sct, "119297000", "Blood specimen")+`,"subject":`+aPatient+
			`,"collection":{"collectedDateTime":"{{start}}"}`)
	panelT = resource("DiagnosticReport",
		`"status":"final","basedOn":[`+to("ServiceRequest", "order")+`],"category":[`+
			coding(hl7+"v2-0074", "LAB", "Laboratory")+`],"code":`+
			coding(loinc, "51990-0", "Basic metabolic panel")+`,"subject":`+aPatient+
			`,"encounter":`+anEncounter+
			`,"effectiveDateTime":"{{start}}","issued":"{{end}}","specimen":[`+
			to("Specimen", "specimen")+`],"result":[`+
			to("Observation", "result0")+`,`+to("Observation", "result1")+`,`+
			to("Observation", "result2")+`,`+to("Observation", "result3")+`,`+
			to("Observation", "result4")+`]`)
	procedureT = resource("Procedure",
		`"status":"completed","code":`+coding(sct, "430193006", "Medication reconciliation")+
			`,"subject":`+aPatient+
			`,"encounter":`+anEncounter+
			`,"performedPeriod":{"start":"{{start}}","end":"{{end}}"},"performer":[{"actor":`+
			aPractitioner+`}]`)
	immunizationT = resource("Immunization", `"status":"completed","vaccineCode":`+
		coding("http://hl7.org/fhir/sid/cvx", "140",
			"Influenza, seasonal, injectable, preservative free")+
		`,"patient":`+aPatient+`,"encounter":`+anEncounter+
		`,"occurrenceDateTime":"{{start}}","primarySource":true`)
	prescriptionT = resource("MedicationRequest",
		`"status":"active","intent":"order","medicationReference":`+to("Medication", "medication")+
			`,"subject":`+aPatient+
			`,"encounter":`+anEncounter+`,"authoredOn":"{{start}}","requester":`+aPractitioner+
			`,"reasonReference":[`+aCondition+`]`)
	dispenseT = resource("MedicationDispense",
		`"status":"completed","medicationReference":`+to("Medication", "medication")+`,"subject":`+
			aPatient+
			`,"authorizingPrescription":[`+to("MedicationRequest", "prescription")+
			`],"whenHandedOver":"{{end}}"`)
	claimT = resource("Claim",
		`"status":"active","type":`+coding(hl7+"claim-type", "professional", "Professional")+
			`,"use":"claim","patient":`+aPatient+
			`,"billablePeriod":{"start":"{{start}}","end":"{{end}}"},"created":"{{end}}",`+
			`"provider":`+anOrg+`,"priority":`+
			coding(hl7+"processpriority", "normal", "Normal")+
			`,"insurance":[{"sequence":1,"focal":true,"coverage":`+aCoverage+
			`}],"item":[{"sequence":1,"productOrService":`+
			coding(sct, "185345009", "Encounter for symptom")+`,"encounter":[`+anEncounter+
			`]}],"total":{"value":{{value}}.50,"currency":"USD"}`)
	benefitT = resource("ExplanationOfBenefit",
		`"identifier":[{"system":"https://bluebutton.cms.gov/resources/variables/clm_id",`+
			`"value":"{{claim}}"}],"status":"active","type":`+
			coding(hl7+"claim-type", "professional", "Professional")+`,"use":"claim","patient":`+
			aPatient+
			`,"billablePeriod":{"start":"{{start}}","end":"{{end}}"},"created":"{{end}}",`+
			`"insurer":`+anOrg+`,"provider":`+aPractitioner+`,"claim":`+to("Claim", "claim")+
			`,"outcome":"complete","insurance":[{"focal":true,"coverage":`+aCoverage+
			`}],"payment":{"amount":{"value":{{value}}.25,"currency":"USD"}}`)
	aboutEncounterT = resource("Provenance",
		`"target":[`+to("Encounter", "target")+`],"recorded":"{{end}}","agent":[{"who":`+
			aPractitioner+`}]`)
	aboutConditionT = resource("Provenance",
		`"target":[`+to("Condition", "target")+`],"recorded":"{{end}}","agent":[{"who":`+
			aPractitioner+`}]`)
)

// Documents and pictures.
var (
	documentTs = each(outline.Documents, func(d outline.Concept) *template {
		return resource("DocumentReference",
			`"status":"current","type":`+coding(loinc, d.Code, d.Display)+`,"subject":`+aPatient+
				`,"date":"{{moment}}","author":[`+aPractitioner+
				`],"content":[{"attachment":{"contentType":"text/plain","data":"{{payload}}",`+
				`"title":"`+d.Display+`"}}]`)
	})
	modality = `{"system":"` + dicom + `","code":"DX","display":"Digital Radiography"}`
	studyT   = resource("ImagingStudy",
		`"status":"available","modality":[`+modality+`],"subject":`+aPatient+
			`,"started":"{{moment}}","numberOfSeries":1,"numberOfInstances":1,`+
			`"series":[{"uid":"1.2.840.99999999.{{uid}}","number":1,"modality":`+modality+
			`,"numberOfInstances":1,"instance":[{"uid":"1.2.840.99999999.1.{{uid}}",`+
			`"sopClass":{"system":"urn:ietf:rfc:3986",`+
			`"code":"urn:oid:1.2.840.10008.5.1.4.1.1.1.1"},"number":1}]}]`)
	radiologyT = resource("DiagnosticReport",
		`"status":"final","category":[`+coding(hl7+"v2-0074", "RAD", "Radiology")+`],"code":`+
			coding(loinc, "36643-5", "XR Chest 2 Views")+`,"subject":`+aPatient+
			`,"effectiveDateTime":"{{moment}}","imagingStudy":[`+to("ImagingStudy", "study")+
			`],"conclusion":"No acute finding.","presentedForm":[{"contentType":"text/plain",`+
			`"data":"{{payload}}","title":"Radiology report"}]`)
	photographT = resource("Media",
		`"status":"completed","type":`+coding(hl7+"media-type", "image", "Image")+`,"subject":`+
			aPatient+
			`,"createdDateTime":"{{moment}}","content":{"contentType":"image/png",`+
			`"title":"Skin of the left forearm","data":"iVBORw0KGgo="}`)
)

// Examples of each category that the release form withholds.
var (
	sensitiveTs = each(outline.Sensitive, func(c outline.Concept) *template {
		return resource("Condition",
			`"clinicalStatus":`+coding(hl7+"condition-clinical", "active", "Active")+`,"code":`+
				coding(sct, c.Code, c.Display)+
				`,"subject":`+aPatient+`,"onsetDateTime":"{{moment}}"`)
	})
	infectionT = labelled("Condition", `{"system":"`+hl7+`v3-ActCode","code":"STD"}`,
		`"clinicalStatus":`+coding(hl7+"condition-clinical", "resolved", "Resolved")+
			`,"code":`+coding(sct, "15628003", "Gonorrhea")+`,"subject":`+aPatient+
			`,"onsetDateTime":"{{moment}}"`)
	geneticT = resource("Observation",
		`"status":"final","category":[`+
			coding(hl7+"observation-category", "laboratory", "Laboratory")+`],"code":`+
			coding(loinc, "51968-6", "Genetic variation clinical significance")+`,"subject":`+
			aPatient+`,"effectiveDateTime":"{{moment}}","valueString":"No variant found"`)
	conversationT = labelled("Communication", `{"system":"`+hl7+`v3-Confidentiality","code":"R"}`,
		`"status":"completed","subject":`+aPatient+
			`,"sent":"{{moment}}","payload":[{"contentString":"Conversation with the licensed `+
			`social worker"}]`)
)

func observed(category, display string, c outline.Concept) string {
	return `"status":"final","category":[` + coding(hl7+"observation-category", category, display) +
		`],"code":` + coding(loinc, c.Code, c.Display) +
		`,"subject":` + aPatient + `,"encounter":` + anEncounter +
		`,"effectiveDateTime":"{{start}}"`
}

func quantity(m outline.Measure) string {
	return fmt.Sprintf(`{"value":{{value}},"unit":%q,"system":"http://unitsofmeasure.org",`+
		`"code":%q}`, m.Unit, m.Unit)
}
