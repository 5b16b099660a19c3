package release

import (
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/fhir"
)

// maskedOnly are the References that decide nothing about their resource, by reason. They are
// masked if their target is withheld. A name stands for all elements with that name, unless such
// an element decides in another type; then each is listed with its type.
var maskedOnly = map[string]string{
	"it says whose the resource is": `patient beneficiary candidate individual policyHolder
		subscriber sourcePatientInfo deliverTo Person.link.target Binary.securityContext
		Patient.link.other`,
	"it is a patient, or a person, group, place or thing, by the definitions of R4": `Account.subject
		AdverseEvent.subject CarePlan.subject CareTeam.subject
		ChargeItem.subject ClinicalImpression.subject Communication.subject
		CommunicationRequest.subject Condition.subject DeviceRequest.subject
		DeviceUseStatement.subject DiagnosticReport.subject DocumentManifest.subject
		DocumentReference.subject Encounter.subject Goal.subject GuidanceResponse.subject
		ImagingStudy.subject Invoice.subject List.subject MeasureReport.subject
		MedicationAdministration.subject MedicationDispense.subject MedicationRequest.subject
		MedicationStatement.subject Observation.subject Procedure.subject
		RequestGroup.subject RiskAssessment.subject ServiceRequest.subject`,
	"it says who acted, paid or is responsible": `actor asserter assessor authenticator author ` +
		`authority
		careManager careTeam collector contributor costCenter custodian enterer expressedBy
		informationSource insurer interpreter issuer managingOrganization manufacturer member observer
		onBehalfOf operator orderer organization owner party payor performer performingOrganization
		prescriber provider publisher receiver recipient recorder reporter requester requestingOrganization
		requestor responsible responsibleParty resultsInterpreter sender serviceProvider source supplier
		referrer team verifiedWith who AllergyIntolerance.asserter generalPractitioner payee
		paymentIssuer requestProvider submitter`,
	"it says where, or with what": `additive additiveReference definition deliverFrom ` +
		`destination domain
		endpoint facility location locationReference manipulated origin ChargeItem.productReference
		site usedReference MessageHeader.destination.target Media.device MedicationAdministration.device MolecularSequence.device
		Observation.device Consent.provision.actor.reference`,
	"it is the occasion: what happened then is told for itself": `account context encounter ` +
		`episodeOfCare
		slot Encounter.appointment`,
	"it is an order or a plan, and the resource says what came of it": `careTeam goal referral ` +
		`referralRequest
		replaces priorPrescription priorRequest`,
	"it is a part or a source of what the resource says itself": `assessment eventHistory
		Contract.instantiatesCanonical outcomeReference outputParameters pointer
		Device.parent RiskAssessment.parent GuidanceResponse.result
		previous prognosisReference referenceSeqPointer report reportedReference
		specimen subjectResults variantPointer
		complicationDetail details evaluationMessage
		DeviceUseStatement.derivedFrom Condition.evidence.detail Immunization.reaction.detail`,
	"it is further information beside what the resource says": `allergyIntolerance detectedIssue
		referenceDocument relevantHistory statusReasonReference AdverseEvent.study subjectMedicalHistory
		supportingInfo supportingInformation consent`,
	"a visit happened whatever it was for": `Encounter.reasonReference
		Encounter.basedOn Encounter.partOf`,
	"it is another bill, or what pays for it": `claimResponse communicationRequest contract ` +
		`coverage insurance
		payment PaymentReconciliation.request`,
}

// decidingNames returns the names of the elements that decide in some type.
func decidingNames() map[string]bool {
	names := map[string]bool{}
	for typ, places := range aboutPlaces {
		for path := range places {
			if isOfR5(typ, path) {
				continue
			}
			names[path[strings.LastIndexByte(path, '.')+1:]] = true
		}
	}
	return names
}

// isOfR5 reports whether an element is a CodeableReference, see addCodeable.
func isOfR5(typ, path string) bool {
	whole := strings.TrimSuffix(path, ".reference")
	_, choice := aboutPlaces[typ][whole+"Reference"]
	_, same := aboutPlaces[typ][whole]
	return choice || same && whole != path && !slices.Contains(fhir.ReferencePaths(typ), path)
}

// EHI-9: for each Reference of R4, in each type of a patient's record, it is defined what
// happens if its target is withheld: the resource is withheld (aboutPaths, whyPaths), the entry
// is removed (entryPaths), or the Reference is masked for a stated reason.
func TestEHI9EveryReferenceOfR4IsDecidedUpon(t *testing.T) {
	masked, decides, used := map[string]bool{}, decidingNames(), map[string]bool{}
	for _, names := range maskedOnly {
		for _, name := range strings.Fields(names) {
			masked[name] = true
		}
	}
	for _, typ := range fhir.Types() {
		if fhir.CompartmentPaths(typ) == nil && roles[fhir.TypeNumber([]byte(typ))] != statement {
			continue // it says nothing about a patient
		}
		for _, path := range fhir.ReferencePaths(typ) {
			name, full := path[strings.LastIndexByte(path, '.')+1:], typ+"."+path
			top, _, _ := strings.Cut(path, ".")
			_, about := aboutPlaces[typ][path]
			switch {
			case about || slices.Contains(entryPaths[typ], top):
			case masked[full]:
				used[full] = true
			case masked[name] && !decides[name]:
				used[name] = true
			default:
				t.Errorf("%s leads to %v: what becomes of the resource where that stays?", full,
					fhir.ReferenceFields()[name])
			}
		}
	}
	for name := range masked {
		if !used[name] {
			t.Errorf("%s is masked only, but no element is meant", name)
		}
	}
}

// The tables contain only elements of their types.
func TestTheTablesOfReferencesNameElementsOfR4(t *testing.T) {
	for typ, places := range aboutPlaces {
		paths := fhir.ReferencePaths(typ)
		for path, p := range places {
			if isOfR5(typ, path) {
				continue
			}
			if !slices.Contains(paths, path) && !slices.Contains(fhir.CanonicalPaths(typ), path) &&
				otherNames[typ][path] == "" && !strings.HasPrefix(path, "extension.") {
				t.Errorf("%s.%s is no Reference", typ, path)
			}
			if p.group >= groups {
				t.Errorf("%s.%s is of group %d", typ, path, p.group)
			}
		}
	}
	for typ, paths := range consistsOf {
		for _, path := range paths {
			if !aboutPlaces[typ][path].part {
				t.Errorf("%s.%s names no parts, because it decides about nothing", typ, path)
			}
		}
	}
	for typ, paths := range aboutPaths {
		if len(paths) > copyOf || len(whyPaths[typ]) > madeOfInner-firstWhy {
			t.Errorf("%s has too many groups", typ)
		}
	}
}
