package synthetic

import (
	"encoding/base64"
	"time"
)

type concept struct{ code, display string }

// history is what a whole record has once.
type history struct {
	coverage   string
	conditions []string // ids
	careTeam   string
}

// history emits the patient's long-lived resources.
func (g *Generator) history() history {
	h := history{coverage: g.next(), careTeam: g.next()}
	since := time.Date(2011, 3, 1, 9, 0, 0, 0, time.UTC).Add(time.Duration(g.rnd.IntN(200)) * day)
	g.put(`{"resourceType":"Coverage","id":%q,"status":"active","beneficiary":%s,"period":{"start":%q},"payor":[%s],"type":%s}`,
		h.coverage, g.subject, since.Format(time.DateOnly), g.organization(), coding(hl7+"v3-ActCode", "HIP", "health insurance plan policy"))
	for i := range 3 + g.rnd.IntN(3) {
		c := chronic[(i+g.rnd.IntN(3))%len(chronic)]
		id := g.next()
		h.conditions = append(h.conditions, id)
		g.put(`{"resourceType":"Condition","id":%q,"clinicalStatus":%s,"category":[%s],"code":%s,"subject":%s,"onsetDateTime":%q,"recordedDate":%q}`,
			id, coding(hl7+"condition-clinical", "active", "Active"), coding(hl7+"condition-category", "problem-list-item", "Problem List Item"),
			coding(sct, c.code, c.display), g.subject, stamp(since), stamp(since))
	}
	g.put(`{"resourceType":"CareTeam","id":%q,"status":"active","subject":%s,"participant":[{"member":%s},{"member":%s}],"managingOrganization":[%s]}`,
		h.careTeam, g.subject, g.subject, g.practitioner(), g.organization())
	goal := g.next()
	g.put(`{"resourceType":"Goal","id":%q,"lifecycleStatus":"active","description":{"text":"Walk 30 minutes a day"},"subject":%s,"addresses":[%s]}`,
		goal, g.subject, reference("Condition", h.conditions[0]))
	g.put(`{"resourceType":"CarePlan","id":%q,"status":"active","intent":"plan","category":[%s],"subject":%s,"careTeam":[%s],"addresses":[%s],"goal":[%s]}`,
		g.next(), coding(sct, "698360004", "Diabetes self management plan"), g.subject, reference("CareTeam", h.careTeam), reference("Condition", h.conditions[0]), reference("Goal", goal))
	g.put(`{"resourceType":"AllergyIntolerance","id":%q,"clinicalStatus":%s,"code":%s,"patient":%s,"recordedDate":%q}`,
		g.next(), coding(hl7+"allergyintolerance-clinical", "active", "Active"), coding(sct, "91935009", "Allergy to peanuts"), g.subject, stamp(since))
	g.put(`{"resourceType":"FamilyMemberHistory","id":%q,"status":"completed","patient":%s,"relationship":%s,"condition":[{"code":%s}]}`,
		g.next(), g.subject, coding(hl7+"v3-RoleCode", "MTH", "mother"), coding(sct, "38341003", "Hypertensive disorder"))
	g.put(`{"resourceType":"Device","id":%q,"status":"active","deviceName":[{"name":"Blood pressure monitor","type":"user-friendly-name"}],"type":%s,"patient":%s}`,
		g.next(), coding(sct, "43770009", "Sphygmomanometer"), g.subject)
	return h
}

// visit emits an encounter and what happened in it.
func (g *Generator) visit(h history, number int, at time.Time) {
	id := g.next()
	enc := reference("Encounter", id)
	end := at.Add(time.Duration(15+g.rnd.IntN(60)) * time.Minute)
	g.put(`{"resourceType":"Encounter","id":%q,"status":"finished","class":{"system":"%sv3-ActCode","code":"AMB"},"type":[%s],"subject":%s,"participant":[{"individual":%s}],"period":{"start":%q,"end":%q},"location":[{"location":%s}],"serviceProvider":%s}`,
		id, hl7, coding(sct, "185345009", "Encounter for symptom"), g.subject, g.practitioner(), stamp(at), stamp(end),
		reference("Location", g.uuid(spaceLocation, g.draw(organizations))), g.organization())
	for _, v := range vitals {
		g.put(`{"resourceType":"Observation","id":%q,"status":"final","category":[%s],"code":%s,"subject":%s,"encounter":%s,"effectiveDateTime":%q,"valueQuantity":{"value":%d,"unit":%q,"system":"http://unitsofmeasure.org","code":%q}}`,
			g.next(), coding(hl7+"observation-category", "vital-signs", "Vital Signs"), coding(loinc, v.code, v.display), g.subject, enc, stamp(at), v.low+g.rnd.IntN(v.spread), v.unit, v.unit)
	}
	if number%2 == 0 {
		g.laboratory(enc, at)
	}
	switch number % 4 {
	case 0:
		g.put(`{"resourceType":"Procedure","id":%q,"status":"completed","code":%s,"subject":%s,"encounter":%s,"performedPeriod":{"start":%q,"end":%q},"performer":[{"actor":%s}]}`,
			g.next(), coding(sct, "430193006", "Medication reconciliation"), g.subject, enc, stamp(at), stamp(end), g.practitioner())
	case 1:
		g.put(`{"resourceType":"Immunization","id":%q,"status":"completed","vaccineCode":%s,"patient":%s,"encounter":%s,"occurrenceDateTime":%q,"primarySource":true}`,
			g.next(), coding("http://hl7.org/fhir/sid/cvx", "140", "Influenza, seasonal, injectable, preservative free"), g.subject, enc, stamp(at))
	case 2:
		rx := g.next()
		g.put(`{"resourceType":"MedicationRequest","id":%q,"status":"active","intent":"order","medicationReference":%s,"subject":%s,"encounter":%s,"authoredOn":%q,"requester":%s,"reasonReference":[%s]}`,
			rx, reference("Medication", g.uuid(spaceMedication, g.draw(medications))), g.subject, enc, stamp(at), g.practitioner(), reference("Condition", pick(g.rnd, h.conditions)))
		g.put(`{"resourceType":"MedicationDispense","id":%q,"status":"completed","medicationReference":%s,"subject":%s,"authorizingPrescription":[%s],"whenHandedOver":%q}`,
			g.next(), reference("Medication", g.uuid(spaceMedication, g.draw(medications))), g.subject, reference("MedicationRequest", rx), stamp(end))
	case 3:
		g.put(`{"resourceType":"Observation","id":%q,"status":"final","category":[%s],"code":%s,"subject":%s,"encounter":%s,"effectiveDateTime":%q,"valueString":"Never smoked"}`,
			g.next(), coding(hl7+"observation-category", "social-history", "Social History"), coding(loinc, "72166-2", "Tobacco smoking status"), g.subject, enc, stamp(at))
	}
	g.bill(h, enc, at, end)
	g.put(`{"resourceType":"Provenance","id":%q,"target":[%s],"recorded":%q,"agent":[{"who":%s}]}`, g.next(), enc, stamp(end)[:19]+"Z", g.practitioner())
}

// laboratory emits an order, a specimen, results and their report.
func (g *Generator) laboratory(enc string, at time.Time) {
	order, specimen := g.next(), g.next()
	g.put(`{"resourceType":"ServiceRequest","id":%q,"status":"completed","intent":"order","code":%s,"subject":%s,"encounter":%s,"requester":%s}`,
		order, coding(loinc, "51990-0", "Basic metabolic panel"), g.subject, enc, g.practitioner())
	g.put(`{"resourceType":"Specimen","id":%q,"type":%s,"subject":%s,"collection":{"collectedDateTime":%q}}`, specimen, coding(sct, "119297000", "Blood specimen"), g.subject, stamp(at))
	results := ""
	for i, l := range labs {
		id := g.next()
		g.put(`{"resourceType":"Observation","id":%q,"status":"final","category":[%s],"code":%s,"subject":%s,"encounter":%s,"effectiveDateTime":%q,"issued":%q,"specimen":%s,"valueQuantity":{"value":%d,"unit":%q,"system":"http://unitsofmeasure.org","code":%q}}`,
			id, coding(hl7+"observation-category", "laboratory", "Laboratory"), coding(loinc, l.code, l.display), g.subject, enc, stamp(at), stamp(at.Add(time.Hour)),
			reference("Specimen", specimen), l.low+g.rnd.IntN(l.spread), l.unit, l.unit)
		if i > 0 {
			results += ","
		}
		results += reference("Observation", id)
	}
	g.put(`{"resourceType":"DiagnosticReport","id":%q,"status":"final","basedOn":[%s],"category":[%s],"code":%s,"subject":%s,"encounter":%s,"effectiveDateTime":%q,"issued":%q,"specimen":[%s],"result":[%s]}`,
		g.next(), reference("ServiceRequest", order), coding(hl7+"v2-0074", "LAB", "Laboratory"), coding(loinc, "51990-0", "Basic metabolic panel"), g.subject, enc,
		stamp(at), stamp(at.Add(2*time.Hour)), reference("Specimen", specimen), results)
}

// bill emits a claim and its explanation of benefit.
func (g *Generator) bill(h history, enc string, at, end time.Time) {
	claim := g.next()
	g.put(`{"resourceType":"Claim","id":%q,"status":"active","type":%s,"use":"claim","patient":%s,"billablePeriod":{"start":%q,"end":%q},"created":%q,"provider":%s,"priority":%s,"insurance":[{"sequence":1,"focal":true,"coverage":%s}],"item":[{"sequence":1,"productOrService":%s,"encounter":[%s]}],"total":{"value":%d.50,"currency":"USD"}}`,
		claim, coding(hl7+"claim-type", "professional", "Professional"), g.subject, stamp(at), stamp(end), stamp(end), g.organization(),
		coding(hl7+"processpriority", "normal", "Normal"), reference("Coverage", h.coverage), coding(sct, "185345009", "Encounter for symptom"), enc, 80+g.rnd.IntN(400))
	g.put(`{"resourceType":"ExplanationOfBenefit","id":%q,"identifier":[{"system":"https://bluebutton.cms.gov/resources/variables/clm_id","value":%q}],"status":"active","type":%s,"use":"claim","patient":%s,"billablePeriod":{"start":%q,"end":%q},"created":%q,"insurer":%s,"provider":%s,"claim":%s,"outcome":"complete","insurance":[{"focal":true,"coverage":%s}],"payment":{"amount":{"value":%d.25,"currency":"USD"}}}`,
		g.next(), claim, coding(hl7+"claim-type", "professional", "Professional"), g.subject, stamp(at), stamp(end), stamp(end), g.organization(), g.practitioner(),
		reference("Claim", claim), reference("Coverage", h.coverage), 40+g.rnd.IntN(300))
}

// documents emits one document of each group, an imaging study with its report, and a photograph.
func (g *Generator) documents(at time.Time) {
	for i, d := range documents {
		text := base64.StdEncoding.EncodeToString([]byte(d.display + " of the visit on " + at.Format(time.DateOnly)))
		g.put(`{"resourceType":"DocumentReference","id":%q,"status":"current","type":%s,"subject":%s,"date":%q,"author":[%s],"content":[{"attachment":{"contentType":"text/plain","data":%q,"title":%q}}]}`,
			g.next(), coding(loinc, d.code, d.display), g.subject, stamp(at.Add(time.Duration(i)*30*day)), g.practitioner(), text, d.display)
	}
	study := g.next()
	g.put(`{"resourceType":"ImagingStudy","id":%q,"status":"available","modality":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"DX"}],"subject":%s,"started":%q,"numberOfSeries":1,"numberOfInstances":1,"series":[{"uid":"1.2.840.99999999.%d","number":1,"modality":{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"DX","display":"Digital Radiography"},"numberOfInstances":1,"instance":[{"uid":"1.2.840.99999999.1.%d","sopClass":{"system":"urn:ietf:rfc:3986","code":"urn:oid:1.2.840.10008.5.1.4.1.1.1.1"},"number":1}]}]}`,
		study, g.subject, stamp(at), g.rnd.IntN(1e8), g.rnd.IntN(1e8))
	g.put(`{"resourceType":"DiagnosticReport","id":%q,"status":"final","category":[%s],"code":%s,"subject":%s,"effectiveDateTime":%q,"imagingStudy":[%s],"conclusion":"No acute finding.","presentedForm":[{"contentType":"text/plain","data":%q,"title":"Radiology report"}]}`,
		g.next(), coding(hl7+"v2-0074", "RAD", "Radiology"), coding(loinc, "36643-5", "XR Chest 2 Views"), g.subject, stamp(at), reference("ImagingStudy", study),
		base64.StdEncoding.EncodeToString([]byte("Chest X-ray, two views. No acute finding.")))
	g.put(`{"resourceType":"Media","id":%q,"status":"completed","type":%s,"subject":%s,"createdDateTime":%q,"content":{"contentType":"image/png","title":"Skin of the left forearm","data":"iVBORw0KGgo="}}`,
		g.next(), coding(hl7+"media-type", "image", "Image"), g.subject, stamp(at))
}

// sensitive emits one item of every category that the release form withholds.
func (g *Generator) sensitive(at time.Time) {
	for _, c := range []concept{
		{"86406008", "Human immunodeficiency virus infection"}, {"7200002", "Alcoholism"}, {"370143000", "Major depressive disorder"},
		{"706893006", "Victim of intimate partner abuse"}, {"248110007", "Sexual assault"},
	} {
		id := g.next()
		g.put(`{"resourceType":"Condition","id":%q,"clinicalStatus":%s,"code":%s,"subject":%s,"onsetDateTime":%q}`,
			id, coding(hl7+"condition-clinical", "active", "Active"), coding(sct, c.code, c.display), g.subject, stamp(at))
		g.put(`{"resourceType":"Provenance","id":%q,"target":[%s],"recorded":%q,"agent":[{"who":%s}]}`, g.next(), reference("Condition", id), stamp(at), g.practitioner())
	}
	g.put(`{"resourceType":"Condition","id":%q,"meta":{"security":[{"system":"%sv3-ActCode","code":"STD"}]},"clinicalStatus":%s,"code":%s,"subject":%s,"onsetDateTime":%q}`,
		g.next(), hl7, coding(hl7+"condition-clinical", "resolved", "Resolved"), coding(sct, "15628003", "Gonorrhea"), g.subject, stamp(at))
	g.put(`{"resourceType":"Observation","id":%q,"status":"final","category":[%s],"code":%s,"subject":%s,"effectiveDateTime":%q,"valueString":"No variant found"}`,
		g.next(), coding(hl7+"observation-category", "laboratory", "Laboratory"), coding(loinc, "51968-6", "Genetic variation clinical significance"), g.subject, stamp(at))
	g.put(`{"resourceType":"Communication","id":%q,"meta":{"security":[{"system":"%sv3-Confidentiality","code":"R"}]},"status":"completed","subject":%s,"sent":%q,"payload":[{"contentString":"Conversation with the licensed social worker"}]}`,
		g.next(), hl7, g.subject, stamp(at))
}
