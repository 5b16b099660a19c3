package outline

// Concept is a code and its meaning.
type Concept struct{ Code, Display string }

// Measure is a quantity with a plausible range: Low to Low+Spread-1. The code is of LOINC.
type Measure struct {
	Concept
	Unit        string
	Low, Spread int
}

// Words that the seed chooses from.
var (
	Givens = []string{
		"Ada", "Ben", "Carla", "David", "Elena", "Frank", "Grace", "Hugo", "Irene", "James", "Kira",
		"Liam", "Maria", "Noah", "Olga", "Paul", "Quinn", "Rosa", "Sam", "Tara",
	}
	Families = []string{
		"Abbott", "Baker", "Castillo", "Dawson", "Ellis", "Fischer", "Garcia", "Hughes", "Ito",
		"Jensen", "Kowalski", "Lopez", "Moreau", "Nguyen", "Olsen", "Perez", "Reyes", "Schmidt",
		"Tanaka", "Walsh",
	}
	Cities = []string{
		"Boston", "Worcester", "Springfield", "Cambridge", "Lowell", "Brockton", "Quincy", "Newton",
	}
	Genders = []string{"female", "male"}

	// Chronic conditions have codes of SNOMED CT.
	Chronic = []Concept{
		{"44054006", "Type 2 diabetes mellitus"},
		{"38341003", "Hypertensive disorder"},
		{"195967001", "Asthma"},
		{"55822004", "Hyperlipidemia"},
		{"162864005", "Body mass index 30+ - obesity"},
		{"239873007", "Osteoarthritis of knee"},
	}
	// Drugs have codes of RxNorm.
	Drugs = []Concept{
		{"860975", "metformin hydrochloride 500 MG"},
		{"314076", "lisinopril 10 MG Oral Tablet"},
		{"617311", "atorvastatin 40 MG Oral Tablet"},
		{"308136", "amlodipine 2.5 MG Oral Tablet"},
		{"745679", "albuterol 0.09 MG/ACTUAT inhaler"},
		{"310965", "ibuprofen 200 MG Oral Tablet"},
		{"313782", "acetaminophen 325 MG Oral Tablet"},
		{"308182", "amoxicillin 250 MG Oral Capsule"},
	}
	// Documents are one of each group, with codes of LOINC.
	Documents = []Concept{
		{"18842-5", "Discharge summary"},
		{"11504-8", "Surgical operation note"},
		{"11526-1", "Pathology study"},
		{"18748-4", "Diagnostic imaging study"},
		{"72170-4", "Photographic image"},
		{"34133-9", "Summarization of episode note"},
	}
	// Vitals are the vital signs of each visit, and Labs the results of every other one.
	Vitals = []Measure{
		{Concept{"8480-6", "Systolic blood pressure"}, "mm[Hg]", 100, 50},
		{Concept{"8462-4", "Diastolic blood pressure"}, "mm[Hg]", 60, 35},
		{Concept{"8867-4", "Heart rate"}, "/min", 55, 45},
		{Concept{"29463-7", "Body weight"}, "kg", 50, 60},
	}
	Labs = []Measure{
		{Concept{"2345-7", "Glucose"}, "mg/dL", 70, 70},
		{Concept{"3094-0", "Urea nitrogen"}, "mg/dL", 7, 14},
		{Concept{"2951-2", "Sodium"}, "mmol/L", 134, 12},
		{Concept{"2823-3", "Potassium"}, "mmol/L", 3, 3},
		{Concept{"2160-0", "Creatinine"}, "mg/dL", 1, 2},
	}
	// Sensitive are conditions that need an authorization of the release form, with codes of
	// SNOMED CT.
	Sensitive = []Concept{
		{"86406008", "Human immunodeficiency virus infection"},
		{"7200002", "Alcoholism"},
		{"370143000", "Major depressive disorder"},
		{"706893006", "Victim of intimate partner abuse"},
		{"248110007", "Sexual assault"},
	}
)
