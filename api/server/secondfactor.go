package server

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/gofiber/fiber/v2"

	"ehi-server/api/abuse"
	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

const (
	staffCode   = staffLogin + "/code"
	staffFactor = staffBase + "/second-factor"
)

// setUpAge is how long a secret waits for its first code.
const setUpAge = time.Hour

// setUpFirst answers somebody who still has to set up a second factor.
func (s *Server) setUpFirst(c *fiber.Ctx) error {
	if content.WantsPage(c) && request.AsksForPage(c) {
		return c.Redirect(staffFactor+"?"+url.Values{"next": {c.OriginalURL()}}.Encode(), http.StatusFound)
	}
	return ehi.Errorf(ehi.Forbidden, "Set up a second factor first: sign in at %s in a browser", staffLogin)
}

// askForCode goes on with the log-in of somebody whose password was right: to the page of the code. Its
// session opens nothing.
func (s *Server) askForCode(c *fiber.Ctx, who *request.Administrator, next string) error {
	if err := s.admins.BeginHalf(c, who); err != nil {
		return err
	}
	return c.Redirect(codePage(next), http.StatusSeeOther)
}

func codePage(next string) string { return staffCode + "?" + url.Values{"next": {next}}.Encode() }

func (s *Server) handleStaffCodePage(c *fiber.Ctx) error {
	who, err := s.admins.Half(c)
	if err != nil {
		return err
	}
	if who == nil {
		return c.Redirect(staffLogin+"?"+url.Values{"next": {s.adminPages.next(c)}}.Encode(), http.StatusFound)
	}
	return s.adminPages.render(c, "code", "", "Enter the code", fiber.Map{"Next": s.adminPages.next(c), "Who": who.Name})
}

func (s *Server) handleStaffCode(c *fiber.Ctx) error {
	next := s.adminPages.next(c)
	who, err := s.admins.Half(c)
	if err != nil {
		return err
	}
	if who == nil {
		late := &page.Flash{Problem: "That took too long. Sign in again."}
		return s.flashes.Leave(c, staffLogin+"?"+url.Values{"next": {next}}.Encode(), late)
	}
	method, err := s.admins.ProveCode(c, who, page.Field(c, "code"))
	err = s.admins.Finish(c, session.AtLogIn, who, method, err)
	if err == nil {
		return c.Redirect(next, http.StatusSeeOther)
	}
	return s.wrongProof(c, codePage(next), err, page.Flash{})
}

// wrongProof leads back to the page where somebody has to prove who he is. Errors that are not about the
// proof are returned.
func (s *Server) wrongProof(c *fiber.Ctx, to string, err error, again page.Flash) error {
	switch ehi.CodeOf(err) {
	case ehi.Unauthenticated:
		again.Status = http.StatusUnauthorized
	case ehi.Throttled:
		again.Status = http.StatusTooManyRequests
	default:
		return err
	}
	if again.Problem = err.Error(); errors.Is(err, session.ErrCodeMissing) {
		again.Problem = "Enter the code"
	}
	abuse.NoteStatus(c, again.Status)
	return s.flashes.Leave(c, to, &again)
}

// service is what authenticator apps call this server.
func (s *Server) service() string {
	host := s.Origins.BaseURL
	if u, err := url.Parse(s.Origins.BaseURL); err == nil {
		host = u.Host
	}
	return "EHI export " + strings.ReplaceAll(host, ":", " ")
}

// pending is the secret of a second factor that is being set up in this session: a new one where there is
// none. It is kept sealed, by the session's cookie.
func (s *Server) pending(c *fiber.Ctx) (secret string, err error) {
	key := "second factor " + c.Cookies(s.Origins.Cookie(request.StaffSession))
	kept, err := s.flashes.Safe.Get(c, key)
	if err != nil || kept != nil {
		return string(kept), err
	}
	if secret, _, err = auth.NewSecret(s.service(), request.AdministratorName(c)); err != nil {
		return "", err
	}
	return secret, s.flashes.Safe.Put(c, key, []byte(secret), setUpAge)
}

// handleSecondFactorPage shows an administrator his second factor, or how to set one up.
func (s *Server) handleSecondFactorPage(c *fiber.Ctx) error {
	who := request.SignedIn(c)
	page := fiber.Map{"Who": who, "Next": s.adminPages.next(c), "Required": s.RequireSecondFactor}
	if who.TwoFactors {
		left, err := s.Auth.RecoveryLeft(c.UserContext(), who.By, who.Name)
		if err != nil {
			return err
		}
		page["Left"] = left
	}
	if anew := c.Query("anew") != ""; who.By != session.ByOpenID && (!who.TwoFactors || anew) {
		secret, err := s.pending(c)
		if err != nil {
			return err
		}
		uri, err := auth.SecretURI(secret, s.service(), who.Name)
		if err != nil {
			return err
		}
		if page["QR"], err = drawQR(uri); err != nil {
			return err
		}
		page["Secret"], page["Anew"] = grouped(secret), anew
	}
	return s.adminPages.render(c, "second-factor", "", "Second factor", page)
}

// grouped is a secret in groups of four, as people type it.
func grouped(secret string) string {
	var out []string
	for ; len(secret) > 4; secret = secret[4:] {
		out = append(out, secret[:4])
	}
	return strings.Join(append(out, secret), " ")
}

// handleSecondFactor sets an administrator's own second factor up, renews its recovery codes, or takes it
// away where none is required.
func (s *Server) handleSecondFactor(c *fiber.Ctx) error {
	to := staffFactor + "?" + url.Values{"next": {s.adminPages.next(c)}}.Encode()
	done, err := s.changeSecondFactor(c, request.SignedIn(c))
	if err != nil {
		if page.Field(c, "anew") != "" {
			to += "&anew=yes"
		}
		return s.adminPages.again(c, to, err)
	}
	done.Owner = request.AdministratorName(c) // in a new session
	return s.flashes.Leave(c, to, &done)
}

func (s *Server) changeSecondFactor(c *fiber.Ctx, who *request.Administrator) (done staffFlash, err error) {
	ctx := c.UserContext()
	if who.By == session.ByOpenID {
		return done, ehi.Errorf(ehi.Invalid, "Your organisation takes care of your second factor")
	}
	switch page.Field(c, "do") {
	case "set-up":
		secret, err := s.pending(c)
		if err != nil {
			return done, err
		}
		var a auth.Account
		done.Codes, a, err = s.Auth.Enrol(ctx, who.By, who.Name, secret, page.Field(c, "code"))
		if err = s.trail.Change(c, err, "set up a second factor"); err != nil {
			return done, err
		}
		done.Message = "Your second factor is set up."
		return done, s.admins.Renew(c, who, a, string(auth.ByApp))
	case "codes":
		done.Message = "These are new recovery codes. The old ones are good no more."
		done.Codes, err = s.Auth.RenewRecovery(ctx, who.By, who.Name)
		return done, s.trail.Change(c, err, "renew recovery codes")
	case "remove":
		if s.RequireSecondFactor {
			return done, ehi.Errorf(ehi.Invalid, "A second factor is required here")
		}
		err = s.Auth.ResetSecondFactor(ctx, who.By, who.Name)
		if err = s.trail.Change(c, err, "remove the second factor of "+who.Name); err != nil {
			return done, err
		}
		done.Message = "Your second factor is removed."
		return done, s.admins.Renew(c, who, s.admins.Account(who), "")
	}
	return done, errNoSuchChange
}

// quiet is how much empty room a QR code needs around it, in modules (ISO/IEC 18004).
const quiet = 4

// drawQR draws a text as a QR code, within the page: it asks nobody for an image.
func drawQR(text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return "", err
	}
	size := code.Bounds().Dx()
	side := strconv.Itoa(size + 2*quiet)
	var path strings.Builder
	for y := range size {
		for x := range size {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				path.WriteString("M" + strconv.Itoa(x+quiet) + " " + strconv.Itoa(y+quiet) + "h1v1h-1z")
			}
		}
	}
	return template.HTML(`<svg class="qr" viewBox="0 0 ` + side + ` ` + side + `" role="img" aria-label="QR code of the secret" shape-rendering="crispEdges">` +
		`<rect width="100%" height="100%" fill="#fff"/><path fill="#000" d="` + path.String() + `"/></svg>`), nil
}
