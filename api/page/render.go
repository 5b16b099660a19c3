package page

import (
	"bytes"
	"cmp"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/template/html/v2"

	"ehi-server/api/web"
)

// languageCookie stores the language that a visitor chose, for languageAge.
const (
	languageCookie = "ehi_lang"
	languageAge    = 365 * 24 * time.Hour
)

// Renderer renders the templates of pages in the languages of the catalogues.
type Renderer struct {
	site    Site
	sandbox bool
	texts   web.Catalogues
	views   *html.Engine
}

// NewRenderer reads the templates and the catalogues of package web. A sandbox shows a banner on
// each page. funcs are additional functions for the templates.
func NewRenderer(site Site, sandbox bool, funcs template.FuncMap) (*Renderer, error) {
	files, err := fs.Sub(web.Files, "templates")
	if err != nil {
		return nil, err
	}
	r := &Renderer{site: site, sandbox: sandbox, views: html.NewFileSystem(http.FS(files), ".html")}
	if r.texts, err = web.ReadCatalogues(); err != nil {
		return nil, err
	}
	r.views.AddFunc("lower", strings.ToLower)
	r.views.AddFuncMap(funcs)
	return r, r.views.Load()
}

// Default returns the catalogue for pages in one language, and for visitors who speak none of
// the others.
func (r *Renderer) Default() *web.Catalogue { return r.texts.List[0] }

// Language returns the language of a visitor: the one chosen on this page (?lang=), the one
// chosen before, or that of the browser. It stores a choice in a cookie.
func (r *Renderer) Language(c *fiber.Ctx) *web.Catalogue {
	for _, chosen := range []string{c.Query("lang"), string(c.Request().PostArgs().Peek("lang"))} {
		if t := r.texts.Find(chosen); t != nil {
			c.Cookie(&fiber.Cookie{
				Name: languageCookie, Value: t.Tag, MaxAge: int(languageAge / time.Second),
				HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode,
				Secure: r.site.Origins.Secure(),
			})
			return t
		}
	}
	if t := r.texts.Find(c.Cookies(languageCookie)); t != nil {
		return t
	}
	return r.texts.Match(c.Get(fiber.HeaderAcceptLanguage))
}

// LanguageLink is an entry of the language menu.
type LanguageLink struct{ Tag, Name, Link string }

// Languages returns links to the same page in each language. at is the address of the page; ""
// for that of the request.
func (r *Renderer) Languages(c *fiber.Ctx, at string) (out []LanguageLink) {
	if at == "" {
		at = c.OriginalURL()
	}
	path, query, _ := strings.Cut(r.site.Local(c, at), "?")
	if path == "" {
		path = "/"
	}
	q, _ := url.ParseQuery(query) // an invalid pair is left out
	for _, t := range r.texts.List {
		q.Set("lang", t.Tag)
		out = append(out, LanguageLink{t.Tag, t.Name, path + "?" + q.Encode()})
	}
	return out
}

// Render renders a page into its layout, as .Content. It does not use Fiber's layouts, which
// would show template errors to the reader, nor Ctx.Render, which writes to the app at its first
// call: with two simultaneous requests, that is a race.
func (r *Renderer) Render(c *fiber.Ctx, name, layout string, data fiber.Map) error {
	if r.sandbox {
		data["Banner"] = r.banner(data)
	}
	var content strings.Builder
	if err := r.views.Render(&content, name, data); err != nil {
		return err
	}
	data["Content"] = template.HTML(content.String())
	var page bytes.Buffer
	if err := r.views.Render(&page, layout, data); err != nil {
		return err
	}
	c.Type("html", "utf-8")
	return c.Send(page.Bytes())
}

// banner returns the banner of a sandbox, in the language of the page.
func (r *Renderer) banner(data fiber.Map) string {
	t, ok := data["T"].(*web.Catalogue)
	if !ok {
		t = r.Default()
	}
	return t.Say("sandbox.banner")
}

// Link returns a link for use within a sentence.
func Link(to, text string) template.HTML {
	to, text = template.HTMLEscapeString(to), template.HTMLEscapeString(text)
	return template.HTML(`<a href="` + to + `">` + text + `</a>`)
}

// Redirect redirects a visitor, or returns an error. After a POST it uses a status that makes the
// browser continue with GET (RFC 9700 4.12).
func Redirect(c *fiber.Ctx, next string, err error) error {
	if err != nil {
		return err
	}
	status := http.StatusFound
	if c.Method() == fiber.MethodPost {
		status = http.StatusSeeOther
	}
	return c.Redirect(next, status)
}

// Counted is an item of a list with its count.
type Counted struct {
	Name  string
	Count int64
}

// LargestFirst lists counts, largest first.
func LargestFirst(counts map[string]int64) (out []Counted) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, Counted{name, counts[name]})
	}
	slices.SortStableFunc(out, func(a, b Counted) int { return cmp.Compare(b.Count, a.Count) })
	return out
}
