package native

import "ehi-server/exporter/synthetic/outline"

// Code systems.
const (
	icd10  = "http://hl7.org/fhir/sid/icd-10-cm"
	snomed = "http://snomed.info/sct"
	loinc  = "http://loinc.org"
	cvx    = "http://hl7.org/fhir/sid/cvx"
)

var specialties = []string{
	"Family medicine", "Internal medicine", "Cardiology", "Pediatrics", "Surgery", "Radiology",
}

// chronicICD are the codes of outline.Chronic in ICD-10-CM.
var chronicICD = []string{"E11.9", "I10", "J45.909", "E78.5", "E66.9", "M17.10"}

// sensitiveICD are the codes of outline.Sensitive in ICD-10-CM, and that of the infection.
var sensitiveICD = []string{"B20", "F10.20", "F32.9", "T74.11XA", "T74.21XA", "A54.9"}

// sensitive are outline.Sensitive and the infection.
var sensitive = append(outline.Sensitive[:len(outline.Sensitive):len(outline.Sensitive)],
	outline.Concept{Code: "15628003", Display: "Gonorrhea"})

// diagnoses are those of visits, with codes of ICD-10-CM.
var diagnoses = []outline.Concept{
	{Code: "E11.9", Display: "Type 2 diabetes mellitus without complications"},
	{Code: "I10", Display: "Essential (primary) hypertension"},
	{Code: "J06.9", Display: "Acute upper respiratory infection, unspecified"},
	{Code: "M54.50", Display: "Low back pain, unspecified"},
	{Code: "R51.9", Display: "Headache, unspecified"},
	{Code: "Z00.00", Display: "General adult medical examination without abnormal findings"},
	{Code: "E78.5", Display: "Hyperlipidemia, unspecified"},
	{Code: "K21.9", Display: "Gastro-esophageal reflux disease without esophagitis"},
}

var vaccines = []outline.Concept{
	{Code: "140", Display: "Influenza, seasonal, injectable, preservative free"},
}

// sentences are what people write into free text.
var sentences = []string{
	"The patient was seen, examined and advised; the findings and the plan were discussed.",
	"No acute distress. Lungs are clear on both sides, heart sounds are regular.",
	"Follow up in six weeks, or earlier if symptoms return or get worse.",
	"Patient reports taking all medication as prescribed and has no side effects.",
	"Blood pressure is within the target range; the present therapy continues.",
	"Discussed diet, exercise and sleep. Patient agrees to keep a diary until the next visit.",
	`Height 5'11", states "feels much better than last month".`,
	"Spoke with Dr. Núñez and Ms. Østergård about the naïve approach; temperature 37.2 °C.",
	"Reviewed results with the patient by telephone; all values are within normal limits.",
	"Family asks for an interpreter (日本語) at the next appointment.",
}

// reasons are why patients come.
var reasons = []string{
	"Annual examination", "Cough for three days", "Follow-up of blood pressure", "Back pain",
	"Renewal of prescriptions", "Headache since yesterday", "Review of results", "Vaccination",
}
