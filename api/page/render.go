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

// languageCookie keeps the language that a visitor chose, languageAge for how long.
const (
	languageCookie = "ehi_lang"
	languageAge    = 365 * 24 * time.Hour
)

// Renderer renders pages by their templates, in the languages of the catalogues.
type Renderer struct {
	site    Site
	sandbox bool
	texts   web.Catalogues
	views   *html.Engine
}

// NewRenderer reads the templates and the catalogues of package web. A sandbox says on each page
// that it is one. funcs are what the templates call beside lower.
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

// Default is the catalogue of pages that are in one language, and of visitors who speak none of the
// others.
func (r *Renderer) Default() *web.Catalogue { return r.texts.List[0] }

// Language finds the language of a visitor: chosen on this page (?lang=), chosen before, or the
// browser's. It keeps a choice in a cookie.
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

// LanguageLink is a line of the switch of languages.
type LanguageLink struct{ Tag, Name, Link string }

// Languages are the links to the same page in each language; at is where it is to be had, "" for
// the address of the request.
func (r *Renderer) Languages(c *fiber.Ctx, at string) (out []LanguageLink) {
	if at == "" {
		at = c.OriginalURL()
	}
	path, query, _ := strings.Cut(r.site.Local(c, at), "?")
	if path == "" {
		path = "/"
	}
	q, _ := url.ParseQuery(query) // a pair that cannot be read is left out
	for _, t := range r.texts.List {
		q.Set("lang", t.Tag)
		out = append(out, LanguageLink{t.Tag, t.Name, path + "?" + q.Encode()})
	}
	return out
}

// Render renders a page into its layout, as .Content. Fiber's own way to do that would show an
// error of the page's template to its reader, and its Ctx.Render writes to the app at the first
// call of all: two pages at once are a race there.
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

// banner is what every page of a sandbox says at its top, in the language of the page.
func (r *Renderer) banner(data fiber.Map) string {
	t, ok := data["T"].(*web.Catalogue)
	if !ok {
		t = r.Default()
	}
	return t.Say("sandbox.banner")
}

// Link is a link within a sentence.
func Link(to, text string) template.HTML {
	to, text = template.HTMLEscapeString(to), template.HTMLEscapeString(text)
	return template.HTML(`<a href="` + to + `">` + text + `</a>`)
}

// Ahead sends a visitor on, or answers an error. What answers a POST says that the way on is a GET
// (RFC 9700 4.12).
func Ahead(c *fiber.Ctx, next string, err error) error {
	if err != nil {
		return err
	}
	status := http.StatusFound
	if c.Method() == fiber.MethodPost {
		status = http.StatusSeeOther
	}
	return c.Redirect(next, status)
}

// Counted is a line of a list with a figure.
type Counted struct {
	Name  string
	Count int64
}

// LargestFirst lists counts.
func LargestFirst(counts map[string]int64) (out []Counted) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, Counted{name, counts[name]})
	}
	slices.SortStableFunc(out, func(a, b Counted) int { return cmp.Compare(b.Count, a.Count) })
	return out
}
