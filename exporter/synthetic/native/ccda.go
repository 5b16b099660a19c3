package native

import (
	"strconv"
	"time"

	"ehi-server/exporter/synthetic/media"
	"ehi-server/exporter/synthetic/outline"
	"ehi-server/shared/ehi"
)

// ccdaShape is documents only: a C-CDA of each visit, and a letter that nobody has classified.
func ccdaShape() shape {
	return shape{name: "ccda", once: []kind{letter}, everyVisit: []kind{continuity}}
}

// continuity is a Continuity of Care Document of C-CDA R2.1 about a visit.
var continuity = kind{
	name:     "visit-summary",
	title:    "Summary of a visit",
	category: ehi.OtherDocuments,
	typ:      ofLOINC("34133-9", "Summarization of episode note"),
	belongs:  itsEncounter,

	needsVisit: true,
	write: func(s *sheet) *media.File {
		c := clinical{sheet: s}
		c.document()
		f := media.XML(c.text, s.size)
		f.ContentType = "application/hl7-v3+xml"
		return f
	},
}

// clinical writes a clinical document.
type clinical struct {
	*sheet
	text []byte
}

// add appends markup and texts that need no escapes.
func (c *clinical) add(parts ...string) {
	for _, p := range parts {
		c.text = append(c.text, p...)
	}
}

// id is an element with the ID of a resource, or of something beside it that is told apart by a
// number.
func (c *clinical) id(n uint32, beside string) string {
	id := c.ID
	id.Number(n)
	if beside != "" {
		beside = `" extension="` + beside
	}
	return `<id root="` + string(id[:]) + beside + `"/>`
}

// stamp is an instant as CDA writes it.
func stamp(unix int64) string { return time.Unix(unix, 0).UTC().Format("20060102150405-0700") }

// templates are the elements of template IDs: each with and without its version.
func templates(root, version string) string {
	const prefix = "2.16.840.1.113883.10.20.22."
	return `<templateId root="` + prefix + root + `" extension="` + version + `"/>` +
		`<templateId root="` + prefix + root + `"/>`
}

// Code systems of CDA.
const (
	oidLOINC  = "2.16.840.1.113883.6.1"
	oidSNOMED = "2.16.840.1.113883.6.96"
	oidRxNorm = "2.16.840.1.113883.6.88"
)

// code is an element with a code.
func code(element, system string, of outline.Concept) string {
	return "<" + element + codeOf(system, of) + "/>"
}

// codeOf is the attributes of a code.
func codeOf(system string, of outline.Concept) string {
	return ` code="` + of.Code + `" codeSystem="` + system + `" displayName="` + of.Display + `"`
}

// document writes the whole document.
func (c *clinical) document() {
	c.header()
	c.add(`<component><structuredBody>`)
	c.allergies()
	c.medications()
	c.problems()
	c.results()
	c.social()
	c.vitals()
	c.encounters()
	c.add("</structuredBody></component></ClinicalDocument>\n")
}

func (c *clinical) header() {
	when := stamp(c.visit.End)
	c.add(`<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:sdtc="urn:hl7-org:sdtc" `+
		`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><realmCode code="US"/>`+
		`<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>`,
		templates("1.1", "2015-08-01"), templates("1.2", "2015-08-01"),
		c.id(c.visit.First, "D"+strconv.Itoa(c.i)),
		code("code", oidLOINC, outline.Concept{
			Code: "34133-9", Display: "Summarization of Episode Note",
		}),
		`<title>Summary of a visit</title><effectiveTime value="`, when, `"/>`+
			`<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>`+
			`<languageCode code="en-US"/>`)
	c.recordTarget()
	c.add(`<author><time value="`, when, `"/><assignedAuthor>`, c.clinicianID(), address, telecom,
		`<assignedPerson>`, c.clinician(), `</assignedPerson></assignedAuthor></author>`)
	c.add(`<custodian><assignedCustodian><representedCustodianOrganization>`,
		c.facilityID(), `<name>`, c.facility(), `</name>`, telecom, address,
		`</representedCustodianOrganization></assignedCustodian></custodian>`)
	c.add(`<documentationOf><serviceEvent classCode="PCPR"><effectiveTime><low value="`,
		stamp(c.visit.Start), `"/><high value="`, when, `"/></effectiveTime>`+
			`<performer typeCode="PRF"><assignedEntity>`, c.clinicianID(), address, telecom,
		`<assignedPerson>`, c.clinician(), `</assignedPerson></assignedEntity></performer>`+
			`</serviceEvent></documentationOf>`)
	c.add(`<componentOf><encompassingEncounter>`, c.id(c.visit.First, ""),
		`<effectiveTime><low value="`, stamp(c.visit.Start), `"/><high value="`, when,
		`"/></effectiveTime></encompassingEncounter></componentOf>`)
}

// recordTarget writes who the patient is.
func (c *clinical) recordTarget() {
	c.add(`<recordTarget><patientRole><id root="2.16.840.1.113883.19.5" extension="MRN`,
		strconv.FormatUint(outline.FirstNumber+c.K, 10), `"/><addr use="HP"><streetAddressLine>`,
		strconv.Itoa(c.Street), ` Main Street</streetAddressLine><city>`, c.City,
		`</city><state>MA</state><postalCode>0`, strconv.Itoa(c.Postal),
		`</postalCode><country>US</country></addr><telecom use="HP" value="tel:+1`,
		strconv.Itoa(c.Phone), `"/><patient><name use="L"><given>`, c.Given, `</given><family>`,
		c.Family, `</family></name><administrativeGenderCode code="`,
		string(c.Gender[0]-'a'+'A'), `" codeSystem="2.16.840.1.113883.5.1"/><birthTime value="`,
		c.Born.Format("20060102"), `"/><raceCode nullFlavor="UNK"/>`+
			`<ethnicGroupCode nullFlavor="UNK"/><languageCommunication><languageCode code="en"/>`+
			`<preferenceInd value="true"/></languageCommunication></patient>`+
			`</patientRole></recordTarget>`)
}

// Nobody knows where the staff lives.
const (
	address = `<addr nullFlavor="UNK"/>`
	telecom = `<telecom nullFlavor="UNK"/>`
)

func (c *clinical) clinicianID() string {
	i := int(c.visit.Practitioner) - outline.Practitioners.First
	return `<id root="2.16.840.1.113883.4.6" extension="` + strconv.Itoa(9_990_000_000+i) + `"/>`
}

func (c *clinical) clinician() string {
	i := int(c.visit.Practitioner) - outline.Practitioners.First
	return `<name><prefix>Dr.</prefix><given>` + outline.Givens[i*5%len(outline.Givens)] +
		`</given><family>` + outline.Families[i*7%len(outline.Families)] + `</family></name>`
}

func (c *clinical) facilityID() string {
	return `<id root="` + string(c.shared[c.visit.Organization][:]) + `"/>`
}

func (c *clinical) facility() string {
	return outline.Cities[int(c.visit.Organization)-outline.Organizations.First] +
		" General Hospital"
}
