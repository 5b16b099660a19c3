package server

import "testing"

// RFC 6749 2.3.1, RFC 9110 11.1: the scheme comes in any case, with one space or more behind it.
func TestSMART4BasicCredentials(t *testing.T) {
	for _, header := range []string{"Basic YSUzQTpi", "basic YSUzQTpi", "BASIC   YSUzQTpi"} {
		id, secret, has, err := basic(header)
		if id != "a:" || secret != "b" || !has || err != nil {
			t.Errorf("%q: %q %q %t, %v", header, id, secret, has, err)
		}
	}
	for _, header := range []string{"Basic zzz", "basic ====", "Basic JTp4"} {
		if _, _, has, err := basic(header); !has || err == nil {
			t.Errorf("%q: %t, %v", header, has, err)
		}
	}
	for _, header := range []string{"", "Bearer YTpi", "Basically YTpi"} {
		if _, _, has, err := basic(header); has || err != nil {
			t.Errorf("%q: %t, %v", header, has, err)
		}
	}
}
