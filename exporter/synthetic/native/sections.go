package native

import (
	"strconv"

	"ehi-server/exporter/synthetic/outline"
)

// open begins a section. Without entries it says that nothing is known.
func (c *clinical) open(template, version, loinc, title string, entries bool) {
	c.add(`<component><section`)
	if !entries {
		c.add(` nullFlavor="NI"`)
	}
	c.add(`>`, templates(template, version),
		code("code", oidLOINC, outline.Concept{Code: loinc, Display: title}),
		`<title>`, title, `</title><text>`)
	if !entries {
		c.add(`No information`)
		c.close()
	}
}

// close ends a section whose text ended, or never had entries.
func (c *clinical) close() { c.add(`</text></section></component>`) }

// list writes the text of a section, a list of items with IDs, and begins its entries.
func (c *clinical) list(of string, items []string) {
	c.add(`<list>`)
	for i, item := range items {
		c.add(`<item ID="`, of, strconv.Itoa(i+1), `">`, item, `</item>`)
	}
	c.add(`</list></text>`)
}

const endSection = `</section></component>`

// refers is the reference of an entry to an item of the text.
func refers(of string, i int) string {
	return `<text><reference value="#` + of + strconv.Itoa(i+1) + `"/></text>`
}

const (
	active    = `<statusCode code="active"/>`
	completed = `<statusCode code="completed"/>`
	assertion = `<code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/>`
	concern   = `<code code="CONC" codeSystem="2.16.840.1.113883.5.6"/>`
)

// sinceThen is an element with an open interval from an instant.
func sinceThen(unix int64) string {
	return `<effectiveTime><low value="` + stamp(unix) + `"/></effectiveTime>`
}

func (c *clinical) allergies() {
	known := c.Allergy() < c.limit
	c.open("2.6.1", "2015-08-01", "48765-2", "Allergies", known)
	if !known {
		return
	}
	began := sinceThen(c.Since.Unix())
	c.list("allergy", []string{"Allergy to peanuts"})
	c.add(`<entry typeCode="DRIV"><act classCode="ACT" moodCode="EVN">`,
		templates("4.30", "2015-08-01"), c.id(c.Allergy(), "concern"), concern, active, began,
		`<entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN">`,
		templates("4.7", "2014-06-09"), c.id(c.Allergy(), ""), assertion, refers("allergy", 0),
		completed, began, code(`value xsi:type="CD"`, oidSNOMED, outline.Concept{
			Code: "414285001", Display: "Allergy to food",
		}),
		`<participant typeCode="CSM"><participantRole classCode="MANU">`+
			`<playingEntity classCode="MMAT">`,
		code("code", oidSNOMED, outline.Concept{Code: "762952008", Display: "Peanut"}),
		`</playingEntity></participantRole></participant></observation></entryRelationship></act>`+
			`</entry>`, endSection)
}

func (c *clinical) medications() {
	v := c.visit
	known := v.Prescribed() && v.Done() < c.limit
	c.open("2.1.1", "2014-06-09", "10160-0", "Medications", known)
	if !known {
		return
	}
	drug := outline.Drugs[int(v.Medication)-outline.Medications.First]
	c.list("drug", []string{drug.Display})
	c.add(`<entry><substanceAdministration classCode="SBADM" moodCode="INT">`,
		templates("4.16", "2014-06-09"), c.id(v.Done(), ""), refers("drug", 0), active,
		`<effectiveTime xsi:type="IVL_TS"><low value="`, stamp(v.Start),
		`"/><high nullFlavor="NI"/></effectiveTime><doseQuantity value="1"/><consumable>`+
			`<manufacturedProduct classCode="MANU">`, templates("4.23", "2014-06-09"),
		`<manufacturedMaterial>`, code("code", oidRxNorm, drug),
		`</manufacturedMaterial></manufacturedProduct></consumable>`+
			`</substanceAdministration></entry>`, endSection)
}

// problems writes the chronic conditions. The sensitive ones are in no document.
func (c *clinical) problems() {
	var all []outline.Concept
	var names []string
	for i := range c.Conditions {
		if outline.ConditionAt+uint32(i) < c.limit {
			all = append(all, outline.Chronic[(c.FirstChronic+i)%len(outline.Chronic)])
			names = append(names, all[i].Display)
		}
	}
	c.open("2.5.1", "2015-08-01", "11450-4", "Problems", len(all) > 0)
	if len(all) == 0 {
		return
	}
	began := sinceThen(c.Since.Unix())
	c.list("problem", names)
	for i, problem := range all {
		n := outline.ConditionAt + uint32(i)
		c.add(`<entry typeCode="DRIV"><act classCode="ACT" moodCode="EVN">`,
			templates("4.3", "2015-08-01"), c.id(n, "concern"), concern, active, began,
			`<entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN">`,
			templates("4.4", "2015-08-01"), c.id(n, ""),
			`<code`, codeOf(oidSNOMED, outline.Concept{Code: "64572001", Display: "Condition"}),
			`><translation`, codeOf(oidLOINC, outline.Concept{
				Code: "75323-6", Display: "Condition",
			}), `/></code>`, refers("problem", i), completed, began,
			code(`value xsi:type="CD"`, oidSNOMED, problem),
			`</observation></entryRelationship></act></entry>`)
	}
	c.add(endSection)
}

// measured writes observations of measures.
func (c *clinical) measured(
	of, template, version string, list []outline.Measure, values []uint16,
	n func(i int) uint32,
) {
	for i, m := range list {
		if n(i) >= c.limit {
			return
		}
		c.add(`<component><observation classCode="OBS" moodCode="EVN">`,
			templates(template, version), c.id(n(i), ""), code("code", oidLOINC, m.Concept),
			refers(of, i), completed, `<effectiveTime value="`, stamp(c.visit.Start),
			`"/><value xsi:type="PQ" value="`, strconv.Itoa(int(values[i])), `" unit="`, m.Unit,
			`"/></observation></component>`)
	}
}

// sums are the items of the text about measures.
func (c *clinical) sums(
	list []outline.Measure, values []uint16, n func(i int) uint32,
) (items []string) {
	for i, m := range list {
		if n(i) < c.limit {
			items = append(items,
				m.Display+": "+strconv.Itoa(int(values[i]))+" "+m.Unit+", "+c.date())
		}
	}
	return items
}

func (c *clinical) results() {
	v := c.visit
	known := v.Tested() && v.Result(0) < c.limit
	c.open("2.3.1", "2015-08-01", "30954-2", "Results", known)
	if !known {
		return
	}
	c.list("result", c.sums(outline.Labs, v.Labs[:], v.Result))
	c.add(`<entry typeCode="DRIV"><organizer classCode="BATTERY" moodCode="EVN">`,
		templates("4.1", "2015-08-01"), c.id(v.Order(), ""), code("code", oidLOINC,
			outline.Concept{Code: "51990-0", Display: "Basic metabolic panel"}), completed,
		`<effectiveTime><low value="`, stamp(v.Start), `"/><high value="`, stamp(v.End),
		`"/></effectiveTime>`)
	c.measured("result", "4.2", "2015-08-01", outline.Labs, v.Labs[:], v.Result)
	c.add(`</organizer></entry>`, endSection)
}

func (c *clinical) vitals() {
	v := c.visit
	known := v.Vital(0) < c.limit
	c.open("2.4.1", "2015-08-01", "8716-3", "Vital signs", known)
	if !known {
		return
	}
	c.list("vital", c.sums(outline.Vitals, v.Vitals[:], v.Vital))
	c.add(`<entry typeCode="DRIV"><organizer classCode="CLUSTER" moodCode="EVN">`,
		templates("4.26", "2015-08-01"), c.id(v.First, "vital-signs"), `<code`,
		codeOf(oidSNOMED, outline.Concept{Code: "46680005", Display: "Vital signs"}),
		`><translation`, codeOf(oidLOINC, outline.Concept{
			Code: "74728-7", Display: "Vital signs",
		}), `/></code>`, completed, `<effectiveTime><low value="`, stamp(v.Start),
		`"/><high value="`, stamp(v.End), `"/></effectiveTime>`)
	c.measured("vital", "4.27", "2014-06-09", outline.Vitals, v.Vitals[:], v.Vital)
	c.add(`</organizer></entry>`, endSection)
}

func (c *clinical) social() {
	v := c.visit
	known := v.Asked() && v.Done() < c.limit
	c.open("2.17", "2015-08-01", "29762-2", "Social history", known)
	if !known {
		return
	}
	c.list("social", []string{"Never smoked"})
	c.add(`<entry><observation classCode="OBS" moodCode="EVN">`,
		templates("4.78", "2014-06-09"), c.id(v.Done(), ""), code("code", oidLOINC,
			outline.Concept{Code: "72166-2", Display: "Tobacco smoking status"}),
		refers("social", 0), completed, `<effectiveTime value="`, stamp(v.Start), `"/>`,
		code(`value xsi:type="CD"`, oidSNOMED, outline.Concept{
			Code: "266919005", Display: "Never smoked tobacco",
		}), `</observation></entry>`, endSection)
}

func (c *clinical) encounters() {
	v := c.visit
	c.open("2.22.1", "2015-08-01", "46240-8", "Encounters", true)
	c.list("encounter", []string{"Encounter for symptom, " + c.date()})
	c.add(`<entry typeCode="DRIV"><encounter classCode="ENC" moodCode="EVN">`,
		templates("4.49", "2015-08-01"), c.id(v.First, ""), `<code`,
		codeOf(oidSNOMED, outline.Concept{Code: "185345009", Display: "Encounter for symptom"}),
		`><originalText><reference value="#encounter1"/></originalText></code>`,
		`<effectiveTime><low value="`, stamp(v.Start), `"/><high value="`, stamp(v.End),
		`"/></effectiveTime></encounter></entry>`, endSection)
}
