package subject_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"

	"ehi-server/shared/subject"
)

var kind = subject.KindOf("ehi.test")

// validKey is what JetStream's client takes for a key.
var validKey = regexp.MustCompile(`^[-/_=.a-zA-Z0-9]+$`)

func TestATokenIsKeptAndAnythingElseIsDigested(t *testing.T) {
	for part, kept := range map[string]bool{
		"a": true, "A-z_0": true, strings.Repeat("x", 64): true,
		"": false, "a.b": false, "*": false, ">": false, "a b": false, "ü": false, "a\r\n": false,
		"=":                     false,
		strings.Repeat("x", 65): false, strings.Repeat("x", 1<<20): false,
	} {
		got := kind.Of(part).String()
		if (got == "ehi.test."+part) != kept {
			t.Errorf("%.80q: %q", part, got)
		}
	}
	if got := kind.Of("j").Number(7).String(); got != "ehi.test.j.7" {
		t.Error(got)
	}
	if got := (subject.Kind{}).Of("j").String(); got != "j" {
		t.Error(got)
	}
	if got := kind.Match("a", "", "c d").String(); !strings.HasPrefix(got, "ehi.test.a.*.=") {
		t.Error(got)
	}
	if got := kind.Within("more").Under("a").String(); got != "ehi.test.more.a.*" {
		t.Error(got)
	}
}

func TestSubjectsAreReadBack(t *testing.T) {
	long := strings.Repeat("x", 100)
	made := kind.Of("a", long)
	read, ok := subject.Read(made.String())
	if !ok || read != made {
		t.Errorf("%q, %v", read, ok)
	}
	if parts := kind.Parts(read); len(parts) != 2 || parts[0] != "a" {
		t.Errorf("%q", parts)
	}
	for _, foreign := range []string{"ehi", "ehi.test", "ehi.tested.a"} {
		if s, ok := subject.Read(foreign); !ok || kind.Parts(s) != nil {
			t.Errorf("%q: %v, %q", foreign, ok, kind.Parts(s))
		}
	}
	for _, bad := range []string{
		"", ".", "a.", "a.*", ">", "a b", "=", "a.=x", long, strings.Repeat("a.", 16) + "a",
	} {
		if s, ok := subject.Read(bad); ok {
			t.Errorf("%q: %q", bad, s)
		}
	}
}

// Whatever the parts are, NATS takes the subject, the key is valid and short, and different
// parts are different subjects.
func TestSubjectsAreValidBoundedAndDistinct(t *testing.T) {
	parts := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z.*> ]{0,80}`)), 1,
		12)
	rapid.Check(t, func(t *rapid.T) {
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		one, other := kind.Of(a...).String(), kind.Of(b...).String()
		if !server.IsValidPublishSubject(one) || !validKey.MatchString(one) || len(one) > 1024 {
			t.Fatalf("%q: %q", a, one)
		}
		same := len(a) == len(b) && strings.Join(a, "\x01") == strings.Join(b, "\x01")
		if (one == other) != same {
			t.Fatalf("%q and %q: %q, %q", a, b, one, other)
		}
		if read, ok := subject.Read(one); !ok || read.String() != one {
			t.Fatalf("%q is not read back", one)
		}
		if got := kind.Match(a...).String(); !server.IsValidSubject(got) {
			t.Fatalf("%q: %q", a, got)
		}
	})
}

func FuzzSubject(f *testing.F) {
	f.Add("a", "b")
	f.Add(strings.Repeat("x", 5000), "*")
	f.Fuzz(func(t *testing.T, a, b string) {
		got := kind.Of(a, b).String()
		if !server.IsValidPublishSubject(got) || len(got) > 256 {
			t.Errorf("%q, %q: %q", a, b, got)
		}
	})
}
