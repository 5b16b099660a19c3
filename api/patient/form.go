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

// FormJobs are the exports that have a form (jobs.Service).
type FormJobs interface {
	// FindAuthorized finds any job that is still authorized; FindOwn finds one of the actor's.
	// Errors: ehi.NotFound.
	FindAuthorized(ctx context.Context, id string) (*ehi.Job, error)
	FindOwn(ctx context.Context, by ehi.Actor, id string) (*ehi.Job, error)
	// Submit records the choices. Errors: ehi.Conflict if they were already submitted;
	// ehi.Throttled.
	Submit(ctx context.Context, by ehi.Actor, j *ehi.Job, form ehi.ReleaseForm) (*ehi.Job, error)
	// Preview counts what a form would release. Errors: jobs.ErrCounting if counting takes
	// longer than wait.
	Preview(
		ctx context.Context, j *ehi.Job, form ehi.ReleaseForm, wait time.Duration,
	) (release.Counts, error)
}

// Ways knows to which addresses browsers may be redirected (auth.Server).
type Ways interface {
	// FormRedirect returns an address as browsers read it; ok is false if it is not registered for
	// the client.
	FormRedirect(ctx context.Context, client, address string) (to string, ok bool)
}

// Tokens knows who sends a request (session.Tokens).
type Tokens interface {
	// Authenticate reads the token of a request. Errors: ehi.Unauthenticated.
	Authenticate(c *fiber.Ctx) (*auth.Access, error)
}

// Describer answers an application that submits the form itself (fhirapi.Handlers).
type Describer interface {
	AnswerSender(c *fiber.Ctx, j *ehi.Job) error
}

// Form is the release form, with which patients choose what to share.
type Form struct {
	Pages *Pages
	// Sandbox allows visitors to act as a patient by naming them, and clients to submit the
	// form.
	Sandbox   bool
	Jobs      FormJobs
	Auth      Ways
	Tokens    Tokens
	Sessions  Sessions
	Describer Describer
	// Kept stores drafts and the one-time tokens of forms.
	Kept *kv.Storage
	// Log receives problems that the form can work without, such as a lost draft.
	Log *slog.Logger
}

// Routes registers the form.
func (h *Form) Routes(r Router) {
	r.On("GET", "/jobs/:id/customize", h.handleForm)
	r.On("POST", "/jobs/:id", h.handleSubmit)
}

// job finds the request's job, for any patient, if it is still authorized.
func (h *Form) job(c *fiber.Ctx) (*ehi.Job, error) {
	j, err := h.Jobs.FindAuthorized(c.UserContext(), c.Params("id"))
	return request.Noted(c, j, err)
}

// handleForm renders the release form for the job's patient (EHI-7).
func (h *Form) handleForm(c *fiber.Ctx) error {
	j, err := h.job(c)
	if err != nil {
		return err
	}
	if j.Patient.ID == "" { // not about one patient: signing in would not help
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
	if f.Title != "" { // the form is sent, and nobody is signed in to follow it
		data := fiber.Map{"Text": f.Message, "At": "/my/requests"}
		return h.Pages.Render(c, "message", "thanks.title", data)
	}
	if j.Status != ehi.AwaitingInput {
		patient, err := h.Sessions.LoggedIn(c)
		if err == nil && j.IsOf(patient) && content.WantsPage(c) {
			// The form was already sent. The page of the request shows its state.
			return c.Redirect("/my/requests/"+j.ID, http.StatusFound)
		}
		return ehi.Errorf(ehi.Conflict,
			"An export in the state %q has no form", j.Status)
	}
	p := formPage{values: h.draft(c, j.ID)}
	p.tried, p.expired, p.asked = f.Tried, f.Expired, f.Asked
	if len(f.Fields) > 0 { // left when the session had ended
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

// formPath returns the path of a form as it was opened: with the address of the application, and
// with the sandbox's shortcut for signing in.
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

// wayBack returns where the browser goes after the form, as browsers read the address (EHI-7);
// "" for nowhere. asked reports whether the request has an address.
func (h *Form) wayBack(c *fiber.Ctx, j *ehi.Job) (to string, asked bool) {
	r := param(c, "redirect")
	to, _ = h.Auth.FormRedirect(c.UserContext(), j.ClientID, r)
	return to, r != ""
}

// noWayBack replaces a refused address, so that each page of its form says so.
const noWayBack = "refused"

// wayOn returns what a form stores about the address after it: the address, or that it was
// refused.
func (h *Form) wayOn(c *fiber.Ctx, j *ehi.Job) string {
	to, asked := h.wayBack(c, j)
	if to == "" && asked {
		return noWayBack
	}
	return to
}

// originOf returns the part of an address that may be logged. The rest can contain a state or a
// token.
func originOf(address string) string {
	u, err := weburl.Parse(address)
	switch {
	case err != nil:
		return "unreadable"
	case !u.IsWeb():
		return "not a web address"
	}
	return u.Origin()
}

// param returns a parameter of the query or of a page's form.
func param(c *fiber.Ctx, name string) string {
	return c.Query(name, page.Field(c, name))
}

// takesShortcut reports whether a visitor acts as the job's patient by naming them, as a sandbox
// allows. A request with a token comes from an application, which may not.
func (h *Form) takesShortcut(c *fiber.Ctx, j *ehi.Job, named string) bool {
	return h.Sandbox && j.IsOf(named) && c.Get(fiber.HeaderAuthorization) == ""
}

// isPatient reports whether the visitor is signed in as the job's patient, or uses the sandbox's
// shortcut.
func (h *Form) isPatient(c *fiber.Ctx, j *ehi.Job) (bool, error) {
	if h.takesShortcut(c, j, c.Query("_patient")) {
		return true, nil
	}
	patient, err := h.Sessions.LoggedIn(c)
	return j.IsOf(patient), err
}

// formValues are the choices that fill in the form; empty at first.
type formValues map[string]string

// ticked reports whether a line of the form is selected.
func (v formValues) ticked(line string) bool { return page.IsTick(v[line]) }

// DraftKey returns the key of a form's choices until it is sent. With them, a reload shows the
// choices again. Deleting a job must delete its draft.
func DraftKey(job string) string { return "draft-" + job }

// draft returns the choices that were made before the page was loaded. If it cannot be read, the
// form is empty: the draft is only a convenience.
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

// fields returns the fields of the form, without other values that were sent.
func (v formValues) fields() formValues {
	kept := formValues{}
	for key, value := range v {
		if value != "" && (strings.HasPrefix(key, "p.") || strings.HasPrefix(key, "a.")) {
			kept[key] = value
		}
	}
	return kept
}

// shown returns the visible fields: without dates and notes of lines that are not selected.
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

// without returns the form without the lines that have problems.
func (v formValues) without(problems []problem) formValues {
	out := maps.Clone(v)
	for _, p := range problems {
		delete(out, p.Line)
	}
	return out.shown()
}

// keepDraft stores the fields of the form and nothing else.
func (h *Form) keepDraft(c *fiber.Ctx, job string, v formValues) error {
	data, err := json.Marshal(v.fields())
	if err != nil {
		return err
	}
	return h.Kept.In(c.UserContext()).Set(DraftKey(job), data, interactionTTL)
}

// formPage is what a form shows in addition to its lines.
type formPage struct {
	values  formValues
	tried   bool // submitted or counted; problems are then listed at the top
	expired bool // it was open for too long
	asked   bool // the patient asked for counts, which may take a moment
}

// renderForm renders the form with a new one-time interaction token.
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
		h.Log.Warn("the redirect address of a form is not registered for its client",
			"job", j.ID, "client", j.ClientID, "to", originOf(param(c, "redirect")))
	}
	if h.Sandbox && j.IsOf(param(c, "_patient")) {
		data["As"] = j.Patient.ID
	}
	if p.tried {
		data["Problems"] = problems
	}
	if p.expired || p.tried && len(problems) > 0 {
		data["Alarm"] = t.Say("form.problems") // in the title, which screen readers read first
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
	Written, Ask string // the text next to the checkbox, and its question
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

// handleSubmit accepts the patient's choices: from the page, as JSON from its script or, in the
// sandbox, from the job's client (EHI-7). What the patient's browser sends must come from a page
// of this server.
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
	done, err := h.submit(c, j, form, by, token)
	// clients depend on this exact text
	if ehi.CodeOf(err) == ehi.Conflict && !content.WantsPage(c) {
		return content.Text(c, http.StatusBadRequest, err.Error())
	}
	if err != nil {
		return err
	}
	return h.Describer.AnswerSender(c, done)
}

// submitPage accepts what the form page sends: the choices, or a request to count what they
// would release or to change the language.
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
	done, err := h.submit(c, j, form, h.Pages.Site.Origins.ActingPatient(c, j.Patient.ID), token)
	if ehi.CodeOf(err) == ehi.Throttled { // the choices are kept for another attempt
		err = errors.Join(err, h.keepDraft(c, j.ID, v))
	}
	if err != nil {
		return err
	}
	return h.afterForm(c, done)
}

// sentBefore answers a form that arrives a second time, after a double click or the back button.
// It redirects to the page that shows the state.
func (h *Form) sentBefore(c *fiber.Ctx) error {
	j, err := h.job(c)
	if err != nil {
		return err
	}
	return c.Redirect(h.formPath(c, j), http.StatusSeeOther)
}

// expiredForm redirects to a form that was open for too long, with its choices. If the session
// has ended too, it redirects to sign-in first.
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

// preview keeps the choices and counts what they would release. It answers with a page, or with
// texts by line for the page's script.
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
	// the person who fills in the form still needs it
	if err := h.interact(c, j, token); err != nil {
		return err
	}
	request.NoStore(c)
	n, counting := h.counts(c, h.Pages.Language(c), j, v, false)
	return c.JSON(fiber.Map{"counts": n, "counting": counting, "problems": problems})
}

// submit records the choices and who made them. Then the token and the draft are no longer
// needed.
func (h *Form) submit(
	c *fiber.Ctx, j *ehi.Job, form ehi.ReleaseForm, by ehi.Actor, token string,
) (*ehi.Job, error) {
	done, err := h.Jobs.Submit(c.UserContext(), by, j, form)
	if err != nil || token == "" {
		return done, err
	}
	for _, key := range []string{interactionKey(token), DraftKey(j.ID)} {
		if err := h.Kept.In(c.UserContext()).Delete(key); err != nil {
			h.Log.Warn("delete an interaction token", "err", err)
		}
	}
	return done, nil
}

// interaction is what a form's token identifies: a job's form that was shown to its patient.
type interaction struct {
	Job string `json:"job"`
	// Session is the session in which the form was shown; "" with the sandbox's shortcut.
	Session string `json:"session,omitempty"`
}

// interact stores what a form's token identifies. It stores nothing for a HEAD request, whose
// token nobody reads.
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

// byPatient finds the job of a form that is sent with its one-time token. The token is valid
// only in the session in which the form was shown, while the patient is signed in there. An
// application that obtains the token cannot use it (EHI-7).
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

// byClient finds the job of a form that its client sends with an access token, as clients in
// development may do in the sandbox. Elsewhere only the patient may send the form (EHI-7).
func (h *Form) byClient(c *fiber.Ctx) (*ehi.Job, error) {
	a, err := h.Tokens.Authenticate(c)
	if err != nil {
		return nil, err
	}
	if !a.Scopes.Contains(auth.PatientExport) {
		return nil, session.Insufficient(c, "This requires the scope "+auth.PatientExport.String())
	}
	j, err := h.Jobs.FindOwn(c.UserContext(), h.Pages.Site.Origins.Actor(c), c.Params("id"))
	j, err = request.Noted(c, j, err)
	if err == nil && !h.Sandbox {
		err = jobs.ErrPatientsForm
	}
	return j, err
}

var errPageExpired = ehi.Errorf(ehi.Forbidden, "The page has expired. Open the form again.")

// afterForm redirects the patient to the application, if that is allowed, or says what happens
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
			value = nil // yes and no together mean no
		}
		v[key] = string(value)
	}
	return v
}

// form converts the fields of the page to the form, through the JSON of EHI-7.
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
