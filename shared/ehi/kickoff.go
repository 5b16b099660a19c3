package ehi

import (
	"slices"
	"strings"
	"time"

	"ehi-server/shared/fhir"
)

// KickOff is what an application may ask for in the body of a kick-off (EHI-6). The zero value asks for everything.
type KickOff struct {
	Since      time.Time  `json:"since,omitzero"`    // resources updated at or after this
	Until      time.Time  `json:"until,omitzero"`    // resources updated before this
	Types      []string   `json:"types,omitempty"`   // only these resource types
	Categories []Category `json:"cats,omitempty"`    // only these categories of the form, all authorised
	From       string     `json:"from,omitempty"`    // date limit of every dated category
	To         string     `json:"to,omitempty"`      // date limit of every dated category
	Unknown    []string   `json:"unknown,omitempty"` // parameters that were ignored under lenient handling
}

// ParseKickOff reads the Parameters of a kick-off. With lenient handling (Prefer: handling=lenient) unknown
// parameters are kept in Unknown, to be reported in the manifest's error[]; otherwise they are Invalid.
func ParseKickOff(params []fhir.Parameter, lenient bool) (KickOff, error) {
	var k KickOff
	for _, p := range params {
		known, err := k.set(p)
		if err != nil {
			return KickOff{}, err
		}
		if known {
			continue
		}
		if !lenient {
			return KickOff{}, Errorf(Invalid, "Unknown parameter %q", p.Name)
		}
		if len(k.Unknown) < 10 {
			k.Unknown = append(k.Unknown, p.Name[:min(len(p.Name), 64)])
		}
	}
	if _, _, err := (Choice{From: k.From, To: k.To}).Span(); err != nil {
		return KickOff{}, err
	}
	return k, nil
}

func (k *KickOff) set(p fhir.Parameter) (known bool, err error) {
	switch p.Name {
	case "_since":
		k.Since, err = instant(p)
	case "_until":
		k.Until, err = instant(p)
	case "_type":
		err = k.addTypes(p.Value)
	case "category":
		err = k.addCategories(p.Value)
	case "from":
		k.From = p.Value
	case "to":
		k.To = p.Value
	default:
		return false, nil
	}
	return true, err
}

func instant(p fhir.Parameter) (time.Time, error) {
	s, err := fhir.ParseSpan(p.Value)
	if err != nil {
		return time.Time{}, Errorf(Invalid, "Invalid %s %q: not a FHIR instant", p.Name, p.Value)
	}
	return s.Start, nil
}

func (k *KickOff) addTypes(list string) error {
	for _, t := range strings.Split(list, ",") {
		t = strings.TrimSpace(t)
		if !fhir.KnownType(t) {
			return Errorf(Invalid, "Invalid _type %q: no resource type of FHIR R4", t)
		}
		if !slices.Contains(k.Types, t) {
			k.Types = append(k.Types, t)
		}
	}
	return nil
}

func (k *KickOff) addCategories(list string) error {
	for _, c := range strings.Split(list, ",") {
		key := Category(strings.TrimSpace(c))
		if !slices.ContainsFunc(Categories(), func(i CategoryInfo) bool { return i.Key == key }) {
			return Errorf(Invalid, "Invalid category %q: no category of the release form", key)
		}
		if !slices.Contains(k.Categories, key) {
			k.Categories = append(k.Categories, key)
		}
	}
	return nil
}
