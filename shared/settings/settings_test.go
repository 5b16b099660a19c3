package settings_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"ehi-server/shared/settings"
)

type config struct {
	Wait    time.Duration `range:"200ms..1h" default:"1s" env:"T_WAIT"`
	Count   int           `range:"-1.." default:"1"`
	Size    int64         `range:"..10" default:"1"`
	Ratio   float64       `range:"0..1" default:"1"`
	Base    string        `form:"origin"`
	Addr    string        `form:"address" default:":1"`
	Servers string        `form:"nats"`
	Trusted []string      `form:"network"`
	Name    string        `form:"name" default:"x"`
	Pass    string        `form:"text" secret:"" default:"x"`
	Own     string        `form:"even"`
	Kind    string        `enum:"a,b" default:"a"`
	On      bool
}

var own = settings.Forms{
	"even": {Name: "of even length", Fits: func(s string) bool { return len(s)%2 == 0 }},
}

// Each value at its limit passes, each beyond is named with its flag, its variable and what it
// has to be; all of them at once.
func TestEachValueIsHeldToItsTag(t *testing.T) {
	for _, c := range []struct {
		args string
		want []string
	}{
		{"", nil},
		{
			"--wait=200ms --count=-1 --size=10 --ratio=0 --base=https://a.example:8443 " +
				"--addr=[::1]:0 --servers=nats://a:4222,tls://b --trusted=10.0.0.1 " +
				"--trusted=fc00::/7 --own=ab",
			nil,
		},
		{
			"--wait=1h --size=-5 --ratio=1 --base=http://127.0.0.1 --addr=localhost:65535 --pass=",
			nil,
		},
		{"--wait=199ms", []string{"--wait (T_WAIT) is 199ms: it must be from 200ms to 1h"}},
		{
			"--wait=1h1ns --count=-2 --size=11",
			[]string{
				"--wait (T_WAIT) is 1h0m0.000000001s: it must be from 200ms to 1h",
				"--count is -2: it must be -1 or more",
				"--size is 11: it must be 10 or less",
			},
		},
		{"--ratio=1.01", []string{"--ratio is 1.01: it must be from 0 to 1"}},
		{"--own=abc", []string{`--own is "abc": it must be of even length`}},
		{"--name=", []string{`--name is "": it must be text`}},
		{"--addr=", []string{`--addr is "": it must be host:port`}},
		{"--pass=\x01", []string{"--pass is wrong: it must be text"}},
		{
			"--trusted=10.0.0.1 --trusted=rubbish",
			[]string{"--trusted is [10.0.0.1 rubbish]: it must be an IP address"},
		},
	} {
		var got config
		k, err := kong.New(&got)
		if err != nil {
			t.Fatal(err)
		}
		ctx, err := k.Parse(strings.Fields(c.args))
		if err != nil {
			t.Fatal(err)
		}
		before := got
		problems, err := settings.Of(&got, own)
		if err != nil || len(problems) != len(c.want) {
			t.Errorf("%s: %q, %v", c.args, problems, err)
			continue
		}
		for i, want := range c.want {
			if !strings.HasPrefix(problems[i], want) {
				t.Errorf("%s: %q, want %q", c.args, problems[i], want)
			}
		}
		if !reflect.DeepEqual(before, got) {
			t.Errorf("%s: the check changed %+v to %+v", c.args, before, got)
		}
		err = settings.Refuse(settings.Problems(ctx.Flags(), own))
		if (err != nil) != (len(c.want) > 0) {
			t.Errorf("%s: refused: %v", c.args, err)
		}
	}
}

func TestForms(t *testing.T) {
	for flag, texts := range map[string][]string{
		"base": {
			"ftp://x", "https://x/", "https://x/fhir", "x", "https://", "https://u@x", "https://x?",
			"https://x#", "https://x:99999", "https://x:", "https:// x", "https://x\n",
			"https://a b", "//x",
		},
		"addr": {
			"127.0.0.1", "127.0.0.1:65536", ":-1", ":x", "a b:1", "1:2:3", "[::1:1", "http://x:1",
		},
		"servers": {
			"http://x", "nats://", "x:4222", "nats://a,b", "nats://x:0x1", ",", "nats://a,ws://b",
		},
		"trusted": {"10.0.0.0/33", "10.0.0.256", "x", "10.0.0.0-10.0.0.9", "fe80::/129"},
	} {
		for _, text := range texts {
			c := config{Addr: ":1", Name: "x", Wait: time.Second}
			switch flag {
			case "base":
				c.Base = text
			case "addr":
				c.Addr = text
			case "servers":
				c.Servers = text
			case "trusted":
				c.Trusted = []string{text}
			}
			problems, err := settings.Of(&c, own)
			if err != nil || len(problems) != 1 || !strings.HasPrefix(problems[0], "--"+flag) {
				t.Errorf("--%s=%q: %q, %v", flag, text, problems, err)
			}
		}
	}
}

func TestFlagsWithoutATagAreFound(t *testing.T) {
	k, err := kong.New(&struct {
		Text    string `help:"x"`
		Texts   []string
		Number  int
		Kind    string `enum:"a" default:"a"`
		File    string `type:"existingfile"`
		On      *bool
		Ranged  int    `range:"1.."`
		Spelled string `form:"text"`
	}{})
	if err != nil {
		t.Fatal(err)
	}
	got, want := settings.Untagged(k.Model.Flags), []string{"--text", "--texts", "--number"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("untagged: %v, want %v", got, want)
	}
}
