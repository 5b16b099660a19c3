package link

import (
	"net/url"
	"strings"
)

// Servers are the addresses of a URL of NATS, for people: without credentials.
func Servers(urls string) string {
	all := strings.Split(urls, ",")
	for i, each := range all {
		u, err := url.Parse(strings.TrimSpace(each))
		if err != nil {
			all[i] = "an address that cannot be read" // it may hold a password
			continue
		}
		u.User = nil
		all[i] = u.String()
	}
	return strings.Join(all, ", ")
}

// IsWebSocket reports whether NATS is spoken to over WebSocket.
func IsWebSocket(urls string) bool {
	urls = strings.TrimSpace(urls)
	return strings.HasPrefix(urls, "ws://") || strings.HasPrefix(urls, "wss://")
}
