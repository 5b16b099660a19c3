package outline

// FirstNumber is the record number of patient 0.
const FirstNumber = 10_000_000

// The numbers of a record's first resources.
const (
	PatientAt       = 0
	RelatedPersonAt = 1
	CoverageAt      = 2
	ConditionAt     = 3 // the first one
)

// The places of the resources of the history, after the conditions.
const (
	careTeamAfter = iota
	goalAfter
	planAfter
	allergyAfter
	familyAfter
	deviceAfter
	historyAfter
)

// after returns the number of the resource at a place after the conditions.
func (p *Person) after(place int) uint32 { return uint32(ConditionAt + p.Conditions + place) }

// CareTeam returns the number of the CareTeam.
func (p *Person) CareTeam() uint32 { return p.after(careTeamAfter) }

// Goal returns the number of the Goal.
func (p *Person) Goal() uint32 { return p.after(goalAfter) }

// Plan returns the number of the CarePlan.
func (p *Person) Plan() uint32 { return p.after(planAfter) }

// Allergy returns the number of the AllergyIntolerance.
func (p *Person) Allergy() uint32 { return p.after(allergyAfter) }

// FamilyHistory returns the number of the FamilyMemberHistory.
func (p *Person) FamilyHistory() uint32 { return p.after(familyAfter) }

// Device returns the number of the Device.
func (p *Person) Device() uint32 { return p.after(deviceAfter) }

// Others is the number of resources of documents and sensitive. A record of a given size
// reserves room for them.
const Others = 22

// The places of these resources, from the first one.
const (
	DocumentAfter     = 0 // those of Documents
	StudyAfter        = 6
	RadiologyAfter    = 7 // a DiagnosticReport
	PhotographAfter   = 8 // a Media
	SensitiveAfter    = 9 // those of Sensitive, each followed by a Provenance
	InfectionAfter    = 19
	GeneticAfter      = 20 // an Observation
	ConversationAfter = 21 // a Communication
)
