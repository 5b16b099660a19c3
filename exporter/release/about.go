package release

import (
	"maps"

	"ehi-server/shared/fhir"
)

// supporting are the types that say nothing of a patient by themselves: a resource of one of them
// goes where something that goes refers to it (EHI-8). They are the types outside the patient
// compartment of R4 that describe persons, places and things; definitions (PlanDefinition,
// Questionnaire, ...) are named by canonical URLs, and no References lead to them. Device has a
// patient and is one of them, see owned.
var supporting = typeSet(
	"Practitioner", "PractitionerRole", "Organization", "OrganizationAffiliation", "Location",
	"HealthcareService", "Endpoint", "InsurancePlan",
	"Medication", "MedicationKnowledge", "Substance", "SubstanceNucleicAcid", "SubstancePolymer",
	"SubstanceProtein", "SubstanceReferenceInformation", "SubstanceSourceMaterial",
	"SubstanceSpecification", "BiologicallyDerivedProduct",
	"MedicinalProduct", "MedicinalProductAuthorization", "MedicinalProductContraindication",
	"MedicinalProductIndication", "MedicinalProductIngredient", "MedicinalProductInteraction",
	"MedicinalProductManufactured", "MedicinalProductPackaged", "MedicinalProductPharmaceutical",
	"MedicinalProductUndesirableEffect",
	"Device", "DeviceDefinition", "DeviceMetric",
)

// typeSet is a set of types by their numbers.
func typeSet(names ...string) (set [256]bool) {
	for _, name := range names {
		set[fhir.TypeNumber([]byte(name))] = true
	}
	set[0] = false // no type
	return set
}

func isSupporting(typ []byte) bool { return supporting[fhir.TypeNumber(typ)] }

// aboutPaths are the elements that say what a resource is about: where they lead to withheld
// resources alone, it is withheld too (EHI-9). A type has one or more groups of elements; of a group
// the first element that leads anywhere counts, and each group decides by itself. What refers to
// others beside saying something of its own (DiagnosticReport.result, Encounter.diagnosis) is not
// here: of that the References are masked.
var aboutPaths = map[string][][]string{
	"AdverseEvent":             {{"suspectEntity.instance"}, {"resultingCondition"}},
	"AuditEvent":               {{"entity.what"}},
	"CarePlan":                 {{"addresses"}},
	"ChargeItem":               {{"service"}},
	"ClaimResponse":            {{"request"}},
	"ClinicalImpression":       {{"problem", "investigation.item", "finding.itemReference"}},
	"Communication":            {{"about", "reasonReference", "basedOn"}},
	"CommunicationRequest":     {{"about", "reasonReference", "basedOn"}},
	"Composition":              {{"section.entry"}},
	"Consent":                  {{"provision.data.reference"}},
	"DetectedIssue":            {{"implicated", "evidence.detail"}},
	"DeviceRequest":            {{"codeReference"}},
	"DeviceUseStatement":       {{"device"}},
	"DocumentManifest":         {{"content"}},
	"EpisodeOfCare":            {{"diagnosis.condition"}},
	"ExplanationOfBenefit":     {{"claim"}},
	"Flag":                     {{"extension.valueReference"}},
	"Goal":                     {{"addresses"}},
	"GuidanceResponse":         {{"reasonReference"}},
	"ImmunizationEvaluation":   {{"immunizationEvent"}},
	"Invoice":                  {{"lineItem.chargeItemReference"}},
	"Linkage":                  {{"item.resource"}},
	"List":                     {{"entry.item"}},
	"MeasureReport":            {{"evaluatedResource"}},
	"MedicationAdministration": {{"medicationReference"}, {"request"}},
	"MedicationDispense":       {{"medicationReference"}, {"authorizingPrescription"}},
	"MedicationRequest":        {{"medicationReference"}},
	"MedicationStatement":      {{"medicationReference"}, {"basedOn"}, {"derivedFrom"}},
	"MessageHeader":            {{"focus"}},
	"PaymentNotice":            {{"request"}, {"response"}},
	"Provenance":               {{"target"}},
	"RequestGroup":             {{"action.resource"}},
	"RiskAssessment":           {{"condition", "basis"}},
	"SupplyDelivery":           {{"suppliedItem.itemReference"}, {"basedOn"}},
	"SupplyRequest":            {{"itemReference"}, {"reasonReference"}},
	"Task":                     {{"focus", "basedOn", "reasonReference"}},
	"VerificationResult":       {{"target"}},
}

// whyPaths are the elements that say why a resource is, or to what it answers: where they lead to
// resources alone that stay for more than an unticked line of the form, it stays too. Of what is only
// not ticked the References are masked: a bill goes without the prescription that it is for. Groups are
// those of aboutPaths.
var whyPaths = map[string][][]string{
	"Appointment":                 {{"reasonReference"}},
	"AppointmentResponse":         {{"appointment"}},
	"CareTeam":                    {{"reasonReference"}},
	"Claim":                       {{"prescription"}, {"originalPrescription"}},
	"Communication":               {{"payload.contentReference"}, {"inResponseTo"}, {"partOf"}},
	"CommunicationRequest":        {{"payload.contentReference"}},
	"CoverageEligibilityResponse": {{"request"}},
	"DeviceRequest":               {{"reasonReference"}},
	"DeviceUseStatement":          {{"reasonReference"}},
	"ExplanationOfBenefit":        {{"prescription"}, {"originalPrescription"}},
	"FamilyMemberHistory":         {{"reasonReference"}},
	"ImagingStudy":                {{"reasonReference"}},
	"Immunization":                {{"reasonReference"}},
	"ImmunizationRecommendation":  {{"recommendation.supportingPatientInformation", "recommendation.supportingImmunization"}},
	"MedicationAdministration":    {{"reasonReference"}},
	"MedicationRequest":           {{"reasonReference"}},
	"MedicationStatement":         {{"reasonReference"}},
	"Procedure":                   {{"reasonReference"}},
	"QuestionnaireResponse":       {{"basedOn"}, {"partOf"}},
	"RequestGroup":                {{"reasonReference"}},
	"RiskAssessment":              {{"reasonReference"}},
	"ServiceRequest":              {{"reasonReference"}},
	"Specimen":                    {{"request"}},
}

// uses are the types of aboutPaths that use what they are about: it goes with them. The others only
// tell of it.
var uses = typeSet("MedicationRequest", "MedicationDispense", "MedicationAdministration", "MedicationStatement",
	"DeviceUseStatement", "DeviceRequest", "SupplyDelivery", "SupplyRequest")

// place is where in aboutPaths or whyPaths a path stands: groups of whyPaths follow those of aboutPaths,
// from firstWhy on.
type place struct{ group, rank uint8 }

// firstWhy is the first group of whyPaths, and groups how many numbers there are.
const firstWhy, groups = 3, 6

// why reports whether a place says why a resource is.
func (p place) why() bool { return p.group >= firstWhy }

// aboutPlaces is aboutPaths and whyPaths by type and path.
var aboutPlaces = func() map[string]map[string]place {
	m := map[string]map[string]place{}
	for first, table := range map[int]map[string][][]string{0: aboutPaths, firstWhy: whyPaths} {
		for typ, groups := range table {
			if m[typ] == nil {
				m[typ] = map[string]place{}
			}
			for g, paths := range groups {
				for rank, path := range paths {
					m[typ][path] = place{uint8(first + g), uint8(rank)}
				}
			}
		}
	}
	return m
}()

// pointing is a Reference at a place of aboutPaths. ok is false where it names no resource.
type pointing struct {
	at place
	to target
	ok bool
}

// abouts calls visit with what each group of a resource is about, or why it is; not with groups that
// are about something that names no resource.
func (f *facts) abouts(visit func(targets []target, why bool)) {
	targets := f.targets
	for group := range uint8(groups) {
		first := place{group, 255}
		for _, p := range f.content {
			if p.at.group == group {
				first.rank = min(first.rank, p.at.rank)
			}
		}
		targets = targets[:0]
		named := true
		for _, p := range f.content {
			if p.at == first {
				targets, named = append(targets, p.to), named && p.ok
			}
		}
		if len(targets) > 0 && named {
			visit(targets, first.why())
		}
	}
	f.targets = targets[:0]
}

// pointer reports whether what a resource is about may keep it.
func (f *facts) pointer() (is bool) {
	if len(f.content) > 0 {
		f.abouts(func([]target, bool) { is = true })
	}
	return is
}

// support is what is known of who refers to supporting resources. It has an entry for each
// supporting resource that is referred to, and an edge for each reference of a resource about which
// is not decided at once to one that was not known to go.
type support struct {
	used   map[resource]struct{} // by what goes
	denied map[resource]struct{} // Devices, by what stays
	edges  []*list               // in turn a resource and what it refers to
	selves map[resource]struct{} // the supporting resources of the record
	owned  map[resource]struct{} // Devices that have a patient
}

func newSupport() support {
	return support{
		used: map[resource]struct{}{}, denied: map[resource]struct{}{}, edges: []*list{{}}, selves: map[resource]struct{}{},
		owned: map[resource]struct{}{},
	}
}

// merge takes in what another observer gathered.
func (s *support) merge(o support) {
	maps.Copy(s.used, o.used)
	maps.Copy(s.denied, o.denied)
	maps.Copy(s.selves, o.selves)
	maps.Copy(s.owned, o.owned)
	s.edges = append(s.edges, o.edges...)
}

// withholdUnused withholds the supporting resources to which nothing that goes refers, and reports
// whether there were some.
func (r *Review) withholdUnused() (some bool) {
	s := &r.support
	reached := r.reachedSupport()
	for self := range s.selves {
		v, _ := r.index.at(self)
		if _, goes := reached[self]; goes || v.withheld() || r.unasked(self) {
			continue
		}
		r.index.set(self, because[referenceOnlyName])
		some = true
	}
	return some
}

// unasked reports whether a Device is the patient's own, and nothing else tells of it.
func (r *Review) unasked(self resource) bool {
	s := &r.support
	_, owned := s.owned[self]
	_, used := s.used[self]
	_, denied := s.denied[self]
	return owned && !used && !denied
}

// reachedSupport are the supporting resources to which what goes leads, by way of others.
func (r *Review) reachedSupport() map[resource]struct{} {
	s := &r.support
	reached := maps.Clone(s.used)
	for again := true; again; {
		again = false
		for _, l := range s.edges {
			for i := 0; i < l.n; i += 2 {
				to := l.at(i + 1)
				if _, known := reached[to]; !known && r.confers(l.at(i), reached) {
					reached[to] = struct{}{}
					again = true
				}
			}
		}
	}
	return reached
}

// confers reports whether a resource about which was not decided at once goes.
func (r *Review) confers(from resource, reached map[resource]struct{}) bool {
	if r.standing(from).withheld() {
		return false
	}
	if k, is := r.takers[from]; is {
		return r.confers(k.of, reached)
	}
	if _, isSupporting := r.support.selves[from]; isSupporting {
		_, goes := reached[from]
		return goes || r.unasked(from)
	}
	return true
}
