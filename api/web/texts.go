package web

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Catalogue has the texts of patients' pages in one language: texts/<tag>.json.
type Catalogue struct {
	// Tag is the language (BCP 47), and Name its own name.
	Tag, Name string

	texts   map[string]string
	printer *message.Printer
	months  []string
}

// Catalogues are all languages. The first one is for visitors who speak none of them.
type Catalogues struct {
	List    []*Catalogue
	matcher language.Matcher
}

// preferred is the language for visitors who speak none of the others.
const preferred = "en"

// ReadCatalogues reads the embedded catalogues.
func ReadCatalogues() (Catalogues, error) {
	names, err := fs.Glob(Files, "texts/*.json")
	if err != nil {
		return Catalogues{}, err
	}
	out := Catalogues{}
	var tags []language.Tag
	for _, name := range names {
		c, tag, err := readCatalogue(name)
		if err != nil {
			return out, fmt.Errorf("%s: %w", name, err)
		}
		if c.Tag == preferred {
			out.List, tags =
				append([]*Catalogue{c}, out.List...), append([]language.Tag{tag}, tags...)
			continue
		}
		out.List, tags = append(out.List, c), append(tags, tag)
	}
	out.matcher = language.NewMatcher(tags)
	return out, nil
}

func readCatalogue(name string) (*Catalogue, language.Tag, error) {
	data, err := Files.ReadFile(name)
	if err != nil {
		return nil, language.Und, err
	}
	tag, err := language.Parse(strings.TrimSuffix(path.Base(name), ".json"))
	if err != nil {
		return nil, tag, err
	}
	c := &Catalogue{Tag: tag.String(), printer: message.NewPrinter(tag)}
	if err := json.Unmarshal(data, &c.texts); err != nil {
		return nil, tag, err
	}
	c.Name, c.months = c.texts["language"], strings.Fields(c.texts["months"])
	return c, tag, nil
}

// Find returns the catalogue with a tag; nil for none.
func (c Catalogues) Find(tag string) *Catalogue {
	for _, one := range c.List {
		if one.Tag == tag {
			return one
		}
	}
	return nil
}

// Match returns the best catalogue for an Accept-Language header (RFC 9110 12.5.4).
func (c Catalogues) Match(accept string) *Catalogue {
	asked, _, err := language.ParseAcceptLanguage(accept)
	if err != nil { // an invalid header asks for nothing
		return c.List[0]
	}
	_, i, _ := c.matcher.Match(asked...)
	return c.List[i]
}

// Has reports whether a text exists.
func (c *Catalogue) Has(key string) bool { return c.texts[key] != "" }

// Keys returns all texts by key.
func (c *Catalogue) Keys() map[string]string { return c.texts }

// Say returns a text with its placeholders filled in. For an unknown key it returns the key; a
// test checks that there are none.
func (c *Catalogue) Say(key string, args ...any) string {
	text, ok := c.texts[key]
	if !ok {
		return key
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// Stress is Say with the arguments marked as strong.
func (c *Catalogue) Stress(key string, args ...any) template.HTML {
	strong := make([]any, len(args))
	for i, a := range args {
		strong[i] = template.HTML("<strong>" + template.HTMLEscapeString(fmt.Sprint(a)) +
			"</strong>")
	}
	return c.With(key, strong...)
}

// With is Say for arguments that may be HTML already; others are escaped.
func (c *Catalogue) With(key string, args ...any) template.HTML {
	for i, a := range args {
		if _, ok := a.(template.HTML); !ok {
			args[i] = template.HTMLEscapeString(fmt.Sprint(a))
		}
	}
	return template.HTML(fmt.Sprintf(template.HTMLEscapeString(c.texts[key]), args...))
}

// Number formats a number with the language's separators.
func (c *Catalogue) Number(n any) string { return c.printer.Sprint(n) }

// Count returns the text key.one or key.other with a number filled in.
func (c *Catalogue) Count(key string, n int64) string {
	if n == 1 {
		return c.Say(key+".one", c.Number(n))
	}
	return c.Say(key+".other", c.Number(n))
}

// Bytes formats a size in the largest unit that leaves a whole part (1 KB is 1000 bytes).
func (c *Catalogue) Bytes(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}} {
		if n >= unit.size {
			return c.Say("bytes."+unit.name,
				c.printer.Sprintf("%.1f", float64(n)/float64(unit.size)))
		}
	}
	return c.Say("bytes.B", c.Number(n))
}

// Date formats a day in words.
func (c *Catalogue) Date(t time.Time) string {
	return c.Say("date", t.Day(), c.months[t.Month()-1], t.Year())
}

// Time formats a time in words, in UTC to the minute.
func (c *Catalogue) Time(t time.Time) string {
	t = t.UTC()
	return c.Say("time", c.Date(t), t.Format("15:04"))
}

// Type returns the plain name of a resource type, or the type itself if there is none.
func (c *Catalogue) Type(t string) string {
	if c.Has("type." + t) {
		return c.Say("type." + t)
	}
	return t
}
