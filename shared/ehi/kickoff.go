package ehi

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"ehi-server/shared/fhir"
)

// KickOff holds the parameters of a kick-off: EHI-6 for one patient, BULK-1 for a population.
// The zero value exports everything.
type KickOff struct {
	Since time.Time `json:"since,omitzero"`  // resources updated at or after this
	Until time.Time `json:"until,omitzero"`  // resources updated before this
	Types []string  `json:"types,omitempty"` // only these resource types
	// TypeFilters limits the types that it names to what one of its searches finds.
	TypeFilters []fhir.Search `json:"filters,omitempty"`
	Elements    []string      `json:"elements,omitempty"` // only these elements: name, or Type.name
	Patients    []string      `json:"patients,omitempty"` // only these patients of the population
	// Provenance adds the Provenance of what is exported, whatever Types says.
	Provenance bool `json:"provenance,omitempty"`
	// ByPatient organizes the output files by Patient instead of by type.
	ByPatient bool `json:"byPatient,omitempty"`
	Paged     bool `json:"paged,omitempty"` // the manifest may be divided into pages
	// Categories limits the export to these categories of the form, all of them authorized.
	Categories []Category `json:"cats,omitempty"`
	From       string     `json:"from,omitempty"` // date limit of every dated category
	To         string     `json:"to,omitempty"`   // date limit of every dated category
	// Dropped lists what was ignored of the request. An older build drops it.
	Dropped []Notice `json:"dropped,omitempty"`
	Unknown []string `json:"unknown,omitempty"` // the same in records of earlier builds
	// Compression is how the files are stored; "" is Identity.
	Compression Compression `json:"compression,omitempty"`
	// Package is how native content is delivered; "" is PackageFiles for one patient, and
	// PackageZIP for a population. An older build drops it.
	Package Packaging `json:"package,omitempty"`
}

// Packaging is how an export delivers documents and tables.
type Packaging string

const (
	// PackageFiles gives each document and table a URL of its own. Populations do not have it.
	PackageFiles Packaging = "files"
	// PackageZIP collects them in ZIP archives.
	PackageZIP Packaging = "zip"
)

// Packaging returns how the native content of a job is delivered.
func (j *Job) Packaging() Packaging {
	if j.Level != OnePatient || j.KickOff.Package == PackageZIP {
		return PackageZIP
	}
	return PackageFiles
}

// Origin returns the URL of the server that the client of the job used, without a path.
func (j *Job) Origin() string {
	u, err := url.Parse(j.Request)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Native reports whether a job exports native content: documents and tables. An operation other
// than $ehi-export does not, nor one of types without DocumentReference, which lists them.
func (j *Job) Native() bool {
	types := j.KickOff.Types
	return j.Operation == EHIExport &&
		(len(types) == 0 || slices.Contains(types, "DocumentReference"))
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

// Limits of a kick-off. Its parameters are part of the job's record, which must stay small.
const (
	maxPatients = 1000
	maxFilters  = 50
)

// Compressions lists the supported compressions.
func Compressions() []Compression { return []Compression{Identity, Gzip, Zstd} }

// Asked is a kick-off request before its parameters are parsed.
type Asked struct {
	Level      Level
	Operation  Operation
	Parameters []fhir.Parameter
	// Lenient is "Prefer: handling=lenient": unknown or unsupported parameters are ignored and
	// noted in KickOff.Dropped. Malformed parameters are still rejected, and so is a request
	// whose filters would all be ignored.
	Lenient bool
	// Own reports whether a URL, without a trailing slash, is a FHIR base of this server.
	Own func(base string) bool
}

// parser parses the parameters of one kick-off.
type parser struct {
	Asked
	KickOff
	notices notices
	// given holds the value of each parsed parameter, the last one if it is repeated.
	given   map[string]string
	ignored map[string]bool // types with an ignored search
	latest  bool            // the request contains LatestProvenanceResources
}

// reader parses one parameter into a kick-off.
type reader func(k *parser, p fhir.Parameter) error

// everywhere holds the parameters of every kick-off.
var everywhere = map[string]reader{
	"_since": once(func(k *parser, p fhir.Parameter) (err error) {
		k.Since, err = instant(p)
		return err
	}),
	"_until": once(func(k *parser, p fhir.Parameter) (err error) {
		k.Until, err = instant(p)
		return err
	}),
	"_type":         each((*parser).addType),
	"_outputFormat": once(outputFormat),
	"_compression":  once(compression),
}

// ofEHI holds the parameters of $ehi-export only (EHI-6).
var ofEHI = map[string]reader{
	"category": each((*parser).addCategory),
	"from":     once(func(k *parser, p fhir.Parameter) error { k.From = p.Value; return nil }),
	"to":       once(func(k *parser, p fhir.Parameter) error { k.To = p.Value; return nil }),
	"_package": once(packaging),
}

// ofPopulations holds the parameters of a population's export only (BULK-1).
var ofPopulations = map[string]reader{
	"_typeFilter": func(k *parser, p fhir.Parameter) error {
		return k.addFilters(p.Value)
	},
	"_elements":             each((*parser).addElement),
	"patient":               each((*parser).addPatient),
	"includeAssociatedData": each((*parser).associate),
	"organizeOutputBy":      once(organize),
	"allowPartialManifests": once(partial),
}

// once parses a parameter with a single value. A repeated parameter must have the same value.
func once(read reader) reader {
	return func(k *parser, p fhir.Parameter) error {
		if before, again := k.given[p.Name]; again && before != p.Value {
			return Errorf(Invalid, "The parameter %s is given twice, as %q and %q", p.Name,
				clip(before, 64), clip(p.Value, 64))
		}
		return read(k, p)
	}
}

// refuse rejects a parameter that does not apply to the level (Bulk Data Access 3.0.0: "Not
// applicable to system level export requests").
func refuse(_ *parser, p fhir.Parameter) error {
	return Errorf(Invalid, "The parameter %s is not for an export of the whole system", p.Name)
}

// each parses a parameter that is repeated or holds a comma-separated list. Lenient handling
// ignores only the unsupported items.
func each(add func(k *parser, item string) error) reader {
	return func(k *parser, p fhir.Parameter) error {
		for _, item := range strings.Split(p.Value, ",") {
			if item = strings.TrimSpace(item); item == "" && strings.Trim(p.Value, ", ") != "" {
				continue
			}
			if err := k.pass(add(k, item)); err != nil {
				return err
			}
		}
		return nil
	}
}

// find returns the reader of a parameter, or nil if the operation does not have it.
func (a Asked) find(name string) reader {
	if r := everywhere[name]; r != nil {
		return r
	}
	if r := ofEHI[name]; r != nil && a.Operation == EHIExport {
		return r
	}
	if name == "patient" && a.Level == System {
		return refuse // ignoring it would export everybody
	}
	if r := ofPopulations[name]; r != nil && a.Level != OnePatient {
		return r
	}
	return nil
}

// ParseKickOff parses the parameters of a kick-off. It returns Invalid or Unsupported and names
// the parameter at fault.
func ParseKickOff(a Asked) (KickOff, error) {
	k := parser{Asked: a, given: map[string]string{}, ignored: map[string]bool{}}
	for _, p := range a.Parameters {
		if err := k.pass(k.read(p)); err != nil {
			return KickOff{}, err
		}
		k.given[p.Name] = p.Value
	}
	if _, _, err := (Choice{From: k.From, To: k.To}).Span(); err != nil {
		return KickOff{}, err
	}
	if err := errors.Join(k.notWidened(), k.checkFilters(), k.checkAssociated()); err != nil {
		return KickOff{}, err
	}
	k.Dropped = k.notices.all()
	return k.KickOff, nil
}

func (k *parser) read(p fhir.Parameter) error {
	r := k.find(p.Name)
	if r == nil {
		return Errorf(Unsupported, "Unknown parameter %q", clip(p.Name, 64))
	}
	if p.Problem != "" {
		return Errorf(Invalid, "The parameter %s %s", p.Name, p.Problem)
	}
	return r(k, p)
}

// pass records an error that lenient handling may ignore, and returns any other error.
func (k *parser) pass(err error) error {
	if !k.Lenient || CodeOf(err) != Unsupported {
		return err
	}
	k.notices.add(Unsupported, "Ignored: "+clip(err.Error(), 200))
	return nil
}

// notWidened rejects a request if lenient handling ignored all items of a list: without the list
// the export would be larger than requested.
func (k *parser) notWidened() error {
	for name, left := range map[string]int{
		"_type":    len(k.Types),
		"category": len(k.Categories),
		"patient":  len(k.Patients),
	} {
		if _, given := k.given[name]; given && left == 0 && k.find(name) != nil {
			return Errorf(Invalid,
				"Nothing of %s is known here: nothing would be left of the request", name)
		}
	}
	return nil
}

func clip(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }

// checkFilters checks that each _typeFilter names an exported type. The searches of a type are
// alternatives. If one of them was ignored, the others would leave out what it finds, so the
// whole type is exported.
func (k *parser) checkFilters() error {
	var kept []fhir.Search
	for _, f := range k.TypeFilters {
		if k.ignored[f.Type] {
			continue
		}
		if len(k.Types) > 0 && !slices.Contains(k.Types, f.Type) {
			err := k.pass(Errorf(Unsupported,
				"The _typeFilter for %s names a type that _type leaves out", f.Type))
			if err != nil {
				return err
			}
			continue
		}
		kept = append(kept, f)
	}
	k.TypeFilters = kept
	return nil
}

func instant(p fhir.Parameter) (time.Time, error) {
	s, err := fhir.ParseAsked(p.Value)
	if err != nil {
		return time.Time{}, Errorf(Invalid, "Invalid %s %q: not a FHIR instant", p.Name, p.Value)
	}
	return s.Start, nil
}

// appendNew appends v if s does not contain it.
func appendNew[T comparable](s []T, v T) []T {
	if slices.Contains(s, v) {
		return s
	}
	return append(s, v)
}

func (k *parser) addType(t string) error {
	if !fhir.KnownType(t) {
		return Errorf(Unsupported, "Invalid _type %q: no resource type of FHIR R4", clip(t, 64))
	}
	k.Types = appendNew(k.Types, t)
	return nil
}

func (k *parser) addCategory(c string) error {
	if !slices.ContainsFunc(Categories(), func(i CategoryInfo) bool { return string(i.Key) == c }) {
		return Errorf(Unsupported, "Invalid category %q: no category of the release form",
			clip(c, 64))
	}
	k.Categories = appendNew(k.Categories, Category(c))
	return nil
}

func (k *parser) addFilters(value string) error {
	for _, text := range fhir.SplitSearches(value) {
		search, err := fhir.ParseSearch(text)
		if err == nil {
			k.TypeFilters = append(k.TypeFilters, search)
			continue
		}
		code := Invalid
		if fhir.IsUnsupported(err) {
			code = Unsupported
		}
		if err := k.pass(Errorf(code, "Invalid _typeFilter: %v", err)); err != nil {
			return err
		}
		k.ignored[search.Type] = true
	}
	if len(k.TypeFilters) > maxFilters {
		return Errorf(Invalid, "More than %d searches in _typeFilter", maxFilters)
	}
	return nil
}

// addElement parses a top-level element of R4, of one type or of all types that have it. A
// choice may be written as value[x]. Clients may name resourceType, which every resource keeps
// anyway.
func (k *parser) addElement(e string) error {
	typ, name, typed := strings.Cut(strings.TrimSuffix(e, "[x]"), ".")
	types := []string{typ}
	if !typed {
		types, name = fhir.Types(), typ
	}
	switch known := func(t string) bool { return fhir.KnownElement(t, name) }; {
	case strings.Contains(name, "."), typed && !fhir.KnownType(typ):
		return Errorf(Unsupported,
			"Invalid _elements %q: only top-level elements, as name or Type.name", clip(e, 64))
	case name != "resourceType" && !slices.ContainsFunc(types, known):
		return Errorf(Unsupported,
			"Invalid _elements %q: no element of FHIR R4 at the top level of a resource",
			clip(e, 64))
	}
	k.Elements = appendNew(k.Elements, strings.TrimSuffix(e, "[x]"))
	return nil
}

// addPatient parses a reference to a Patient of this server: relative or absolute, with or
// without a version.
func (k *parser) addPatient(ref string) error {
	relative := ref
	if base, rest, absolute := cutLast(ref, "/Patient/"); absolute {
		if k.Own == nil || !k.Own(base) {
			return Errorf(Unsupported, "Invalid patient %q: a reference to another server",
				clip(ref, 200))
		}
		relative = "Patient/" + rest
	}
	typ, id, ok := fhir.Local([]byte(relative))
	if !ok || string(typ) != "Patient" {
		return Errorf(Invalid, "Invalid patient %q: not a reference such as Patient/123",
			clip(ref, 80))
	}
	k.Patients = appendNew(k.Patients, string(id))
	if len(k.Patients) > maxPatients {
		return Errorf(Invalid, "More than %d patients: make a Group of them", maxPatients)
	}
	return nil
}

// cutLast is strings.Cut around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// associate parses a value of includeAssociatedData (Bulk Data Access 3.0.0). It rejects an
// unsupported value, so that the client can repeat the request without it. The server does not
// support LatestProvenanceResources alone; with RelevantProvenanceResources, which is the larger
// set, there is nothing to do.
func (k *parser) associate(what string) error {
	switch what {
	case relevantProvenance:
		k.Provenance = true
	case latestProvenance:
		k.latest = true
	default:
		return unsupportedData(what)
	}
	return nil
}

const (
	relevantProvenance = "RelevantProvenanceResources"
	latestProvenance   = "LatestProvenanceResources"
)

func unsupportedData(what string) error {
	return Errorf(Unsupported, "Unsupported includeAssociatedData %q: only %s", clip(what, 64),
		relevantProvenance)
}

// checkAssociated resolves conflicting values: the least restrictive one counts.
func (k *parser) checkAssociated() error {
	if !k.latest || k.Provenance {
		return nil
	}
	return k.pass(unsupportedData(latestProvenance))
}

func organize(k *parser, p fhir.Parameter) error {
	if p.Value != "Patient" {
		return Errorf(Unsupported, "Unsupported organizeOutputBy %q: only Patient",
			clip(p.Value, 64))
	}
	k.ByPatient = true
	return nil
}

func partial(k *parser, p fhir.Parameter) error {
	if p.Value != "true" && p.Value != "false" {
		return Errorf(Invalid, "Invalid allowPartialManifests %q: true or false", clip(p.Value, 64))
	}
	k.Paged = p.Value == "true"
	return nil
}

// packaging parses _package (NAT-1). The native content of a population may be millions of files,
// which no manifest can list one by one.
func packaging(k *parser, p fhir.Parameter) error {
	switch way := Packaging(p.Value); way {
	case PackageFiles, PackageZIP:
		if way == PackageFiles && k.Level != OnePatient {
			return Errorf(Unsupported,
				"Unsupported _package %q: an export of a population has only %q", way, PackageZIP)
		}
		k.Package = way
		return nil
	}
	return Errorf(Unsupported, "Unsupported _package %q: only %q or %q", clip(p.Value, 64),
		PackageFiles, PackageZIP)
}

func outputFormat(_ *parser, p fhir.Parameter) error {
	// A + that is not escaped arrives as a space. Media types are case-insensitive (RFC 9110
	// 8.3.1). The FHIR version may be given
	// (https://hl7.org/fhir/R4/http.html#version-parameter).
	format, parameter, named := strings.Cut(strings.ToLower(p.Value), ";")
	format = strings.ReplaceAll(strings.TrimSpace(format), " ", "+")
	version, _ := strings.CutPrefix(strings.TrimSpace(parameter), "fhirversion=")
	if !slices.Contains([]string{"application/fhir+ndjson", "application/ndjson", "ndjson"},
		format) ||
		named && !slices.Contains([]string{"4.0", "4.0.1"}, strings.Trim(version, `"`)) {
		return Errorf(Invalid,
			"Unsupported _outputFormat %q: application/fhir+ndjson, application/ndjson or ndjson",
			clip(p.Value, 64))
	}
	return nil
}

func compression(k *parser, p fhir.Parameter) error {
	if !slices.Contains(Compressions(), Compression(p.Value)) {
		return Errorf(Unsupported, "Unsupported _compression %q: identity, gzip or zstd",
			clip(p.Value, 64))
	}
	k.Compression = Compression(p.Value)
	return nil
}
