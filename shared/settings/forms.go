package settings

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// Form is the required form of a text.
type Form struct {
	// Name completes the sentence "it must be ...".
	Name string
	// Fits reports whether a text has the form. It is not called for an empty text.
	Fits func(text string) bool
	// Why explains why a text does not fit; nil if the name is explanation enough.
	Why func(text string) error
}

// anyText is the form of any text, including the empty one.
const anyText = "text"

// Forms holds the forms by the names that tags use. A command line may add its own:
//
//	text     any text without control characters, also an empty one
//	name     the same, but not an empty one where there is a default
//	address  host:port to listen on; the host may be missing
//	origin   an http or https address without a path, also without a final slash
//	url      an http or https address
//	nats     addresses of NATS servers, with commas between them
//	network  an IP address, or a network as 10.0.0.0/8
type Forms map[string]Form

var forms = Forms{
	anyText:   {Name: "text without control characters", Fits: plain},
	"name":    {Name: "text without control characters, and not empty", Fits: plain},
	"address": {Name: "host:port, such as 127.0.0.1:8888 or :8888", Fits: isAddress},
	"origin": {
		Name: "an http or https address without a path, query or user, such as " +
			"https://ehi.example.org",
		Fits: isOrigin,
	},
	"url": {Name: "an http or https address, such as https://ehi.example.org/r4", Fits: isURL},
	"nats": {
		Name: "addresses of NATS servers, such as nats://nats.example.org:4222, with commas " +
			"between them",
		Fits: isNATS,
	},
	"network": {
		Name: "an IP address or a network, such as 10.0.0.1 or 10.0.0.0/8",
		Fits: isNetwork,
	},
}

func plain(text string) bool { return !strings.ContainsFunc(text, unicode.IsControl) }

func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	return err == nil && isPort(port) && (host == "" || IsHost(host))
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 0 && n <= 65535
}

// IsHost reports whether a text is an IP address, perhaps with a zone, or consists of the
// characters of a host name.
func IsHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return len(text) <= 253 && !strings.ContainsFunc(text, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' &&
			(r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	})
}

// web parses an http or https address. It returns nil for anything else.
func web(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		!IsHost(u.Hostname()) {
		return nil
	}
	if u.Port() != "" && !isPort(u.Port()) || strings.HasSuffix(u.Host, ":") || !plain(text) {
		return nil
	}
	return u
}

func isURL(text string) bool { return web(text) != nil }

func isOrigin(text string) bool {
	u := web(text)
	return u != nil && u.Path == "" && u.User == nil && u.RawQuery == "" && !u.ForceQuery &&
		u.Fragment == "" && !strings.HasSuffix(text, "#")
}

// natsSchemes are the URL schemes of the NATS client.
var natsSchemes = map[string]bool{"nats": true, "tls": true, "ws": true, "wss": true}

// isNATS rejects a mix of WebSocket and other schemes, as the NATS client does.
func isNATS(text string) bool {
	servers, sockets := strings.Split(text, ","), 0
	for _, each := range servers {
		u, err := url.Parse(strings.TrimSpace(each))
		if err != nil || !natsSchemes[u.Scheme] || u.Hostname() == "" ||
			u.Port() != "" && !isPort(u.Port()) {
			return false
		}
		if u.Scheme == "ws" || u.Scheme == "wss" {
			sockets++
		}
	}
	return sockets == 0 || sockets == len(servers)
}

func isNetwork(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(text)
	return err == nil
}
