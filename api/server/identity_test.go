package server

import (
	"testing"

	"ehi-server/auth"
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
	mark := s.present("chief", byConfig, "").Mark
	if !mayApprove(s, "chief", mark) || !mayApprove(of(func(*Server) {}), "chief", mark) {
		t.Error("an approval does not count")
	}
	for name, change := range map[string]func(*Server){
		"another password": func(s *Server) { s.AdminPassword = "another password of a test" },
		"no password":      func(s *Server) { s.AdminPassword = "" },
		"another name":     func(s *Server) { s.AdminUser = "other" },
		"the sandbox":      func(s *Server) { s.Sandbox = !s.Sandbox },
	} {
		if mayApprove(of(change), "chief", mark) {
			t.Errorf("with %s the approval counts still", name)
		}
	}
	if mayApprove(s, "chief", byConfig) || mayApprove(s, "other", mark) {
		t.Error("an approval of somebody else counts")
	}
}

func mayApprove(s *Server, name, mark string) bool { return reviewers{s}.MayApprove(name, mark) }

// Whoever has two names that differ in case alone, or an account and a name at the provider, is one of
// two administrators, not both.
func TestOnePersonApprovesOnceUnderAllNames(t *testing.T) {
	s := routed(t)
	if _, err := s.Auth.AddAccount(t.Context(), auth.Account{Name: "ada", Role: auth.Reviewer}, "four plain words here"); err != nil {
		t.Fatal(err)
	}
	for name, another := range map[string]bool{
		"ada": false, "Ada": false, "ada (OpenID)": false, "ADA (OpenID)": false, "ａｄａ": false, "nora (OpenID)": true, "nora": true,
	} {
		if (reviewers{s}).SamePerson("ada", name) == another {
			t.Errorf("%q is another person: %v", name, !another)
		}
	}
}
