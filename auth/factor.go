package auth

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// The second factor of administrators: codes of an authenticator app (TOTP, RFC 6238), and
// recovery codes for those who have lost it. The account's record stores both. Using a code up
// is a compare-and-set, so that only one of several concurrent uses succeeds, in whatever
// process.

// The kinds of accounts with a second factor. The configured administrator has no account until
// a second factor is set up; the record then has no password.
const (
	adminKind      = "admin"
	configuredKind = "config"
)

// Proof is how a second factor was proved.
type Proof string

// The proofs.
const (
	ByApp      Proof = "totp"
	ByRecovery Proof = "recovery"
)

const (
	// totpStep is how long the app shows a code. totpSkew is how many steps a clock may be off.
	totpStep = 30 * time.Second
	totpSkew = 1
	// totpSecret is the length of a secret in bytes, as recommended by RFC 4226 4 R6.
	totpSecret = 20
	// recoveryCodes is the number of recovery codes, recoveryLength their length: 80 random
	// bits.
	recoveryCodes  = 10
	recoveryLength = 16
)

// Errors of second factors.
var (
	// ErrCode is returned both for a wrong code and for one that was used before.
	ErrCode = ehi.Errorf(ehi.Unauthenticated, "The code is wrong, or was used before")
	// ErrNoSecondFactor is returned if no second factor is set up.
	ErrNoSecondFactor = ehi.Errorf(ehi.Conflict, "This account has no second factor")
	// ErrNewCode is returned if the code of a new app is wrong.
	ErrNewCode = ehi.Errorf(ehi.Invalid,
		"The code does not fit. Check the clock of your device, and enter the code that the app "+
			"shows now")
)

// secondFactor is a second factor in the account's record.
type secondFactor struct {
	Secret string    `json:"secret"` // base32
	Since  time.Time `json:"since"`
	// LastStep is the last time step whose code was used. Codes up to this step are rejected.
	LastStep uint64 `json:"last_step"`
	// Recovery holds the digests of the unused recovery codes.
	Recovery []string `json:"recovery,omitempty"`
}

// NewSecret returns a secret for an authenticator app in base32, and its otpauth URI for a QR
// code. The app displays service and account.
func NewSecret(service, account string) (secret, uri string, err error) {
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer:      service,
		AccountName: account,
		SecretSize:  totpSecret,
	})
	if err != nil {
		return "", "", err
	}
	return key.Secret(), key.URL(), nil
}

// base32Secret is the encoding of a secret (RFC 4648 6, without padding).
var base32Secret = base32.StdEncoding.WithPadding(base32.NoPadding)

// SecretURI returns the otpauth URI of a secret of NewSecret.
func SecretURI(secret, service, account string) (string, error) {
	raw, err := base32Secret.DecodeString(secret)
	if err != nil {
		return "", err
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: service, AccountName: account, Secret: raw})
	if err != nil {
		return "", err
	}
	return key.URL(), nil
}

// plainCode removes separators from a code.
func plainCode(code string) string {
	return strings.ToUpper(strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\u00a0' || r == '\t' {
			return -1
		}
		return r
	}, code))
}

// stepOf returns the time step after last that a code of a secret belongs to, near an instant,
// or 0.
func stepOf(secret, code string, at time.Time, last uint64) uint64 {
	around := uint64(at.Unix()) / uint64(totpStep/time.Second)
	for step := max(around-totpSkew, last+1); step <= around+totpSkew; step++ {
		want, err := hotp.GenerateCodeCustom(secret, step, hotp.ValidateOpts{
			Digits:    otp.DigitsSix,
			Algorithm: otp.AlgorithmSHA1,
		})
		if err == nil && Equal(want, code) {
			return step
		}
	}
	return 0
}

// use uses a code up. It returns "" if the code is invalid.
func (f *secondFactor) use(code string, at time.Time) Proof {
	code = plainCode(code)
	if step := stepOf(f.Secret, code, at, f.LastStep); step > 0 {
		f.LastStep = step
		return ByApp
	}
	if i := slices.Index(f.Recovery, recoveryDigest(f.Secret, code)); i >= 0 {
		f.Recovery = slices.Delete(slices.Clone(f.Recovery), i, i+1)
		return ByRecovery
	}
	return ""
}

// recover replaces the recovery codes.
func (f *secondFactor) recover() (codes []string) {
	f.Recovery = nil
	for range recoveryCodes {
		code := rand.Text()[:recoveryLength]
		f.Recovery = append(f.Recovery, recoveryDigest(f.Secret, code))
		codes = append(codes, strings.ToLower(code[:4]+"-"+code[4:8]+"-"+code[8:12]+"-"+code[12:]))
	}
	return codes
}

// recoveryDigest returns the stored digest of a recovery code. A fast hash is enough because 80
// random bits cannot be searched. The secret keeps the digests of different accounts distinct.
func recoveryDigest(secret, code string) string { return hash(secret + "\x00" + code) }

// Enrol sets up or replaces the second factor of an administrator. code must prove that the app
// has the secret. Earlier sessions become invalid. kind is admin or config. It returns the
// recovery codes, which cannot be read again. Errors: ErrNewCode, ErrNoAccount.
func (s *Server) Enrol(
	ctx context.Context, kind, name, secret, code string,
) (recovery []string, a Account, err error) {
	step := stepOf(secret, plainCode(code), s.Now(), 0)
	if step == 0 {
		return nil, a, ErrNewCode
	}
	a, err = s.changeAccount(ctx, kind, name, func(r *accountRecord) error {
		r.Factor = &secondFactor{Secret: secret, Since: s.Now().UTC(), LastStep: step}
		recovery = r.Factor.recover()
		r.Changed = s.Now().UTC()
		return nil
	})
	return recovery, a, err
}

// RenewRecovery generates new recovery codes and invalidates the old ones. Errors:
// ErrNoSecondFactor.
func (s *Server) RenewRecovery(
	ctx context.Context, kind, name string,
) (recovery []string, err error) {
	_, err = s.changeAccount(ctx, kind, name, func(r *accountRecord) error {
		if r.Factor == nil {
			return ErrNoSecondFactor
		}
		recovery = r.Factor.recover()
		return nil
	})
	return recovery, err
}

// ResetSecondFactor removes an administrator's second factor and ends his sessions. kind is
// admin or config. Errors: ErrNoSecondFactor, ErrNoAccount.
func (s *Server) ResetSecondFactor(ctx context.Context, kind, name string) error {
	_, err := s.changeAccount(ctx, kind, name, func(r *accountRecord) error {
		if r.Factor == nil {
			return ErrNoSecondFactor
		}
		r.Factor, r.Changed = nil, s.Now().UTC()
		return nil
	})
	if err != nil {
		return err
	}
	return s.KV.Forget(ctx, failureRecords.Of(hash(guesses(kind, name).String())))
}

// CheckCode uses up a code of an administrator's second factor. Wrong codes delay further
// attempts like wrong passwords. Errors: ErrCode; ErrNoSecondFactor; *Locked, even if the code
// is right.
func (s *Server) CheckCode(ctx context.Context, kind, name, code string) (by Proof, err error) {
	settle, err := s.attempt(ctx, guesses(kind, name))
	if err != nil {
		return "", err
	}
	_, err = s.changeAccount(ctx, kind, name, func(r *accountRecord) error {
		if r.Factor == nil {
			return ErrNoSecondFactor
		}
		if by = r.Factor.use(code, s.Now()); by == "" {
			return ErrCode
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return by, settle(true)
}

// guesses returns the key under which wrong codes of an account are counted.
func guesses(kind, name string) subject.Subject { return accountKey("factor-"+kind, name) }

// RecoveryLeft returns how many recovery codes an administrator has left.
func (s *Server) RecoveryLeft(ctx context.Context, kind, name string) (int, error) {
	a, err := s.account(ctx, accountKey(kind, name))
	if errors.Is(err, ErrNoAccount) || err == nil && a.Factor == nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return len(a.Factor.Recovery), nil
}

// Configured returns the record of the configured administrator, or the zero Account if he never
// had a second factor.
func (s *Server) Configured(name string) Account {
	a, _ := s.configured.find(accountKey(configuredKind, name))
	return a
}

// StoredConfigured is Configured from the record, which this process may not have received yet.
func (s *Server) StoredConfigured(ctx context.Context, name string) (Account, error) {
	return s.storedElsewhere(ctx, configuredKind, name)
}

// changeAccount changes an account's record by compare-and-set; change may be called several
// times. For somebody without an account here it creates the record. Errors: ErrNoAccount, and
// those of change.
func (s *Server) changeAccount(
	ctx context.Context, kind, name string, change func(*accountRecord) error,
) (Account, error) {
	key := accountKey(kind, name)
	for {
		a, revision, err := s.accountAt(ctx, key)
		if errors.Is(err, ErrNoAccount) && isElsewhere(kind) {
			a, err = accountRecord{Account: Account{Name: name, Created: s.madeNow()}}, nil
			if kind == configuredKind {
				a.Role = Admin
			}
		}
		if err == nil {
			err = change(&a)
		}
		if err != nil {
			return a.Account, err
		}
		a.SecondFactor = a.Factor != nil
		data, err := json.Marshal(a)
		if err != nil {
			return a.Account, err
		}
		if revision == 0 {
			_, err = s.KV.Create(ctx, key, data)
		} else {
			_, err = s.KV.Update(ctx, key, data, revision)
		}
		if kv.IsConflict(err) { // somebody else has changed it
			continue
		}
		if err == nil {
			s.takeAccount(key, kind, &a.Account)
		}
		return a.Account, err
	}
}
