package native

import (
	"strconv"
	"strings"

	"ehi-server/exporter/synthetic/outline"
)

// codes defines a look-up table of codes and names, each as "CODE Name".
func codes(name, title string, list ...string) lookup {
	l := lookup{name: name, title: title, fields: []column{
		{"code", "Code", value{required: true}},
		{"name", "Meaning of the code", value{required: true}},
		{"sort_order", "Place in lists", value{typ: "integer"}},
		{"is_active", "Whether new rows may use the code", value{typ: "boolean"}},
	}}
	for i, item := range list {
		code, meaning, _ := strings.Cut(item, " ")
		l.rows = append(l.rows, []string{code, meaning, strconv.Itoa(i + 1), "true"})
	}
	return l
}

// coded is codes for the codes of a code system.
func coded(name, title, system string, list []outline.Concept) lookup {
	texts := make([]string, len(list))
	for i, c := range list {
		texts[i] = c.Code + " " + c.Display
	}
	l := codes(name, title, texts...)
	l.fields[0].system = system
	return l
}

// sharedIDs are the IDs of the shared resources.
type sharedIDs = [outline.SharedResources]outline.ID

func newSharedIDs(seed uint64) (ids sharedIDs) {
	for i := range ids {
		ids[i] = outline.NewID(seed, outline.Nobody, uint32(i))
	}
	return ids
}

// staff defines the look-up tables of shared resources.
func staff(ids *sharedIDs) []lookup {
	text := func(of outline.Kind, i int) string { return string(ids[of.First+i%of.Count][:]) }
	key := func(name, title, typ string) column {
		return column{name, title, value{fhir: typ, required: true}}
	}
	to := func(name, title, typ, field string) column {
		return column{name, title, value{fhir: typ, refers: field}}
	}
	facility := lookup{name: "facility", title: "Facilities: Hospitals and practices.",
		fields: []column{
			key("facility_id", "ID of the facility", "Organization"),
			{"name", "Name", value{}},
			{"city", "City", value{}},
			{"state", "State", value{}},
		}}
	site := lookup{name: "site", title: "Sites: Buildings of facilities.", fields: []column{
		key("site_id", "ID of the site", "Location"),
		to("facility_id", "The facility", "Organization", "facility.facility_id"),
		{"name", "Name", value{}},
	}}
	clinician := lookup{name: "clinician", title: "Clinicians: People who treat patients.",
		fields: []column{
			key("clinician_id", "ID of the clinician", "Practitioner"),
			{"family_name", "Family name", value{}},
			{"given_name", "Given name", value{}},
			{"npi", "National Provider Identifier", value{}},
			{"specialty", "Specialty", value{}},
		}}
	role := lookup{name: "care_role", title: "Care roles: Where clinicians work, and as what.",
		fields: []column{
			key("care_role_id", "ID of the role", "PractitionerRole"),
			to("clinician_id", "The clinician", "Practitioner", "clinician.clinician_id"),
			to("facility_id", "The facility", "Organization", "facility.facility_id"),
			{"title", "Title", value{}},
		}}
	drug := lookup{name: "drug", title: "Drugs: What can be prescribed.", fields: []column{
		key("drug_id", "ID of the drug", "Medication"),
		{"rxnorm", "Code of RxNorm", value{}},
		{"name", "Name", value{}},
	}}
	for i, city := range outline.Cities {
		facility.rows = append(facility.rows, []string{
			text(outline.Organizations, i), city + " General Hospital", city, "MA",
		})
		site.rows = append(site.rows, []string{
			text(outline.Locations, i), text(outline.Organizations, i),
			city + " General Hospital, main building",
		})
	}
	for i := range outline.Practitioners.Count {
		clinician.rows = append(clinician.rows, []string{
			text(outline.Practitioners, i), outline.Families[i*7%len(outline.Families)],
			outline.Givens[i*5%len(outline.Givens)], strconv.Itoa(9_990_000_000 + i),
			specialties[i%len(specialties)],
		})
		role.rows = append(role.rows, []string{
			text(outline.Roles, i), text(outline.Practitioners, i), text(outline.Organizations, i),
			"General physician",
		})
	}
	for i, d := range outline.Drugs {
		drug.rows = append(drug.rows, []string{text(outline.Medications, i), d.Code, d.Display})
	}
	return []lookup{facility, site, clinician, role, drug}
}
