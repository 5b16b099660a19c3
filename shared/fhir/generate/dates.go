package main

import (
	"slices"
	"strings"
)

// The roles of a date, in order of preference, that say when the event happened. R4 maps its
// elements to the five Ws (http://hl7.org/fhir/fivews): done and init say it directly. An
// element without a mapping that has a search parameter of type date
// (DocumentReference.context.period) precedes one that says when the resource was recorded. An
// element with neither comes last (ImagingStudy.series.started).
var roles = []string{"done", "init", "planned", "searched", "recorded", "other"}

// undated lists elements with dates that do not say when the event happened.
var undated = strings.Fields(
	`value[x] answer[x] defaultValue[x] value birthDate born[x] deceased[x] internationalBirthDate
expirationDate expiry validTo approvalDate lastReviewDate publicationDate releaseDate effectivePeriod manufactureDate
ifModifiedSince lockedDate timestamp nextScheduled notAvailable`)

// datesOf returns the fields that say when the event happened, by role.
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
			// Together they are a Period of the resource itself: Appointment, Slot.
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

// dateRole returns the role of an element, or "" if it does not say when.
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

// searchedDates returns the elements of search parameters of type date.
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

// dateParts returns the date fields of a field: itself, or those of a Period (written path/) or
// Timing.
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
