package release

import (
	"strings"

	"ehi-server/shared/fhir"
)

// role is the role of a resource type in a patient's record. It decides whether a resource is
// released by itself, or with the resources that refer to it (EHI-8, EHI-9).
type role uint8

const (
	// undecided is the role of types unknown to R4. Such a resource is released according to its
	// form line.
	undecided role = iota
	// statement says something about the patient by itself.
	statement
	// thing is a person, place or thing that says nothing about a patient. It has no form line,
	// and is released if a released resource refers to it.
	thing
	// part belongs to the resources that refer to it, such as the slot of an appointment or the
	// goal of a plan. It has a form line. In addition, it is withheld if no released resource
	// refers to it, but one does that is withheld for a reason other than an unticked form line.
	part
	// definition is a part of the resources that follow it: a questionnaire, a protocol.
	definition
)

// roleTable lists the types of R4 by role. Statements are the types of the patient compartment,
// and types about bills, messages and whole records of it. Exceptions in the compartment: Device
// is a thing (one that belongs to a patient is released without references too). Goal,
// RelatedPerson, Person, Schedule, Specimen and BodyStructure are parts, because another
// resource says what they are for. CareTeam is a statement: it says so itself, and usually only
// names those who treat the patient.
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

// roles is roleTable by type number.
var roles = func() (of [256]role) {
	for r, names := range roleTable {
		for _, name := range strings.Fields(names) {
			of[fhir.TypeNumber([]byte(name))] = r
		}
	}
	of[0] = undecided // number 0 is no type
	return of
}()

// isThing reports whether resources of a type are things.
func isThing(typ []byte) bool { return roles[fhir.TypeNumber(typ)] == thing }

// supporting are the types, by number, whose resources are released with those that refer to
// them: things, parts and definitions.
var supporting = func() (set [256]bool) {
	for number, r := range roles {
		set[number] = r >= thing
	}
	return set
}()

// typeSet returns a set of types by number.
func typeSet(names ...string) (set [256]bool) {
	for _, name := range names {
		set[fhir.TypeNumber([]byte(name))] = true
	}
	set[0] = false // number 0 is no type
	return set
}

func isSupporting(typ []byte) bool { return supporting[fhir.TypeNumber(typ)] }

// isPart reports whether resources of a type are parts or definitions.
func isPart(typ uint16) bool { return int(typ) < len(roles) && roles[typ] >= part }
