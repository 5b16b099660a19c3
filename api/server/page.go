package server

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/web"
)

// languageCookie keeps the language that a visitor chose, languageAge for how long.
const (
	languageCookie = "ehi_lang"
	languageAge    = 365 * 24 * time.Hour
)

// language finds the language of a visitor: chosen on this page (?lang=), chosen before, or the browser's.
func (s *Server) language(c *fiber.Ctx) *web.Catalogue {
	for _, chosen := range []string{c.Query("lang"), string(c.Request().PostArgs().Peek("lang"))} {
		if t := s.texts.Find(chosen); t != nil {
			c.Cookie(&fiber.Cookie{
				Name: languageCookie, Value: t.Tag, MaxAge: int(languageAge / time.Second),
				HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode, Secure: s.Origins.Secure(),
			})
			return t
		}
	}
	if t := s.texts.Find(c.Cookies(languageCookie)); t != nil {
		return t
	}
	return s.texts.Match(c.Get(fiber.HeaderAcceptLanguage))
}

// languageLink is a line of the switch of languages.
type languageLink struct{ Tag, Name, Link string }

// languages are the links to the same page in each language; at is where it is to be had, "" for the address of the request.
func (s *Server) languages(c *fiber.Ctx, at string) (out []languageLink) {
	if at == "" {
		at = c.OriginalURL()
	}
	path, query, _ := strings.Cut(s.site.Local(c, at), "?")
	if path == "" {
		path = "/"
	}
	q, _ := url.ParseQuery(query) // a pair that cannot be read is left out
	for _, t := range s.texts.List {
		q.Set("lang", t.Tag)
		out = append(out, languageLink{t.Tag, t.Name, path + "?" + q.Encode()})
	}
	return out
}

// page renders a page for patients and the public, in the visitor's language. data may name in "At" where the page is to be had by GET.
func (s *Server) page(c *fiber.Ctx, name, title string, data fiber.Map) error {
	t := s.language(c)
	at, _ := data["At"].(string)
	data["T"] = t
	if again, _ := data["Again"].(*page.SentForm); again == nil { // what was typed stays on that page alone
		data["Languages"] = s.languages(c, at)
	}
	if name != "message" {
		f := s.patientLeft(c)
		if data["Flash"] = f; f != nil && f.Title != "" {
			data["Title"] = f.Title
		}
	}
	if data["Title"] == nil {
		data["Title"] = t.Say(title)
	}
	data["Site"], data["Description"] = t.Say("service"), t.Say("description")
	if data["CSRF"] == nil {
		data["CSRF"] = c.Locals("csrf")
	}
	c.Vary(fiber.HeaderAcceptLanguage, fiber.HeaderCookie)
	c.Set(fiber.HeaderContentLanguage, t.Tag)
	return s.render(c, name, "layout", data)
}

// render renders a page into its layout, as .Content. Fiber's own way to do that would show an error of the
// page's template to its reader, and its Ctx.Render writes to the app at the first call of all: two pages at
// once are a race there.
func (s *Server) render(c *fiber.Ctx, name, layout string, data fiber.Map) error {
	if s.Sandbox {
		data["Banner"] = s.banner(data)
	}
	var content strings.Builder
	if err := s.views.Render(&content, name, data); err != nil {
		return err
	}
	data["Content"] = template.HTML(content.String())
	var page bytes.Buffer
	if err := s.views.Render(&page, layout, data); err != nil {
		return err
	}
	c.Type("html", "utf-8")
	return c.Send(page.Bytes())
}

// banner is what every page of a sandbox says at its top, in the language of the page.
func (s *Server) banner(data fiber.Map) string {
	t, ok := data["T"].(*web.Catalogue)
	if !ok {
		t = s.texts.List[0]
	}
	return t.Say("sandbox.banner")
}

// patientLeft is what a form has left for this page of patients, nil for nothing.
func (s *Server) patientLeft(c *fiber.Ctx) *flash {
	return s.left(c, s.Origins.Cookie(request.PatientSession), "")
}

// patientLeave answers a form of patients: it leads to a page, and leaves a flash of this session.
func (s *Server) patientLeave(c *fiber.Ctx, to string, f flash) error {
	f.Session = sessionDigest(c.Cookies(s.Origins.Cookie(request.PatientSession)))
	return s.leave(c, to, f)
}

// patientGone answers a form about something that is not there any more, as after a double click: it
// leads to the list of what there is.
func (s *Server) patientGone(c *fiber.Ctx, list string, err error) error {
	if !content.WantsPage(c) {
		return err
	}
	return s.patientLeave(c, list, flash{Status: http.StatusNotFound, Problem: s.language(c).Say("fault.not-found.text")})
}

// patientLate leads back to the page of a form that was open for too long.
func (s *Server) patientLate(c *fiber.Ctx) error {
	to, fields := c.Path(), typed(c)
	switch {
	case to == "/patient-login":
		to = loginPath(s.site.Local(c, fields.Get("action")), fields.Get("redirect"))
	case to == "/patient-logout":
		to = "/my/requests"
	case to == "/authorize-app":
		fields.Del("decision")
		to += "?" + fields.Encode()
	case c.Params("id") != "":
		to += "?cancel=yes"
	}
	return s.typedAgain(c, to, flash{Problem: s.language(c).Say("late"), Fields: fields})
}

// link is a link within a sentence.
func link(to, text string) template.HTML {
	return template.HTML(`<a href="` + template.HTMLEscapeString(to) + `">` + template.HTMLEscapeString(text) + `</a>`)
}
