package staff

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/gofiber/fiber/v2"

	"ehi-server/shared/fhir"
)

// search is what an administrator searches for.
type search struct {
	exact string   // in lower case, for IDs
	words []string // as fhir.Fold writes them
}

// newSearch reads what was typed into the field of a search.
func newSearch(text string) search {
	s := search{exact: strings.ToLower(strings.TrimSpace(text))}
	for _, word := range strings.FieldsFunc(text, separates) {
		if word = fhir.Fold(word); word != "" {
			s.words = append(s.words, word)
		}
	}
	return s
}

// separates reports whether a character separates the words of a name. An apostrophe does not.
func separates(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) &&
		!strings.ContainsRune("'’`", r)
}

// none reports whether nothing is searched for.
func (s search) none() bool { return s.exact == "" }

// name reports whether a name has all of the words, in any order: "Núñez, Ana" is found by "ana
// nunez".
func (s search) name(name string) bool {
	if len(s.words) == 0 {
		return false
	}
	name = fhir.Fold(name)
	for _, word := range s.words {
		if !strings.Contains(name, word) {
			return false
		}
	}
	return true
}

// id reports whether an ID begins with what is searched for.
func (s search) id(id string) bool {
	return s.exact != "" && len(id) >= len(s.exact) &&
		strings.EqualFold(id[:len(s.exact)], s.exact)
}

// pageSize is how many lines a page of clients or accounts shows.
const pageSize = 100

// pager is which part of a list a page shows, and where the other parts are.
type pager struct {
	Path, Query             string
	Page, Pages             int
	First, Last, Total, All int // lines; Total of All are found by the search
}

// paged is the part of a list that the address of a page asks for. With a search, it is a part
// of the lines that the search finds.
func paged[T any](c *fiber.Ctx, list []T, admits func(T, search) bool) ([]T, pager) {
	p := pager{Path: c.Path(), Query: strings.TrimSpace(c.Query("q")), All: len(list)}
	if s := newSearch(p.Query); !s.none() {
		var found []T
		for _, line := range list {
			if admits(line, s) {
				found = append(found, line)
			}
		}
		list = found
	}
	p.Total = len(list)
	p.Pages = max(1, (p.Total+pageSize-1)/pageSize)
	p.Page = min(max(1, c.QueryInt("page", 1)), p.Pages)
	first := (p.Page - 1) * pageSize
	list = list[first:min(first+pageSize, p.Total)]
	p.First, p.Last = first+1, first+len(list)
	return list, p
}

func (p pager) at(page int) string {
	q := url.Values{}
	if p.Query != "" {
		q.Set("q", p.Query)
	}
	if page > 1 {
		q.Set("page", strconv.Itoa(page))
	}
	if len(q) == 0 {
		return p.Path
	}
	return p.Path + "?" + q.Encode()
}

// Previous is the address of the page before this one, "" if there is none.
func (p pager) Previous() string {
	if p.Page == 1 {
		return ""
	}
	return p.at(p.Page - 1)
}

// Next is the address of the page after this one, "" if there is none.
func (p pager) Next() string {
	if p.Page == p.Pages {
		return ""
	}
	return p.at(p.Page + 1)
}
