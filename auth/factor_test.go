package auth_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// appCode returns the code that an authenticator app shows for a secret at an instant (RFC
// 6238).
func appCode(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	_, _ = mac.Write(binary.BigEndian.AppendUint64(nil, uint64(at.Unix()/30))) // a hash never fails
	sum := mac.Sum(nil)
	from := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[from:])&0x7fffffff)%1_000_000)
}

// Test vectors of RFC 6238, appendix B. An app with six digits shows the last six.
func TestCodesAreThoseOfRFC6238(t *testing.T) {
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(
		[]byte("12345678901234567890"))
	for at, want := range map[int64]string{
		59:          "94287082",
		1111111109:  "07081804",
		1234567890:  "89005924",
		20000000000: "65353130",
	} {
		if got := appCode(t, secret, time.Unix(at, 0)); got != want[2:] {
			t.Errorf("at %d it shows %s, not %s", at, got, want)
		}
	}
}

// enrolled returns an administrator with a second factor, whose set-up code is used up.
func enrolled(
	t *testing.T, s *auth.Server, c *clock, name string,
) (secret string, recovery []string) {
	t.Helper()
	if _, err := s.AddAccount(t.Context(),
		auth.Account{Name: name, Role: auth.Admin, SecondFactor: true},
		"a password of a test"); err != nil {
		t.Fatal(err)
	}
	if a, _ := s.Administrator(name); a.SecondFactor {
		t.Error("an account comes with a second factor")
	}
	secret, uri, err := auth.NewSecret("EHI export ehi.example.org", name)
	if err != nil || !strings.HasPrefix(uri, "otpauth://totp/") || !strings.Contains(uri, secret) {
		t.Fatalf("%s, %v", uri, err)
	}
	if again, err := auth.SecretURI(secret, "EHI export ehi.example.org", name); err != nil ||
		again != uri {
		t.Errorf("the URI of the same secret is %s, not %s: %v", again, uri, err)
	}
	if _, _, err := s.Enrol(t.Context(), "admin", name, secret, "000"); !errors.Is(err,
		auth.ErrNewCode) {
		t.Errorf("without a code: %v", err)
	}
	recovery, a, err := s.Enrol(t.Context(), "admin", name, secret, appCode(t, secret, c.now()))
	if err != nil || !a.SecondFactor || len(recovery) != 10 {
		t.Fatalf("%+v, %d recovery codes, %v", a, len(recovery), err)
	}
	return secret, recovery
}

// Each code of the app is valid once and near its time, and each recovery code is valid once, in
// whichever process.
func TestCodesOfTheSecondFactorAreUsedOnce(t *testing.T) {
	s, clock, b := newServer(t)
	other := attach(t, b, clock)
	secret, recovery := enrolled(t, s, clock, "ada")
	check := func(at *auth.Server, code string, want auth.Proof) {
		t.Helper()
		by, err := at.CheckCode(t.Context(), "admin", "ada", code)
		if by != want || (want == "") != errors.Is(err, auth.ErrCode) {
			t.Errorf("%q: %q, %v", code, by, err)
		}
	}
	check(s, appCode(t, secret, clock.now()), "") // it was used to set up the factor
	clock.Add(int64(2 * time.Minute))
	late, now := appCode(t, secret, clock.now().Add(-time.Minute)), appCode(t, secret, clock.now())
	check(s, late, "")
	check(other, now[:3]+" "+now[3:], auth.ByApp)
	check(s, now, "")
	check(other, now, "")
	check(s, appCode(t, secret, clock.now().Add(-30*time.Second)), "") // earlier than a used one
	clock.Add(int64(2 * time.Minute))
	// the app's clock is ahead
	check(s, appCode(t, secret, clock.now().Add(30*time.Second)), auth.ByApp)
	check(s, recovery[3], auth.ByRecovery)
	check(other, recovery[3], "")
	check(other, strings.ToUpper(strings.ReplaceAll(recovery[4], "-", " ")), auth.ByRecovery)
	if n, err := s.RecoveryLeft(t.Context(), "admin", "ada"); n != 8 || err != nil {
		t.Errorf("%d recovery codes are left, %v", n, err)
	}
	renewed, err := s.RenewRecovery(t.Context(), "admin", "ada")
	if err != nil || len(renewed) != 10 {
		t.Fatalf("%v, %v", renewed, err)
	}
	check(s, recovery[5], "")
	check(s, renewed[5], auth.ByRecovery)
	err = s.SetPassword(t.Context(), "admin", "ada", "another plain password of hers")
	if err != nil {
		t.Fatal(err)
	}
	clock.Add(int64(2 * time.Minute))
	// a new password does not remove the second factor
	check(s, appCode(t, secret, clock.now()), auth.ByApp)
}

// Of many simultaneous uses of a code exactly one succeeds.
func TestOfManyUsesOfACodeOneWins(t *testing.T) {
	s, clock, b := newServer(t)
	other := attach(t, b, clock)
	secret, recovery := enrolled(t, s, clock, "ada")
	clock.Add(int64(2 * time.Minute))
	for _, code := range append(recovery, "of the app") {
		if code == "of the app" {
			code = appCode(t, secret, clock.now())
		}
		var won atomic.Int64
		var all sync.WaitGroup
		for i := range 4 { // as many as are allowed without a pause
			all.Go(func() {
				_, err := []*auth.Server{s, other}[i%2].CheckCode(t.Context(), "admin", "ada", code)
				if err == nil {
					won.Add(1)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d uses of a code won", won.Load())
		}
		clock.Add(int64(20 * time.Minute))
	}
}

// Wrong codes delay further attempts like wrong passwords, whether or not the next code is
// right.
func TestWrongCodesLockTheSecondFactor(t *testing.T) {
	s, clock, _ := newServer(t)
	secret, recovery := enrolled(t, s, clock, "ada")
	clock.Add(int64(2 * time.Minute))
	for range 5 {
		_, err := s.CheckCode(t.Context(), "admin", "ada", "no code")
		if !errors.Is(err, auth.ErrCode) {
			t.Fatal(err)
		}
	}
	for _, code := range []string{appCode(t, secret, clock.now()), recovery[0], ""} {
		if _, err := s.CheckCode(t.Context(), "admin", "ada", code); err == nil {
			t.Fatal("it is not locked")
		} else if l, ok := errors.AsType[*auth.Locked](err); !ok || l.For <= 0 {
			t.Errorf("%v", err)
		}
	}
	if _, err := s.LogIn(t.Context(), "admin", "ada", "a password of a test"); err != nil {
		t.Errorf("the password is locked: %v", err)
	}
	clock.Add(int64(20 * time.Minute))
	_, err := s.CheckCode(t.Context(), "admin", "ada", appCode(t, secret, clock.now()))
	if err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// A reset second factor is gone in every process, and earlier sessions are invalid. The
// configured administrator has a second factor without an account.
func TestASecondFactorIsReset(t *testing.T) {
	s, clock, b := newServer(t)
	other := attach(t, b, clock)
	secret, _ := enrolled(t, s, clock, "ada")
	before, _ := s.Administrator("ada")
	until(t, "the second factor", func() bool {
		a, _ := other.Administrator("ada")
		return a.SecondFactor
	})
	clock.Add(int64(2 * time.Minute))
	if err := other.ResetSecondFactor(t.Context(), "admin", "ada"); err != nil {
		t.Fatal(err)
	}
	until(t, "the reset", func() bool {
		a, _ := s.Administrator("ada")
		return !a.SecondFactor && a.Changed.After(before.Changed)
	})
	if _, err := s.CheckCode(t.Context(), "admin", "ada",
		appCode(t, secret, clock.now())); !errors.Is(err, auth.ErrNoSecondFactor) {
		t.Errorf("%v", err)
	}
	if err := s.ResetSecondFactor(t.Context(), "admin", "ada"); ehi.CodeOf(err) != ehi.Conflict {
		t.Errorf("twice: %v", err)
	}
	if err := s.ResetSecondFactor(t.Context(), "admin", "nobody"); !errors.Is(err,
		auth.ErrNoAccount) {
		t.Errorf("of nobody: %v", err)
	}

	own, _, err := auth.NewSecret("EHI export", "root")
	if err != nil {
		t.Fatal(err)
	}
	if s.Configured("root").SecondFactor {
		t.Error("the configured administrator begins with a second factor")
	}
	_, _, err = s.Enrol(t.Context(), "config", "root", own, appCode(t, own, clock.now()))
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the configured administrator's", func() bool {
		return other.Configured("root").SecondFactor
	})
	_, err = s.LogIn(t.Context(), "config", "root", "")
	if !errors.Is(err, auth.ErrLogin) && err == nil {
		t.Error("his record opens without a password")
	}
	if list := s.Administrators(); len(list) != 1 {
		t.Errorf("he is an account: %+v", list)
	}
	if err := other.ResetSecondFactor(t.Context(), "config", "root"); err != nil {
		t.Fatal(err)
	}
	until(t, "its reset", func() bool { return !s.Configured("root").SecondFactor })
}
