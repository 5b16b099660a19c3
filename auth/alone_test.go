package auth_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// A client that registers itself never keeps a name that looks like that of a client which an
// administrator has registered before, in whatever process and however recently.
func TestNoRegistrationIsNamedLikeOneThatIsMadeAtOnce(t *testing.T) {
	one, c, b := newServer(t)
	two := attach(t, b, c)
	of := func(name, by string) auth.Client {
		return auth.Client{
			Name:         name,
			CreatedBy:    by,
			Kind:         auth.Public,
			Scope:        "launch/patient patient/$ehi-export",
			RedirectURIs: []string{"https://app.example.org/cb"},
		}
	}
	for round := range 40 {
		// a Cyrillic letter
		name, like := fmt.Sprintf("Record %c", 'a'+round), fmt.Sprintf("Reсord %c", 'a'+round)
		if round >= 26 {
			name, like =
				fmt.Sprintf("Chart %c", 'a'+round-26), fmt.Sprintf("Сhart %c", 'a'+round-26)
		}
		var all sync.WaitGroup
		all.Go(func() {
			if _, _, err := one.AddClient(t.Context(), of(name, "admin")); err != nil {
				t.Errorf("an administrator's: %v", err)
			}
		})
		all.Go(func() {
			_, _, err := two.AddClient(t.Context(), of(like, auth.SelfRegistered))
			if err != nil && ehi.CodeOf(err) != ehi.Invalid {
				t.Errorf("its own: %v", err)
			}
		})
		all.Wait()
		first, own := uint64(0), uint64(0) // their revisions
		err := b.Auth.Entries(t.Context(), subject.KindOf("client").All(), func(e kv.Entry) error {
			var known auth.Client
			switch err := json.Unmarshal(e.Value, &known); {
			case err != nil:
				return nil // no client
			case known.Name == name:
				first = e.Revision
			case known.Name == like:
				own = e.Revision
			}
			return nil
		})
		if err != nil || first == 0 {
			t.Fatalf("the administrator's is not there: %v", err)
		}
		if own > first {
			t.Fatalf("round %d: %s registered itself after %s was there, and stays", round, like,
				name)
		}
	}
}

// If two processes add administrators with similar names at the same time, at most one of them
// remains.
func TestOfNamesThatLookAlikeAtOnceOneStays(t *testing.T) {
	one, c, b := newServer(t)
	two := attach(t, b, c)
	// of Latin and Cyrillic letters
	names := []string{"margaret", "mаrgaret", "mаrgаret", "margаret", "margarеt", "mаrgarеt"}
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			s := []*auth.Server{one, two}[i%2]
			_, errs[i] = s.AddAccount(t.Context(), auth.Account{Name: name, Role: auth.Reviewer},
				"four plain words here 77")
		})
	}
	all.Wait()
	added := 0
	for i, err := range errs {
		if err == nil {
			added++
		} else if ehi.CodeOf(err) != ehi.Conflict {
			t.Errorf("%s: %v", names[i], err)
		}
	}
	left, err := attach(t, b, c).Accounts(t.Context()) // what is stored
	if err != nil || len(left) > 1 || added > 1 {
		t.Errorf("%d were added, and %v are left, %v", added, left, err)
	}
}
