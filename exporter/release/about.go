package release

import (
	"maps"
	"math/bits"
	"slices"
	"strings"

	"ehi-server/shared/fhir"
)

// aboutPaths are the elements that say what a resource is about. If they point only to withheld
// resources, the resource is withheld too (EHI-9). A type has one or more groups of elements.
// Within a group, only the first element that points anywhere counts; each group decides
// independently. Elements that refer to other resources in addition to the resource's own
// content (Condition.evidence, Encounter.diagnosis) are not listed: their References are masked.
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

// whyPaths are the elements that say why a resource exists, what it answers, or what it consists
// of. If they point only to resources that are withheld for a reason other than an unticked form
// line, the resource is withheld too. The conclusion of a report describes its results, a panel
// consists of its members, and a document that relates to others signs, changes or replaces
// them. If the targets are merely unticked, the References are masked: a bill is released
// without its prescription. Groups work as in aboutPaths.
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

// sums are types of whyPaths most of whose resources have no parts. Their parts are never
// occasions or supporting resources, so quick does not search for references to those.
var sums = typeSet("DiagnosticReport", "DocumentReference", "Observation")

// occasions are types that are never part of another resource.
var occasions = typeSet("Encounter", "Patient")

// isOccasion reports whether resources of a type are never part of another resource.
func isOccasion(typ []byte) bool {
	n := fhir.TypeNumber(typ)
	return occasions[n] || supporting[n]
}

// madeOfPaths are the elements that name the ingredients of a resource. They work like whyPaths,
// but each target decides independently: a drug reveals each of its ingredients, and so does a
// text about a drug.
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

// uses are the types of aboutPaths that use what they are about, so that their release also
// releases it. The other types only describe it.
var uses = typeSet("MedicationRequest", "MedicationDispense", "MedicationAdministration",
	"MedicationStatement",
	"DeviceUseStatement", "DeviceRequest", "SupplyDelivery", "SupplyRequest")

// place is the position of a path in aboutPaths or whyPaths. The groups of whyPaths follow those
// of aboutPaths and start at firstWhy.
type place struct {
	group, rank uint8
	part        bool // it names parts, see consistsOf
}

// firstWhy is the first group of whyPaths, and groups is the number of groups. The last group of
// each kind is reserved: copyOf for the original of a copy, madeOfInner for the resources inside
// a resource.
const firstWhy, groups = 4, 10
const copyOf, madeOfInner = firstWhy - 1, groups - 1

// why reports whether a place belongs to whyPaths.
func (p place) why() bool { return p.group >= firstWhy }

// onlyTells reports whether a place of aboutPaths only describes its target and does not use it.
// "subject" and "for" count as use for every type.
func onlyTells(typ uint16, where place, at []byte) bool {
	return !where.why() && !uses[typ] && string(at) != "subject" && string(at) != "for"
}

// aboutPlaces combines aboutPaths, whyPaths and madeOfPaths by type and path.
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
					m[typ][path] = place{group: uint8(first + g), rank: uint8(rank)}
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
	markParts(m)
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

// addCodeable adds the elements that are CodeableReferences in R5, in the places of their R4
// equivalents: a Reference of the same name (addresses), or one of a choice (medication instead
// of medicationReference).
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

// codeable returns the R5 name of a CodeableReference that is a Reference in R4.
func codeable(path string) string { return strings.TrimSuffix(path, "Reference") }

// definedBy are the elements by which a resource names the plan or form that it follows. Like an
// order in whyPaths, a withheld plan or form withholds the resource.
var definedBy = []string{"questionnaire", "instantiatesCanonical"}

// definedPaths returns the paths of definedBy that a type has.
func definedPaths(typ string) []string {
	if roles[fhir.TypeNumber([]byte(typ))] != statement {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(fhir.CanonicalPaths(typ)), func(path string) bool {
		return !slices.Contains(definedBy, path)
	})
}

// addDefined gives the paths of definedBy a group of their own.
func addDefined(places map[string]place, paths []string) {
	next := uint8(firstWhy)
	for _, p := range places {
		next = max(next, p.group+1)
	}
	for _, path := range paths {
		places[path] = place{group: next}
	}
}

// otherNames are elements of a choice that name a target by an Identifier instead of a
// Reference. They share the place of the Reference.
var otherNames = map[string]map[string]string{
	"Composition": {"relatesTo.targetIdentifier": "relatesTo.targetReference"},
}

// pointing is a Reference at a place of aboutPaths. to has no type if the Reference names
// nothing.
type pointing struct {
	at place
	to target
}

// abouts calls visit with the targets of each group. It skips groups in which a Reference names
// no resource.
func (f *facts) abouts(visit func(targets []target, why bool)) {
	f.groups(func(targets []target, at place) { visit(targets, at.why()) })
}

// groups is abouts with the places of the targets.
func (f *facts) groups(visit func(targets []target, at place)) {
	targets := f.targets
	if len(f.content) == 1 { // most resources have one
		if p := f.content[0]; p.to.typ != nil {
			targets = append(targets[:0], p.to)
			visit(targets, p.at)
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
		first := place{group: group, rank: 255}
		for _, p := range f.content {
			if p.at.group == group && p.at.rank < first.rank {
				first = p.at
			}
		}
		targets = targets[:0]
		named := true
		for _, p := range f.content {
			switch {
			case p.at != first:
			case madeOf[f.number] && p.to.typ != nil:
				visit([]target{p.to}, first)
			case !madeOf[f.number]:
				targets, named = append(targets, p.to), named && p.to.typ != nil
			}
		}
		if len(targets) > 0 && named {
			visit(targets, first)
		}
	}
	f.targets = targets[:0]
}

// shown calls visit with each resource that the report's presentedForm describes: the parts of
// the report.
func (f *facts) shown(visit func(target)) {
	if !f.presents || f.number != reportNumber {
		return
	}
	for _, p := range f.content {
		if p.at.why() && p.to.typ != nil {
			visit(p.to)
		}
	}
	for _, to := range f.deeper {
		visit(to)
	}
}

// pointer reports whether the resource may be withheld because of what it is about.
func (f *facts) pointer() (is bool) {
	if len(f.content) > 0 {
		f.abouts(func([]target, bool) { is = true })
	}
	return is
}

// support records which resources refer to supporting resources. It has an entry for each
// supporting resource that is referred to. It has an edge for each reference from a resource
// whose decision is pending to one that is not yet known to be released.
type support struct {
	used map[resource]struct{} // by released resources
	// by resources that are withheld for a reason other than an unticked form line
	denied    map[resource]struct{}
	unticked  map[resource]struct{} // by other withheld resources; never contains parts
	mentioned map[resource]struct{} // by withheld resources that only describe it
	tells     []*list               // pairs: a resource that only describes, and its target
	edges     []*list               // pairs: a resource, and its target
	open      *list                 // the edges whose target is not in used; nil until first needed
	loose     []resource            // the selves that are not in used; nil until first needed
	names     []*list               // pairs: a name, and a resource that has it
	leads     map[resource]leading  // the possible targets of those names that are leads
	selves    map[resource]struct{} // the supporting resources of the record
	owned     map[resource]struct{} // the things among them that belong to a patient, see isOwned
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

// merge adds what an observer gathered. The observer is not used afterwards.
func (s *support) merge(o support) {
	s.used, s.denied = united(s.used, o.used), united(s.denied, o.denied)
	s.unticked, s.mentioned = united(s.unticked, o.unticked), united(s.mentioned, o.mentioned)
	s.selves, s.owned = united(s.selves, o.selves), united(s.owned, o.owned)
	s.leads = united(s.leads, o.leads)
	s.edges = append(s.edges, o.edges...)
	s.tells = append(s.tells, o.tells...)
	s.names = append(s.names, o.names...)
}

// united returns the union of two maps, and may modify and return one of them. Keys in both have
// the same value.
func united[V any](a, b map[resource]V) map[resource]V {
	if len(a) < len(b) {
		a, b = b, a
	}
	maps.Copy(a, b)
	return a
}

// resolveNames makes names point to the resources that have them, if anything refers to a name.
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

// resolveTold replaces described names by the resources that have them.
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

// isOwned reports whether a resource is released even if nothing refers to it: a part, or a
// Device that belongs to a patient.
func (s *support) isOwned(self resource) bool {
	if isPart(self.typ) {
		return true
	}
	_, is := s.owned[self]
	return is
}

// withholdUnused withholds the supporting resources that no released resource refers to, and
// reports whether there were any.
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

// reachedSupport returns the supporting resources that are released in addition to those in
// used. Released resources refer to them, possibly through others. Owned or described ones are
// included too, unless a withheld resource refers to them. So is everything that these refer to.
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
	maps.Copy(denied.telling, mentioned) // owned resources are released regardless
	return reached, denied
}

// told returns the supporting resources that a released resource describes and no withheld
// resource does, and those that a withheld resource describes.
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

// reach adds the targets of resources that are released in any case, and of resources already
// reached.
func (r *Review) reach(reached map[resource]struct{}) {
	spread(reached, []*list{r.support.openEdges()}, func(from resource) bool {
		return r.confers(from, reached)
	})
}

// goes reports whether a supporting resource is in used or in reached.
func (s *support) goes(self resource, reached map[resource]struct{}) bool {
	_, used := s.used[self]
	_, is := reached[self]
	return used || is
}

// looseSelves returns the supporting resources of the record that are not in used. Most are in
// used.
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

// openEdges returns the edges that may add something to used. Most edges point to resources
// already there.
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

// denial holds the supporting resources and names that are withheld unless a released resource
// refers to them, because withheld resources do: telling if one of those is withheld for a
// reason other than an unticked form line, else unticked.
type denial struct{ telling, unticked map[resource]struct{} }

// keeps reports whether a resource is withheld unless a released resource refers to it. Unticked
// form lines alone never withhold a part.
func (d *denial) keeps(self resource) bool {
	_, is := d.telling[self]
	if !is && self.typ != nameType && !isPart(self.typ) {
		_, is = d.unticked[self]
	}
	return is
}

// deniedSupport finds what withheld resources refer to, directly or through resources that are
// not reached.
func (r *Review) deniedSupport(reached map[resource]struct{}) *denial {
	s := &r.support
	d := &denial{maps.Clone(s.denied), maps.Clone(s.unticked)}
	falls := func(from resource) bool {
		return d.keeps(from) && !s.goes(from, reached) // rarely true, so it comes first
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

// spread adds the targets of all edges whose source passes, and repeats this until nothing
// changes.
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

// confers reports whether a resource whose decision was pending is released.
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
