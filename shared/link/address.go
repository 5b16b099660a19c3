package link

import (
	"net/url"
	"strings"
)

// Servers returns the addresses of a NATS URL without credentials, for messages.
func Servers(urls string) string {
	all := strings.Split(urls, ",")
	for i, each := range all {
		u, err := url.Parse(strings.TrimSpace(each))
		if err != nil {
			all[i] = "an address that cannot be read" // it may contain a password
			continue
		}
		u.User = nil
		all[i] = u.String()
	}
	return strings.Join(all, ", ")
}

// IsWebSocket reports whether the URL uses NATS over WebSocket.
func IsWebSocket(urls string) bool {
	urls = strings.TrimSpace(urls)
	return strings.HasPrefix(urls, "ws://") || strings.HasPrefix(urls, "wss://")
}
