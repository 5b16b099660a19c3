package find

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/fhir"
)

// parameters lists the supported search parameters besides _id, by resource type. The fields
// that they search are generated from R4.
var parameters = map[string][]string{
	"Patient": {"birthdate", "family", "given", "identifier", "name"},
	"Group":   {"identifier"},
}

// Parameters returns the supported search parameters of a type besides _id.
func Parameters(typ string) (out []fhir.SearchParameter) {
	for _, name := range parameters[typ] {
		if p, ok := fhir.FindSearchParameter(typ, name); ok {
			out = append(out, p)
		}
	}
	return out
}

// The kinds of entries, each the begin of its text; the parts behind it are separated by sep.
// None of them holds sep, so that an entry with a sep behind it is the begin of no other.
//
//	s <parameter> <folded text>       a string, from its begin or from a word of it
//	v <parameter> <value> <system>    a token
//	n <parameter> <system>            a token of that system
//	d <parameter> <date>              a date, as it is written: 2019, 2019-05 and 2019-05-01 sort by their begin
const (
	sep = "\x00"

	ofString = "s"
	ofToken  = "v"
	ofSystem = "n"
	ofDate   = "d"
)

// maxPart is the longest part of an entry in bytes. A longer text is found by its first bytes,
// and as a whole.
const (
	maxPart   = 512
	firstPart = maxPart - 2*sha256.Size
)

func entry(kind string, parts ...string) string {
	for i, p := range parts {
		parts[i] = part(p)
	}
	return kind + strings.Join(parts, sep)
}

// part returns a text as part of an entry.
func part(s string) string {
	s = strings.ReplaceAll(s, sep, "\uFFFD")
	if len(s) <= maxPart {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return s[:firstPart] + hex.EncodeToString(sum[:])
}

// Entries returns the distinct entries of a resource.
func Entries(typ string, line []byte) ([]string, error) {
	var resource map[string]any
	if err := json.Unmarshal(line, &resource); err != nil {
		return nil, err
	}
	c := collector{seen: map[string]bool{}}
	for _, p := range Parameters(typ) {
		for _, f := range p.Fields {
			each(resource, strings.Split(f.Path, "."), func(v any) { c.value(p, f.Type, v) })
		}
	}
	return c.list, nil
}

// each visits the values of a path, and each item of lists.
func each(v any, path []string, visit func(any)) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			each(item, path, visit)
		}
	case map[string]any:
		if len(path) > 0 {
			each(v[path[0]], path[1:], visit)
			return
		}
		visit(v)
	case string:
		if len(path) == 0 {
			visit(v)
		}
	}
}

type collector struct {
	list []string
	seen map[string]bool
}

// text adds a string.
func (c *collector) text(parameter, s string) {
	if s = fhir.Fold(s); s != "" {
		c.add(entry(ofString, parameter, s))
	}
}

func (c *collector) add(e string) {
	if !c.seen[e] {
		c.seen[e], c.list = true, append(c.list, e)
	}
}

// value adds one value of a parameter.
func (c *collector) value(p fhir.SearchParameter, typ string, v any) {
	text, _ := v.(string)
	object, _ := v.(map[string]any)
	switch {
	case typ == "Identifier":
		value, system := child(object, "value"), child(object, "system")
		if value != "" {
			c.add(entry(ofToken, p.Name, value, system))
		}
		if value != "" && system != "" {
			c.add(entry(ofSystem, p.Name, system))
		}
	case typ == "HumanName":
		for _, name := range spellings(object) {
			c.words(p.Name, name)
		}
	case p.Kind == fhir.StringParameter:
		c.text(p.Name, text)
	case p.Kind == fhir.DateParameter && text != "":
		if _, err := fhir.ParseSpan(text); err == nil {
			c.add(entry(ofDate, p.Name, text))
		}
	}
}

// words adds a text, and its rest from each word on.
func (c *collector) words(parameter, text string) {
	for words := strings.FieldsFunc(text,
		func(r rune) bool {
			return r == ' ' || r == '-' || r == ','
		}); len(words) > 0; words = words[1:] {
		c.text(parameter, strings.Join(words, " "))
	}
	c.text(parameter, text)
}

// spellings returns the parts of a HumanName, and the name as people write it. R4 lets servers
// decide what "name" searches.
func spellings(name map[string]any) []string {
	given, family := children(name, "given"), child(name, "family")
	out := append(children(name, "prefix"), children(name, "suffix")...)
	out = append(out, given...)
	out = append(out, family, child(name, "text"))
	if len(given) > 0 && family != "" {
		out = append(out, strings.Join(append(given[:len(given):len(given)], family), " "),
			family+" "+strings.Join(given, " "))
	}
	return out
}

func child(object map[string]any, name string) string {
	s, _ := object[name].(string)
	return s
}

func children(object map[string]any, name string) (out []string) {
	each(object[name], nil, func(v any) {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	})
	return out
}
