package session

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
)

// Keys of a patient's session. Without accounts, it has only the patient.
const (
	keyPatient = "patient"
	keyAccount = "account"
)

// PatientFlags are the settings of patients' sessions.
type PatientFlags struct {
	// Login is Picker, Accounts, or "" for what the mode of the server has.
	Login string `help:"How patients sign in: with accounts, or with a picker that lets anybody choose any patient (sandbox mode only). Default: picker in sandbox mode, otherwise accounts." enum:",picker,accounts" default:"" env:"EHI_PATIENT_LOGIN" name:"patient-login"`
}

// Ways in which patients sign in.
const (
	Picker   = "picker"
	Accounts = "accounts"
)

// UseAccounts reports whether patients sign in with accounts of their own.
func (f PatientFlags) UseAccounts(sandbox bool) bool {
	return f.Login == Accounts || f.Login == "" && !sandbox
}

// Patients manages the sessions of patients.
type Patients struct {
	store    *store
	auth     *auth.Server
	accounts bool
}

// NewPatients returns Patients that keeps sessions in a bucket. With accounts, patients sign in
// with theirs; otherwise they choose a patient.
func NewPatients(
	bucket *kv.Bucket,
	origins request.Origins,
	as *auth.Server,
	accounts bool,
) *Patients {
	cookie := origins.Cookie(request.PatientSession)
	return &Patients{
		store: newStore(
			bucket,
			patientSessions,
			cookie,
			PatientMaxAge,
			fiber.CookieSameSiteLaxMode,
			origins.Secure(),
		),
		auth: as, accounts: accounts,
	}
}

// LoggedIn returns the ID of the patient of the request's session; "" for nobody.
func (p *Patients) LoggedIn(c *fiber.Ctx) (string, error) {
	who, err := p.store.values(c)
	if err != nil {
		return "", err
	}
	return p.patientOf(c.UserContext(), who)
}

// patientOf returns the patient of a session; "" for nobody.
func (p *Patients) patientOf(ctx context.Context, who map[string]string) (string, error) {
	if !p.accounts || who == nil {
		return who[keyPatient], nil
	}
	a, err := p.accountOf(ctx, who)
	return a.Patient, err
}

// Account returns the account with which a patient is signed in. It returns the zero Account if
// another patient is signed in, if the account was removed or its password changed, and if
// patients have no accounts.
func (p *Patients) Account(c *fiber.Ctx, patient string) (auth.Account, error) {
	who, err := p.store.values(c)
	if err != nil || !p.accounts || who[keyPatient] != patient {
		return auth.Account{}, err
	}
	return p.accountOf(c.UserContext(), who)
}

func (p *Patients) accountOf(ctx context.Context, who map[string]string) (auth.Account, error) {
	a, err := p.auth.PatientAccount(ctx, who[keyAccount])
	if ehi.CodeOf(err) == ehi.NotFound ||
		err == nil && (a.Patient != who[keyPatient] || changed(a) != who[keyChanged]) {
		return auth.Account{}, nil
	}
	return a, err
}

// Check finds the account with a name and a password. Errors: auth.ErrLogin; ehi.Throttled if
// the account is locked for a while.
func (p *Patients) Check(c *fiber.Ctx, name, password string) (auth.Account, error) {
	a, err := p.auth.LogIn(c.UserContext(), "patient", name, password)
	return a, locked(c, err)
}

// LogIn opens a session of a patient. a is the zero Account if patients have no accounts.
func (p *Patients) LogIn(c *fiber.Ctx, patient string, a auth.Account) error {
	who := map[string]string{keyPatient: patient}
	if a.Name != "" {
		who[keyAccount], who[keyChanged] = a.Name, changed(a)
	}
	return p.store.begin(c, who)
}

// LogOut ends the request's session, if there is one.
func (p *Patients) LogOut(c *fiber.Ctx) error { return p.store.end(c) }

// lasts returns a check of whether a patient's session is still valid, see store.lasts.
func (p *Patients) lasts(c *fiber.Ctx) func(context.Context) (bool, error) {
	return p.store.lasts(c, func(ctx context.Context, who map[string]string) (bool, error) {
		patient, err := p.patientOf(ctx, who)
		return patient != "", err
	})
}
