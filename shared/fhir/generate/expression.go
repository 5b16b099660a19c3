package main

import (
	"regexp"
	"strings"
)

// selection is one part of a search parameter's FHIRPath expression that the tables can express:
// a path and its restrictions.
type selection struct {
	typ    string // resource type
	path   string // below the type; a choice is without [x]
	as     string // only values of this data type
	target string // only references to this resource type
	system string // only contact points of this system
}

var (
	plainPath = regexp.MustCompile(`^([A-Z][A-Za-z]*)\.([a-zA-Z.]+)$`)
	asFunc    = regexp.MustCompile(`^(.*)\.as\(([A-Za-z]+)\)$`)
	asWord    = regexp.MustCompile(`^\((.*) as ([A-Za-z]+)\)$`)
	resolving = regexp.MustCompile(`^(.*)\.where\(resolve\(\) is ([A-Za-z]+)\)$`)
	ofSystem  = regexp.MustCompile(`^(.*)\.where\(system='([a-z]+)'\)$`)
)

// parse parses an expression. rest holds the parts that the tables cannot express, such as
// Bundle.entry[0].resource.
func parse(expression string) (found []selection, rest []string) {
	for _, part := range strings.Split(expression, " | ") {
		s, inner := selection{}, strings.TrimSpace(part)
		limits := []struct {
			form *regexp.Regexp
			into *string
		}{{asFunc, &s.as}, {asWord, &s.as}, {resolving, &s.target}, {ofSystem, &s.system}}
		for _, l := range limits {
			if m := l.form.FindStringSubmatch(inner); m != nil {
				inner, *l.into = m[1], m[2]
			}
		}
		m := plainPath.FindStringSubmatch(inner)
		if m == nil {
			rest = append(rest, part)
			continue
		}
		s.typ, s.path = m[1], m[2]
		found = append(found, s)
	}
	return found, rest
}

// resolve returns the JSON fields of a selection in a resource of type typ. It follows data
// types (name.family) and names a choice by its types (effectiveDateTime).
func (d *definitions) resolve(typ string, s selection) []field {
	var out []field
	for _, f := range d.walk(d.types[typ], s.path) {
		if s.as == "" || f.typ == s.as {
			out = append(out, f)
		}
	}
	return out
}

// walk follows a path from a structure.
func (d *definitions) walk(s *structure, path string) []field {
	if s == nil {
		return nil
	}
	if e, ok := s.child(path); ok {
		return e.fields()
	}
	for at := strings.LastIndexByte(path, '.'); at > 0; at = strings.LastIndexByte(path[:at], '.') {
		e, ok := s.child(path[:at])
		if !ok {
			continue
		}
		var out []field
		for _, f := range e.fields() {
			for _, below := range d.walk(d.types[f.typ], path[at+1:]) {
				below.path = f.path + "." + below.path
				out = append(out, below)
			}
		}
		return out
	}
	return nil
}
