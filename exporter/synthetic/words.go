package synthetic

var (
	givens = []string{
		"Ada", "Ben", "Carla", "David", "Elena", "Frank", "Grace", "Hugo", "Irene", "James", "Kira",
		"Liam", "Maria", "Noah", "Olga", "Paul", "Quinn", "Rosa", "Sam", "Tara",
	}
	families = []string{
		"Abbott", "Baker", "Castillo", "Dawson", "Ellis", "Fischer", "Garcia", "Hughes", "Ito",
		"Jensen", "Kowalski", "Lopez", "Moreau", "Nguyen", "Olsen", "Perez", "Reyes", "Schmidt",
		"Tanaka", "Walsh",
	}
	cities = []string{
		"Boston", "Worcester", "Springfield", "Cambridge", "Lowell", "Brockton", "Quincy", "Newton",
	}
	genders = []string{"female", "male"}

	chronic = []concept{
		{"44054006", "Type 2 diabetes mellitus"},
		{"38341003", "Hypertensive disorder"},
		{"195967001", "Asthma"},
		{"55822004", "Hyperlipidemia"},
		{"162864005", "Body mass index 30+ - obesity"},
		{"239873007", "Osteoarthritis of knee"},
	}
	drugs = []concept{
		{"860975", "metformin hydrochloride 500 MG"},
		{"314076", "lisinopril 10 MG Oral Tablet"},
		{"617311", "atorvastatin 40 MG Oral Tablet"},
		{"308136", "amlodipine 2.5 MG Oral Tablet"},
		{"745679", "albuterol 0.09 MG/ACTUAT inhaler"},
		{"310965", "ibuprofen 200 MG Oral Tablet"},
		{"313782", "acetaminophen 325 MG Oral Tablet"},
		{"308182", "amoxicillin 250 MG Oral Capsule"},
	}
	documents = []concept{
		{"18842-5", "Discharge summary"},
		{"11504-8", "Surgical operation note"},
		{"11526-1", "Pathology study"},
		{"18748-4", "Diagnostic imaging study"},
		{"72170-4", "Photographic image"},
		{"34133-9", "Summarization of episode note"},
	}
	vitals = []measure{
		{concept{"8480-6", "Systolic blood pressure"}, "mm[Hg]", 100, 50},
		{concept{"8462-4", "Diastolic blood pressure"}, "mm[Hg]", 60, 35},
		{concept{"8867-4", "Heart rate"}, "/min", 55, 45},
		{concept{"29463-7", "Body weight"}, "kg", 50, 60},
	}
	labs = []measure{
		{concept{"2345-7", "Glucose"}, "mg/dL", 70, 70},
		{concept{"3094-0", "Urea nitrogen"}, "mg/dL", 7, 14},
		{concept{"2951-2", "Sodium"}, "mmol/L", 134, 12},
		{concept{"2823-3", "Potassium"}, "mmol/L", 3, 3},
		{concept{"2160-0", "Creatinine"}, "mg/dL", 1, 2},
	}
)
