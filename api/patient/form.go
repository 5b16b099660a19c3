package patient

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/api/content"
	"ehi-server/api/page"
	"ehi-server/api/request"
	"ehi-server/api/session"
	"ehi-server/api/web"
	"ehi-server/auth"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/release"
	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/weburl"
)

// interactionTTL is how long a rendered form can be submitted.
const interactionTTL = time.Hour

// FormJobs are the exports that wait for a form (jobs.Service).
type FormJobs interface {
	// FindStanding finds any job that may still be had, FindOwn one of the actor's. Errors:
	// ehi.NotFound.
	FindStanding(ctx context.Context, id string) (*ehi.Job, error)
	FindOwn(ctx context.Context, by ehi.Actor, id string) (*ehi.Job, error)
	// Submit records the choices. Errors: ehi.Conflict, where that was done before; ehi.Throttled.
	Submit(ctx context.Context, by ehi.Actor, j *ehi.Job, form ehi.ReleaseForm) (*ehi.Job, error)
	// Preview counts what a form would release. Errors: jobs.ErrCounting, where that takes longer
	// than wait.
	Preview(
		ctx context.Context, j *ehi.Job, form ehi.ReleaseForm, wait time.Duration,
	) (release.Counts, error)
}

// Ways know where browsers may go on to (auth.Server).
type Ways interface {
	// LeadsTo is an address as browsers read it, where it is registered for the client.
	LeadsTo(ctx context.Context, client, address string) (to string, ok bool)
}

// Tokens know who sends a request (session.Tokens).
type Tokens interface {
	// Authenticate reads the token of a request. Errors: ehi.Unauthenticated.
	Authenticate(c *fiber.Ctx) (*auth.Access, error)
}

// Describer answers whoever has sent a form as an application (fhirapi.Handlers).
type Describer interface {
	AnswerSender(c *fiber.Ctx, j *ehi.Job) error
}

// Form is the release form, in which patients choose what of their record goes out.
type Form struct {
	Pages *Pages
	// Sandbox lets visitors stand for a patient by naming him, and clients send the form.
	Sandbox   bool
	Jobs      FormJobs
	Auth      Ways
	Tokens    Tokens
	Sessions  Sessions
	Describer Describer
	// Kept is where drafts are, and what the one-time tokens of forms stand for.
	Kept *kv.Storage
	// Log is told what the form does without, such as its draft.
	Log *slog.Logger
}

// Routes registers the form.
func (h *Form) Routes(r Router) {
	r.On("GET", "/jobs/:id/customize", h.handleForm)
	r.On("POST", "/jobs/:id", h.handleSubmit)
}

// job finds the request's job, whosever it is, where it stands still.
func (h *Form) job(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := h.Jobs.FindStanding(c.UserContext(), c.Params("id"))
	return request.Noted(c, j, err)
}

// handleForm renders the release form for the job's patient (EHI-7).
func (h *Form) handleForm(c *fiber.Ctx) error {
	j, err := h.job(c)
	if err != nil {
		return err
	}
	if j.Patient.ID == "" { // no patient's: a log-in leads nowhere
		return jobs.ErrNotFound
	}
	mine, err := h.isPatient(c, j)
	if err != nil {
		return err
	}
	if !mine {
		return c.Redirect(LoginPath(c.OriginalURL(), c.Query("redirect")), http.StatusFound)
	}
	f := h.Pages.left(c)
	if f.Title != "" { // the form is sent, and nobody is logged in to follow it
		data := fiber.Map{"Text": f.Message, "At": "/my/requests"}
		return h.Pages.Render(c, "message", "thanks.title", data)
	}
	if j.Status != ehi.AwaitingInput {
		patient, err := h.Sessions.LoggedIn(c)
		if err == nil && j.IsOf(patient) && content.WantsPage(c) {
			// the form is sent: there it says how things stand
			return c.Redirect("/my/requests/"+j.ID, http.StatusFound)
		}
		return ehi.Errorf(ehi.Conflict,
			"There is no form to fill in for an export in %q state", j.Status)
	}
	p := formPage{values: h.draft(c, j.ID)}
	p.tried, p.expired, p.asked = f.Tried, f.Expired, f.Asked
	if len(f.Fields) > 0 { // of a session that had ended
		p.values = formValues{}
		for key := range f.Fields {
			p.values[key] = f.Fields.Get(key)
		}
		if err := h.keepDraft(c, j.ID, p.values); err != nil {
			return err
		}
	}
	return h.renderForm(c, j, p)
}

// formPath is the page of a form, as it was opened: with the way back to the application, and with
// the sandbox's shortcut for a log-in.
func (h *Form) formPath(c *fiber.Ctx, j *ehi.Job) string {
	q := url.Values{}
	if to := h.wayOn(c, j); to != "" {
		q.Set("redirect", to)
	}
	if p := param(c, "_patient"); h.Sandbox && j.IsOf(p) {
		q.Set("_patient", p)
	}
	path := "/jobs/" + j.ID + "/customize"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

// wayBack is where the browser goes on to after the form, as browsers read the address (EHI-7): ""
// for nowhere. asked is whether any address came with the form.
func (h *Form) wayBack(c *fiber.Ctx, j *ehi.Job) (to string, asked bool) {
	r := param(c, "redirect")
	to, _ = h.Auth.LeadsTo(c.UserContext(), j.ClientID, r)
	return to, r != ""
}

// noWayBack stands for an address that was refused, so that each page of its form says so.
const noWayBack = "refused"

// wayOn is what a form keeps of where the browser goes on to: the address, or that it was refused.
func (h *Form) wayOn(c *fiber.Ctx, j *ehi.Job) string {
	to, asked := h.wayBack(c, j)
	if to == "" && asked {
		return noWayBack
	}
	return to
}

// originOf is what of an address may be logged: it can carry a state or a token.
func originOf(address string) string {
	u, err := weburl.Parse(address)
	switch {
	case err != nil:
		return "unreadable"
	case !u.IsWeb():
		return "no address of the web"
	}
	return u.Origin()
}

// param is a parameter of the query or of a page's form.
func param(c *fiber.Ctx, name string) string {
	return c.Query(name, page.Field(c, name))
}

// takesShortcut reports whether a visitor stands for the job's patient by naming him, as a sandbox
// allows. Whoever brings a token is an application, which never does.
func (h *Form) takesShortcut(c *fiber.Ctx, j *ehi.Job, named string) bool {
	return h.Sandbox && j.IsOf(named) && c.Get(fiber.HeaderAuthorization) == ""
}

// isPatient reports whether the visitor is logged in as the job's patient, or uses the sandbox's
// shortcut for that.
func (h *Form) isPatient(c *fiber.Ctx, j *ehi.Job) (bool, error) {
	if h.takesShortcut(c, j, c.Query("_patient")) {
		return true, nil
	}
	patient, err := h.Sessions.LoggedIn(c)
	return j.IsOf(patient), err
}

// formValues is what was chosen, to fill the form with; empty at first.
type formValues map[string]string

// ticked reports whether a line of the form is ticked.
func (v formValues) ticked(line string) bool { return page.IsTick(v[line]) }

// DraftKey is where the choices of a form are kept until it is sent, so that a reload shows them
// again. Whoever deletes a job deletes them, too.
func DraftKey(job string) string { return "draft-" + job }

// draft is what was chosen before the page was loaded. Where that cannot be read the form begins
// empty: it is a convenience.
func (h *Form) draft(c *fiber.Ctx, job string) (v formValues) {
	data, err := h.Kept.In(c.UserContext()).Get(DraftKey(job))
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		h.Log.Warn("read the draft of a form", "job", job, "err", err)
	}
	return v
}

// fields are the form's own among what was sent.
func (v formValues) fields() formValues {
	kept := formValues{}
	for key, value := range v {
		if value != "" && (strings.HasPrefix(key, "p.") || strings.HasPrefix(key, "a.")) {
			kept[key] = value
		}
	}
	return kept
}

// shown are the fields that a person sees: of a line that is not ticked there are no dates and
// notes.
func (v formValues) shown() formValues {
	out := maps.Clone(v)
	for _, c := range ehi.Categories() {
		k := "p." + string(c.Key)
		for _, detail := range []string{".from", ".to", ".notes"} {
			if !v.ticked(k) || !c.Dated && detail != ".notes" {
				delete(out, k+detail)
			}
		}
	}
	for _, a := range ehi.Authorizations() {
		if k := "a." + string(a.Key); !v.ticked(k) {
			delete(out, k+".text")
		}
	}
	return out
}

// without is the form without the lines that have problems.
func (v formValues) without(problems []problem) formValues {
	out := maps.Clone(v)
	for _, p := range problems {
		delete(out, p.Line)
	}
	return out.shown()
}

// keepDraft keeps the fields of the form and nothing else of what was sent.
func (h *Form) keepDraft(c *fiber.Ctx, job string, v formValues) error {
	data, err := json.Marshal(v.fields())
	if err != nil {
		return err
	}
	return h.Kept.In(c.UserContext()).Set(DraftKey(job), data, interactionTTL)
}

// formPage is what a form shows beside its lines.
type formPage struct {
	values  formValues
	tried   bool // to send or to count it: what is wrong with it is said at the top
	expired bool // it was open for too long
	asked   bool // for the counts: they may take a moment
}

// renderForm shows the form with a fresh one-time interaction token.
func (h *Form) renderForm(c *fiber.Ctx, j *ehi.Job, p formPage) error {
	token := jobs.NewID()
	if err := h.interact(c, j, token); err != nil {
		return err
	}
	request.NoStore(c)
	t := h.Pages.Language(c)
	problems := problemsOf(t, p.values)
	n, counting := h.counts(c, t, j, p.values, p.asked)
	data := fiber.Map{
		"Job":            j,
		"Categories":     formLines(t, p.values, n, problems),
		"Authorizations": formTicks(t, p.values, n, problems),
		"Sum":            n["sum"],
		"Counting":       counting,
		"Expired":        p.expired,
		"Interaction":    token,
		"Action":         "/jobs/" + j.ID,
		"Draft":          "release",
		"At":             h.formPath(c, j),
		"SignedIn":       h.Pages.session(c) != "",
	}
	data["Redirect"] = h.wayOn(c, j)
	data["NoWayBack"] = data["Redirect"] == noWayBack
	if data["NoWayBack"] == true && param(c, "redirect") != noWayBack {
		h.Log.Warn("the address to go on to after a form is not registered for its client",
			"job", j.ID, "client", j.ClientID, "to", originOf(param(c, "redirect")))
	}
	if h.Sandbox && j.IsOf(param(c, "_patient")) {
		data["As"] = j.Patient.ID
	}
	if p.tried {
		data["Problems"] = problems
	}
	if p.expired || p.tried && len(problems) > 0 {
		data["Alarm"] = t.Say("form.problems") // in the title, which a screen reader says first
	}
	return h.Pages.Render(c, "form", "form.title", data)
}

// formLine is a line of the form's first part, as the template shows it.
type formLine struct {
	ehi.CategoryInfo
	On                     bool
	From, To, Notes, Count string
	Problem                problem
}

func formLines(
	t *web.Catalogue, v formValues, counts map[string]string, problems []problem,
) (out []formLine) {
	for _, c := range ehi.Categories() {
		k := "p." + string(c.Key)
		c.Name, c.Hint = t.Say(categoryText(c.Key)), t.Say(categoryText(c.Key)+".hint")
		out = append(out, formLine{
			c, v.ticked(k), v[k+".from"], v[k+".to"], v[k+".notes"], counts[k],
			problemOf(problems, k),
		})
	}
	return out
}

// formTick is a line of the form's second part.
type formTick struct {
	ehi.AuthorizationInfo
	On           bool
	Written, Ask string // the text beside the tick, and its question
	Count        string
	Problem      problem
}

func formTicks(
	t *web.Catalogue, v formValues, counts map[string]string, problems []problem,
) (out []formTick) {
	for _, a := range ehi.Authorizations() {
		k := "a." + string(a.Key)
		a.Name = t.Say(authorizationText(a.Key))
		ask := ""
		if a.Text {
			ask = t.Say(authorizationText(a.Key) + ".ask")
		}
		out = append(out, formTick{
			a, v.ticked(k), v[k+".text"], ask, counts[k], problemOf(problems, k),
		})
	}
	return out
}

func interactionKey(token string) string {
	h := sha256.Sum256([]byte(token))
	return "interaction-" + base64.RawURLEncoding.EncodeToString(h[:])
}

// handleSubmit takes the patient's choices: from the page, or as JSON from its script or, in the
// sandbox, from the job's client (EHI-7). What the patient's browser sends counts from a page of
// this server alone.
func (h *Form) handleSubmit(c *fiber.Ctx) error {
	token := c.Get("X-Interaction-Token")
	typed := strings.HasPrefix(c.Get(fiber.HeaderContentType), fiber.MIMEApplicationForm)
	if (typed || token != "") && h.Pages.Site.FromAnotherSite(c) {
		return page.ErrAnotherSite
	}
	if typed {
		err := h.submitPage(c)
		if ehi.CodeOf(err) == ehi.Conflict && content.WantsPage(c) {
			return h.sentBefore(c)
		}
		return err
	}
	sender := h.byClient
	if token != "" {
		sender = func(c *fiber.Ctx) (*ehi.Job, error) { return h.byPatient(c, token) }
	}
	j, err := sender(c)
	if err != nil {
		return err
	}
	form, err := ehi.ParseReleaseForm(c.Body())
	if err != nil {
		return err
	}
	by := h.Pages.Site.Origins.Acting(c)
	if token != "" {
		by = h.Pages.Site.Origins.ActingPatient(c, j.Patient.ID)
	}
	done, err := h.release(c, j, form, by, token)
	if ehi.CodeOf(err) == ehi.Conflict && !content.WantsPage(c) { // clients read this very text
		return content.Text(c, http.StatusBadRequest, err.Error())
	}
	if err != nil {
		return err
	}
	return h.Describer.AnswerSender(c, done)
}

// submitPage takes what the form page sends: the choices, or the wish to see what they would
// release or to go on in another language.
func (h *Form) submitPage(c *fiber.Ctx) error {
	token, v := page.Field(c, "interaction"), values(c)
	j, err := h.byPatient(c, token)
	if errors.Is(err, errPageExpired) {
		return h.expiredForm(c, v, err)
	}
	if err != nil {
		return err
	}
	problems := problemsOf(h.Pages.Language(c), v)
	if page.Field(c, "do") == "preview" || page.Field(c, "lang") != "" {
		return h.preview(c, j, token, v, problems)
	}
	if len(problems) > 0 {
		if err := h.keepDraft(c, j.ID, v); err != nil {
			return err
		}
		return h.Pages.leave(c, h.formPath(c, j), flash{
			Flash: page.Flash{Status: http.StatusBadRequest}, Tried: true,
		})
	}
	form, err := v.form()
	if err != nil {
		return err
	}
	done, err := h.release(c, j, form, h.Pages.Site.Origins.ActingPatient(c, j.Patient.ID), token)
	if ehi.CodeOf(err) == ehi.Throttled { // the choices are there when it is sent again
		err = errors.Join(err, h.keepDraft(c, j.ID, v))
	}
	if err != nil {
		return err
	}
	return h.afterForm(c, done)
}

// sentBefore answers a form that comes a second time, by a double click or the way back: it leads
// to the page that tells how things stand.
func (h *Form) sentBefore(c *fiber.Ctx) error {
	j, err := h.job(c)
	if err != nil {
		return err
	}
	return c.Redirect(h.formPath(c, j), http.StatusSeeOther)
}

// expiredForm leads back to a form that was open for too long, with what was chosen; over the
// log-in, where the session has ended, too.
func (h *Form) expiredForm(c *fiber.Ctx, v formValues, expired error) error {
	j, err := h.job(c)
	if err != nil {
		return err
	}
	patient, err := h.Sessions.LoggedIn(c)
	if err != nil {
		return err
	}
	to := h.formPath(c, j)
	switch {
	case j.Status != ehi.AwaitingInput:
		return expired
	case j.IsOf(patient):
		if err := h.keepDraft(c, j.ID, v); err != nil {
			return err
		}
		return h.Pages.leave(c, to, flash{
			Flash: page.Flash{Status: http.StatusForbidden}, Expired: true, Tried: true,
		})
	case patient == "" && content.WantsPage(c) && h.Pages.Site.SentHere(c):
		fields := url.Values{}
		for key, value := range v.fields() {
			fields.Set(key, value)
		}
		kept, err := h.Pages.Flashes.KeepTyped(c, to, &flash{
			Flash: page.Flash{Fields: fields}, Expired: true, Tried: true,
		})
		if err != nil {
			return err
		}
		login := LoginPath(to, param(c, "redirect"))
		if kept {
			login += "&kept=text"
		}
		return c.Redirect(login, http.StatusSeeOther)
	}
	return expired
}

// preview keeps the choices, and says what they would release: as a page, or to the page's script
// as texts by line.
func (h *Form) preview(
	c *fiber.Ctx, j *ehi.Job, token string, v formValues, problems []problem,
) error {
	if j.Status != ehi.AwaitingInput {
		return ehi.Errorf(ehi.Conflict, "Exports job already customized")
	}
	if err := h.keepDraft(c, j.ID, v); err != nil {
		return err
	}
	if content.WantsPage(c) {
		return h.Pages.leave(c, h.formPath(c, j), flash{Tried: true, Asked: true})
	}
	if err := h.interact(c, j, token); err != nil { // whoever fills it in still needs it
		return err
	}
	request.NoStore(c)
	n, counting := h.counts(c, h.Pages.Language(c), j, v, false)
	return c.JSON(fiber.Map{"counts": n, "counting": counting, "problems": problems})
}

// release records the choices and who made them; then the token and the draft are of no more use.
func (h *Form) release(
	c *fiber.Ctx, j *ehi.Job, form ehi.ReleaseForm, by ehi.Actor, token string,
) (*ehi.Job, error) {
	done, err := h.Jobs.Submit(c.UserContext(), by, j, form)
	if err != nil || token == "" {
		return done, err
	}
	for _, key := range []string{interactionKey(token), DraftKey(j.ID)} {
		if err := h.Kept.In(c.UserContext()).Delete(key); err != nil {
			h.Log.Warn("forget an interaction token", "err", err)
		}
	}
	return done, nil
}

// interaction is what a form's token stands for: a job's form that was shown to its patient.
type interaction struct {
	Job string `json:"job"`
	// Session is the session that the form was shown in; "" where it was the sandbox's shortcut for
	// one.
	Session string `json:"session,omitempty"`
}

// interact keeps what a form's token stands for. Of a HEAD request nobody reads the token.
func (h *Form) interact(c *fiber.Ctx, j *ehi.Job, token string) error {
	if c.Method() == fiber.MethodHead {
		return nil
	}
	patient, err := h.Sessions.LoggedIn(c)
	if err != nil {
		return err
	}
	i := interaction{Job: j.ID}
	if j.IsOf(patient) {
		i.Session = h.Pages.session(c)
	}
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return h.Kept.In(c.UserContext()).Set(interactionKey(token), data, interactionTTL)
}

// byPatient finds the job of a form that is sent with its one-time token. The token is good in the
// session that the form was shown in alone, and for as long as that is the patient's: an
// application that has got hold of it can do nothing with it (EHI-7).
func (h *Form) byPatient(c *fiber.Ctx, token string) (*ehi.Job, error) {
	j, err := h.job(c)
	if err != nil {
		return nil, err
	}
	var i interaction
	data, err := h.Kept.In(c.UserContext()).Get(interactionKey(token))
	if err != nil {
		return nil, err
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &i); err != nil {
			return nil, err
		}
	}
	if i.Job == j.ID {
		if i.Session == "" && h.Sandbox {
			return j, nil
		}
		patient, err := h.Sessions.LoggedIn(c)
		if err != nil {
			return nil, err
		}
		if j.IsOf(patient) && i.Session == h.Pages.session(c) {
			return j, nil
		}
	}
	if j.Status != ehi.AwaitingInput {
		return nil, ehi.Errorf(ehi.Conflict, "Exports job already customized")
	}
	return nil, errPageExpired
}

// byClient finds the job of a form that its client sends with its token, which clients in
// development do in the sandbox. Elsewhere a form is the patient's alone (EHI-7).
func (h *Form) byClient(c *fiber.Ctx) (*ehi.Job, error) {
	a, err := h.Tokens.Authenticate(c)
	if err != nil {
		return nil, err
	}
	if !a.Scopes.Contains(auth.PatientExport) {
		return nil, session.Insufficient(c, "This needs the scope "+auth.PatientExport.String())
	}
	j, err := h.Jobs.FindOwn(c.UserContext(), h.Pages.Site.Origins.Actor(c), c.Params("id"))
	j, err = request.Noted(c, j, err)
	if err == nil && !h.Sandbox {
		err = jobs.ErrPatientsForm
	}
	return j, err
}

var errPageExpired = ehi.Errorf(ehi.Forbidden, "The page has expired. Open the form again.")

// afterForm sends the patient back to the application, where that may be done, or says what happens
// next.
func (h *Form) afterForm(c *fiber.Ctx, j *ehi.Job) error {
	if to, _ := h.wayBack(c, j); to != "" {
		return c.Redirect(to, http.StatusSeeOther)
	}
	if patient, err := h.Sessions.LoggedIn(c); err != nil {
		return err
	} else if j.IsOf(patient) {
		return c.Redirect("/my/requests/"+j.ID, http.StatusSeeOther)
	}
	t := h.Pages.Language(c)
	return h.Pages.leave(c, h.formPath(c, j), flash{Flash: page.Flash{
		Title: t.Say("thanks.title"), Message: t.Say("thanks.text"),
	}})
}

// values reads the fields of the page.
func values(c *fiber.Ctx) formValues {
	v := formValues{}
	for name, value := range c.Request().PostArgs().All() {
		key := string(name)
		if said, twice := v[key]; twice && page.IsTick(said) != page.IsTick(string(value)) {
			value = nil // yes and no: no
		}
		v[key] = string(value)
	}
	return v
}

// form turns the fields of the page into the form, by way of the JSON of EHI-7.
func (v formValues) form() (ehi.ReleaseForm, error) {
	v = v.shown()
	parameters, authorizations := fiber.Map{}, fiber.Map{}
	for _, c := range ehi.Categories() {
		k := "p." + string(c.Key)
		parameters[string(c.Key)] = fiber.Map{
			"name":    c.Name,
			"enabled": v.ticked(k),
			"from":    v[k+".from"],
			"to":      v[k+".to"],
			"notes":   v[k+".notes"],
		}
	}
	for _, a := range ehi.Authorizations() {
		k := "a." + string(a.Key)
		authorizations[string(a.Key)] = fiber.Map{
			"name":  a.Name,
			"value": v.ticked(k),
			"text":  v[k+".text"],
		}
	}
	body, err := json.Marshal(fiber.Map{"parameters": parameters, "authorizations": authorizations})
	if err != nil {
		return ehi.ReleaseForm{}, err
	}
	return ehi.ParseReleaseForm(body)
}
