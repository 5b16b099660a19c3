package auth_test

import (
	"sync"
	"testing"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// Of administrators whose names look alike, and who are added at once by two processes, one stays at most.
func TestOfNamesThatLookAlikeAtOnceOneStays(t *testing.T) {
	one, c, b := newServer(t)
	two := attach(t, b, c)
	names := []string{"margaret", "mаrgaret", "mаrgаret", "margаret", "margarеt", "mаrgarеt"} // of Latin and Cyrillic letters
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			s := []*auth.Server{one, two}[i%2]
			_, errs[i] = s.AddAccount(t.Context(), auth.Account{Name: name, Role: auth.Reviewer}, "four plain words here 77")
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
