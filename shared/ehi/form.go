package ehi

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// Category is a key of the first part of the release form: a kind of information to release
// (EHI-8).
type Category string

// The categories, in the order of the form.
const (
	Visits           Category = "visits"
	Labs             Category = "labs"
	Billing          Category = "billing"
	MedicalRecord    Category = "medicalRecord"
	DischargeSummary Category = "dischargeSummary"
	Operative        Category = "operative"
	Pathology        Category = "pathology"
	Radiology        Category = "radiology"
	Photographs      Category = "photographs"
	OtherDocuments   Category = "other"
)

// CategoryInfo describes a category to the form page and to the validation.
type CategoryInfo struct {
	Key   Category
	Name  string
	Hint  string
	Dated bool // whether the category takes from and to; medicalRecord does not
}

// Categories lists the first part of the form.
func Categories() []CategoryInfo {
	return []CategoryInfo{
		{Visits, "Clinic visits", "Visits to a doctor or hospital, and what was done there", true},
		{Labs, "Lab results", "Results of blood and other laboratory tests", true},
		{Billing, "Billing records", "Claims, insurance coverage and payments", true},
		{
			MedicalRecord,
			"Rest of the medical record",
			"Conditions, medications, allergies, immunizations, care plans and more",
			false,
		},
		{
			DischargeSummary,
			"Discharge summaries",
			"Documents written when you left a hospital",
			true,
		},
		{Operative, "Operative reports", "Documents about operations", true},
		{Pathology, "Pathology reports", "Documents about tissue samples", true},
		{
			Radiology,
			"Radiology reports and images",
			"X-ray, CT, MRI and ultrasound studies and reports",
			true,
		},
		{Photographs, "Photographs", "Pictures taken for your care", true},
		{OtherDocuments, "Other documents", "Any other document in your record", true},
	}
}

// OfDocuments reports whether the category is a group of documents. The others are kinds of
// records.
func (c CategoryInfo) OfDocuments() bool {
	switch c.Key {
	case Visits, Labs, Billing, MedicalRecord:
		return false
	}
	return true
}

// Authorization is a key of the second part of the form: sensitive information that is withheld
// unless the patient expressly authorizes its release (EHI-9).
type Authorization string

// The authorizations, in the order of the form.
const (
	HIV              Authorization = "hiv"
	AlcoholAndDrug   Authorization = "alcoholAndDrug"
	MentalHealth     Authorization = "mentalHealth"
	Confidential     Authorization = "confidential"
	DomesticViolence Authorization = "domesticViolence"
	SexualAssault    Authorization = "sexualAssault"
	Genetic          Authorization = "genetic"
	OtherSensitive   Authorization = "other"
)

// AuthorizationInfo describes an authorization to the form page and to the validation.
type AuthorizationInfo struct {
	Key  Authorization
	Name string
	Text bool // whether a text may explain the tick; the text decides nothing
}

// Authorizations lists the second part of the form.
func Authorizations() []AuthorizationInfo {
	return []AuthorizationInfo{
		{HIV, "HIV test results", false},
		{AlcoholAndDrug, "Alcohol and drug abuse records", false},
		{MentalHealth, "Details of mental health diagnosis and treatment", false},
		{Confidential, "Confidential communications with a licensed social worker", false},
		{DomesticViolence, "Details of domestic violence victims' counseling", false},
		{SexualAssault, "Details of sexual assault counseling", false},
		{Genetic, "Genetic screening", true},
		{OtherSensitive, "Other sensitive information", true},
	}
}

// ReleaseForm is what the patient chose. It holds only what is enabled or authorized; everything
// else is withheld.
type ReleaseForm struct {
	Parameters map[Category]Choice `json:"p,omitempty"`
	// Authorizations holds the ticks of the second part with the value of each. Use Authorizes
	// to read it: records of earlier builds have free text here, which authorizes nothing.
	Authorizations map[Authorization]string `json:"a,omitempty"`
	// Texts are the texts beside the ticks. People read them; they decide nothing.
	Texts map[Authorization]string `json:"t,omitempty"`
}

// ticked is the value of an authorization that is given.
const ticked = "true"

// Authorizes reports whether the patient expressly authorized a kind of sensitive information.
func (f *ReleaseForm) Authorizes(key Authorization) bool { return f.Authorizations[key] == ticked }

// Authorize ticks a kind of sensitive information.
func (f *ReleaseForm) Authorize(key Authorization) {
	if f.Authorizations == nil {
		f.Authorizations = map[Authorization]string{}
	}
	f.Authorizations[key] = ticked
}

// Choice is one enabled line of the form's first part.
type Choice struct {
	From string `json:"from,omitempty"` // FHIR date or dateTime, inclusive; "" is open
	// FHIR date or dateTime, inclusive to the end of its span; "" is open
	To    string `json:"to,omitempty"`
	Notes string `json:"notes,omitempty"`
}

// Span returns the half-open interval [from, to) of the choice. A zero time means no bound.
func (c Choice) Span() (from, to time.Time, err error) {
	if c.From != "" {
		s, err := fhir.ParseAsked(c.From)
		if err != nil {
			return from, to, Errorf(Invalid, "Invalid \"from\" date %q", c.From)
		}
		from = s.Start
	}
	if c.To != "" {
		s, err := fhir.ParseAsked(c.To)
		if err != nil {
			return from, to, Errorf(Invalid, "Invalid \"to\" date %q", c.To)
		}
		to = s.End
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return from, to, Errorf(Invalid, "\"from\" (%s) is after \"to\" (%s)", c.From, c.To)
	}
	return from, to, nil
}

// MaxNote is the longest free text of the form, in characters. It keeps the job's record small.
const MaxNote = 200

// formJSON is the wire form of EHI-7.
type formJSON struct {
	Parameters     map[Category]parameterJSON          `json:"parameters"`
	Authorizations map[Authorization]authorizationJSON `json:"authorizations"`
}

type parameterJSON struct {
	Name    string       `json:"name"`
	Enabled bool         `json:"enabled"`
	From    optionalText `json:"from,omitempty"`
	To      optionalText `json:"to,omitempty"`
	Notes   optionalText `json:"notes"`
	Group   any          `json:"group"` // 1 for records, 2 for documents; ignored on input
}

// optionalText is a text that may be absent, null or false. The form of the reference
// implementation sends false for the dates of a line that takes none.
type optionalText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *optionalText) UnmarshalJSON(data []byte) error {
	if s := string(data); s == "null" || s == "false" {
		*t = ""
		return nil
	}
	return json.Unmarshal(data, (*string)(t))
}

type authorizationJSON struct {
	Name string `json:"name"`
	// Value is true or false. The reference implementation sends text here for genetic and
	// other: that text is kept as Text and authorizes nothing.
	Value any          `json:"value"`
	Text  optionalText `json:"text,omitempty"` // of genetic and other only
}

// ParseReleaseForm parses and checks the JSON of EHI-7. Keys are case-sensitive and may not
// occur twice, so that neither the order nor the case of keys decides what is released. It
// returns Invalid and names the key at fault.
func ParseReleaseForm(body []byte) (ReleaseForm, error) {
	c := fhir.Cursor{Unique: true}
	for c.Reset(body); c.Next(); {
	}
	if repeated, ok := errors.AsType[fhir.ErrRepeated](c.Err()); ok {
		return ReleaseForm{}, Errorf(Invalid, "Invalid form: %v", repeated)
	}
	if c.Err() != nil {
		return ReleaseForm{}, errFormNotJSON
	}
	var in formJSON
	if _, err := json.Parse(body, &in, json.DontMatchCaseInsensitiveStructFields); err != nil {
		if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return ReleaseForm{},
				Errorf(Invalid, "Invalid form: %q must not be a JSON %s", bad.Field, bad.Value)
		}
		return ReleaseForm{}, errFormNotJSON
	}
	if in.Parameters == nil {
		return ReleaseForm{}, Errorf(Invalid, "Invalid form: \"parameters\" is missing")
	}
	var form ReleaseForm
	for key, p := range in.Parameters {
		if err := form.addParameter(key, p); err != nil {
			return ReleaseForm{}, err
		}
	}
	for key, a := range in.Authorizations {
		if err := form.addAuthorization(key, a); err != nil {
			return ReleaseForm{}, err
		}
	}
	return form, nil
}

var errFormNotJSON = Errorf(Invalid, "Invalid form: the body is not valid JSON")

func (f *ReleaseForm) addParameter(key Category, p parameterJSON) error {
	i := slices.IndexFunc(Categories(), func(c CategoryInfo) bool { return c.Key == key })
	if i < 0 {
		return Errorf(Invalid, "Invalid form: unknown parameter %q", key)
	}
	if !p.Enabled { // whatever its other fields say
		return nil
	}
	c := Choice{From: p.From.text(), To: p.To.text(), Notes: p.Notes.text()}
	if utf8.RuneCountInString(c.Notes) > MaxNote {
		return Errorf(Invalid, "Invalid form: the notes of %q are longer than %d characters", key,
			MaxNote)
	}
	if !Categories()[i].Dated {
		c.From, c.To = "", ""
	}
	if _, _, err := c.Span(); err != nil {
		return Errorf(Invalid, "Invalid form: %q: %v", key, err)
	}
	if f.Parameters == nil {
		f.Parameters = map[Category]Choice{}
	}
	f.Parameters[key] = c
	return nil
}

func (f *ReleaseForm) addAuthorization(key Authorization, a authorizationJSON) error {
	i := slices.IndexFunc(Authorizations(), func(a AuthorizationInfo) bool { return a.Key == key })
	if i < 0 {
		return Errorf(Invalid, "Invalid form: unknown authorization %q", key)
	}
	text := a.Text.text()
	switch v := a.Value.(type) {
	case nil:
	case bool:
		if v {
			f.Authorize(key)
		}
	case string:
		if !Authorizations()[i].Text {
			return Errorf(Invalid,
				"Invalid form: the value of authorization %q must be true or false", key)
		}
		text = cmp.Or(text, strings.TrimSpace(v))
	default:
		return Errorf(Invalid, "Invalid form: the value of authorization %q must be true or false",
			key)
	}
	if utf8.RuneCountInString(text) > MaxNote {
		return Errorf(Invalid, "Invalid form: the text of %q is longer than %d characters", key,
			MaxNote)
	}
	if text == "" || !Authorizations()[i].Text {
		return nil
	}
	if f.Texts == nil {
		f.Texts = map[Authorization]string{}
	}
	f.Texts[key] = text
	return nil
}

// MarshalWire renders the form as the two objects of the job's JSON (EHI-10). It lists every
// key, including those that are not chosen. For a nil form both objects are empty.
func (f *ReleaseForm) MarshalWire() (parameters, authorizations any) {
	ps, as := map[Category]parameterJSON{}, map[Authorization]authorizationJSON{}
	if f == nil {
		return ps, as
	}
	for _, c := range Categories() {
		choice, on := f.Parameters[c.Key]
		p := parameterJSON{
			Name:    c.Name,
			Enabled: on,
			From:    optionalText(choice.From),
			To:      optionalText(choice.To),
			Notes:   optionalText(choice.Notes),
			Group:   1,
		}
		if c.OfDocuments() {
			p.Group = 2
		}
		ps[c.Key] = p
	}
	for _, a := range Authorizations() {
		as[a.Key] = authorizationJSON{
			Name:  a.Name,
			Value: f.Authorizes(a.Key),
			Text:  optionalText(f.Texts[a.Key]),
		}
	}
	return ps, as
}

// text returns the text without surrounding white space.
func (t optionalText) text() string { return strings.TrimSpace(string(t)) }
