package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/segmentio/encoding/json"
	"golang.org/x/net/publicsuffix"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
	"ehi-server/shared/weburl"
)

// Kind is how a client authenticates (SMART App Launch 2.2, "Client Authentication").
type Kind string

// The kinds of clients.
const (
	// Public clients cannot keep a secret. They prove themselves by the verifier of their PKCE
	// challenge.
	Public Kind = "public"
	// Symmetric clients have a secret.
	Symmetric Kind = "confidential-symmetric"
	// Asymmetric clients sign assertions with a key whose public half is registered (SMART-5).
	Asymmetric Kind = "confidential-asymmetric"
)

// Client is a registered application or backend service. Fields are named as in RFC 7591 where
// it has them.
type Client struct {
	// ID has 1 to 64 characters of A-Z a-z 0-9 _ and -. If it is empty at registration, the
	// server generates one.
	ID string `json:"client_id"`
	// Name is what patients see on the consent page.
	Name string `json:"client_name"`
	Kind Kind   `json:"kind"`
	// RedirectURIs are the addresses to which patients may be sent back. They are compared
	// exactly, except for the port of a loopback address (RFC 8252 7.3).
	RedirectURIs []string `json:"redirect_uris,omitempty"`
	// RedirectOrigins are the origins to which the release form may redirect, in addition to
	// RedirectURIs (EHI-7).
	RedirectOrigins []string `json:"redirect_origins,omitempty"`
	// Scope limits the scopes that may be granted: space-separated.
	Scope string `json:"scope"`
	// JWKS or JWKSURI gives the public keys of an Asymmetric client.
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`
	// Introspect allows a resource server to introspect tokens of other clients (RFC 7662).
	Introspect bool `json:"introspect,omitempty"`
	// MaySkipForm and MaySkipReview are set by an administrator. They allow the client exports
	// without the patient's form and without an administrator's review (EHI-1).
	MaySkipForm   bool `json:"may_skip_form,omitempty"`
	MaySkipReview bool `json:"may_skip_review,omitempty"`
	// Package is how the client gets documents and tables if its kick-off does not say
	// (_package, NAT-1); "" is ehi.PackageFiles. Populations always have archives.
	Package ehi.Packaging `json:"package,omitempty"`
	// Created is when the client was registered. It distinguishes clients that have the same ID
	// one after the other.
	Created time.Time `json:"created"`
	// CreatedBy is the administrator who registered the client, or SelfRegistered.
	CreatedBy string `json:"created_by,omitempty"`
}

// SelfRegistered is the CreatedBy of a client that registered itself (RFC 7591), without an
// administrator.
const SelfRegistered = "dynamic registration"

// clientRecord is a client as stored, or the built-in client of the sandbox.
type clientRecord struct {
	Client
	SecretHash string `json:"secret_hash,omitempty"` // argon2id

	// For the sandbox's client only.
	anyRedirect, optionalPKCE bool
	plainSecret               string // "" if there is none
	keys                      func(context.Context) (jwk.Set, error)
}

// is reports whether the client may authenticate in a way.
func (c *clientRecord) is(k Kind) bool { return c.Kind == k || c.anyRedirect }

// Errors of the registries.
var (
	ErrNoClient     = ehi.Errorf(ehi.NotFound, "There is no such client")
	ErrClientExists = ehi.Errorf(ehi.Conflict, "There is a client of this id")
)

// validate checks and normalizes a registration. Errors: ehi.Invalid with what to change.
func (c *Client) validate() error {
	if c.ID == "" {
		c.ID = random()[:22]
	}
	c.Name = strings.Join(strings.Fields(c.Name), " ")
	if c.Kind == "" {
		c.Kind = Public
	}
	switch {
	case !urlSafe.MatchString(c.ID):
		return ehi.Errorf(ehi.Invalid, "client_id must be 1 to 64 letters, digits, _ or -")
	case c.Name == "" || len(c.Name) > 200 || !printable(c.Name):
		return ehi.Errorf(ehi.Invalid,
			"client_name must be 1 to 200 bytes of printable text: patients read it")
	case !slices.Contains([]Kind{Public, Symmetric, Asymmetric}, c.Kind):
		return ehi.Errorf(ehi.Invalid, "kind must be %s, %s or %s", Public, Symmetric, Asymmetric)
	case !slices.Contains([]ehi.Packaging{"", ehi.PackageFiles, ehi.PackageZIP}, c.Package):
		return ehi.Errorf(ehi.Invalid, "package must be %s or %s", ehi.PackageFiles, ehi.PackageZIP)
	}
	if err := errors.Join(c.validateRedirects(), c.validateScopes(), c.validateKeys()); err != nil {
		return err
	}
	return nil
}

// printable reports whether a text is displayed as it is. unicode.IsPrint excludes controls,
// formats (bidirectional controls, joiners, tags), private use, surrogates and unassigned
// characters. The other tables are letters and marks that are drawn as nothing.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) || r == unicode.ReplacementChar || r == brailleBlank ||
			unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
	})
}

// brailleBlank is a symbol that looks like a space.
const brailleBlank = '\u2800'

// reverseDomain matches a private-use scheme: the reversed domain of its owner (RFC 8252 7.1).
var reverseDomain = regexp.MustCompile(
	`^[a-z][a-z0-9-]*[a-z0-9](\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)

// known are top-level domains that are also schemes of browsers and systems. People would take
// data.x.y for one.
var known = []string{"chrome", "data", "shell", "tel"}

// privateUse reports whether a scheme is a reversed domain that somebody can have registered, by
// the Public Suffix List. javascript.x.y does not start with a top-level domain, and uk.co
// belongs to nobody alone.
func privateUse(scheme string) bool {
	labels := strings.Split(scheme, ".")
	if !reverseDomain.MatchString(scheme) || slices.Contains(known, labels[0]) {
		return false
	}
	slices.Reverse(labels)
	domain := strings.Join(labels, ".")
	suffix, icann := publicsuffix.PublicSuffix(domain)
	return suffix != domain && (icann || strings.Contains(suffix, "."))
}

// maxRedirects is how many redirect URIs a client may have.
const maxRedirects = 32

func (c *Client) validateRedirects() error {
	if len(c.RedirectURIs) > maxRedirects || len(c.RedirectOrigins) > maxRedirects {
		return ehi.Errorf(ehi.Invalid, "At most %d redirect_uris and redirect_origins",
			maxRedirects)
	}
	for _, uri := range c.RedirectURIs {
		u, err := url.Parse(uri)
		if err == nil {
			_, err = weburl.Parse(uri) // browsers must be able to follow it
		}
		switch {
		case err != nil, !u.IsAbs(), u.Fragment != "" ||
			strings.Contains(uri, "#"), u.User != nil, strings.Contains(uri, "*"), !printable(uri):
			return ehi.Errorf(ehi.Invalid,
				"redirect_uri %q must be a whole URL without a fragment, credentials or *", uri)
		case strings.ContainsFunc(uri, unicode.IsSpace) || hidesControls(uri):
			return ehi.Errorf(ehi.Invalid,
				"redirect_uri %q must have no spaces or control characters", uri)
		case u.Scheme == "https" && u.Host != "", u.Scheme == "http" && loopback(u.Hostname()):
		case privateUse(u.Scheme):
		default:
			return ehi.Errorf(ehi.Invalid,
				"redirect_uri %q must be https, http on a loopback address, or of a private-use "+
					"scheme such as org.example.app", uri)
		}
	}
	c.RedirectOrigins = slices.Clone(c.RedirectOrigins)
	for i, origin := range c.RedirectOrigins {
		u, err := weburl.Parse(origin)
		if err != nil || !mayLead(u) || u.String() != u.Origin()+"/" {
			return ehi.Errorf(ehi.Invalid,
				"redirect_origin %q must be such as https://app.example.org", origin)
		}
		c.RedirectOrigins[i] = u.Origin()
	}
	return nil
}

// hidesControls reports whether a URL contains percent-encoded control characters. Its reader
// may stop at %00 or treat %0D%0A as a line break.
func hidesControls(uri string) bool {
	plain, err := url.PathUnescape(uri)
	for err == nil && plain != uri && !strings.ContainsFunc(plain, unicode.IsControl) {
		uri = plain // it may be encoded twice
		plain, err = url.PathUnescape(uri)
	}
	return strings.ContainsFunc(plain, unicode.IsControl)
}

// mayLead reports whether patients may be redirected to an address: over HTTPS, or on their own
// machine.
func mayLead(u weburl.URL) bool {
	return strings.HasPrefix(u.Origin(), "https:") || u.IsWeb() && loopback(u.Hostname())
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Client) validateScopes() error {
	patient, system, err := splitScopes(c.Scope)
	if err != nil {
		return err
	}
	if patient.Empty() && system.Empty() && !c.Introspect {
		return ehi.Errorf(ehi.Invalid,
			"scope must name at least one scope that the server supports")
	}
	if !patient.Empty() && len(c.RedirectURIs) == 0 {
		return ehi.Errorf(ehi.Invalid,
			"redirect_uris are needed for the scopes of a patient's application")
	}
	if !system.Empty() && c.Kind == Public {
		return ehi.Errorf(ehi.Invalid,
			"system scopes need a client that authenticates: a secret or a key")
	}
	if c.Introspect && c.Kind == Public {
		return ehi.Errorf(ehi.Invalid,
			"introspect needs a client that authenticates: a secret or a key")
	}
	c.Scope = patient.Union(system).String()
	return nil
}

// Privileges describes what a client may do that others may not, or returns "".
func (c Client) Privileges() string {
	var may []string
	if c.MaySkipForm {
		may = append(may, "may skip the patient's form")
	}
	if c.MaySkipReview {
		may = append(may, "may skip review")
	}
	return strings.Join(may, ", ")
}

// splitScopes parses a registration's scopes and reduces each to what can be granted. Errors:
// ehi.Invalid for a scope of which nothing can be granted.
func splitScopes(scope string) (patient, system Scopes, err error) {
	for _, word := range strings.Fields(scope) {
		ofPatient, ofSystem := ParseScopes(word), ParseSystemScopes(word)
		if ofPatient.Empty() && ofSystem.Empty() {
			return patient, system, ehi.Errorf(ehi.Invalid, "scope %q is not supported", word)
		}
		patient, system = patient.Union(ofPatient), system.Union(ofSystem)
	}
	return patient, system, nil
}

func (c *Client) validateKeys() error {
	if c.Kind != Asymmetric {
		if len(c.JWKS) > 0 || c.JWKSURI != "" {
			return ehi.Errorf(ehi.Invalid, "jwks and jwks_uri are for clients of kind %s",
				Asymmetric)
		}
		return nil
	}
	if (len(c.JWKS) > 0) == (c.JWKSURI != "") {
		return ehi.Errorf(ehi.Invalid, "A client of kind %s has either jwks or jwks_uri",
			Asymmetric)
	}
	if c.JWKSURI != "" {
		u, err := url.Parse(c.JWKSURI)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" ||
			u.User != nil || u.Fragment != "" {
			return ehi.Errorf(ehi.Invalid, "jwks_uri must be a URL")
		}
		return nil
	}
	set, err := assertionKeys(c.JWKS)
	if err != nil {
		return ehi.Errorf(ehi.Invalid, "jwks: %v", err)
	}
	if set.Len() == 0 {
		return ehi.Errorf(ehi.Invalid,
			"jwks holds no key for %s: a kid, and RSA of at least 2048 bits or EC P-384",
			strings.Join(AssertionAlgorithms(), " or "))
	}
	return nil
}

// redirectsTo compares a redirect_uri with the registered ones (RFC 9700 2.1): exactly, except
// for the port of a loopback address. It accepts only URLs that weburl can parse.
func (c *clientRecord) redirectsTo(uri string) bool {
	if _, err := weburl.Parse(uri); err != nil {
		return false
	}
	if c.anyRedirect {
		u, err := url.Parse(uri)
		return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
			u.Fragment == "" && u.User == nil
	}
	if slices.Contains(c.RedirectURIs, uri) {
		return true
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" || u.User != nil {
		return false
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return false
	}
	return slices.ContainsFunc(c.RedirectURIs, func(registered string) bool {
		r, err := url.Parse(registered)
		if err != nil || r.Hostname() != u.Hostname() {
			return false
		}
		r.Host = u.Host
		return r.String() == uri
	})
}

// isOwn reports whether an address belongs to this server. No application runs there, and an
// application could choose the parameters of the server's pages.
func (s *Server) isOwn(address string) bool {
	u, err := weburl.Parse(address)
	return err == nil && u.IsOf(s.Issuer)
}

// leadsTo parses an address as browsers do and reports whether the release form may redirect to
// it: to a registered origin or redirect_uri. to is the address to use.
func (c *clientRecord) leadsTo(address string) (to string, ok bool) {
	u, err := weburl.Parse(address)
	if err != nil || u.HasCredentials() {
		return "", false
	}
	same := func(registered string) bool {
		r, err := weburl.Parse(registered)
		return err == nil && r.String() == u.String()
	}
	switch {
	case c.anyRedirect:
		ok = u.IsWeb()
	default:
		ok = slices.ContainsFunc(c.RedirectURIs, same) || c.redirectsTo(u.String()) ||
			slices.ContainsFunc(c.RedirectOrigins, u.IsOf)
	}
	if !ok {
		return "", false
	}
	return u.String(), true
}

// grants returns the scopes to grant of those that were requested. Without the parameter nothing
// is granted, as SMART requires. Errors: invalid_scope if nothing is left (RFC 6749 3.3).
func (c *clientRecord) grants(asked string, supported func(string) Scopes) (Scopes, *Error) {
	out := supported(asked)
	if !c.anyRedirect {
		out = out.Intersect(parse(c.Scope))
	}
	switch {
	case !out.Empty():
		return out, nil
	case strings.TrimSpace(asked) == "":
		return out, refuse("invalid_scope", "Missing %q parameter", "scope")
	case strings.Contains(asked, "?"):
		return out,
			refuse("invalid_scope",
				"Scopes that a search narrows are not enforced by this server; ask without the "+
					"search")
	}
	return out,
		refuse("invalid_scope", "None of the scopes asked for can be granted to this client")
}

// registry holds the clients in this process. It follows the bucket, so that a change takes
// effect in every process.
//
// Its content may be out of date by a moment, or since the connection was lost. It may accept a
// request. Before the server rejects a client as unknown or unauthenticated, it reads the stored
// record.
type registry struct {
	kv   *kv.Bucket
	mu   sync.RWMutex
	byID map[string]*clientRecord
	gone map[string]struct{} // clients that are known to be removed
	stop func()
}

func followClients(ctx context.Context, kv *kv.Bucket) (*registry, error) {
	r := &registry{kv: kv, byID: map[string]*clientRecord{}, gone: map[string]struct{}{}}
	var err error
	r.stop, err = kv.Follow(ctx, clientRecords.Under(), r.apply, r.reloaded)
	return r, err
}

func (r *registry) apply(e kv.Entry) {
	c := &clientRecord{}
	if e.Deleted || json.Unmarshal(e.Value, c) != nil {
		c = nil
	}
	r.take(strings.TrimPrefix(e.Key.String(), clientRecords.String()), c)
}

// take adds a client, or removes it if c is nil. It is called for this process's changes
// immediately, and for those of others when they arrive.
func (r *registry) take(id string, c *clientRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		delete(r.byID, id)
		r.gone[id] = struct{}{}
		return
	}
	delete(r.gone, id)
	r.byID[id] = c
}

// reloaded removes the clients that are not in the list after a reconnection. It does not mark
// them as removed: the list may lack records that NATS cannot read at the moment.
func (r *registry) reloaded(keys map[subject.Subject]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.byID {
		if _, there := keys[clientRecords.Of(id)]; !there {
			delete(r.byID, id)
		}
	}
}

func (r *registry) get(id string) *clientRecord {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id]
}

// isGone reports whether a client is known to be removed.
func (r *registry) isGone(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, gone := r.gone[id]
	return gone
}

// stored reads a client's record. It returns nil if there is none.
func (r *registry) stored(ctx context.Context, id string) (*clientRecord, error) {
	if !urlSafe.MatchString(id) {
		return nil, nil
	}
	e, err := r.kv.Get(ctx, clientRecords.Of(id))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a client: %w", err)
	}
	c := &clientRecord{}
	return c, json.Unmarshal(e.Value, c)
}

// heard returns a client from this process's copy, or nil.
func (s *Server) heard(id string) *clientRecord {
	if s.isSandbox(id) {
		return s.sandbox
	}
	return s.clients.get(id)
}

// client returns a client, or nil if there is none. It reads the record if this process's copy
// does not have it.
func (s *Server) client(ctx context.Context, id string) (*clientRecord, error) {
	if c := s.heard(id); c != nil || s.clients.isGone(id) {
		return c, nil
	}
	return s.clients.stored(ctx, id)
}

// isSandbox reports whether an ID is that of the sandbox's client, which has no record.
func (s *Server) isSandbox(id string) bool { return s.Sandbox && id == SandboxClientID }

// Known reports whether this process's copy has a client. A client that it lacks may still
// exist.
func (s *Server) Known(id string) bool { return s.heard(id) != nil }

// sandboxClient returns the client of sandbox mode (SMART-10), which may authenticate in every
// way.
func (s *Server) sandboxClient() *clientRecord {
	return &clientRecord{
		Client: Client{
			ID:         SandboxClientID,
			Name:       SandboxClientID,
			Kind:       Public,
			Introspect: true,
		},
		anyRedirect: true, optionalPKCE: true, plainSecret: s.SandboxSecret, keys: s.sandboxKeys,
	}
}

// Clients lists the registered clients by ID.
func (s *Server) Clients(context.Context) ([]Client, error) {
	s.clients.mu.RLock()
	defer s.clients.mu.RUnlock()
	out := make([]Client, 0, len(s.clients.byID))
	for _, c := range s.clients.byID {
		out = append(out, c.Client)
	}
	slices.SortFunc(out, func(a, b Client) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Client returns a registered client. Errors: ErrNoClient.
func (s *Server) Client(ctx context.Context, id string) (Client, error) {
	c := s.clients.get(id)
	if c == nil && !s.clients.isGone(id) {
		var err error
		if c, err = s.clients.stored(ctx, id); err != nil {
			return Client{}, err
		}
	}
	if c == nil {
		return Client{}, ErrNoClient
	}
	return c.Client, nil
}

// AddClient registers a client and returns it as stored, with its secret if it has one. The
// secret cannot be read again. A client that registers itself must not have a name that looks
// like that of one registered by an administrator. Errors: ErrClientExists; ehi.Invalid with
// what to change.
func (s *Server) AddClient(ctx context.Context, c Client) (Client, string, error) {
	if err := c.validate(); err != nil {
		return c, "", err
	}
	own := slices.IndexFunc(slices.Concat(c.RedirectURIs, c.RedirectOrigins), s.isOwn)
	if own >= 0 {
		return c, "",
			ehi.Errorf(ehi.Invalid,
				"redirect_uris and redirect_origins must not lead to this server")
	}
	if c.ID == SandboxClientID {
		return c, "", ehi.Errorf(ehi.Invalid, "%s is the sandbox's client", SandboxClientID)
	}
	if s.namedLike(c) {
		return c, "", errNamedLike
	}
	c.Created = s.madeNow()
	record := &clientRecord{Client: c}
	secret, err := s.giveSecret(ctx, record)
	if err != nil {
		return c, "", err
	}
	data, err := json.Marshal(record)
	if err != nil {
		return c, "", err
	}
	if _, err = s.KV.Create(ctx, clientRecords.Of(c.ID), data); kv.IsConflict(err) {
		return c, "", ErrClientExists
	}
	if err != nil {
		return c, "", err
	}
	s.clients.take(c.ID, record)
	if err := s.namedLikeNobody(ctx, c); err != nil {
		return c, "", err
	}
	return c, secret, nil
}

var errNamedLike = ehi.Errorf(ehi.Invalid,
	"client_name is easily taken for the name of another client")

// namedLike reports whether the name of a client that registers itself is easily confused with
// that of a client registered by an administrator: patients distinguish applications by name.
// Clients that registered themselves may share a name, such as those of a tool that registers
// for every run.
func (s *Server) namedLike(c Client) bool {
	if c.CreatedBy != SelfRegistered {
		return false
	}
	as := seenAs(c.Name)
	s.clients.mu.RLock()
	defer s.clients.mu.RUnlock()
	for _, known := range s.clients.byID {
		if known.CreatedBy != SelfRegistered && seenAs(known.Name).like(as) {
			return true
		}
	}
	return false
}

// namedLikeNobody is namedLike for a stored client, by reading the records. Another process may
// just have registered a similar name; the new client is then removed again. Errors:
// ehi.Invalid.
func (s *Server) namedLikeNobody(ctx context.Context, c Client) error {
	if c.CreatedBy != SelfRegistered {
		return nil
	}
	as := seenAs(c.Name)
	err := s.KV.Entries(ctx, clientRecords.All(), func(e kv.Entry) error {
		var known clientRecord
		if err := json.Unmarshal(e.Value, &known); err != nil {
			return err
		}
		if known.CreatedBy != SelfRegistered && seenAs(known.Name).like(as) {
			return errNamedLike
		}
		return nil
	})
	if err != nil { // also if the check fails
		return errors.Join(err, s.RemoveClient(ctx, c.ID))
	}
	return nil
}

// giveSecret generates a secret of 256 bits for a client that needs one.
func (s *Server) giveSecret(ctx context.Context, c *clientRecord) (secret string, err error) {
	if c.Kind != Symmetric {
		return "", nil
	}
	secret = random()
	c.SecretHash, err = s.hashes.hash(ctx, secret)
	return secret, err
}

// RotateSecret replaces the secret of a client. The old secret is rejected from now on. Errors:
// ErrNoClient; ehi.Conflict for a client without a secret.
func (s *Server) RotateSecret(ctx context.Context, id string) (secret string, err error) {
	if !urlSafe.MatchString(id) {
		return "", ErrNoClient
	}
	e, err := s.KV.Get(ctx, clientRecords.Of(id))
	if errors.Is(err, kv.ErrNotFound) {
		return "", ErrNoClient
	}
	if err != nil {
		return "", err
	}
	c := &clientRecord{}
	if err := json.Unmarshal(e.Value, c); err != nil {
		return "", err
	}
	if c.Kind != Symmetric {
		return "", ehi.Errorf(ehi.Conflict, "A client of kind %s has no secret", c.Kind)
	}
	if secret, err = s.giveSecret(ctx, c); err != nil {
		return "", err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	if _, err = s.KV.Update(ctx, e.Key, data, e.Revision); err != nil {
		return "", err
	}
	s.clients.take(id, c)
	return secret, nil
}

// RemoveClient deletes a client. Every process rejects all its tokens from then on. Errors:
// ErrNoClient.
func (s *Server) RemoveClient(ctx context.Context, id string) error {
	if _, err := s.Client(ctx, id); err != nil {
		return err
	}
	if err := s.KV.Forget(ctx, clientRecords.Of(id)); err != nil {
		return err
	}
	s.clients.take(id, nil)
	return nil
}

// ClientName returns the name of a client for people: its name, or its ID if it was removed.
func (s *Server) ClientName(id string) string {
	if c := s.heard(id); c != nil {
		return c.Name
	}
	return id
}

// MaySkip reports whether a client's exports may skip the patient's form, and the review. The
// sandbox's client may skip both, for tests.
func (s *Server) MaySkip(id string) (form, review bool) {
	c := s.heard(id)
	switch {
	case c == nil:
		return false, false
	case c.anyRedirect:
		return true, true
	}
	return c.MaySkipForm, c.MaySkipReview
}

// Packaging returns how a client gets documents and tables if its kick-off does not say; "" if its
// registration does not either.
func (s *Server) Packaging(id string) ehi.Packaging {
	if c := s.heard(id); c != nil {
		return c.Package
	}
	return ""
}

// String returns one line for a list.
func (c Client) String() string {
	return fmt.Sprintf("%-24s %-24s %-24s %s", c.ID, c.Kind, c.Name, c.Scope)
}
