package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// definitions holds the R4 definitions that the tables need.
type definitions struct {
	types      map[string]*structure // resources and data types by name
	resources  []string              // the concrete resource types, sorted
	parameters []parameter
	// By resource type: the search parameters that make a resource part of a patient's record.
	compartment map[string][]string
}

// structure is a resource or data type.
type structure struct {
	Name       string    `xml:"-"`
	Kind       attribute `xml:"kind"`
	Type       attribute `xml:"type"`
	Abstract   attribute `xml:"abstract"`
	Base       attribute `xml:"baseDefinition"`
	Derivation attribute `xml:"derivation"`
	Elements   []element `xml:"snapshot>element"`
}

type attribute struct {
	Value string `xml:"value,attr"`
}

// element is one element of a structure.
type element struct {
	Path     attribute  `xml:"path"`
	Min      attribute  `xml:"min"`
	Modifier attribute  `xml:"isModifier"`
	Content  attribute  `xml:"contentReference"`
	Types    []dataType `xml:"type"`
	Mappings []mapping  `xml:"mapping"`
}

type dataType struct {
	Code    attribute   `xml:"code"`
	Targets []attribute `xml:"targetProfile"`
}

type mapping struct {
	Identity attribute `xml:"identity"`
	Map      attribute `xml:"map"`
}

// parameter is a SearchParameter.
type parameter struct {
	Code       string   `json:"code"`
	Base       []string `json:"base"`
	Type       string   `json:"type"`
	Expression string   `json:"expression"`
}

const profile = "http://hl7.org/fhir/StructureDefinition/"

func load(p published) (*definitions, error) {
	d := &definitions{types: map[string]*structure{}, compartment: map[string][]string{}}
	for _, file := range [][]byte{p.types, p.resources} {
		if err := d.loadStructures(file); err != nil {
			return nil, err
		}
	}
	slices.Sort(d.resources)
	return d, d.loadSearch(p)
}

func (d *definitions) loadStructures(file []byte) error {
	var bundle struct {
		Structures []*structure `xml:"entry>resource>StructureDefinition"`
	}
	if err := xml.Unmarshal(file, &bundle); err != nil {
		return fmt.Errorf("structures: %w", err)
	}
	for _, s := range bundle.Structures {
		if s.Derivation.Value == "constraint" {
			continue
		}
		s.Name = s.Type.Value
		d.types[s.Name] = s
		// MetadataResource is marked as concrete in R4 by mistake. No resource has it as its
		// resourceType.
		if s.Kind.Value == "resource" && s.Abstract.Value == "false" &&
			s.Name != "MetadataResource" {
			d.resources = append(d.resources, s.Name)
		}
	}
	return nil
}

func (d *definitions) loadSearch(p published) error {
	var bundle struct {
		Entry []struct {
			Resource parameter `json:"resource"`
		} `json:"entry"`
	}
	if err := json.Unmarshal(p.parameters, &bundle); err != nil {
		return fmt.Errorf("search parameters: %w", err)
	}
	for _, e := range bundle.Entry {
		d.parameters = append(d.parameters, e.Resource)
	}
	var compartment struct {
		Code     string `json:"code"`
		Resource []struct {
			Code  string   `json:"code"`
			Param []string `json:"param"`
		} `json:"resource"`
	}
	err := json.Unmarshal(p.compartment, &compartment)
	if err != nil || compartment.Code != "Patient" {
		return fmt.Errorf("no compartment of Patient: %v", err)
	}
	for _, r := range compartment.Resource {
		d.compartment[r.Code] = r.Param
	}
	return nil
}

// find returns a parameter of a type.
func (d *definitions) find(typ, code string) (parameter, bool) {
	i := slices.IndexFunc(d.parameters, func(p parameter) bool {
		return p.Code == code && slices.Contains(p.Base, typ)
	})
	if i < 0 {
		return parameter{}, false
	}
	return d.parameters[i], true
}

// child returns an element by its path below the structure's name, such as participant.actor. A
// choice is named without [x].
func (s *structure) child(path string) (element, bool) {
	path = s.Name + "." + path
	i := slices.IndexFunc(s.Elements, func(e element) bool {
		return e.Path.Value == path || e.Path.Value == path+"[x]"
	})
	if i < 0 {
		return element{}, false
	}
	return s.Elements[i], true
}

// name returns the path below the structure's name, with [x].
func (e element) name() string {
	_, below, _ := strings.Cut(e.Path.Value, ".")
	return below
}

// inherited reports whether every resource has the element.
func (e element) inherited() bool {
	name := e.name()
	last := name[strings.LastIndexByte(name, '.')+1:]
	return name == "" || last == "id" || last == "extension" || last == "modifierExtension" ||
		slices.Contains([]string{"meta", "implicitRules", "language", "text", "contained"}, name)
}

// field is an element in JSON: a path for each type of a choice.
type field struct {
	path string // effectiveDateTime
	typ  string // dateTime
	data dataType
}

func (e element) fields() []field {
	var out []field
	for _, t := range e.Types {
		f := field{e.name(), t.Code.Value, t}
		if base, choice := strings.CutSuffix(f.path, "[x]"); choice {
			f.path = base + strings.ToUpper(f.typ[:1]) + f.typ[1:]
		}
		out = append(out, f)
	}
	return out
}

// w5 returns which of the five Ws the element maps to (http://hl7.org/fhir/fivews): done, init,
// planned, recorded, context... It is empty if R4 does not say.
func (e element) w5() string {
	for _, m := range e.Mappings {
		if about, ok := strings.CutPrefix(m.Map.Value, "FiveWs."); ok && m.Identity.Value == "w5" {
			return strings.TrimSuffix(about, "[x]")
		}
	}
	return ""
}

// targets returns the types that a Reference may reference; * means all.
func (t dataType) targets() []string {
	var out []string
	for _, target := range t.Targets {
		name := strings.TrimPrefix(target.Value, profile)
		if name == "Resource" {
			name = "*"
		}
		out = append(out, name)
	}
	if len(out) == 0 {
		out = append(out, "*")
	}
	return out
}
