package main

import (
	"slices"
	"strings"
)

// The roles of a date, the best to tell when something happened first. R4 maps its elements to
// the five Ws (http://hl7.org/fhir/fivews): done and init say it themselves. An element without
// such a mapping that has a search parameter of type date (DocumentReference.context.period)
// says it better than one that tells when the resource was recorded; one without either comes
// last (ImagingStudy.series.started).
var roles = []string{"done", "init", "planned", "searched", "recorded", "other"}

// undated is the names of elements that hold a date and say nothing about when the resource
// happened.
var undated = strings.Fields(
	`value[x] answer[x] defaultValue[x] value birthDate born[x] deceased[x] internationalBirthDate
expirationDate expiry validTo approvalDate lastReviewDate publicationDate releaseDate effectivePeriod manufactureDate
ifModifiedSince lockedDate timestamp nextScheduled notAvailable`)

// datesOf is the fields that say when a resource happened, by role.
func (d *definitions) datesOf(typ string) []string {
	searched := d.searchedDates(typ)
	byRole := map[string][]string{}
	_, starts := d.types[typ].child("start")
	_, ends := d.types[typ].child("end")
	for _, e := range d.own(typ) {
		role := dateRole(e, slices.Contains(searched, e.Path.Value))
		switch {
		case role == "" || starts && ends && e.name() == "end":
			continue
		case starts && ends && e.name() == "start":
			// the two are a Period of the resource's own: Appointment, Slot
			byRole[role] = append(byRole[role], "/")
			continue
		}
		for _, f := range e.fields() {
			byRole[role] = append(byRole[role], dateParts(f)...)
		}
	}
	var out []string
	for _, role := range roles {
		if len(byRole[role]) > 0 {
			out = append(out, role+":"+strings.Join(byRole[role], ","))
		}
	}
	return out
}

// dateRole is the role of an element; "" for one that says nothing about when.
func dateRole(e element, searched bool) string {
	name := e.name()
	if slices.Contains(undated, name[strings.LastIndexByte(name, '.')+1:]) {
		return ""
	}
	switch w5 := e.w5(); {
	case w5 == "done" || w5 == "init" || w5 == "recorded":
		return w5
	case w5 == "planned" || w5 == "context":
		return "planned"
	case w5 != "":
		return ""
	case searched:
		return "searched"
	}
	return "other"
}

// searchedDates is the elements that a search parameter of type date looks at.
func (d *definitions) searchedDates(typ string) []string {
	var out []string
	for _, p := range d.parameters {
		if p.Type != "date" || !slices.Contains(p.Base, typ) {
			continue
		}
		found, _ := parse(p.Expression)
		for _, s := range found {
			if e, ok := d.types[typ].child(s.path); ok && s.typ == typ {
				out = append(out, e.Path.Value)
			}
		}
	}
	return out
}

// dateParts is the fields of a date: itself, or those of a Period (written path/) or Timing that
// hold dates.
func dateParts(f field) []string {
	switch f.typ {
	case "date", "dateTime", "instant":
		return []string{f.path}
	case "Period":
		return []string{f.path + "/"}
	case "Timing":
		return []string{f.path + ".event", f.path + ".repeat.boundsPeriod/"}
	}
	return nil
}
