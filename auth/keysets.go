package auth

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"golang.org/x/sync/singleflight"

	"ehi-server/shared/telemetry"
	"ehi-server/shared/weburl"
)

// Limits for fetching a client's keys from its jwks_uri. Whoever may register clients must not
// be able to make the server call its internal network, wait or exhaust its memory.
const (
	keySetBytes    = 64 << 10
	keySetTimeout  = 5 * time.Second
	keySetFresh    = 15 * time.Minute // age at which it is fetched again
	keySetStale    = 24 * time.Hour   // how long it is used if fetching fails
	keySetPause    = 30 * time.Second // minimum pause between two fetches
	keySetMaxCount = 64               // how many keys of a set are read
	keySetsKept    = 512              // how many sets are cached
)

// assertionKeys parses a JWK set and keeps the public keys that can verify assertions: with a
// kid, for signatures, RSA of at least 2048 bits for RS384, EC P-384 for ES384. It returns an
// error if the data is not a JWK set, or if it contains a private or symmetric key, which nobody
// should publish.
func assertionKeys(data []byte) (jwk.Set, error) {
	set, err := jwk.Parse(data)
	if err != nil {
		return nil, errors.New("it is no JWK set")
	}
	out := jwk.NewSet()
	for i := range min(set.Len(), keySetMaxCount) {
		key, _ := set.Key(i)
		if private, err := jwk.IsPrivateKey(key); err != nil || private {
			return nil, errors.New("it holds a key that is not public")
		}
		alg, fits := assertionAlgorithm(key)
		if kid, _ := key.KeyID(); !fits || kid == "" {
			continue
		}
		if err := key.Set(jwk.AlgorithmKey, alg); err != nil {
			return nil, err
		}
		if err := out.AddKey(key); err != nil { // a duplicate
			continue
		}
	}
	return out, nil
}

// assertionAlgorithm returns the algorithm that a key verifies, from its type and attributes.
func assertionAlgorithm(key jwk.Key) (alg jwa.SignatureAlgorithm, fits bool) {
	switch key.KeyType() {
	case jwa.RSA():
		var raw rsa.PublicKey
		if jwk.Export(key, &raw) != nil || raw.N.BitLen() < 2048 || raw.N.BitLen() > 8192 {
			return alg, false
		}
		alg = jwa.RS384()
	case jwa.EC():
		var crv jwa.EllipticCurveAlgorithm
		if key.Get(jwk.ECDSACrvKey, &crv) != nil || crv != jwa.P384() {
			return alg, false
		}
		alg = jwa.ES384()
	default:
		return alg, false
	}
	if use, has := key.KeyUsage(); has && use != "sig" {
		return alg, false
	}
	said, has := key.Algorithm()
	return alg, !has || said.String() == alg.String()
}

// keySets fetches and caches the keys of clients that are registered with a jwks_uri. It fetches
// only when an assertion needs keys. (jwk.Cache does not fit: docs/design.md says why.)
type keySets struct {
	http   *http.Client
	now    func() time.Time
	flight singleflight.Group // one fetch at a time of each URL, which alone writes its set
	byURL  *lru.Cache[string, keySet]
}

// keySet is the last result and the time of the last attempt.
type keySet struct {
	keys jwk.Set // nil until a fetch succeeded
	// due is when the keys are fetched again, expires when they are no longer used.
	due, expires time.Time
	tried        time.Time
}

// newKeySets returns a fetcher that connects only to public addresses and to the given private
// ranges. It checks addresses when it connects, after name resolution, so that a name cannot
// change its address in between (DNS rebinding).
func newKeySets(private []netip.Prefix, now func() time.Time) (*keySets, error) {
	byURL, err := lru.New[string, keySet](keySetsKept)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{
		Timeout: keySetTimeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !mayAsk(at.Addr(), private) {
				return fmt.Errorf("%s is no address from which keys are fetched", address)
			}
			return nil
		},
	}
	return &keySets{now: now, byURL: byURL, http: &http.Client{
		Timeout: keySetTimeout,
		Transport: plainOnlyPrivate{private, &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    keySetTimeout,
			ResponseHeaderTimeout:  keySetTimeout,
			MaxResponseHeaderBytes: 16 << 10,
			// No proxy from the environment, and no decompression bombs.
			DisableKeepAlives: true, DisableCompression: true,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}, nil
}

// plainOnlyPrivate allows plain HTTP to addresses of the private ranges only.
type plainOnlyPrivate struct {
	private []netip.Prefix
	next    *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (p plainOnlyPrivate) RoundTrip(r *http.Request) (*http.Response, error) {
	at, err := netip.ParseAddr(r.URL.Hostname())
	if r.URL.Scheme != "https" && (err != nil || !within(at.Unmap(), p.private)) {
		return nil, errors.New("keys are fetched over https only")
	}
	return p.next.RoundTrip(r)
}

// MayFetchKeys reports whether the server could fetch a client's keys from a URL, judged by its
// text. The address of a host name is only known when the server connects.
func (s *Server) MayFetchKeys(uri string) bool {
	u, err := weburl.Parse(uri) // it reads 127.1 and 0x7f000001 as resolvers do
	if err != nil {
		return false
	}
	secure := strings.HasPrefix(u.Origin(), "https://")
	at, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return secure && !isLocalName(u.Hostname())
	}
	return mayAsk(at, s.PrivateKeySets) && (secure || within(at.Unmap(), s.PrivateKeySets))
}

// isLocalName reports whether a name never exists on the internet (RFC 6761 6.3, RFC 6762 3, RFC
// 8375, and names that ICANN reserves for private use).
func isLocalName(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if !strings.Contains(host, ".") {
		return true
	}
	return slices.ContainsFunc([]string{
		".localhost", ".local", ".internal", ".home.arpa", ".localdomain",
	}, func(end string) bool {
		return strings.HasSuffix(host, end)
	})
}

func within(at netip.Addr, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(at) })
}

// ranges parses address ranges.
func ranges(texts ...string) (out []netip.Prefix) {
	for _, p := range texts {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// notPublic are ranges outside of the standard classes (loopback, private, link-local,
// multicast, unspecified) that are not on the internet either (IANA special-purpose registries).
var notPublic = ranges("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16",
	"3fff::/20")

// public6 is the part of IPv6 that is allocated to the internet. It excludes the ranges that
// embed IPv4: ::a.b.c.d, ::ffff:0:a.b.c.d and 64:ff9b::a.b.c.d.
var public6 = netip.MustParsePrefix("2000::/3")

// mayAsk reports whether keys may be fetched from an address, in whatever notation.
func mayAsk(at netip.Addr, private []netip.Prefix) bool {
	at = at.Unmap().WithZone("")
	switch {
	case within(at, private):
		return true
	case at.Is6() && (!public6.Contains(at) || isATAP(at)):
		return false
	}
	return at.IsGlobalUnicast() && !at.IsPrivate() && !at.IsLoopback() &&
		!at.IsLinkLocalUnicast() && !within(at, notPublic)
}

// isATAP reports whether an IPv6 address embeds an IPv4 address of a tunnel (RFC 5214 6.1).
func isATAP(at netip.Addr) bool {
	b := at.As16()
	return b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

func (k *keySets) close() { k.http.CloseIdleConnections() }

// get returns the keys at a URL. It fetches them if they are older than keySetFresh, expired or
// lack the kid, but not more often than every keySetPause. If that fails, it uses the old keys
// unless they expired. Errors: why there are none.
func (k *keySets) get(ctx context.Context, url, kid string) (jwk.Set, error) {
	set, due := k.look(url, kid)
	if !due {
		return set, nil
	}
	// others wait for the result too; the client has its own timeout
	ctx = context.WithoutCancel(ctx)
	got, err, _ := k.flight.Do(url, func() (any, error) {
		if set, due := k.look(url, kid); !due {
			return set, nil
		}
		return k.fetch(ctx, url)
	})
	if err != nil && set != nil {
		return set, nil
	}
	if err != nil {
		return nil, err
	}
	return got.(jwk.Set), nil
}

// look returns the cached keys of a URL, or nil, and whether to fetch them.
func (k *keySets) look(url, kid string) (jwk.Set, bool) {
	kept, _ := k.byURL.Get(url)
	now := k.now()
	if kept.keys != nil && now.After(kept.expires) {
		kept.keys = nil
	}
	if now.Sub(kept.tried) < keySetPause {
		if kept.keys == nil {
			return jwk.NewSet(), false
		}
		return kept.keys, false
	}
	if kept.keys == nil || now.After(kept.due) {
		return kept.keys, true
	}
	_, has := kept.keys.LookupKeyID(kid)
	return kept.keys, !has
}

func (k *keySets) fetch(ctx context.Context, url string) (jwk.Set, error) {
	set, header, err := k.download(ctx, url)
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	telemetry.ClientKeys.WithLabelValues(outcome).Inc()
	kept, _ := k.byURL.Get(url)
	kept.tried = k.now()
	if err == nil {
		kept.keep(set, header)
	}
	k.byURL.Add(url, kept)
	return set, err
}

// keep replaces the keys by those that were fetched just now. They may not be cached for longer
// than the Cache-Control header of their response allows (SMART App Launch 2.2, "Signature
// Verification"). Even so they are used until the next fetch is allowed: else whoever sends
// assertions could make the server send as many requests to the client.
func (s *keySet) keep(keys jwk.Set, header http.Header) {
	fresh, stale := keySetFresh, keySetStale
	if life, limited := lifetime(header); limited {
		stale = min(max(life, keySetPause), stale)
		fresh = min(stale, fresh)
	}
	s.keys, s.due, s.expires = keys, s.tried.Add(fresh), s.tried.Add(stale)
}

// lifetime returns how long a response may still be cached by its Cache-Control header. limited is
// false if the header sets no limit. A value that cannot be parsed counts as 0 (RFC 9111 4.2.1).
func lifetime(header http.Header) (life time.Duration, limited bool) {
	for directive := range strings.SplitSeq(strings.Join(header["Cache-Control"], ","), ",") {
		name, value, _ := strings.Cut(directive, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "no-store", "no-cache":
			return 0, true
		case "max-age":
			if age := seconds(strings.Trim(strings.TrimSpace(value), `"`)); !limited || age < life {
				life, limited = age, true
			}
		}
	}
	return max(life-seconds(header.Get("Age")), 0), limited
}

// seconds parses a number of seconds; 0 if it is none. More than a year counts as a year.
func seconds(text string) time.Duration {
	const year = 365 * 24 * 60 * 60
	n, err := strconv.ParseUint(text, 10, 64) // MaxUint64 if it is larger
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return time.Duration(min(n, year)) * time.Second
}

func (k *keySets) download(ctx context.Context, url string) (jwk.Set, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close() // read completely, or abandoned
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK ||
		media != "application/json" && media != "application/jwk-set+json" {
		return nil, nil, fmt.Errorf("%s answers %d with %q", url, resp.StatusCode, media)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, keySetBytes+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > keySetBytes {
		return nil, nil, fmt.Errorf("%s answers more than %d bytes", url, keySetBytes)
	}
	set, err := assertionKeys(data)
	return set, resp.Header, err
}

// keysOf returns the keys that verify a client's assertions.
func (s *Server) keysOf(ctx context.Context, c *clientRecord, kid string) (jwk.Set, error) {
	switch {
	case c.keys != nil:
		return c.keys(ctx)
	case c.JWKSURI == "":
		return assertionKeys(c.JWKS)
	}
	set, err := s.keySets.get(ctx, c.JWKSURI, kid)
	if err != nil {
		return nil, &Error{
			Code:        "invalid_client",
			Description: "The client's keys cannot be fetched from its jwks_uri",
			Cause:       err,
		}
	}
	return set, nil
}
