package fhir

import "strings"

// compartment is the patient compartment of R4 (https://hl7.org/fhir/R4/compartmentdefinition-patient.html): for each type,
// where a reference to a Patient makes the resource part of that patient's record. Two deviations: a Patient belongs to
// itself alone (never through link.other, which names another patient), and a Group to nobody, because it names many.
// Device.patient is added: R4 leaves Device out, and an implanted device is the patient's own.
var compartment = func() map[string][]string {
	m := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(`
Account subject
AdverseEvent subject
AllergyIntolerance patient recorder asserter
Appointment participant.actor
AppointmentResponse actor
AuditEvent agent.who entity.what
Basic subject author
BodyStructure patient
CarePlan subject activity.detail.performer
CareTeam subject participant.member
ChargeItem subject
Claim patient payee.party
ClaimResponse patient
ClinicalImpression subject
Communication subject sender recipient
CommunicationRequest subject sender recipient requester
Composition subject author attester.party
Condition subject asserter
Consent patient
Coverage policyHolder subscriber beneficiary payor
CoverageEligibilityRequest patient
CoverageEligibilityResponse patient
DetectedIssue patient
Device patient
DeviceRequest subject performer
DeviceUseStatement subject
DiagnosticReport subject
DocumentManifest subject author recipient
DocumentReference subject author
Encounter subject
EnrollmentRequest candidate
EpisodeOfCare patient
ExplanationOfBenefit patient payee.party
FamilyMemberHistory patient
Flag subject
Goal subject
GuidanceResponse subject
ImagingStudy subject
Immunization patient
ImmunizationEvaluation patient
ImmunizationRecommendation patient
Invoice subject recipient
List subject source
MeasureReport subject
Media subject
MedicationAdministration subject performer.actor
MedicationDispense subject receiver
MedicationRequest subject
MedicationStatement subject
MolecularSequence patient
NutritionOrder patient
Observation subject performer
Person link.target
Procedure subject performer.actor
Provenance target
QuestionnaireResponse subject author
RelatedPerson patient
RequestGroup subject action.participant
ResearchSubject individual
RiskAssessment subject
Schedule actor
ServiceRequest subject performer
Specimen subject
SupplyDelivery patient
SupplyRequest requester
Task for
VisionPrescription patient`), "\n") {
		f := strings.Fields(line)
		m[f[0]] = f[1:]
	}
	return m
}()

// CompartmentPaths returns where in a resource of type t a reference to a Patient makes it part of that patient's
// record, as dotted paths; nil for types that belong to no patient.
func CompartmentPaths(t string) []string { return compartment[t] }
