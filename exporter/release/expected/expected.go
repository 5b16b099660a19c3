// Package expected says what a form releases of the records of the tests, and compares an export
// with that. It states EHI-8 and EHI-9 again in a few lines over encoding/json values, and shares
// no code with package release. It knows only the codes and fields that occur in generated
// records and in those of Synthea; package adversarial has others.
package expected

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ehi-server/shared/ehi"
	"ehi-server/shared/records"
)

// categoryOf returns the line of the form that a resource belongs to; "" if it is always
// released.
func categoryOf(r records.Resource) string {
	text, err := json.Marshal([]any{r["category"], r["type"], r["modality"]})
	if err != nil {
		panic(err)
	}
	has := func(code string) bool { return strings.Contains(string(text), `"code":"`+code+`"`) }
	switch r["resourceType"] {
	case "Patient":
		return ""
	case "Encounter", "Procedure":
		return "visits"
	case "Observation", "DiagnosticReport":
		if has("laboratory") || has("LAB") {
			return "labs"
		}
		return ""
	case "Claim", "ExplanationOfBenefit", "Coverage", "Account":
		return "billing"
	case "ImagingStudy":
		return "radiology"
	case "Media":
		return "photographs"
	case "DocumentReference":
		for code, key := range map[string]string{
			"18842-5": "dischargeSummary",
			"11504-8": "operative",
			"11526-1": "pathology",
			"18748-4": "radiology",
			"72170-4": "photographs",
		} {
			if has(code) {
				return key
			}
		}
		return "other"
	}
	if supporting(r) {
		return ""
	}
	return "medicalRecord"
}

// supporting reports whether a resource is released only if something that is released refers to
// it.
func supporting(r records.Resource) bool {
	switch r["resourceType"] {
	case "Practitioner", "PractitionerRole", "Organization", "Location", "Medication", "Device",
		"Substance", "Endpoint",
		"HealthcareService":
		return true
	}
	return false
}

// unused removes the supporting resources to which nothing that is released refers; a Device
// with a patient only if something else refers to it. It reports whether there were any.
func unused(full map[string]records.Resource, out map[string]bool) (some bool) {
	referred := func(from func(key string) bool) map[string]bool {
		to := map[string]bool{}
		for key, r := range full {
			if !from(key) {
				continue
			}
			for name, field := range r {
				if r["resourceType"] == "Provenance" && name == "target" {
					continue
				}
				records.References(map[string]any{name: field}, func(ref string) string {
					to[ref] = true
					return ref
				})
			}
		}
		return to
	}
	any := referred(func(string) bool { return true })
	reached := map[string]bool{}
	for before := -1; before < len(reached); {
		before = len(reached)
		reached = referred(func(key string) bool {
			return out[key] && (!supporting(full[key]) || reached[key])
		})
	}
	for key, r := range full {
		own := r["resourceType"] == "Device" && r["patient"] != nil && !any[key]
		if out[key] && supporting(r) && !reached[key] && !own {
			delete(out, key)
			some = true
		}
	}
	return some
}

// sensitiveCodes are the codes of the built-in table that occur in the records of the tests.
var sensitiveCodes = map[string]string{
	"86406008": "hiv", "7200002": "alcoholAndDrug", "413473000": "alcoholAndDrug",
	"370143000": "mentalHealth", "171207006": "mentalHealth",
	"706893006": "domesticViolence", "248110007": "sexualAssault", "51968-6": "genetic",
	"STD": "other", "R": "confidential",
	"31676001": "hiv", "443529005": "genetic", "76504-0": "domesticViolence", "171121004": "hiv",
	"165815009": "hiv",
	"68961-2":   "hiv", "76500-8": "domesticViolence", "76502-4": "domesticViolence",
	"76503-2": "domesticViolence",
}

func sensitivities(v any) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		if code, ok := v["code"].(string); ok && v["system"] != nil && sensitiveCodes[code] != "" {
			out = append(out, sensitiveCodes[code])
		}
		for _, e := range v {
			out = append(out, sensitivities(e)...)
		}
	case []any:
		for _, e := range v {
			out = append(out, sensitivities(e)...)
		}
	}
	return out
}

// selects reports whether a form has a line of its first part.
func selects(f *ehi.ReleaseForm, line string) bool {
	_, ok := f.Parameters[ehi.Category(line)]
	return ok
}

// released returns the keys of a full export that a form releases.
func released(full map[string]records.Resource, f *ehi.ReleaseForm) map[string]bool {
	out := map[string]bool{}
	for key, r := range full {
		c := categoryOf(r)
		ok := c == "" || selects(f, c)
		for _, a := range sensitivities(r) {
			ok = ok && (r["resourceType"] == "Patient" || f.Authorizes(ehi.Authorization(a)))
		}
		if ok {
			out[key] = true
		}
	}
	for again := true; again; {
		unspoken(full, out)
		purposeless(full, out, f)
		again = unused(full, out)
	}
	return out
}

// unspoken removes what means nothing without something withheld.
func unspoken(full map[string]records.Resource, out map[string]bool) {
	for key, r := range full { // a Provenance means nothing without its target
		targets, _ := r["target"].([]any)
		if r["resourceType"] == "Provenance" && out[key] && len(targets) > 0 &&
			!slices.ContainsFunc(targets, func(t any) bool {
				return out[t.(map[string]any)["reference"].(string)]
			}) {
			delete(out, key)
		}
		for _, field := range []string{"medicationReference", "request", "claim"} {
			m, ok := r[field].(map[string]any)
			if ok && out[key] && full[m["reference"].(string)] != nil &&
				!out[m["reference"].(string)] {
				delete(out, key)
			}
		}
		addresses, _ := r["addresses"].([]any)
		if r["resourceType"] == "CarePlan" && out[key] && len(addresses) > 0 &&
			!slices.ContainsFunc(addresses, func(t any) bool {
				return out[t.(map[string]any)["reference"].(string)]
			}) {
			delete(out, key)
		}
	}
}

// purposeless removes what exists only for something that is withheld for another reason than a
// line of the form that is not selected.
func purposeless(full map[string]records.Resource, out map[string]bool, f *ehi.ReleaseForm) {
	telling := func(key string) bool {
		if full[key] == nil || out[key] {
			return false
		}
		c, denied := categoryOf(full[key]), false
		for _, a := range sensitivities(full[key]) {
			denied = denied || !f.Authorizes(ehi.Authorization(a))
		}
		return denied || c == "" || selects(f, c)
	}
	for key, r := range full {
		for _, field := range []string{"prescription", "reasonReference"} {
			if r["resourceType"] == "Encounter" || r[field] == nil {
				continue
			}
			all, some := true, false
			records.References(map[string]any{field: r[field]}, func(ref string) string {
				all, some = all && telling(ref), true
				return ref
			})
			if all && some {
				delete(out, key)
			}
		}
	}
}

// Check compares an export with what is expected: it has exactly the right resources; each
// reference resolves, or is absolute, contained or masked; no withheld id occurs anywhere; and
// apart from masked values everything is as in full, the export without a form. text is all that
// the export has.
func Check(
	t testing.TB, full, got map[string]records.Resource, text string, f *ehi.ReleaseForm,
) {
	t.Helper()
	want := released(full, f)
	for key := range want {
		if got[key] == nil {
			t.Errorf("%s should have been released", key)
		}
	}
	for key, r := range got {
		if !want[key] {
			t.Errorf("%s should have been withheld", key)
			continue
		}
		records.References(r, func(ref string) string {
			if got[ref] == nil && !strings.HasPrefix(ref, "#") && !strings.HasPrefix(ref, "http") {
				t.Errorf("%s: reference %s leads out of the export", key, ref)
			}
			return ref
		})
		if p := Difference(full[key], r, key); p != "" {
			t.Errorf("%s differs from its source at %s", key, p)
		}
	}
	for key := range full {
		_, id, _ := strings.Cut(key, "/")
		if !want[key] && strings.Contains(text, id) {
			t.Errorf("the id of withheld %s is in the export", key)
		}
	}
}

// Difference returns where got is neither as in the source nor masked; "" for nowhere.
func Difference(source, got any, path string) string {
	if reflect.DeepEqual(source, got) { // cmp.Equal is many times slower
		return ""
	}
	switch s := source.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return path
		}
		if isMasked(g) {
			return ""
		}
		for k, v := range s {
			if masked, ok := g["_"+k].(map[string]any); ok && isMasked(masked) && g[k] == nil {
				continue
			}
			if (k == "presentedForm" || isEntries(k)) && g[k] == nil {
				continue
			}
			if p := Difference(v, g[k], path+"."+k); p != "" {
				return p
			}
		}
		for k := range g {
			if s[k] == nil && s[strings.TrimPrefix(k, "_")] == nil {
				return path + "." + k
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) > len(s) ||
			len(g) < len(s) && !isEntries(path[strings.LastIndexByte(path, '.')+1:]) {
			return path
		}
		if len(g) < len(s) { // the others are left out
			for i, at := 0, 0; i < len(g); i, at = i+1, at+1 {
				for at < len(s) && Difference(s[at], g[i], path+"[]") != "" {
					at++
				}
				if at == len(s) {
					return path
				}
			}
			return ""
		}
		for i := range s {
			if p := Difference(s[i], g[i], path+"[]"); p != "" {
				return p
			}
		}
		return ""
	}
	return path
}

// isEntries reports whether elements of a field are left out if they refer to something
// sensitive.
func isEntries(field string) bool {
	return slices.Contains([]string{
		"item", "diagnosis", "procedure", "supportingInfo", "entry", "activity", "section",
	}, field)
}

func isMasked(v map[string]any) bool {
	text, err := json.Marshal(v)
	return err == nil &&
		string(text) ==
			`{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason",`+
				`"valueCode":"masked"}]}`
}
