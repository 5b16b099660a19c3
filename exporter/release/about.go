package release

import (
	"maps"
	"math/bits"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// aboutPaths are the elements that say what a resource is about: where they lead to withheld
// resources alone, it is withheld too (EHI-9). A type has one or more groups of elements; of a
// group the first element that leads anywhere counts, and each group decides by itself. What
// refers to others beside saying something of its own (Condition.evidence, Encounter.diagnosis)
// is not here: of that the References are masked.
var aboutPaths = map[string][][]string{
	"AdverseEvent":         {{"suspectEntity.instance"}, {"resultingCondition"}},
	"AuditEvent":           {{"entity.what"}},
	"Basic":                {{"subject"}},
	"CarePlan":             {{"addresses"}},
	"ChargeItem":           {{"service"}},
	"ClaimResponse":        {{"request"}},
	"ClinicalImpression":   {{"problem", "investigation.item", "finding.itemReference"}},
	"Communication":        {{"about", "reasonReference", "basedOn"}},
	"CommunicationRequest": {{"about", "reasonReference", "basedOn"}},
	"Composition":          {{"section.entry"}, {"subject"}},
	"Consent":              {{"provision.data.reference"}},
	"Contract": {
		{"subject"},
		{"topicReference", "term.topicReference", "term.offer.topic"},
	},
	"DetectedIssue":            {{"implicated", "evidence.detail"}},
	"DeviceRequest":            {{"codeReference"}},
	"DeviceUseStatement":       {{"device"}},
	"DocumentManifest":         {{"content", "related.ref"}},
	"EnrollmentResponse":       {{"request"}},
	"EpisodeOfCare":            {{"diagnosis.condition"}},
	"ExplanationOfBenefit":     {{"claim"}},
	"Flag":                     {{"extension.valueReference"}, {"subject"}},
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
	"PaymentReconciliation":    {{"detail.request"}, {"detail.response"}},
	"Provenance":               {{"target"}},
	"QuestionnaireResponse":    {{"subject"}},
	"RequestGroup":             {{"action.resource"}},
	"RiskAssessment":           {{"condition", "basis"}},
	"SupplyDelivery":           {{"suppliedItem.itemReference"}, {"basedOn"}},
	"SupplyRequest":            {{"itemReference"}, {"reasonReference"}},
	"Task":                     {{"focus", "basedOn", "reasonReference"}, {"for"}},
	"VerificationResult":       {{"target"}},
}

// whyPaths are the elements that say why a resource is, to what it answers, or of what it is
// made: where they lead to resources alone that stay for more than an unticked line of the form,
// it stays too. A report says in its conclusion what its results are, a panel is its members, a
// document that relates to others signs, changes or replaces them. Of what is only not ticked
// the References are masked: a bill goes without the prescription that it is for. Groups are
// those of aboutPaths.
var whyPaths = map[string][][]string{
	"Account":              {{"partOf"}},
	"ActivityDefinition":   {{"productReference"}},
	"Appointment":          {{"reasonReference"}, {"basedOn"}},
	"AppointmentResponse":  {{"appointment"}},
	"CarePlan":             {{"basedOn"}, {"partOf"}},
	"CareTeam":             {{"reasonReference"}},
	"ChargeItem":           {{"partOf"}},
	"ChargeItemDefinition": {{"instance"}},
	"Claim":                {{"prescription"}, {"originalPrescription"}},
	"Communication":        {{"payload.contentReference"}, {"inResponseTo"}, {"partOf"}},
	"CommunicationRequest": {{"payload.contentReference"}},
	"Composition":          {{"event.detail"}, {"relatesTo.targetReference"}},
	"Consent":              {{"sourceReference"}},
	"Contract": {
		{"term.action.reasonReference"},
		{
			"legallyBindingReference", "friendly.contentReference", "legal.contentReference",
			"rule.contentReference",
		},
		{"term.asset.typeReference", "term.asset.valuedItem.entityReference"},
	},
	"CoverageEligibilityResponse": {{"request"}},
	"DeviceRequest":               {{"reasonReference"}, {"basedOn"}},
	"DeviceUseStatement":          {{"reasonReference"}, {"basedOn"}},
	"DiagnosticReport":            {{"result", "imagingStudy", "media.link"}, {"basedOn"}},
	"DocumentReference":           {{"relatesTo.target"}, {"context.related"}},
	"ExplanationOfBenefit":        {{"prescription"}, {"originalPrescription"}},
	"FamilyMemberHistory":         {{"reasonReference"}},
	"Group":                       {{"member.entity"}},
	"ImagingStudy":                {{"reasonReference"}, {"procedureReference"}, {"basedOn"}},
	"Immunization":                {{"reasonReference"}},
	"ImmunizationRecommendation": {
		{"recommendation.supportingPatientInformation", "recommendation.supportingImmunization"},
	},
	"Media":                    {{"partOf"}, {"subject"}, {"basedOn"}},
	"MedicationAdministration": {{"reasonReference"}, {"partOf"}},
	"MedicationDispense":       {{"partOf"}},
	"MedicationRequest":        {{"reasonReference"}, {"basedOn"}},
	"MedicationStatement":      {{"reasonReference"}, {"partOf"}},
	"Observation": {
		{"hasMember"}, {"derivedFrom"}, {"focus"}, {"basedOn"}, {"partOf"},
	},
	"Procedure":             {{"reasonReference"}, {"basedOn"}, {"partOf"}},
	"QuestionnaireResponse": {{"basedOn"}, {"partOf"}},
	"RequestGroup":          {{"reasonReference"}, {"basedOn"}},
	"ResearchSubject":       {{"study"}},
	"RiskAssessment":        {{"reasonReference"}, {"basedOn"}},
	"ServiceRequest":        {{"reasonReference"}, {"basedOn"}},
	"Specimen":              {{"request"}, {"parent"}, {"subject"}},
	"SupplyDelivery":        {{"partOf"}},
	"Task":                  {{"partOf"}},
}

// sums are types of whyPaths most resources of which are made of nothing: what they are made of is
// never one of occasions, or a supporting resource, so that quick need not look where these stand.
var sums = typeSet("DiagnosticReport", "DocumentReference", "Observation")

// occasions are types of which nothing is made.
var occasions = typeSet("Encounter", "Patient")

// isOccasion reports whether nothing is made of resources of a type.
func isOccasion(typ []byte) bool {
	n := fhir.TypeNumber(typ)
	return occasions[n] || supporting[n]
}

// madeOfPaths are the elements that say what a resource is made of. They are like whyPaths, but
// each target decides by itself: a drug tells of each of its ingredients, and so does what is
// written of a drug.
var madeOfPaths = map[string][][]string{
	"CatalogEntry":                      {{"referencedItem"}},
	"Medication":                        {{"ingredient.itemReference"}},
	"MedicationKnowledge":               {{"ingredient.itemReference"}, {"associatedMedication"}},
	"MedicinalProductAuthorization":     {{"subject"}},
	"MedicinalProductContraindication":  {{"subject"}},
	"MedicinalProductIndication":        {{"subject"}},
	"MedicinalProductInteraction":       {{"subject"}, {"interactant.itemReference"}},
	"MedicinalProductPackaged":          {{"subject"}},
	"MedicinalProductUndesirableEffect": {{"subject"}},
	"Substance":                         {{"ingredient.substanceReference"}},
}

// madeOf are the types of madeOfPaths.
var madeOf = typeSet(slices.Collect(maps.Keys(madeOfPaths))...)

// uses are the types of aboutPaths that use what they are about: it goes with them. The others only
// tell of it.
var uses = typeSet("MedicationRequest", "MedicationDispense", "MedicationAdministration",
	"MedicationStatement",
	"DeviceUseStatement", "DeviceRequest", "SupplyDelivery", "SupplyRequest")

// place is where in aboutPaths or whyPaths a path stands: groups of whyPaths follow those of
// aboutPaths, from firstWhy on.
type place struct{ group, rank uint8 }

// firstWhy is the first group of whyPaths, and groups how many numbers there are. The last one
// of either kind is that of what a resource is a copy of, and of the resources within it.
const firstWhy, groups = 4, 10
const copyOf, madeOfInner = firstWhy - 1, groups - 1

// why reports whether a place says why a resource is.
func (p place) why() bool { return p.group >= firstWhy }

// onlyTells reports whether what a place of aboutPaths leads to is only told of, and not used:
// neither are its subject and the one for whom it is, of whatever type it is.
func onlyTells(typ uint16, where place, at []byte) bool {
	return !where.why() && !uses[typ] && string(at) != "subject" && string(at) != "for"
}

// aboutPlaces is aboutPaths, whyPaths and madeOfPaths by type and path.
var aboutPlaces = func() map[string]map[string]place {
	m := map[string]map[string]place{}
	for i, table := range []map[string][][]string{aboutPaths, whyPaths, madeOfPaths} {
		first := min(i, 1) * firstWhy
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
	for _, typ := range fhir.Types() {
		if paths := definedPaths(typ); len(paths) > 0 {
			if m[typ] == nil {
				m[typ] = map[string]place{}
			}
			addDefined(m[typ], paths)
		}
	}
	for typ, paths := range otherNames {
		for path, same := range paths {
			m[typ][path] = m[typ][same]
		}
	}
	for _, places := range m {
		addCodeable(places)
	}
	return m
}()

// addCodeable gives the elements that are CodeableReferences in R5 the places of what they were in
// R4: a Reference of that name (addresses), or one of a choice (medication, in place of
// medicationReference).
func addCodeable(places map[string]place) {
	for path, at := range maps.Clone(places) {
		whole := codeable(path)
		for _, now := range []string{whole, whole + ".reference"} {
			if _, is := places[now]; !is {
				places[now] = at
			}
		}
	}
}

// codeable is the name of a CodeableReference that was the Reference of a name before.
func codeable(path string) string { return strings.TrimSuffix(path, "Reference") }

// definedBy are the elements by which what is done, or was answered, names what it follows: a
// plan, a form. Like an order of whyPaths, that keeps it.
var definedBy = []string{"questionnaire", "instantiatesCanonical"}

// definedPaths are those of a type.
func definedPaths(typ string) []string {
	if roles[fhir.TypeNumber([]byte(typ))] != statement {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(fhir.CanonicalPaths(typ)), func(path string) bool {
		return !slices.Contains(definedBy, path)
	})
}

// addDefined gives those of a type a group of their own.
func addDefined(places map[string]place, paths []string) {
	next := uint8(firstWhy)
	for _, p := range places {
		next = max(next, p.group+1)
	}
	for _, path := range paths {
		places[path] = place{group: next}
	}
}

// otherNames are elements that name by an Identifier what another element of a choice names by a
// Reference: they have its place.
var otherNames = map[string]map[string]string{
	"Composition": {"relatesTo.targetIdentifier": "relatesTo.targetReference"},
}

// pointing is a Reference at a place of aboutPaths. to has no type where it names nothing.
type pointing struct {
	at place
	to target
}

// abouts calls visit with what each group of a resource is about, or why it is; not with groups
// that are about something that names no resource.
func (f *facts) abouts(visit func(targets []target, why bool)) {
	targets := f.targets
	if len(f.content) == 1 { // as of most
		if p := f.content[0]; p.to.typ != nil {
			targets = append(targets[:0], p.to)
			visit(targets, p.at.why())
			f.targets = targets[:0]
		}
		return
	}
	some := uint16(0)
	for _, p := range f.content {
		some |= 1 << p.at.group
	}
	for ; some != 0; some &= some - 1 {
		group := uint8(bits.TrailingZeros16(some))
		first := place{group, 255}
		for _, p := range f.content {
			if p.at.group == group {
				first.rank = min(first.rank, p.at.rank)
			}
		}
		targets = targets[:0]
		named := true
		for _, p := range f.content {
			switch {
			case p.at != first:
			case madeOf[f.number] && p.to.typ != nil:
				visit([]target{p.to}, first.why())
			case !madeOf[f.number]:
				targets, named = append(targets, p.to), named && p.to.typ != nil
			}
		}
		if len(targets) > 0 && named {
			visit(targets, first.why())
		}
	}
	f.targets = targets[:0]
}

// shown calls visit with each resource of which the report's presentedForm tells: what the
// report is made of.
func (f *facts) shown(visit func(target)) {
	if !f.presents || f.number != reportNumber {
		return
	}
	for _, p := range f.content {
		if p.at.why() && p.to.typ != nil {
			visit(p.to)
		}
	}
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
	used      map[resource]struct{} // by what goes
	denied    map[resource]struct{} // by what stays for more than an unticked line of the form
	unticked  map[resource]struct{} // by what else stays; no parts
	mentioned map[resource]struct{} // by what stays, which only tells of it
	tells     []*list               // in turn what only tells of something, and that
	edges     []*list               // in turn a resource and what it refers to
	open      *list                 // those to what is not in used; nil before they are asked for
	loose     []resource            // of selves those that are not in used; nil likewise
	names     []*list               // in turn a name and a resource that has it
	leads     map[resource]leading  // what the names may lead to that are leads
	selves    map[resource]struct{} // the supporting resources of the record
	owned     map[resource]struct{} // the things among them that have a patient, see isOwned
}

func newSupport() support {
	return support{
		used:      map[resource]struct{}{},
		denied:    map[resource]struct{}{},
		unticked:  map[resource]struct{}{},
		mentioned: map[resource]struct{}{},
		tells:     []*list{{}},
		edges:     []*list{{}},
		names:     []*list{{}},
		selves:    map[resource]struct{}{},
		owned:     map[resource]struct{}{}, leads: map[resource]leading{},
	}
}

// merge takes in what an observer gathered, which is used no more.
func (s *support) merge(o support) {
	s.used, s.denied = united(s.used, o.used), united(s.denied, o.denied)
	s.unticked, s.mentioned = united(s.unticked, o.unticked), united(s.mentioned, o.mentioned)
	s.selves, s.owned = united(s.selves, o.selves), united(s.owned, o.owned)
	s.leads = united(s.leads, o.leads)
	s.edges = append(s.edges, o.edges...)
	s.tells = append(s.tells, o.tells...)
	s.names = append(s.names, o.names...)
}

// united is all that is in one of two maps; it may be one of them. What is in both is the same.
func united[V any](a, b map[resource]V) map[resource]V {
	if len(a) < len(b) {
		a, b = b, a
	}
	maps.Copy(a, b)
	return a
}

// resolveNames lets names lead to what has them, where something refers to a name.
func (s *support) resolveNames() {
	isName := func(of resource) bool { return of.typ == nameType }
	named := false
	for _, set := range []map[resource]struct{}{s.used, s.denied, s.unticked, s.mentioned} {
		for of := range set {
			named = named || isName(of)
		}
	}
	for _, l := range slices.Concat(s.edges, s.tells) {
		l.each(func(of resource) { named = named || isName(of) })
	}
	if named {
		s.edges = append(s.edges, s.names...)
		s.resolveTold()
	}
	s.names = nil
}

// resolveTold lets what is told of by a name be what has it.
func (s *support) resolveTold() {
	owners := map[resource][]resource{}
	for _, l := range s.names {
		for i := 0; i < l.n; i += 2 {
			owners[l.at(i)] = append(owners[l.at(i)], l.at(i+1))
		}
	}
	told := &list{}
	for _, l := range s.tells {
		for i := 0; i < l.n; i += 2 {
			for _, of := range owners[l.at(i+1)] {
				told.add(l.at(i))
				told.add(of)
			}
		}
	}
	s.tells = append(s.tells, told)
	for of := range maps.Clone(s.mentioned) {
		for _, of := range owners[of] {
			s.mentioned[of] = struct{}{}
		}
	}
}

// isOwned reports whether a resource goes where nothing refers to it: a part, or a Device that
// has a patient.
func (s *support) isOwned(self resource) bool {
	if isPart(self.typ) {
		return true
	}
	_, is := s.owned[self]
	return is
}

// withholdUnused withholds the supporting resources to which nothing that goes refers, and reports
// whether there were some.
func (r *Review) withholdUnused() (some bool) {
	reached, denied := r.reachedSupport()
	for _, self := range r.support.looseSelves() {
		if _, goes := reached[self]; goes {
			continue
		}
		v, _ := r.index.at(self)
		if v.kept() {
			continue
		}
		reason := unusedName
		if denied.keeps(self) {
			reason = referenceOnlyName
		}
		if because[reason].reason() != v.reason() {
			r.index.set(self, because[reason])
			some = true
		}
	}
	return some
}

// reachedSupport are the supporting resources that go, beside those in used: what goes leads to
// them, by way of others, or they are owned, or told of, and nothing that stays leads to them,
// or those lead to them.
func (r *Review) reachedSupport() (reached map[resource]struct{}, denied *denial) {
	s := &r.support
	reached = map[resource]struct{}{}
	r.reach(reached)
	denied = r.deniedSupport(reached)
	told, mentioned := r.told()
	for self := range told {
		if !denied.keeps(self) {
			reached[self] = struct{}{}
		}
	}
	for _, self := range s.looseSelves() {
		if s.isOwned(self) && !denied.keeps(self) {
			reached[self] = struct{}{}
		}
	}
	r.reach(reached)
	maps.Copy(denied.telling, mentioned) // what is owned goes all the same
	return reached, denied
}

// told are the supporting resources of which something tells that goes, and nothing that stays; and
// those of which something tells that stays.
func (r *Review) told() (told, mentioned map[resource]struct{}) {
	told, mentioned = map[resource]struct{}{}, maps.Clone(r.support.mentioned)
	for _, l := range r.support.tells {
		for i := 0; i < l.n; i += 2 {
			set := told
			if r.standing(l.at(i)).withheld() {
				set = mentioned
			}
			if of := l.at(i + 1); of.typ != nameType { // see resolveTold
				set[of] = struct{}{}
			}
		}
	}
	for of := range mentioned {
		delete(told, of)
	}
	return told, mentioned
}

// reach adds what the resources lead to that go in any case, and those that are reached.
func (r *Review) reach(reached map[resource]struct{}) {
	spread(reached, []*list{r.support.openEdges()}, func(from resource) bool {
		return r.confers(from, reached)
	})
}

// goes reports whether a supporting resource is in used, or reached beside that.
func (s *support) goes(self resource, reached map[resource]struct{}) bool {
	_, used := s.used[self]
	_, is := reached[self]
	return used || is
}

// looseSelves are the supporting resources of the record that are not in used, where most are.
func (s *support) looseSelves() []resource {
	if s.loose != nil {
		return s.loose
	}
	s.loose = []resource{}
	for self := range s.selves {
		if _, goes := s.used[self]; !goes {
			s.loose = append(s.loose, self)
		}
	}
	return s.loose
}

// openEdges are the edges that may add something to used, which most lead to.
func (s *support) openEdges() *list {
	if s.open != nil {
		return s.open
	}
	s.open = &list{}
	for _, l := range s.edges {
		for i := 0; i < l.n; i += 2 {
			if _, goes := s.used[l.at(i+1)]; !goes {
				s.open.add(l.at(i))
				s.open.add(l.at(i + 1))
			}
		}
	}
	return s.open
}

// denial is the supporting resources, and names, that stay unless something that goes leads to
// them: what stays leads to them, for more than an unticked line of the form, or for that.
type denial struct{ telling, unticked map[resource]struct{} }

// keeps reports whether a resource stays unless something that goes leads to it. What is only
// not ticked keeps no part.
func (d *denial) keeps(self resource) bool {
	_, is := d.telling[self]
	if !is && self.typ != nameType && !isPart(self.typ) {
		_, is = d.unticked[self]
	}
	return is
}

// deniedSupport finds what stays leads to, by way of others that are not reached.
func (r *Review) deniedSupport(reached map[resource]struct{}) *denial {
	s := &r.support
	d := &denial{maps.Clone(s.denied), maps.Clone(s.unticked)}
	falls := func(from resource) bool {
		return d.keeps(from) && !s.goes(from, reached) // few are kept
	}
	byUnticked := func(from resource) bool {
		_, is := d.unticked[from]
		return r.keptStanding(from).kept() || falls(from) || is && from.typ == nameType
	}
	for before := -1; before < len(d.telling)+len(d.unticked); {
		before = len(d.telling) + len(d.unticked)
		spread(d.telling, s.edges, func(from resource) bool {
			if v := r.keptStanding(from); v.kept() {
				return !v.unticked()
			}
			return falls(from)
		})
		spread(d.unticked, s.edges, byUnticked)
	}
	return d
}

// spread adds to a set what the edges lead to that pass, until nothing changes.
func spread(set map[resource]struct{}, edges []*list, pass func(from resource) bool) {
	for again := true; again; {
		again = false
		for _, l := range edges {
			for i := 0; i < l.n; i += 2 {
				to := l.at(i + 1)
				if _, known := set[to]; !known && pass(l.at(i)) {
					set[to] = struct{}{}
					again = true
				}
			}
		}
	}
}

// confers reports whether a resource about which was not decided at once goes.
func (r *Review) confers(from resource, reached map[resource]struct{}) bool {
	if r.standing(from).withheld() {
		return false
	}
	if k, is := r.takers[from]; is {
		return r.confers(k.of, reached)
	}
	if _, isSupporting := r.support.selves[from]; isSupporting || from.typ == nameType {
		return r.support.goes(from, reached)
	}
	return true
}
