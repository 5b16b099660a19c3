package ehi

import (
	"slices"
	"strings"
	"time"

	"ehi-server/shared/fhir"
)

// KickOff is what an application may ask for at a kick-off: EHI-6 for one patient, BULK-1 for a population. The zero value
// asks for everything.
type KickOff struct {
	Since       time.Time     `json:"since,omitzero"`        // resources updated at or after this
	Until       time.Time     `json:"until,omitzero"`        // resources updated before this
	Types       []string      `json:"types,omitempty"`       // only these resource types
	TypeFilters []fhir.Search `json:"filters,omitempty"`     // of the types named here, only what one of the searches finds
	Elements    []string      `json:"elements,omitempty"`    // only these elements: name, or Type.name
	Patients    []string      `json:"patients,omitempty"`    // only these patients of the population
	Provenance  bool          `json:"provenance,omitempty"`  // also the Provenance of what is exported, whatever Types says
	ByPatient   bool          `json:"byPatient,omitempty"`   // output files organized by Patient instead of by type
	Paged       bool          `json:"paged,omitempty"`       // the manifest may be divided into pages
	Categories  []Category    `json:"cats,omitempty"`        // only these categories of the form, all authorised
	From        string        `json:"from,omitempty"`        // date limit of every dated category
	To          string        `json:"to,omitempty"`          // date limit of every dated category
	Unknown     []string      `json:"unknown,omitempty"`     // what was ignored under lenient handling, as texts for people
	Compression Compression   `json:"compression,omitempty"` // how the files are stored; "" is Identity
}

// Compression is how an export file is stored.
type Compression string

const (
	// Identity stores plain NDJSON.
	Identity Compression = "identity"
	// Gzip stores files as gzip (RFC 1952).
	Gzip Compression = "gzip"
	// Zstd stores files as Zstandard (RFC 8878).
	Zstd Compression = "zstd"
)

// Limits of a kick-off: its parameters are part of the job's record, which has to stay small.
const (
	maxPatients = 1000
	maxFilters  = 50
	maxUnknown  = 10
)

// Compressions lists the ways in which files can be stored.
func Compressions() []Compression { return []Compression{Identity, Gzip, Zstd} }

// Asked is what a kick-off request says before its parameters are understood.
type Asked struct {
	Level      Level
	Operation  Operation
	Parameters []fhir.Parameter
	// Lenient is Prefer: handling=lenient: what is not understood or not supported is kept in KickOff.Unknown, to be reported in
	// the manifest's error[], instead of being Invalid.
	Lenient bool
}

// reader reads one parameter into a kick-off.
type reader func(k *KickOff, p fhir.Parameter) error

// everywhere are the parameters of every kick-off.
var everywhere = map[string]reader{
	"_since":        func(k *KickOff, p fhir.Parameter) (err error) { k.Since, err = instant(p); return err },
	"_until":        func(k *KickOff, p fhir.Parameter) (err error) { k.Until, err = instant(p); return err },
	"_type":         func(k *KickOff, p fhir.Parameter) error { return k.addTypes(p.Value) },
	"_outputFormat": outputFormat,
	"_compression":  compression,
}

// ofEHI are those of $ehi-export alone (EHI-6).
var ofEHI = map[string]reader{
	"category": func(k *KickOff, p fhir.Parameter) error { return k.addCategories(p.Value) },
	"from":     func(k *KickOff, p fhir.Parameter) error { k.From = p.Value; return nil },
	"to":       func(k *KickOff, p fhir.Parameter) error { k.To = p.Value; return nil },
}

// ofPopulations are those of a population's export (BULK-1).
var ofPopulations = map[string]reader{
	"_typeFilter":           func(k *KickOff, p fhir.Parameter) error { return k.addFilters(p.Value) },
	"_elements":             func(k *KickOff, p fhir.Parameter) error { return k.addElements(p.Value) },
	"patient":               func(k *KickOff, p fhir.Parameter) error { return k.addPatients(p.Value) },
	"includeAssociatedData": func(k *KickOff, p fhir.Parameter) error { return k.associate(p.Value) },
	"organizeOutputBy":      organize,
	"allowPartialManifests": partial,
}

// find returns the reader of a parameter, nil for one that the operation does not have.
func (a Asked) find(name string) reader {
	if r := everywhere[name]; r != nil {
		return r
	}
	if r := ofEHI[name]; r != nil && a.Operation == EHIExport {
		return r
	}
	if name == "patient" && a.Level == System {
		return nil // Bulk Data Access 3.0.0: not applicable to system level exports
	}
	if r := ofPopulations[name]; r != nil && a.Level != OnePatient {
		return r
	}
	return nil
}

// ParseKickOff understands the parameters of a kick-off. Errors: Invalid, naming the parameter at fault.
func ParseKickOff(a Asked) (KickOff, error) {
	var k KickOff
	for _, p := range a.Parameters {
		if err := a.read(&k, p); err != nil {
			if !a.Lenient || !ignorable(err) {
				return KickOff{}, err
			}
			if len(k.Unknown) < maxUnknown {
				k.Unknown = append(k.Unknown, "Ignored: "+clip(err.Error(), 200))
			}
		}
	}
	if _, _, err := (Choice{From: k.From, To: k.To}).Span(); err != nil {
		return KickOff{}, err
	}
	return k, k.checkFilters()
}

func (a Asked) read(k *KickOff, p fhir.Parameter) error {
	r := a.find(p.Name)
	if r == nil {
		return Errorf(Unsupported, "Unknown parameter %q", clip(p.Name, 64))
	}
	return r(k, p)
}

// ignorable tells what lenient handling may pass over from what is plainly wrong.
func ignorable(err error) bool { return CodeOf(err) == Unsupported }

func clip(s string, n int) string { return s[:min(len(s), n)] }

// checkFilters holds each _typeFilter to a type that is exported.
func (k *KickOff) checkFilters() error {
	for _, f := range k.TypeFilters {
		if len(k.Types) > 0 && !slices.Contains(k.Types, f.Type) {
			return Errorf(Invalid, "The _typeFilter for %s names a type that _type leaves out", f.Type)
		}
	}
	return nil
}

func instant(p fhir.Parameter) (time.Time, error) {
	s, err := fhir.ParseSpan(p.Value)
	if err != nil {
		return time.Time{}, Errorf(Invalid, "Invalid %s %q: not a FHIR instant", p.Name, p.Value)
	}
	return s.Start, nil
}

// list splits a comma separated value.
func list(value string, add func(item string) error) error {
	for _, item := range strings.Split(value, ",") {
		if err := add(strings.TrimSpace(item)); err != nil {
			return err
		}
	}
	return nil
}

// appendNew appends v unless it is there already.
func appendNew[T comparable](s []T, v T) []T {
	if slices.Contains(s, v) {
		return s
	}
	return append(s, v)
}

func (k *KickOff) addTypes(value string) error {
	return list(value, func(t string) error {
		if !fhir.KnownType(t) {
			return Errorf(Invalid, "Invalid _type %q: no resource type of FHIR R4", t)
		}
		k.Types = appendNew(k.Types, t)
		return nil
	})
}

func (k *KickOff) addCategories(value string) error {
	return list(value, func(c string) error {
		if !slices.ContainsFunc(Categories(), func(i CategoryInfo) bool { return string(i.Key) == c }) {
			return Errorf(Invalid, "Invalid category %q: no category of the release form", c)
		}
		k.Categories = appendNew(k.Categories, Category(c))
		return nil
	})
}

func (k *KickOff) addFilters(value string) error {
	searches, err := fhir.ParseSearches(value)
	if err != nil {
		code := Invalid
		if fhir.IsUnsupported(err) {
			code = Unsupported
		}
		return Errorf(code, "Invalid _typeFilter: %v", err)
	}
	k.TypeFilters = append(k.TypeFilters, searches...)
	if len(k.TypeFilters) > maxFilters {
		return Errorf(Invalid, "More than %d searches in _typeFilter", maxFilters)
	}
	return nil
}

func (k *KickOff) addElements(value string) error {
	return list(value, func(e string) error {
		typ, name, typed := strings.Cut(e, ".")
		if !typed {
			name = e
		}
		if name == "" || strings.Contains(name, ".") || typed && !fhir.KnownType(typ) {
			return Errorf(Invalid, "Invalid _elements %q: only top-level elements, as name or Type.name", e)
		}
		k.Elements = appendNew(k.Elements, e)
		return nil
	})
}

func (k *KickOff) addPatients(value string) error {
	return list(value, func(ref string) error {
		id, relative := strings.CutPrefix(ref, "Patient/")
		if !relative || !fhir.ValidID(id) {
			return Errorf(Invalid, "Invalid patient %q: not a reference such as Patient/123", clip(ref, 80))
		}
		k.Patients = appendNew(k.Patients, id)
		if len(k.Patients) > maxPatients {
			return Errorf(Invalid, "More than %d patients: make a Group of them", maxPatients)
		}
		return nil
	})
}

func (k *KickOff) associate(value string) error {
	return list(value, func(what string) error {
		if what != "RelevantProvenanceResources" {
			return Errorf(Unsupported, "Unsupported includeAssociatedData %q: only RelevantProvenanceResources", clip(what, 64))
		}
		k.Provenance = true
		return nil
	})
}

func organize(k *KickOff, p fhir.Parameter) error {
	if p.Value != "Patient" {
		return Errorf(Unsupported, "Unsupported organizeOutputBy %q: only Patient", clip(p.Value, 64))
	}
	k.ByPatient = true
	return nil
}

func partial(k *KickOff, p fhir.Parameter) error {
	if p.Value != "true" && p.Value != "false" {
		return Errorf(Invalid, "Invalid allowPartialManifests %q: true or false", clip(p.Value, 64))
	}
	k.Paged = p.Value == "true"
	return nil
}

func outputFormat(_ *KickOff, p fhir.Parameter) error {
	// An unescaped + in a query arrives as a space.
	if !slices.Contains([]string{"application/fhir+ndjson", "application/ndjson", "ndjson"}, strings.ReplaceAll(p.Value, " ", "+")) {
		return Errorf(Invalid, "Unsupported _outputFormat %q: application/fhir+ndjson, application/ndjson or ndjson", clip(p.Value, 64))
	}
	return nil
}

func compression(k *KickOff, p fhir.Parameter) error {
	if !slices.Contains(Compressions(), Compression(p.Value)) {
		return Errorf(Invalid, "Unsupported _compression %q: identity, gzip or zstd", clip(p.Value, 64))
	}
	k.Compression = Compression(p.Value)
	return nil
}
