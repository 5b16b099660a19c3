package server

import (
	"testing"
	"time"

	"ehi-server/auth"
	"ehi-server/shared/ehi"
)

// An approval by the administrator of the configuration counts while that is the same: the name, the
// password and the mode.
func TestApprovalsEndWithTheConfigurationOfTheirApprover(t *testing.T) {
	s := routed(t, func(c *Config) { c.AdminUser, c.AdminPassword = "chief", "a long password of a test" })
	of := func(change func(*Server)) *Server {
		other := &Server{Config: s.Config, Deps: s.Deps}
		change(other)
		other.adminMark = other.configured
		return other
	}
	mark := s.approverMark(&signedIn{Name: "chief", Role: auth.Admin, By: byConfig})
	if !s.approves("chief", mark) || !of(func(*Server) {}).approves("chief", mark) {
		t.Error("an approval does not count")
	}
	for name, change := range map[string]func(*Server){
		"another password": func(s *Server) { s.AdminPassword = "another password of a test" },
		"no password":      func(s *Server) { s.AdminPassword = "" },
		"another name":     func(s *Server) { s.AdminUser = "other" },
		"the sandbox":      func(s *Server) { s.Sandbox = !s.Sandbox },
	} {
		if of(change).approves("chief", mark) {
			t.Errorf("with %s the approval counts still", name)
		}
	}
	if s.approves("chief", byConfig) || s.approves("other", mark) {
		t.Error("an approval of somebody else counts")
	}
}

// Whoever has two names that differ in case alone, or an account and a name at the provider, is one of
// two administrators, not both.
func TestOnePersonApprovesOnceUnderAllNames(t *testing.T) {
	s := routed(t)
	if _, err := s.Auth.AddAccount(t.Context(), auth.Account{Name: "ada", Role: auth.Reviewer}, "four plain words here"); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	j := &ehi.Job{Status: ehi.Retrieved}
	if err := j.ApproveByTwo(j.Contents(), "ada", s.approverMark(&signedIn{Name: "ada", By: byAccount}), s.approves, at, time.Hour); err != nil {
		t.Fatal(err)
	}
	for name, another := range map[string]bool{
		"ada": false, "Ada": false, "ada (OpenID)": false, "ADA (OpenID)": false, "ａｄａ": false, "nora (OpenID)": true, "nora": true,
	} {
		if err := s.second(j, &signedIn{Name: name, By: byOpenID}); (err == nil) != another {
			t.Errorf("%q: %v", name, err)
		}
	}
}
