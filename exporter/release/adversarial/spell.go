package adversarial

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"ehi-server/shared/fhir"
)

// targetsOf returns the types to which R4 allows a field to refer.
func targetsOf(field string) []string { return fhir.ReferenceFields()[field] }

// speller writes one resource in a random spelling.
type speller struct {
	t       *rapid.T
	ordered bool // type and id come first
	plain   bool // without escapes and without space between fields
	comma   string
}

// spell returns the line of a resource.
func (r *Record) spell(t *rapid.T, m *Resource) string {
	s := &speller{t: t, comma: ","}
	s.plain = rapid.Bool().Draw(t, "plain")
	s.ordered = rapid.IntRange(0, 3).Draw(t, "ordered") > 0
	if !s.plain && !s.ordered {
		s.comma = rapid.SampledFrom([]string{",", ",", " , "}).Draw(t, "comma")
	}
	fields := []string{
		`"text":{"div":` + s.text("<div>"+m.Marker+"</div>") + `}`,
		`"note":[{"text":` + s.text("own "+m.Marker) + `}]`,
		`"photo":[{"title":` + s.text(m.Marker) + `,"data":"` + coded(m.Marker) + `"}]`,
		`"method":{"coding":[` +
			s.object(`"system":"urn:own"`, `"code":"code-`+m.Marker+`"`,
				`"display":"`+m.Marker+`"`) + `]}`,
	}
	switch identifier := `{"value":` + s.text("ident-"+m.Marker) + `,"system":"urn:x"}`; {
	case m.requisition:
		fields = append(fields, `"requisition":`+identifier)
	case m.identified:
		fields = append(fields, `"identifier":[`+identifier+`]`)
	}
	switch field := wholeFields[m.Type]; field {
	case "":
	case "reason":
		fields = append(fields, `"reason":[{"text":`+s.text(m.reason())+`}]`)
	default:
		fields = append(fields, `"`+field+`":`+s.text(m.reason()))
	}
	if m.Type == binary {
		fields = append(fields, `"data":"`+coded(m.Marker)+`"`)
	}
	if m.kind.defines {
		fields = append(fields, `"url":`+s.text(m.url()))
	}
	fields = append(fields, m.classes(s)...)
	fields = append(fields, r.linked(s, m)...)
	if m.secured >= 0 {
		to := r.Resources[m.secured]
		by := map[string]string{
			"relative": to.Type + "/",
			"absolute": Base + "/" + to.Type + "/",
			"urn":      "urn:uuid:",
		}
		fields = append(fields, `"securityContext":{"reference":"`+by[m.securedBy]+to.ID+`"}`)
	}
	if m.kind.patient != "" {
		fields = append(fields, `"`+m.kind.patient+`":{"reference":"Patient/`+r.Patient()+`"}`)
	}
	names := []string{`"resourceType":"` + m.Type + `"`, `"id":"` + m.ID + `"`}
	if s.ordered {
		fields = rapid.Permutation(fields).Draw(t, "order")
		return "{" + strings.Join(append(names, fields...), ",") + "}"
	}
	return s.object(append(names, fields...)...)
}

// wholeFields are elements that describe a whole resource.
var wholeFields = map[string]string{
	"Provenance":           "reason",
	"Appointment":          "description",
	"DetectedIssue":        "detail",
	"DiagnosticReport":     "conclusion",
	"ClaimResponse":        "disposition",
	"ExplanationOfBenefit": "disposition",
	"MessageHeader":        "reason",
}

// coded returns a text in base64.
func coded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// signature returns the content of a resource's Signature.
func (m *Resource) signature() string { return strings.Replace(m.Marker, "Mark", "Sign", 1) }

// url returns the canonical URL of a form or a plan.
func (m *Resource) url() string { return "http://forms.example.org/" + m.Marker }

// reason returns the text of the element in wholeFields.
func (m *Resource) reason() string { return strings.Replace(m.Marker, "Mark", "Reason", 1) }

// classes returns the codes and dates that decisions depend on.
func (m *Resource) classes(s *speller) (fields []string) {
	labels := m.partLabels(s)
	switch {
	case m.coding == "" || !m.label:
	case m.labelled == "confidentiality":
		code := rapid.SampledFrom([]string{"R", "V", "restricted"}).Draw(s.t, "confidentiality")
		fields = append(fields, `"confidentiality":"`+code+`"`)
	case m.labelled != "":
		fields = append(fields, `"`+m.labelled+`":[{"coding":[`+m.coding+`]}]`)
	default:
		labels = append(labels, m.coding)
	}
	if len(labels) > 0 {
		fields = append(fields, `"meta":{"security":[`+strings.Join(labels, s.comma)+`]}`)
	}
	switch {
	case m.coding == "", m.label:
	default:
		fields = append(fields, `"reasonCode":[{"coding":[`+m.coding+`]}]`)
	}
	switch {
	case m.laboratory && rapid.IntRange(0, 3).Draw(s.t, "shown") == 0:
		fields = append(fields, `"category":[{"text":"Laboratory"}]`)
	case m.laboratory && m.Type == "Observation":
		fields = append(fields,
			`"category":[{"coding":[{"system":"http://terminology.hl7.org/`+
				`CodeSystem/observation-category","code":"laboratory"}]}]`)
	case m.laboratory:
		fields = append(fields,
			`"category":[{"coding":[{"code":"LAB",`+
				`"system":"http://terminology.hl7.org/CodeSystem/v2-0074"}]}]`)
	case m.group == "radiology":
		fields = append(fields,
			`"category":[{"coding":[{"code":"RAD",`+
				`"system":"http://terminology.hl7.org/CodeSystem/v2-0074"}]}]`)
	}
	if m.groupCode != "" {
		fields = append(fields, `"type":{"coding":[`+m.groupCode+`]}`)
	}
	switch {
	case m.when == "":
	case strings.HasSuffix(strings.ToLower(m.kind.when), "period"):
		fields = append(fields, `"`+m.kind.when+`":{"start":"`+m.when+`","end":"`+m.when+`"}`)
	default:
		fields = append(fields, `"`+m.kind.when+`":"`+m.when+`"`)
	}
	return fields
}

// linked returns the fields with links and entries.
func (r *Record) linked(s *speller, m *Resource) (fields []string) {
	elements, lists := map[string][]string{}, map[string]bool{}
	add := func(top, element string, list bool) {
		elements[top], lists[top] = append(elements[top], element), list
	}
	for _, l := range m.links {
		switch {
		case l.entry != nil || l.part != nil || l.held || l.with != nil:
		case len(l.place.outer) > 0:
			add(l.place.outer[0], r.nested(s, m, l), true)
		default:
			add(l.place.field, r.value(s, m, l), l.place.list)
		}
	}
	for _, e := range m.entries {
		add(e.outer, r.entry(s, m, e), true)
	}
	if m.form != "" {
		add("presentedForm", `{"title":`+s.text(m.form)+`,"data":"`+coded(m.form)+`"}`, true)
	}
	who, data := `"who":{"reference":"Patient/`+r.Patient()+`"}`, `"data":"`+coded(m.signature())+
		`"`
	if signature := s.object(who, `"sigFormat":"application/jose"`, data); m.signed {
		switch m.Type {
		case "Provenance":
			add("signature", signature, true)
		case "Bundle":
			add("signature", signature, false)
		default:
			add("extension", s.object(`"url":"urn:signed"`, `"valueSignature":`+signature), true)
		}
	}
	if in := m.inner; in != nil {
		class := `"stage":[{"type":{"coding":[` + in.coding + `]}}]`
		if in.label {
			class = `"meta":{"security":[` + in.coding + `]}`
		}
		add("contained",
			s.object(`"resourceType":"Condition"`, `"id":"inner"`, class,
				`"code":{"text":`+s.text(in.marker)+`}`), true)
		add("extension",
			s.object(`"url":"urn:of:inner"`,
				`"valueReference":`+
					s.object(`"reference":"#inner"`, `"display":`+s.text(in.marker))), true)
	}
	for _, p := range m.parts {
		if p.field != "security" {
			add(p.field, r.part(s, m, p), p.field[0] == 'e' || p.field[0] == 'c')
		}
	}
	for _, l := range m.links {
		if l.held {
			add(m.kind.holds, r.held(s, m, r.Resources[l.to]), true)
		}
	}
	for _, c := range m.copies {
		add(m.kind.holds, r.copied(s, m, c), true)
	}
	var tops []string
	for top := range elements {
		tops = append(tops, top)
	}
	slices.Sort(tops)
	for _, top := range tops {
		value := strings.Join(elements[top], s.comma)
		if lists[top] {
			value = "[" + value + "]"
		}
		fields = append(fields, `"`+top+`":`+value)
	}
	return fields
}

// partLabels returns the parts of a Patient that are security labels.
func (m *Resource) partLabels(s *speller) (labels []string) {
	for _, p := range m.parts {
		if p.field == "security" {
			coding := p.coding
			if coding[0] == '"' {
				coding = `{"code":` + coding + "}"
			}
			labels = append(labels,
				strings.TrimSuffix(coding, "}")+`,"version":`+s.text(p.marker)+"}")
		}
	}
	return labels
}

// part returns a part that is not a label.
func (r *Record) part(s *speller, m *Resource, p *part) string {
	concept := `{"coding":[` + p.coding + `],"text":` + s.text(p.marker) + `}`
	var fields []string
	switch p.field {
	case "maritalStatus":
		return concept
	case "communication":
		return s.object(`"language":`+concept, `"preferred":true`)
	case "_birthDate":
		return s.object(`"extension":[` +
			s.object(`"url":"urn:part"`, `"valueCodeableConcept":`+concept) + `]`)
	case "contact":
		fields = []string{`"relationship":[` + concept + `]`}
	default:
		fields = []string{
			`"url":"urn:part"`,
			`"extension":[` + s.object(`"url":"urn:part"`, `"valueCodeableConcept":`+concept) + `]`,
		}
	}
	if p.link != nil {
		fields = append(fields, `"`+p.link.place.field+`":`+r.value(s, m, p.link))
	}
	return s.object(fields...)
}

// besideHeld returns the text beside a resource inside another one.
func (m *Resource) besideHeld() string { return strings.Replace(m.Marker, "Mark", "Held", 1) }

// held returns an inner resource with the elements beside it.
func (r *Record) held(s *speller, holder, m *Resource) string {
	fields := []string{`"resource":` + m.Line}
	switch {
	case holder.Type == "Bundle":
		url := m.alias
		if url == "" && rapid.Bool().Draw(s.t, "fullUrl") {
			url = Base + "/" + m.Type + "/" + m.ID
		}
		if url != "" {
			fields = append(fields, `"fullUrl":`+s.text(url))
		}
		return s.object(append(fields, `"link":[{"relation":`+s.text(m.besideHeld())+`}]`)...)
	case rapid.Bool().Draw(s.t, "a part"):
		beside := s.object(`"name":"z"`, `"valueString":`+s.text(m.besideHeld()))
		return s.object(`"name":"y"`,
			`"part":[`+beside+s.comma+s.object(append(fields, `"name":"x"`)...)+`]`)
	}
	return s.object(append(fields, `"name":`+s.text(m.besideHeld()))...)
}

// copied returns a copy, with less content, of a resource that has a line of its own.
func (r *Record) copied(s *speller, holder *Resource, c copied) string {
	m, url := r.Resources[c.of], ""
	id := strings.Replace(holder.Marker, "Mark", "Same", 1) + "-" +
		strings.Replace(m.Marker, "Mark", "As", 1)
	fields := []string{
		`"resourceType":"` + m.Type + `"`,
		`"note":[{"text":` + s.text(m.Marker+" "+holder.copy(m)) + `}]`,
	}
	switch c.by {
	case "id":
		id = m.ID
	case "url":
		url = Base + "/" + m.Type + "/" + m.ID
	case "urn":
		url = "urn:uuid:" + m.ID
	case "identifier":
		fields = append(fields, `"identifier":[{"value":`+s.text("ident-"+m.Marker)+`}]`)
	}
	if c.by != "urn" {
		fields = append(fields, `"id":"`+id+`"`)
	}
	out := []string{`"resource":` + s.object(fields...)}
	if url != "" {
		out = append(out, `"fullUrl":`+s.text(url))
	}
	return s.object(out...)
}

// copy returns the text in a copy of a resource.
func (m *Resource) copy(of *Resource) string { return "Copy" + m.Marker[4:] + of.Marker[4:] }

// nested returns a link inside nested objects.
func (r *Record) nested(s *speller, m *Resource, l *link) string {
	value := r.value(s, m, l)
	name := l.place.field
	for i := len(l.place.outer) - 1; i >= 0; i-- {
		object := []string{`"` + name + `":` + value}
		switch name = l.place.outer[i]; {
		case name == "extension":
			object = append([]string{`"url":"urn:of:` + m.Type + `"`}, object...)
		case l.place.url && (name == "attachment" || name == "presentedForm"):
			data := `"data":"` + coded("data of "+l.beside()) + `"`
			object = append([]string{`"title":` + s.text(l.beside()), data}, object...)
		case name == "insurance":
			object = append([]string{`"preAuthRef":[` + s.text(l.beside()) + `]`}, object...)
		case name == "entry":
			object = append([]string{`"flag":{"text":` + s.text(l.beside()) + `}`}, object...)
		case name == "contained" && len(l.place.outer) > 1:
			object = append([]string{`"resourceType":"List"`}, object...)
			for _, along := range m.links {
				if along.with == l {
					object = append(object, `"source":`+r.value(s, m, along))
				}
			}
		case name == "contained":
			object = append([]string{`"resourceType":"ServiceRequest"`, `"id":"` +
				strings.ToLower(l.token) + `"`}, object...)
		}
		if value = s.object(object...); i > 0 && name != "attachment" {
			value = "[" + value + "]"
		}
	}
	return value
}

// beside returns the text beside a link.
func (l *link) beside() string { return strings.Replace(l.token, "Tok", "Bes", 1) }

// entry returns an entry with its links.
func (r *Record) entry(s *speller, m *Resource, e *entry) string {
	fields := []string{fmt.Sprintf(`"sequence":%d`, e.sequence), `"title":` + s.text(e.token)}
	if e.text != "" {
		fields = append(fields, `"text":{"div":`+s.text("<p>"+e.text+"</p>")+`}`)
	}
	var references []string
	for _, l := range e.links {
		if value := r.value(s, m, l); l.place.list {
			references = append(references, value)
		} else {
			fields = append(fields, `"`+l.place.field+`":`+value)
		}
	}
	if len(references) > 0 {
		fields = append(fields,
			`"`+e.links[0].place.field+`":[`+strings.Join(references, s.comma)+`]`)
	}
	if e.outer == note {
		return s.object(fmt.Sprintf(`"number":%d`, e.sequence), `"text":`+s.text(e.token))
	}
	numbers := map[string][]string{}
	if e.answers > 0 {
		fields = []string{fmt.Sprintf(`"itemSequence":%d`, e.answers), `"title":` + s.text(e.token)}
		if e.outer == "addItem" {
			fields[0] = fmt.Sprintf(`"itemSequence":[%d]`, e.answers)
		}
	}
	for _, n := range e.notes {
		numbers[note] = append(numbers[note], fmt.Sprint(n.sequence))
	}
	for _, other := range e.names {
		numbers[other.outer] = append(numbers[other.outer], fmt.Sprint(other.sequence))
	}
	for outer, name := range map[string]string{
		"diagnosis":      "diagnosisSequence",
		"procedure":      "procedureSequence",
		"supportingInfo": "informationSequence",
		"item":           "itemSequence",
		"careTeam":       "careTeamSequence",
		note:             "noteNumber",
	} {
		if len(numbers[outer]) > 0 {
			fields = append(fields, `"`+name+`":[`+strings.Join(numbers[outer], ",")+`]`)
		}
	}
	slices.Sort(fields)
	if m.Type == "QuestionnaireResponse" {
		return r.question(s, m, e)
	}
	return s.object(fields...)
}

// question returns a question of a form, possibly inside another one. It is removed with its
// only answer.
func (r *Record) question(s *speller, m *Resource, e *entry) string {
	answer := s.object(`"valueReference":` + r.value(s, m, e.links[0]))
	item := s.object(`"linkId":"q"`, `"text":`+s.text(e.token), `"answer":[`+answer+`]`)
	switch rapid.SampledFrom([]string{"", "item", "answer"}).Draw(s.t, "nested") {
	case "item":
		return s.object(`"linkId":"g"`, `"item":[`+item+`]`)
	case "answer":
		return s.object(`"linkId":"g"`,
			`"answer":[`+s.object(`"valueBoolean":true`, `"item":[`+item+`]`)+`]`)
	}
	return item
}

// ownURL begins the source's own URLs.
const ownURL = "https://ehr.example.org/blobs/"

// value returns the reference to a link's target.
func (r *Record) value(s *speller, m *Resource, l *link) string {
	to := r.Resources[l.to]
	name := to.Type + "/" + to.ID
	switch {
	case l.place.canonical:
		servers := []string{"http://forms.example.org/", "https://Forms.example.org/"}
		url := rapid.SampledFrom(servers).Draw(s.t, "canonical") + to.Marker
		return s.text(url + rapid.SampledFrom([]string{"|", "/|1.", "#"}).Draw(s.t, "version") +
			l.token)
	case l.place.mention:
		id := to.ID
		if id == strings.ToLower(id) && rapid.Bool().Draw(s.t, "capitals") {
			id = strings.ToUpper(id)
		}
		return s.text("see " + id + ", " + l.token)
	case l.place.url && l.shape == "absolute":
		return s.text(Base + "/" + name + "#" + l.token)
	case l.place.url && l.shape == "urn":
		return s.text("urn:uuid:" + to.ID + "#" + l.token)
	case l.place.url && l.shape == "own":
		return s.text(ownURL + to.ID + "#" + l.token)
	case l.place.url:
		return s.text(name + "#" + l.token)
	}
	marker := to.Marker
	if l.shape == "display" && !r.possible(l) {
		marker = "" // R4 does not allow such a target in the field
	}
	if l.place.isNumber() {
		return s.object(`"value":`+s.text("ident-"+marker), `"type":{"text":`+s.text(l.token)+`}`)
	}
	fields := []string{`"display":` + s.text(l.token+" "+marker)}
	add := func(text string) { fields = append(fields, `"reference":`+s.text(text)) }
	switch l.shape {
	case "bare":
		return `{"reference":` + s.text(name) + `}`
	case "relative":
		if m.within != nil && m.within == to.within && to.alias != "" {
			name = to.alias
		}
		if add(name); rapid.Bool().Draw(s.t, "with a type") {
			fields = append(fields[1:], `"type":"`+l.token+`"`)
		}
	case "versioned":
		add(name + "/_history/2")
	case "absolute":
		add(Base + "/" + name)
	case "percent":
		slash := rapid.SampledFrom([]string{"%2F", "%252F"}).Draw(s.t, "encoded slash")
		add(fmt.Sprintf("%s/%s%s%%%02X%s", Base, to.Type, slash, to.ID[0], to.ID[1:]))
	case "elsewhere":
		add(Elsewhere + "/" + name +
			rapid.SampledFrom([]string{"", "", "/_history/1"}).Draw(s.t, "version elsewhere"))
	case "nosystem":
		fields = append(fields,
			`"identifier":`+
				s.object(`"use":"usual"`,
					`"value":`+
						s.text(rapid.SampledFrom([]string{
							"ident-", "ident-", " IDENT-", "urn:uuid:ident-",
						}).Draw(s.t, "case beside")+to.Marker)))
	case "identifier":
		fields = append(fields,
			`"identifier":`+
				s.object(`"system":"urn:x"`,
					`"value":`+
						s.text(rapid.SampledFrom([]string{
							"ident-", "ident-", " IDENT-", "urn:uuid:ident-",
						}).Draw(s.t, "case")+to.Marker)))
	case "conditional":
		add(to.Type + "?identifier=urn:x|ident-" + to.Marker)
	case "urn":
		id := to.ID
		if id == strings.ToLower(id) && rapid.Bool().Draw(s.t, "capitals of urn") {
			id = strings.ToUpper(id)
		}
		add(rapid.SampledFrom([]string{"urn:uuid:", "urn:oid:", "URN:UUID:"}).Draw(s.t, "urn") + id)
	case "id":
		add(to.ID)
	case "search":
		add(rapid.SampledFrom([]string{"", Base + "/"}).Draw(s.t, "server") + to.Type + "?_id=" +
			to.ID)
	case "own":
		add(ownURL + to.ID +
			rapid.SampledFrom([]string{"", ".pdf", "/download"}).Draw(s.t, "ending"))
	}
	if l.shape == "display" || l.shape == "identifier" { // not allowed in a Reference
		stray := rapid.SampledFrom([]string{"", "", "code", "system"}).Draw(s.t, "stray")
		if stray != "" {
			fields = append([]string{`"` + stray + `":"x"`}, fields...)
		}
	}
	return s.object(fields...)
}

// object writes an object with its fields in random order, possibly with an escaped name.
func (s *speller) object(fields ...string) string {
	if s.plain {
		return "{" + strings.Join(fields, ",") + "}"
	}
	fields = rapid.Permutation(fields).Draw(s.t, "order")
	if rapid.IntRange(0, 3).Draw(s.t, "escape") == 0 {
		f := &fields[rapid.IntRange(0, len(fields)-1).Draw(s.t, "escaped")]
		*f = fmt.Sprintf(`"\u%04x`, (*f)[1]) + (*f)[2:]
	}
	return "{" + strings.Join(fields, s.comma) + "}"
}

// text writes a text, possibly with an escaped character or escaped slashes.
func (s *speller) text(text string) string {
	if !s.plain {
		switch rapid.IntRange(0, 5).Draw(s.t, "escape of text") {
		case 0:
			at := rapid.IntRange(0, len(text)-1).Draw(s.t, "character")
			return `"` + text[:at] + fmt.Sprintf(`\u%04x`, text[at]) + text[at+1:] + `"`
		case 1:
			return `"` + strings.ReplaceAll(text, "/", `\/`) + `"`
		}
	}
	return `"` + text + `"`
}
