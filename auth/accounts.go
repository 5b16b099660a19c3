package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/encoding/json"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// Role is what an administrator may do. Each role includes the lower ones.
type Role string

// The roles.
const (
	// Viewer may see jobs and the state of the server.
	Viewer Role = "viewer"
	// Reviewer may also approve and reject exports, and attach documents to them.
	Reviewer Role = "reviewer"
	// Admin may do everything: clients, accounts, keys, imports, backups, the audit trail.
	Admin Role = "admin"
)

// Roles lists the roles from the lowest to the highest.
func Roles() []Role { return []Role{Viewer, Reviewer, Admin} }

// May reports whether the role includes another.
func (r Role) May(least Role) bool {
	return slices.Index(Roles(), r) >= slices.Index(Roles(), least) && slices.Contains(Roles(), r)
}

// Account is an account of a patient or an administrator.
type Account struct {
	// Name has 1 to 64 bytes of letters, digits and other ASCII characters except spaces (RFC
	// 8265 3.3). Case and Unicode normalization do not matter.
	Name string `json:"username"`
	// Patient is the ID of the patient whose record the account opens; "" for an administrator.
	Patient string `json:"patient,omitempty"`
	// Role is the role of an administrator; "" for a patient.
	Role Role `json:"role,omitempty"`
	// Created is when the account was created. It distinguishes accounts that have the same name
	// one after the other.
	Created time.Time `json:"created"`
	// Changed is when the password or the second factor was last set. Earlier sessions are
	// invalid.
	Changed time.Time `json:"changed"`
	// SecondFactor reports whether a second factor is set up. It is derived from the record and
	// cannot be set.
	SecondFactor bool `json:"second_factor,omitempty"`
}

// Kind returns the directory of the account: patient or admin.
func (a Account) Kind() string {
	if a.Patient != "" {
		return "patient"
	}
	return adminKind
}

type accountRecord struct {
	Account
	// PasswordHash is an argon2id hash; "" for somebody without an account here.
	PasswordHash string        `json:"password_hash,omitempty"`
	Factor       *secondFactor `json:"totp,omitempty"` // nil if none is set up
	// Configuration is the hash of the mark of a configuration, see Configure.
	Configuration string `json:"configuration,omitempty"`
}

func accountKey(kind, name string) subject.Subject {
	if kind == providedKind {
		return accountRecords.Of(kind, hash(name))
	}
	return accountRecords.Of(kind, hash(folded(name)))
}

// Errors of accounts.
var (
	ErrNoAccount     = ehi.Errorf(ehi.NotFound, "There is no such account")
	ErrAccountExists = ehi.Errorf(ehi.Conflict, "There is an account of this name")
	// ErrLogin is returned both for an unknown name and for a wrong password.
	ErrLogin = ehi.Errorf(ehi.Unauthenticated, "Invalid username or password")
)

// Locked is returned for a log-in too soon after wrong passwords, whether or not the name
// exists.
type Locked struct{ For time.Duration }

func (l *Locked) Error() string {
	return fmt.Sprintf("too many wrong passwords: locked for %v", l.For)
}

// directory holds the administrators in this process. It follows the bucket, so that a removal
// takes effect immediately in every process.
type directory struct {
	mu    sync.RWMutex
	byKey map[subject.Subject]Account
	stop  func()
}

// followAdmins follows the accounts of a kind: admin, config or openid.
func followAdmins(ctx context.Context, kv *kv.Bucket, kind string) (*directory, error) {
	d := &directory{byKey: map[subject.Subject]Account{}}
	var err error
	d.stop, err = kv.Follow(ctx, accountRecords.Under(kind), d.apply, d.reloaded)
	return d, err
}

func (d *directory) apply(e kv.Entry) {
	var a accountRecord
	if e.Deleted || json.Unmarshal(e.Value, &a) != nil {
		d.take(e.Key, nil)
		return
	}
	d.take(e.Key, &a.Account)
}

// take adds an account, or removes it if a is nil. It is called for this process's changes
// immediately, and for those of others when they arrive. Accounts of patients are ignored.
func (d *directory) take(key subject.Subject, a *Account) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a == nil {
		delete(d.byKey, key)
	} else if a.Patient == "" {
		d.byKey[key] = *a
	}
}

// reloaded removes the administrators that were deleted while the connection was lost.
func (d *directory) reloaded(keys map[subject.Subject]uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.byKey {
		if _, there := keys[key]; !there {
			delete(d.byKey, key)
		}
	}
}

// Administrator returns an administrator by name. ok is false if there is none.
func (s *Server) Administrator(name string) (a Account, ok bool) {
	return s.admins.find(accountKey(adminKind, name))
}

// StoredAdministrator is Administrator from the record, which this process may not have received
// yet. Errors: ErrNoAccount.
func (s *Server) StoredAdministrator(ctx context.Context, name string) (Account, error) {
	a, err := s.account(ctx, accountKey(adminKind, name))
	return a.Account, err
}

func (d *directory) find(key subject.Subject) (a Account, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a, ok = d.byKey[key]
	return a, ok
}

// takeAccount applies a change of an account that this process has stored; nil means that it was
// removed.
func (s *Server) takeAccount(key subject.Subject, kind string, a *Account) {
	switch kind {
	case configuredKind:
		s.configured.take(key, a)
	case providedKind:
		s.provided.take(key, a)
	case configurationKind: // not followed
	default:
		s.admins.take(key, a)
	}
}

// PatientAccount returns a patient's account by name. Errors: ErrNoAccount.
func (s *Server) PatientAccount(ctx context.Context, name string) (Account, error) {
	a, err := s.account(ctx, accountKey("patient", name))
	return a.Account, err
}

// Administrators lists the administrators' accounts by name.
func (s *Server) Administrators() []Account {
	s.admins.mu.RLock()
	defer s.admins.mu.RUnlock()
	out := make([]Account, 0, len(s.admins.byKey))
	for _, a := range s.admins.byKey {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Account) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Accounts lists all accounts: administrators, then patients, each by name.
func (s *Server) Accounts(ctx context.Context) ([]Account, error) {
	out := s.Administrators()
	at := len(out)
	err := s.KV.Entries(ctx, accountRecords.Under("patient"), func(e kv.Entry) error {
		var a accountRecord
		if err := json.Unmarshal(e.Value, &a); err != nil {
			return err
		}
		out = append(out, a.Account)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out[at:], func(a, b Account) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (s *Server) account(ctx context.Context, key subject.Subject) (accountRecord, error) {
	a, _, err := s.accountAt(ctx, key)
	return a, err
}

// accountAt returns an account's record and its revision. Errors: ErrNoAccount.
func (s *Server) accountAt(
	ctx context.Context, key subject.Subject,
) (a accountRecord, revision uint64, err error) {
	e, err := s.KV.Get(ctx, key)
	if errors.Is(err, kv.ErrNotFound) {
		return a, 0, ErrNoAccount
	}
	if err != nil {
		return a, 0, err
	}
	return a, e.Revision, json.Unmarshal(e.Value, &a)
}

// AddAccount stores an account with its password. Errors: ErrAccountExists; ehi.Invalid with
// what to change.
func (s *Server) AddAccount(ctx context.Context, a Account, password string) (Account, error) {
	switch {
	case a.Name == "" || len(a.Name) > 64 || !isUsername(a.Name):
		return a,
			ehi.Errorf(ehi.Invalid,
				"username must be 1 to 64 bytes of letters, digits and other ASCII without spaces")
	case (a.Patient == "") == (a.Role == ""):
		return a, ehi.Errorf(ehi.Invalid, "An account has either a patient or a role")
	case a.Role != "" && !slices.Contains(Roles(), a.Role):
		return a, ehi.Errorf(ehi.Invalid, "role must be %s, %s or %s", Viewer, Reviewer, Admin)
	}
	if other, ok := s.administratorLike(a); ok {
		return a, easilyTaken(other)
	}
	a.Created = s.madeNow()
	a.Changed, a.SecondFactor = a.Created, false
	data, err := s.accountRecord(ctx, a, password)
	if err != nil {
		return a, err
	}
	if _, err = s.KV.Create(ctx, accountKey(a.Kind(), a.Name), data); kv.IsConflict(err) {
		return a, ErrAccountExists
	}
	if err != nil {
		return a, err
	}
	s.admins.take(accountKey(a.Kind(), a.Name), &a)
	return a, s.aloneOfItsLook(ctx, a)
}

// aloneOfItsLook removes a new administrator's account again if its name looks like that of
// another administrator. Two such accounts that are added at the same time, possibly by
// different processes, do not see each other before they are stored; afterwards at least one of
// them does. Errors: ehi.Conflict.
func (s *Server) aloneOfItsLook(ctx context.Context, a Account) error {
	if a.Role == "" {
		return nil
	}
	err := s.KV.Entries(ctx, accountRecords.Under(adminKind), func(e kv.Entry) error {
		var other accountRecord
		if err := json.Unmarshal(e.Value, &other); err != nil {
			return err
		}
		if !SameName(other.Name, a.Name) && alike(other.Name, a.Name) {
			return easilyTaken(other.Name)
		}
		return nil
	})
	if ehi.CodeOf(err) == ehi.Conflict {
		return errors.Join(err, s.RemoveAccount(ctx, a.Kind(), a.Name))
	}
	return err
}

func easilyTaken(other string) error {
	return ehi.Errorf(ehi.Conflict, "The name is easily taken for that of the administrator %s",
		other)
}

// administratorLike returns an administrator whose name looks like that of the new account and
// who is another person. Otherwise approvals and audit events of one could be mistaken for those
// of the other. The name of the configured administrator is reserved too.
func (s *Server) administratorLike(a Account) (name string, ok bool) {
	if a.Role == "" {
		return "", false
	}
	for _, other := range s.Administrators() {
		if !SameName(other.Name, a.Name) && alike(other.Name, a.Name) {
			return other.Name, true
		}
	}
	return s.Reserved, s.isReserved(a.Name)
}

// isReserved reports whether a name equals or looks like that of the configured administrator.
func (s *Server) isReserved(name string) bool {
	return s.Reserved != "" && (SameName(s.Reserved, name) || alike(s.Reserved, name))
}

// AccountsNamedLikeConfigured lists the administrators' accounts whose names equal or look like
// that of the configured administrator, because they were created before he got that name.
func (s *Server) AccountsNamedLikeConfigured() (names []string) {
	for _, a := range s.Administrators() {
		if s.isReserved(a.Name) {
			names = append(names, a.Name)
		}
	}
	return names
}

func (s *Server) accountRecord(ctx context.Context, a Account, password string) ([]byte, error) {
	hashed, err := s.newPassword(ctx, a, password)
	if err != nil {
		return nil, err
	}
	return json.Marshal(accountRecord{Account: a, PasswordHash: hashed})
}

// newPassword checks a new password of an account and returns its hash. Errors: ehi.Invalid.
func (s *Server) newPassword(ctx context.Context, a Account, password string) (string, error) {
	if err := CheckPassword(password, a.Name, wordsOf(s.Issuer)...); err != nil {
		return "", err
	}
	return s.hashes.hash(ctx, password)
}

// SetPassword changes the password of an account; a second factor stays. kind is patient or
// admin. Errors: ErrNoAccount; ehi.Invalid.
func (s *Server) SetPassword(ctx context.Context, kind, name, password string) error {
	key := accountKey(kind, name)
	a, err := s.account(ctx, key)
	if err != nil {
		return err
	}
	hashed, err := s.newPassword(ctx, a.Account, password)
	if err != nil {
		return err
	}
	_, err = s.changeAccount(ctx, kind, name, func(r *accountRecord) error {
		r.PasswordHash, r.Changed = hashed, s.Now().UTC()
		return nil
	})
	if err != nil {
		return err
	}
	return s.KV.Forget(ctx, failureRecords.Of(hash(key.String())))
}

// RemoveAccount deletes an account. Its sessions end immediately, and so does the access of
// applications that a patient's account has granted. kind is patient or admin. Errors:
// ErrNoAccount.
func (s *Server) RemoveAccount(ctx context.Context, kind, name string) error {
	key := accountKey(kind, name)
	a, err := s.account(ctx, key)
	if err != nil {
		return err
	}
	// Withdraw its grants first, so that an interrupted removal leaves an account that can be
	// removed again; withdraw them again afterwards for grants made meanwhile.
	if err := s.disown(ctx, a.Account); err != nil {
		return err
	}
	if err := s.KV.Forget(ctx, key); err != nil {
		return err
	}
	s.takeAccount(key, kind, nil)
	return s.disown(ctx, a.Account)
}

// LogIn checks a name and a password. kind is patient or admin. Neither the error nor the time
// of a failure shows which of them is wrong. Errors: ErrLogin; *Locked, even if the password is
// right.
func (s *Server) LogIn(ctx context.Context, kind, name, password string) (Account, error) {
	key := accountKey(kind, name)
	settle, err := s.attempt(ctx, key)
	if err != nil {
		return Account{}, err
	}
	a, right, err := s.checkPassword(ctx, key, password)
	if err != nil {
		return Account{}, err
	}
	if err := settle(right); err != nil {
		return Account{}, err
	}
	if !right {
		return Account{}, ErrLogin
	}
	return a, nil
}

func (s *Server) checkPassword(
	ctx context.Context, key subject.Subject, password string,
) (Account, bool, error) {
	a, err := s.account(ctx, key)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNoAccount) {
		return a.Account, false, err
	}
	if len(password) > MaxPassword {
		return a.Account, false, nil
	}
	if !known {
		return a.Account, false, s.hashes.waste(ctx, password)
	}
	right, err := s.hashes.check(ctx, a.PasswordHash, password)
	return a.Account, right, err
}

// LogInByConfig is LogIn for the configured administrator, under the same limits. The account
// reports whether he has a second factor.
func (s *Server) LogInByConfig(
	ctx context.Context, wantName, wantPassword, name, password string,
) (Account, error) {
	settle, err := s.attempt(ctx, accountKey(configuredKind, name))
	if err != nil {
		return Account{}, err
	}
	if len(password) <= MaxPassword { // takes as long as the check of an account
		if err := s.hashes.waste(ctx, password); err != nil {
			return Account{}, err
		}
	}
	right := wantPassword != "" && Equal(name, wantName) && Equal(password, wantPassword)
	if err := settle(right); err != nil {
		return Account{}, err
	}
	if !right {
		return Account{}, ErrLogin
	}
	a, err := s.account(ctx, accountKey(configuredKind, name))
	if errors.Is(err, ErrNoAccount) {
		return Account{Name: name, Role: Admin}, nil
	}
	return a.Account, err
}

// How many wrong passwords have no consequence, and how the pause after further ones grows: 1 s,
// 2 s, 4 s, up to 15 minutes. A day without a wrong password resets the count.
const (
	freeFailures   = 5
	firstPause     = time.Second
	longestPause   = 15 * time.Minute
	failuresMemory = 24 * time.Hour
)

// failures counts consecutive wrong passwords of a name.
type failures struct {
	Count int       `json:"n"`
	Until time.Time `json:"until,omitzero"` // earliest time of the next log-in
}

// attempt starts a log-in with a name. It counts as a failure until it succeeds, so that
// concurrent attempts allow no more guesses than sequential ones. Errors: *Locked.
func (s *Server) attempt(
	ctx context.Context, account subject.Subject,
) (settle func(right bool) error, err error) {
	key := failureRecords.Of(hash(account.String()))
	for {
		var f failures
		e, err := s.KV.Get(ctx, key)
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			if err := json.Unmarshal(e.Value, &f); err != nil {
				return nil, err
			}
		}
		if left := f.Until.Sub(s.Now()); left > 0 {
			return nil, &Locked{left}
		}
		f.Count++
		if f.Count >= freeFailures {
			f.Until = s.Now().Add(
				min(firstPause<<min(f.Count-freeFailures, 20), longestPause)).UTC()
		}
		data, err := json.Marshal(f)
		if err != nil {
			return nil, err
		}
		if e.Revision == 0 {
			_, err = s.KV.CreateFor(ctx, key, data, failuresMemory)
		} else {
			_, err = s.KV.UpdateFor(ctx, key, data, e.Revision, failuresMemory)
		}
		if kv.IsConflict(err) { // another attempt came in between
			continue
		}
		if err != nil {
			return nil, err
		}
		return func(right bool) error {
			if !right {
				return nil
			}
			return s.KV.Forget(ctx, key)
		}, nil
	}
}
