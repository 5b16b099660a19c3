package release

import (
	"strings"

	"ehi-server/shared/fhir"
)

// role is what resources of a type are in a patient's record. It decides whether one goes by
// itself, or with what refers to it (EHI-8, EHI-9).
type role uint8

const (
	// undecided is the role of what R4 does not know: it goes by its line of the form.
	undecided role = iota
	// statement says something of the patient by itself.
	statement
	// thing is a person, place or thing: it says nothing of a patient. It has no line of the
	// form, and goes where something that goes refers to it.
	thing
	// part belongs to what refers to it, such as the slot of an appointment or the goal of a
	// plan. It has a line of the form; beside that it stays where something refers to it that
	// stays for more than an unticked line, and nothing that goes does.
	part
	// definition is a part of what was done by it: a questionnaire, a protocol.
	definition
)

// roleTable is the role of each type of R4. Statements are the types of the patient compartment,
// and those that tell of bills, messages and whole records of it. Of the compartment, Device is
// a thing (one of a patient to which nothing refers goes), and Goal, RelatedPerson, Person,
// Schedule, Specimen and BodyStructure are parts: another resource says what they are for. A
// CareTeam says that by itself, and mostly names who treats the patient anyway.
var roleTable = map[role]string{
	statement: `Account AdverseEvent AllergyIntolerance Appointment AppointmentResponse ` +
		`AuditEvent Basic
		Binary Bundle CarePlan CareTeam ChargeItem Claim ClaimResponse ClinicalImpression Communication
		CommunicationRequest Composition Condition Consent Contract Coverage CoverageEligibilityRequest
		CoverageEligibilityResponse DetectedIssue DeviceRequest DeviceUseStatement DiagnosticReport
		DocumentManifest DocumentReference Encounter EnrollmentRequest EnrollmentResponse EpisodeOfCare
		ExplanationOfBenefit FamilyMemberHistory Flag GuidanceResponse ImagingStudy Immunization
		ImmunizationEvaluation ImmunizationRecommendation Invoice Linkage List MeasureReport Media
		MedicationAdministration MedicationDispense MedicationRequest MedicationStatement MessageHeader
		MolecularSequence NutritionOrder Observation OperationOutcome Parameters Patient PaymentNotice
		PaymentReconciliation Procedure Provenance QuestionnaireResponse RequestGroup ResearchSubject
		RiskAssessment ServiceRequest Subscription SupplyDelivery SupplyRequest Task VerificationResult
		VisionPrescription`,
	thing: `Practitioner PractitionerRole Organization OrganizationAffiliation Location ` +
		`HealthcareService
		Endpoint InsurancePlan Device DeviceDefinition DeviceMetric Medication MedicationKnowledge
		Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein SubstanceReferenceInformation
		SubstanceSourceMaterial SubstanceSpecification BiologicallyDerivedProduct MedicinalProduct
		MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication
		MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured
		MedicinalProductPackaged MedicinalProductPharmaceutical MedicinalProductUndesirableEffect`,
	part: `BodyStructure Goal Group Person RelatedPerson ResearchStudy Schedule Slot Specimen`,
	definition: `ActivityDefinition CapabilityStatement CatalogEntry ChargeItemDefinition CodeSystem
		CompartmentDefinition ConceptMap EffectEvidenceSynthesis EventDefinition Evidence
		EvidenceVariable ExampleScenario GraphDefinition ImplementationGuide Library Measure
		MessageDefinition NamingSystem ObservationDefinition OperationDefinition PlanDefinition
		Questionnaire ResearchDefinition ResearchElementDefinition RiskEvidenceSynthesis
		SearchParameter SpecimenDefinition StructureDefinition StructureMap TerminologyCapabilities
		TestReport TestScript ValueSet`,
}

// roles is roleTable by the numbers of the types.
var roles = func() (of [256]role) {
	for r, names := range roleTable {
		for _, name := range strings.Fields(names) {
			of[fhir.TypeNumber([]byte(name))] = r
		}
	}
	of[0] = undecided // no type
	return of
}()

// isThing reports whether resources of a type are things.
func isThing(typ []byte) bool { return roles[fhir.TypeNumber(typ)] == thing }

// supporting are the types whose resources go with what refers to them, by their numbers: things,
// and parts.
var supporting = func() (set [256]bool) {
	for number, r := range roles {
		set[number] = r >= thing
	}
	return set
}()

// typeSet is a set of types by their numbers.
func typeSet(names ...string) (set [256]bool) {
	for _, name := range names {
		set[fhir.TypeNumber([]byte(name))] = true
	}
	set[0] = false // no type
	return set
}

func isSupporting(typ []byte) bool { return supporting[fhir.TypeNumber(typ)] }

// isPart reports whether resources of a type are parts, or definitions.
func isPart(typ uint16) bool { return int(typ) < len(roles) && roles[typ] >= part }
