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

// Role is what an administrator may do; each may do what the one before may.
type Role string

// The roles.
const (
	// Viewer sees jobs and how the server does.
	Viewer Role = "viewer"
	// Reviewer decides about exports, and adds documents to them.
	Reviewer Role = "reviewer"
	// Admin does everything: clients, accounts, keys, imports, backups, the audit trail.
	Admin Role = "admin"
)

// Roles lists the roles, least first.
func Roles() []Role { return []Role{Viewer, Reviewer, Admin} }

// May reports whether the role is at least another.
func (r Role) May(least Role) bool {
	return slices.Index(Roles(), r) >= slices.Index(Roles(), least) && slices.Contains(Roles(), r)
}

// Account is who can log in: a patient, or an administrator.
type Account struct {
	// Name is 1 to 64 bytes of letters, digits and other ASCII but spaces (RFC 8265 3.3). Case
	// does not count, nor how a letter is composed.
	Name string `json:"username"`
	// Patient is the id of whose record it opens; "" for an administrator.
	Patient string `json:"patient,omitempty"`
	// Role is an administrator's; "" for a patient.
	Role Role `json:"role,omitempty"`
	// Created tells it from another account of the same name, before it or after it.
	Created time.Time `json:"created"`
	// Changed is when the password or the second factor was last set: sessions from before are
	// void.
	Changed time.Time `json:"changed"`
	// SecondFactor is whether a second factor is set up. It follows from the record, and is not
	// set.
	SecondFactor bool `json:"second_factor,omitempty"`
}

// Kind is the directory that the account is in: patient or admin.
func (a Account) Kind() string {
	if a.Patient != "" {
		return "patient"
	}
	return adminKind
}

type accountRecord struct {
	Account
	// argon2id; "" of who has no account here
	PasswordHash string        `json:"password_hash,omitempty"`
	Factor       *secondFactor `json:"totp,omitempty"` // nil where there is none
	// Configuration is the hash of the mark of one, see Configure.
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
	// ErrLogin is the one answer to an unknown name and to a wrong password.
	ErrLogin = ehi.Errorf(ehi.Unauthenticated, "Invalid username or password")
)

// Locked is the answer to a log-in that comes too soon after wrong passwords, whether the name
// is known or not.
type Locked struct{ For time.Duration }

func (l *Locked) Error() string {
	return fmt.Sprintf("too many wrong passwords: locked for %v", l.For)
}

// directory is the administrators as every process knows them: followed, so that who was removed
// is out at once.
type directory struct {
	mu    sync.RWMutex
	byKey map[subject.Subject]Account
	stop  func()
}

// followAdmins follows the accounts of a kind, admin, config or openid.
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

// take takes an account in, or forgets it where a is nil: what this process has stored at once,
// what others have when the news of it comes. Patients' are passed over.
func (d *directory) take(key subject.Subject, a *Account) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a == nil {
		delete(d.byKey, key)
	} else if a.Patient == "" {
		d.byKey[key] = *a
	}
}

// reloaded forgets the administrators that went while the connection was away.
func (d *directory) reloaded(keys map[subject.Subject]uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.byKey {
		if _, there := keys[key]; !there {
			delete(d.byKey, key)
		}
	}
}

// Administrator finds an administrator by name; ok is false where there is none, or no more.
func (s *Server) Administrator(name string) (a Account, ok bool) {
	return s.admins.find(accountKey(adminKind, name))
}

// StoredAdministrator is Administrator by the record, which this process may not have heard of yet.
// Errors: ErrNoAccount.
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

// takeAccount takes in what this process has stored of an account; nil is that it was removed.
func (s *Server) takeAccount(key subject.Subject, kind string, a *Account) {
	switch kind {
	case configuredKind:
		s.configured.take(key, a)
	case providedKind:
		s.provided.take(key, a)
	case configurationKind: // nobody follows it
	default:
		s.admins.take(key, a)
	}
}

// PatientAccount finds a patient's account by name. Errors: ErrNoAccount.
func (s *Server) PatientAccount(ctx context.Context, name string) (Account, error) {
	a, err := s.account(ctx, accountKey("patient", name))
	return a.Account, err
}

// Administrators lists the administrators' accounts, by name.
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

// Accounts lists all accounts: administrators, and patients by name.
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

// accountAt is an account's record and its revision. Errors: ErrNoAccount.
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

// AddAccount stores an account with its password. Errors: ErrAccountExists; ehi.Invalid, with
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

// aloneOfItsLook takes a new account back whose name looks like that of another administrator.
// Two that are added at once, in whatever processes, do not know of each other before they are
// stored: from then on one of them does, at least. Errors: ehi.Conflict.
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

// administratorLike finds an administrator whose name looks like that of a new one, and is
// another: under the one, approvals and the audit trail would read as of the other. Of the
// configuration's administrator nobody has the very name either: he signs in under it, and it
// could be no account's.
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

// isReserved reports whether a name is that of the configuration's administrator, or looks like it.
func (s *Server) isReserved(name string) bool {
	return s.Reserved != "" && (SameName(s.Reserved, name) || alike(s.Reserved, name))
}

// Reserving are the administrators' accounts whose names are that of the configuration's
// administrator, or look like it: they were there before he was called so.
func (s *Server) Reserving() (names []string) {
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

// newPassword is the hash of an account's new password. Errors: ehi.Invalid.
func (s *Server) newPassword(ctx context.Context, a Account, password string) (string, error) {
	if err := CheckPassword(password, a.Name, wordsOf(s.Issuer)...); err != nil {
		return "", err
	}
	return s.hashes.hash(ctx, password)
}

// SetPassword gives an account another password; a second factor stays. kind is patient or admin.
// Errors: ErrNoAccount; ehi.Invalid.
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

// RemoveAccount forgets an account. Its sessions end at once, and so does what applications may
// that a patient's account has let in. kind is patient or admin. Errors: ErrNoAccount.
func (s *Server) RemoveAccount(ctx context.Context, kind, name string) error {
	key := accountKey(kind, name)
	a, err := s.account(ctx, key)
	if err != nil {
		return err
	}
	// What it has let in goes first, so that a removal that is cut short leaves an account which
	// can be removed again, and then what it has let in meanwhile.
	if err := s.disown(ctx, a.Account); err != nil {
		return err
	}
	if err := s.KV.Forget(ctx, key); err != nil {
		return err
	}
	s.takeAccount(key, kind, nil)
	return s.disown(ctx, a.Account)
}

// LogIn checks a name and a password. kind is patient or admin. What is wrong shows neither in
// the answer nor in its time. Errors: ErrLogin; *Locked, also where the password would be right.
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

// LogInByConfig is LogIn for the one administrator of the configuration, under the same limits. The
// account says whether he has a second factor.
func (s *Server) LogInByConfig(
	ctx context.Context, wantName, wantPassword, name, password string,
) (Account, error) {
	settle, err := s.attempt(ctx, accountKey(configuredKind, name))
	if err != nil {
		return Account{}, err
	}
	if len(password) <= MaxPassword { // it takes as long as an account's
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

// Wrong passwords that are free, and how the pause behind the next ones grows: 1 s, 2 s, 4 s, to
// 15 minutes. Counts are forgotten after a day without a wrong one.
const (
	freeFailures   = 5
	firstPause     = time.Second
	longestPause   = 15 * time.Minute
	failuresMemory = 24 * time.Hour
)

// failures is how often a name was given with a wrong password, one after the other.
type failures struct {
	Count int       `json:"n"`
	Until time.Time `json:"until,omitzero"` // no log-in before
}

// attempt begins a log-in under a name: it counts as a failure until it is settled, so that many
// at once are no more guesses than one after the other. Errors: *Locked.
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
		if kv.IsConflict(err) { // another attempt came between
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
