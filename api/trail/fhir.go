package trail

import (
	"strconv"
	"strings"
	"time"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// AuditEvent has the elements of FHIR R4's AuditEvent that the trail fills
// (https://hl7.org/fhir/R4/auditevent.html).
type AuditEvent struct {
	ResourceType string        `json:"resourceType"`
	ID           string        `json:"id"`
	Type         fhir.Coding   `json:"type"`
	Subtype      []fhir.Coding `json:"subtype"`
	Action       string        `json:"action"` // C, R, U, D or E
	Recorded     string        `json:"recorded"`
	// 0 success, 4 minor failure (refused), 8 serious failure
	Outcome     string        `json:"outcome"`
	OutcomeDesc string        `json:"outcomeDesc,omitempty"`
	Agent       []auditAgent  `json:"agent"`
	Source      auditSource   `json:"source"`
	Entity      []auditEntity `json:"entity,omitempty"`
}

type auditAgent struct {
	Who       *identified   `json:"who,omitempty"`
	Name      string        `json:"name,omitempty"`
	Requestor bool          `json:"requestor"`
	Network   *auditNetwork `json:"network,omitempty"`
}

// identified is a Reference by identifier, because administrators, clients and jobs are not
// resources here.
type identified struct {
	Reference  string      `json:"reference,omitempty"`
	Identifier *identifier `json:"identifier,omitempty"`
}

type identifier struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value"`
}

type auditNetwork struct {
	Address string `json:"address"`
	Type    string `json:"type"`
}

type auditSource struct {
	Site     string     `json:"site"`
	Observer identified `json:"observer"`
}

type auditEntity struct {
	What identified  `json:"what"`
	Type fhir.Coding `json:"type"`
	Role fhir.Coding `json:"role"`
	Name string      `json:"name,omitempty"`
}

// Code systems of AuditEvent.
const (
	auditTypes  = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	dicom       = "http://dicom.nema.org/resources/ontology/DCM"
	objectRoles = "http://terminology.hl7.org/CodeSystem/object-role"
	entityTypes = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
)

// auditKind is an action in FHIR's terms.
type auditKind struct {
	typ    fhir.Coding
	letter string
}

var (
	userAuthentication = fhir.Coding{System: dicom, Code: "110114", Display: "User Authentication"}
	securityAlert      = fhir.Coding{System: dicom, Code: "110113", Display: "Security Alert"}
	export             = fhir.Coding{System: dicom, Code: "110106", Display: "Export"}
	auditLogUsed       = fhir.Coding{System: dicom, Code: "110101", Display: "Audit Log Used"}
	dataImport         = fhir.Coding{System: dicom, Code: "110107", Display: "Import"}
	restOperation      = fhir.Coding{System: auditTypes, Code: "rest", Display: "RESTful Operation"}
	application        = fhir.Coding{System: dicom, Code: "110100", Display: "Application Activity"}
)

var auditKinds = map[ehi.Action]auditKind{
	ehi.ActionLogIn:        {userAuthentication, "E"},
	ehi.ActionLogOut:       {userAuthentication, "E"},
	ehi.ActionAuthorize:    {userAuthentication, "C"},
	ehi.ActionWithdraw:     {userAuthentication, "D"},
	ehi.ActionToken:        {userAuthentication, "C"},
	ehi.ActionTokenReuse:   {securityAlert, "E"},
	ehi.ActionRevoke:       {userAuthentication, "D"},
	ehi.ActionRegister:     {application, "C"},
	ehi.ActionKickOff:      {restOperation, "C"},
	ehi.ActionForm:         {restOperation, "U"},
	ehi.ActionDelete:       {restOperation, "D"},
	ehi.ActionDisclose:     {export, "R"},
	ehi.ActionRead:         {restOperation, "R"},
	ehi.ActionApprove:      {restOperation, "U"},
	ehi.ActionReject:       {restOperation, "U"},
	ehi.ActionAttach:       {restOperation, "U"},
	ehi.ActionDetach:       {restOperation, "U"},
	ehi.ActionRelease:      {restOperation, "U"},
	ehi.ActionWithhold:     {restOperation, "U"},
	ehi.ActionImport:       {dataImport, "C"},
	ehi.ActionBackup:       {export, "R"},
	ehi.ActionAudit:        {auditLogUsed, "R"},
	ehi.ActionAdministrate: {application, "U"},
}

var auditOutcomes = map[ehi.Outcome]string{ehi.Succeeded: "0", ehi.Denied: "4", ehi.Broke: "8"}

// Event converts an event to FHIR. seq is its position in the trail, which becomes its ID.
// origin is the origin of the server, which observed the event.
func Event(seq uint64, e ehi.Event, origin string) AuditEvent {
	kind := auditKinds[e.Action]
	out := AuditEvent{
		ResourceType: "AuditEvent",
		ID:           strconv.FormatUint(seq, 10),
		Type:         kind.typ,
		Subtype: []fhir.Coding{
			{System: "urn:ehi-server:audit-action", Code: string(e.Action)},
		},
		Action:      kind.letter,
		Recorded:    e.At.UTC().Format(time.RFC3339Nano),
		Outcome:     auditOutcomes[e.Outcome],
		OutcomeDesc: e.Detail,
		Source:      auditSource{Site: origin, Observer: byIdentifier("", "ehi-server")},
	}
	who := auditAgent{Name: e.Agent, Requestor: true}
	if id, patient := strings.CutPrefix(e.Agent, "patient "); patient && fhir.ValidID(id) {
		who.Who = &identified{Reference: "Patient/" + id}
	}
	if e.Address != "" {
		who.Network = &auditNetwork{e.Address, "2"}
	}
	out.Agent = append(out.Agent, who)
	if e.Client != "" && e.Agent != "client "+e.Client {
		client := byIdentifier(origin+"/auth", e.Client)
		out.Agent = append(out.Agent, auditAgent{Who: &client, Name: "client " + e.Client})
	}
	out.Entity = entitiesOf(e, origin)
	return out
}

// entitiesOf returns what an event is about: a patient, a job, a request.
func entitiesOf(e ehi.Event, origin string) (out []auditEntity) {
	if e.Patient != "" {
		out = append(out, auditEntity{
			What: identified{Reference: "Patient/" + e.Patient},
			Type: fhir.Coding{System: entityTypes, Code: "1", Display: "Person"},
			Role: fhir.Coding{System: objectRoles, Code: "1", Display: "Patient"},
		})
	}
	if e.Job != "" {
		out = append(out, auditEntity{
			What: byIdentifier(origin+"/jobs", e.Job),
			Type: fhir.Coding{System: entityTypes, Code: "2", Display: "System Object"},
			Role: fhir.Coding{System: objectRoles, Code: "20", Display: "Job"},
		})
	}
	if e.Request != "" {
		out = append(out, auditEntity{
			What: byIdentifier("", e.Request),
			Type: fhir.Coding{System: entityTypes, Code: "4", Display: "Other"},
			Role: fhir.Coding{System: objectRoles, Code: "21", Display: "Job Stream"},
			Name: "X-Request-Id",
		})
	}
	return out
}

func byIdentifier(system, value string) identified {
	return identified{Identifier: &identifier{System: system, Value: value}}
}
