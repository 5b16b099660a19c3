package address

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func proxies(t *testing.T, list ...string) Proxies {
	t.Helper()
	p, err := ParseProxies(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// peer is the peer of all connections in these tests.
var peer = netip.MustParseAddr("198.51.100.1")

func lines(list ...string) (out [][]byte) {
	for _, line := range list {
		out = append(out, []byte(line))
	}
	return out
}

// Behind proxies, the address is the last entry that a trusted proxy wrote and that is not a
// trusted proxy. Entries that a client writes before it do not count.
func TestTheAddressBehindProxies(t *testing.T) {
	for _, c := range []struct {
		trusted         []string
		forwarded, want string
	}{
		{nil, "192.0.2.1", "198.51.100.1"},
		{[]string{"192.0.2.99"}, "192.0.2.1", "198.51.100.1"},
		{[]string{"198.51.100.1"}, "", "198.51.100.1"},
		{[]string{"198.51.100.1"}, "192.0.2.1", "192.0.2.1"},
		{[]string{"::ffff:198.51.100.1"}, "192.0.2.1", "192.0.2.1"},
		{[]string{"::ffff:198.51.100.0/120"}, "192.0.2.1", "192.0.2.1"},
		{[]string{"198.51.100.1"}, "10.9.9.9, 192.0.2.1", "192.0.2.1"},
		{[]string{"198.51.100.1", "10.0.0.0/8"}, "6.6.6.6, 192.0.2.1, 10.0.0.7", "192.0.2.1"},
		{[]string{"198.51.100.1", "10.0.0.0/8"}, "nonsense, 10.0.0.7", "10.0.0.7"},
		{[]string{"198.51.100.1", "10.0.0.0/8"}, "10.0.0.8, 10.0.0.7", "10.0.0.8"},
		{[]string{"198.51.100.1"}, "::ffff:192.0.2.1", "192.0.2.1"},
		{[]string{"198.51.100.1"}, "2001:db8::1", "2001:db8::1"},
		{[]string{"198.51.100.1"}, "192.0.2.1:4711", "198.51.100.1"},
	} {
		got := proxies(t, c.trusted...).Client(peer, lines(c.forwarded))
		if got.String() != c.want {
			t.Errorf("%v trusted, %q: %s, want %s", c.trusted, c.forwarded, got, c.want)
		}
	}
}

// A proxy that sends its entry as a second header, after the client's, is trusted like one that
// appends it to the first.
func TestTheAddressBehindProxiesThatSendTheirOwnHeader(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"6.6.6.6", "192.0.2.1"}, "192.0.2.1"},
		{[]string{"", "192.0.2.1"}, "192.0.2.1"},
		{[]string{"6.6.6.6, 7.7.7.7", "192.0.2.1", "10.0.0.7"}, "192.0.2.1"},
		{[]string{"192.0.2.1", "nonsense"}, "198.51.100.1"},
	} {
		got := proxies(t, "198.51.100.1", "10.0.0.0/8").Client(peer, lines(c.lines...))
		if got.String() != c.want {
			t.Errorf("%q: %s, want %s", c.lines, got, c.want)
		}
	}
}

// A client cannot change where its requests seem to come from by what it writes before its
// proxy's entry.
func TestAddressesThatAClientWritesAreNotBelieved(t *testing.T) {
	trusted := proxies(t, "198.51.100.1", "10.0.0.0/8")
	rapid.Check(t, func(t *rapid.T) {
		written := rapid.SliceOf(rapid.SampledFrom([]string{
			"10.0.0.7", "198.51.100.1", "6.6.6.6", "::1", "", "nonsense", "10.0.0.1, 7.7.7.7", ",",
		})).Draw(t, "lines")
		got := trusted.Client(peer, lines(append(written, "192.0.2.1")...))
		if got.String() != "192.0.2.1" {
			t.Fatalf("%q: %s", written, got)
		}
	})
}

func TestWhatIsNoProxyIsRefused(t *testing.T) {
	for _, text := range []string{"", "proxy", "10.0.0.0/33", "10.0.0"} {
		if got, err := ParseProxies([]string{"192.0.2.1", text}); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestNetworksOfCustomers(t *testing.T) {
	for of, want := range map[netip.Addr]string{
		netip.MustParseAddr("192.0.2.1"):         "192.0.2.1",
		netip.MustParseAddr("::ffff:192.0.2.1"):  "192.0.2.1",
		netip.MustParseAddr("2001:db8:1:2:3::4"): "2001:db8:1:2::/64",
		netip.MustParseAddr("fe80::1%eth0"):      "fe80::/64",
		{}:                                       "",
	} {
		if got := Network(of); got != want {
			t.Errorf("%s is of %q, want %q", of, got, want)
		}
	}
}
