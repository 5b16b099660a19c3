package selection

import "strings"

// mandatory are the top-level elements with a minimum of one by type: they are exported whatever _elements says, so that what
// is exported stays valid (https://hl7.org/fhir/R4/search.html#elements).
var mandatory = func() map[string][]string {
	m := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(`
Account status
AdverseEvent actuality subject
AllergyIntolerance patient
Appointment status participant
AppointmentResponse appointment participantStatus
AuditEvent type recorded agent source
Basic code
Binary contentType
BodyStructure patient
Bundle type
CarePlan status intent subject
ChargeItem status code subject
Claim status type use patient created provider priority insurance
ClaimResponse status type use patient created insurer outcome
ClinicalImpression status subject
Communication status
CommunicationRequest status
Composition status type date author title
Condition subject
Consent status scope category
Coverage status beneficiary payor
CoverageEligibilityRequest status purpose patient created insurer
CoverageEligibilityResponse status purpose patient created request outcome insurer
DetectedIssue status
DeviceMetric type category
DeviceRequest intent code subject
DeviceUseStatement status subject device
DiagnosticReport status code
DocumentManifest status content
DocumentReference status content
Encounter status class
Endpoint status connectionType payloadType address
EpisodeOfCare status patient
ExplanationOfBenefit status type use patient created insurer provider outcome insurance
FamilyMemberHistory status patient relationship
Flag status code subject
Goal lifecycleStatus description subject
Group type actual
GuidanceResponse module status
ImagingStudy status subject
Immunization status vaccineCode patient occurrence
ImmunizationEvaluation status patient targetDisease immunizationEvent doseStatus
ImmunizationRecommendation patient date recommendation
Invoice status
Library status type
Linkage item
List status mode
Measure status
MeasureReport status type measure period
Media status content
MedicationAdministration status medication subject effective
MedicationDispense status medication
MedicationRequest status intent medication subject
MedicationStatement status medication subject
MessageHeader event source
MolecularSequence coordinateSystem
NutritionOrder status intent patient dateTime
Observation status code
OperationOutcome issue
PaymentNotice status created payment recipient amount
PaymentReconciliation status created paymentDate paymentAmount
PlanDefinition status
Procedure status subject
Provenance target recorded agent
Questionnaire status
QuestionnaireResponse status
RelatedPerson patient
RequestGroup status intent
ResearchStudy status
ResearchSubject status study individual
RiskAssessment status subject
Schedule actor
ServiceRequest status intent subject
Slot schedule status start end
Subscription status reason criteria channel
Substance code
SupplyRequest item quantity
Task status intent
VisionPrescription status created patient dateWritten prescriber lensSpecification`), "\n") {
		f := strings.Fields(line)
		m[f[0]] = f[1:]
	}
	return m
}()

// choices are the elements whose name goes on with a type: value[x].
var choices = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(`value effective onset abatement performed occurrence medication deceased multipleBirth born age created
timing product serviced location reported item subject asNeeded rate content author definition due start`) {
		m[name] = true
	}
	return m
}()
