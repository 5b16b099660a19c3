package dataset

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"

	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// bundleRules says how to process the entries of a type of Bundle
// (https://hl7.org/fhir/R4/bundle.html).
type bundleRules struct {
	requests bool // entries request changes; their method says which
	together bool // the changes are one transaction: deletions come first
	// Entries are versions of resources, the newest first; DELETE marks a deletion.
	history   bool
	responses bool // entries are responses to requests
	search    bool // entries are matches, included resources and outcomes
	copies    bool // entries are copies: a document or a message keeps a former state
}

// rulesOf returns the rules for a Bundle.type. A Bundle without a type, which R4 does not allow,
// counts as changes.
func rulesOf(typ string) (r bundleRules, ok bool) {
	switch typ {
	case "batch":
		r.requests = true
	case "transaction", "":
		r.requests, r.together = true, true
	case "history":
		r.history = true
	case "transaction-response", "batch-response":
		r.responses = true
	case "searchset":
		r.search = true
	case "document", "message", "collection":
		r.copies = true
	default:
		return r, false
	}
	return r, true
}

// step is what one entry requests.
type step struct {
	entry
	typ, id string
	// was is the original ID of the resource, if it gets another one.
	was    string
	delete bool
	// query is the search of a conditional delete, or of a conditional create or update whose
	// resource has no ID of its own.
	query string
	// create marks a conditional create, which changes nothing if its search matches.
	create bool
	// nameless means that the entry needs a new ID.
	nameless bool
	skip     bool
	why      string // what is wrong with the entry
}

// bundleImport imports one Bundle in two passes: it first names all entries, so that references
// among them resolve, and then stores them.
type bundleImport struct {
	*importer
	bundle
	rules    bundleRules
	given    map[int]string  // IDs of nameless entries, by position
	patients []string        // IDs of its Patients
	seen     map[string]bool // in a history: resources whose newer version came before
	bases    map[string]bool // the servers of its entries
	// mixed maps type/id that entries of several servers have to the first server's base.
	mixed     map[string]string
	elsewhere map[string]bool // see scope
	deletes   bool            // an entry deletes a resource
	// former maps a type/id that a resource did not keep to what its entry is now, or to "" if
	// ambiguous.
	former map[string]string
}

// bundle imports a Bundle by the rules of its type.
func (im *importer) bundle(ctx context.Context, b bundle) error {
	rules, ok := rulesOf(b.typ)
	if !ok {
		return im.bad(b.name, b.line, fmt.Sprintf("a Bundle of type %q cannot be imported", b.typ))
	}
	bi := &bundleImport{importer: im, bundle: b, rules: rules, seen: map[string]bool{}}
	outer := im.w.scope
	defer func() { im.w.scope = outer }()
	im.w.scope = scope{own: outer.own, names: map[string]string{}}
	if err := bi.name(); err != nil {
		if _, broken := errors.AsType[errSyntax](err); !broken {
			return err
		}
	}
	if bi.deletes && rules.together { // https://hl7.org/fhir/R4/http.html#trules
		deletes := func(s step) bool { return s.delete && s.why == "" }
		if err := bi.takeAll(ctx, deletes); err != nil {
			return err
		}
		return bi.takeAll(ctx, func(s step) bool { return !deletes(s) })
	}
	return bi.takeAll(ctx, func(step) bool { return true })
}

// takeAll processes the entries that which selects.
func (bi *bundleImport) takeAll(ctx context.Context, which func(step) bool) error {
	n := 0
	return bi.each(func(e entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n++
		if s := bi.read(e, n); which(s) {
			return bi.take(ctx, s)
		}
		return nil
	})
}

// name determines the ID of each entry and records its name.
func (bi *bundleImport) name() error {
	var nameless []step
	var places []int
	byID := map[string]string{} // type/id -> base
	n := 0
	err := bi.each(func(e entry) error {
		n++
		s := bi.read(e, n)
		bi.deletes = bi.deletes || s.delete
		switch {
		case s.skip || s.why != "" || s.typ == "" || s.delete && s.query != "":
		case s.nameless:
			nameless = append(nameless, step{
				entry: entry{FullURL: s.FullURL},
				typ:   s.typ,
				was:   s.was,
			})
			places = append(places, n)
		default:
			bi.origin(byID, s)
			return bi.call(s)
		}
		return nil
	})
	if len(nameless) > 0 && err == nil {
		err = bi.give(nameless, places)
	}
	if len(bi.former) > 0 && err == nil {
		err = bi.callFormer()
	}
	return err
}

// origin records the server of an entry.
func (bi *bundleImport) origin(byID map[string]string, s step) {
	base, ok := bi.server(s.FullURL)
	if !ok {
		return
	}
	self := s.typ + "/" + s.id
	if other, found := byID[self]; found && other != base {
		if bi.mixed == nil {
			bi.mixed = map[string]string{}
		}
		bi.mixed[self] = other
	} else {
		byID[self] = base
	}
	if bi.bases == nil {
		bi.bases = map[string]bool{}
	}
	if bi.bases[base] = true; len(bi.bases) > 1 {
		bi.elsewhere = map[string]bool{}
		for self := range byID {
			bi.elsewhere[self] = true
		}
		bi.w.scope.elsewhere = bi.elsewhere
	}
}

// server returns the base of a fullUrl. All own bases count as one.
func (bi *bundleImport) server(fullURL string) (base string, ok bool) {
	base, _, _, ok = restful(fullURL)
	if slices.Contains(bi.w.scope.own, base) {
		base = bi.w.scope.own[0]
	}
	return base, ok
}

// call records the name of an entry, for references in this bundle and in others.
func (bi *bundleImport) call(s step) error {
	if s.typ == "Patient" && s.query == "" && !s.delete && !slices.Contains(bi.patients, s.id) &&
		len(bi.patients) < 2 {
		bi.patients = append(bi.patients, s.id)
	}
	if s.FullURL == "" && s.was == "" {
		return nil
	}
	target := s.typ + "/" + s.id
	if s.query != "" {
		if _, ok := parseName(s.query); ok {
			target = s.query
		}
	}
	if s.was != "" && s.was != s.id {
		bi.wasCalled(s.typ+"/"+s.was, target)
	}
	if s.FullURL == "" {
		return nil
	}
	names, called := bi.w.scope.names, plainName(s.FullURL)
	if before, found := names[called]; found && before != target {
		target = "" // the name is ambiguous
	}
	names[called] = target
	if own, ok := idOfURN(called); !isURN(called) || ok && own == s.id {
		return nil
	}
	return bi.w.name(s.FullURL, s.typ, s.id)
}

// wasCalled records which entry had a former ID. The ID becomes ambiguous if several had it.
func (bi *bundleImport) wasCalled(former, target string) {
	if bi.former == nil {
		bi.former = map[string]string{}
	}
	if before, found := bi.former[former]; found && before != target {
		target = ""
	}
	bi.former[former] = target
}

// callFormer resolves the bundle's references by former IDs. An entry that keeps such an ID
// takes precedence.
func (bi *bundleImport) callFormer() error {
	n := 0
	err := bi.each(func(e entry) error {
		n++
		if s := bi.read(e, n); s.why == "" && !s.skip && !s.delete {
			delete(bi.former, s.typ+"/"+s.id)
		}
		return nil
	})
	for former, target := range bi.former {
		if target != "" {
			bi.w.scope.names[former] = target
		}
	}
	return err
}

// give gives IDs to entries without one: the same IDs whenever the same bundle is imported, and
// different ones for any other bundle.
func (bi *bundleImport) give(nameless []step, places []int) error {
	h := sha256.New()
	if err := bi.each(func(e entry) error { return digestEntry(h, e) }); err != nil {
		return err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	bi.given = map[int]string{}
	for i, s := range nameless {
		s.id = madeID(sum, strconv.Itoa(places[i]), s.typ)
		bi.given[places[i]] = s.id
		if err := bi.call(s); err != nil {
			return err
		}
	}
	return nil
}

func digestEntry(h hash.Hash, e entry) error {
	h.Write([]byte(e.FullURL + "\x00" + e.Request.Method + e.Request.URL + "\x00"))
	h.Write(squeeze(e.Resource))
	return nil
}

// madeID returns a valid ID that is derived from its arguments and practically unique.
func madeID(of ...string) string {
	d := digestOf(of...)
	return hex.EncodeToString(d[:])
}

// read determines what an entry requests. place counts the entries from 1.
func (bi *bundleImport) read(e entry, place int) step {
	s := step{entry: e}
	if e.err != nil {
		s.why = e.err.Error()
		return s
	}
	if bi.skips(&s) {
		s.skip = true
		return s
	}
	if s.delete {
		bi.target(&s)
		return s
	}
	if s.empty() {
		s.why = cmp.Or(s.why,
			"an entry without a resource: "+
				cmp.Or(strings.TrimSpace(s.Request.Method+" "+s.Request.URL), s.FullURL))
		return s
	}
	typ, id, err := bi.w.cursor.Identify(e.Resource)
	if err != nil {
		s.why = notJSON(e.Resource, err).Error()
		return s
	}
	s.typ, s.id = typ, id
	if typ == "OperationOutcome" && (bi.rules.search || bi.rules.responses) {
		s.skip = true
		return s
	}
	if typ != "Bundle" {
		bi.identify(&s, place)
	}
	return s
}

// skips reports whether an entry has nothing to store. This includes deletions and invalid
// entries.
func (bi *bundleImport) skips(s *step) bool {
	method := strings.ToUpper(s.Request.Method)
	switch {
	case bi.rules.search:
		return s.Search.Mode == "outcome"
	case bi.rules.responses:
		return s.empty()
	case bi.rules.history || bi.rules.requests:
		switch method {
		case "DELETE":
			s.delete = true
			return false
		case "GET", "HEAD":
			return true
		}
		if bi.rules.requests {
			s.why = refusal(method, s.Request.URL)
		}
	}
	return false
}

// empty reports whether an entry has no resource.
func (s *step) empty() bool { return len(s.Resource) == 0 || string(s.Resource) == "null" }

// refusal returns why a request cannot be imported, or "".
func refusal(method, url string) string {
	_, operation := operationOf(url)
	switch {
	case operation:
		return fmt.Sprintf("%s %s asks for an operation, which cannot be imported", method, url)
	case method == "PATCH":
		return fmt.Sprintf("PATCH %s cannot be imported: it holds only a part of a resource", url)
	case method != "" && method != "POST" && method != "PUT":
		return fmt.Sprintf("%s %s: no method of R4", method, url)
	}
	return ""
}

// target determines what a DELETE deletes.
func (bi *bundleImport) target(s *step) {
	typ, id, query := onServer(s.Request.URL)
	if id == "" {
		if _, t, i, ok := restful(s.FullURL); ok {
			typ, id = t, i
		}
	}
	if s.typ, s.id = typ, id; id != "" {
		return
	}
	n, ok := parseName(typ + "?" + query)
	if !ok || n.urn != "" {
		s.why = fmt.Sprintf("DELETE %s: only a DELETE of one resource by its id, or by an "+
			"identifier, can be imported", s.Request.URL)
		return
	}
	if v := s.version(); v != (version{}) {
		s.why = fmt.Sprintf(
			"DELETE %s: one that tells when it was can be imported by the resource's id alone",
			s.Request.URL)
		return
	}
	s.query = n.String()
}

// identify determines the ID of an entry's resource: its own, that of the request or the
// response, or that of the fullUrl. A conditional create or update gets an ID derived from its
// search, any other entry a new one.
func (bi *bundleImport) identify(s *step, place int) {
	typ, id, query := onServer(s.Request.URL)
	put := strings.EqualFold(s.Request.Method, "PUT")
	switch {
	case typ != "" && typ != s.typ && strings.EqualFold(s.Request.Method, "POST"):
		s.why = fmt.Sprintf("%s in a POST of %s", s.typ, s.Request.URL)
		return
	case put && (typ != "" && typ != s.typ || id != "" && s.id != "" && s.id != id):
		s.why = fmt.Sprintf("%s/%s in a PUT of %s", s.typ, s.id, s.Request.URL)
		return
	case s.id != "" && bi.keeps(s, typ, id, query):
		return
	case !put:
		id, query = "", s.Request.IfNoneExist
		query = query[strings.IndexByte(query, '?')+1:]
		s.create = query != ""
		if target, ok := searchByID(s.typ + "?" + query); ok {
			_, id, _ = strings.Cut(target, "/")
		}
	}
	s.was, s.id = s.id, ""
	if id == "" {
		id = s.called()
	}
	if id == "" && query != "" {
		s.query = s.typ + "?" + query
		if n, ok := parseName(s.query); ok {
			s.query = n.String() // in canonical spelling
		}
		id = madeID(s.query)
	}
	if id == "" {
		id, s.nameless = bi.unique(s, place)
	}
	if s.id = id; id != "" {
		s.Resource = bi.withID(s.Resource, s.was, id)
	}
}

// keeps reports whether a resource is stored under its own ID. A server that creates a resource
// replaces its ID (https://hl7.org/fhir/R4/http.html#create), and a conditional update stores
// what its search finds, so two senders may use one ID for two resources. If the request, the
// response or the fullUrl has the ID too, it is permanent. typ, id and query come from the
// request's URL.
func (bi *bundleImport) keeps(s *step, typ, id, query string) bool {
	switch {
	case strings.EqualFold(s.Request.Method, "POST"):
		if bi.rules.history { // the version that the server created
			_, at, _ := onServer(s.Response.Location)
			return at == "" || at == s.id
		}
	case id != "" || query == "" || !strings.EqualFold(s.Request.Method, "PUT"):
		return true
	default:
		if n, ok := parseName(typ + "?" + query); !ok || n.urn != "" {
			return true // a search without a match here
		}
	}
	if !bi.rules.requests {
		return true
	}
	before, ends := strings.CutSuffix(s.FullURL, s.id)
	// The usual case.
	if s.Response.Location == "" && ends && strings.EqualFold(before, "urn:uuid:") && isUUID(s.id) {
		return true
	}
	if at := s.called(); at != "" {
		return at == s.id
	}
	if at, ok := idOfURN(s.FullURL); ok {
		return at == s.id || isUUID(at) && strings.EqualFold(at, s.id)
	}
	return id == s.id || ends && strings.HasSuffix(before, "/") && fhir.External([]byte(s.FullURL))
}

// called returns the ID in response.location or fullUrl.
func (s *step) called() string {
	for _, url := range []string{s.Response.Location, s.FullURL} {
		if isURN(url) {
			continue
		}
		if typ, id, _ := onServer(url); typ == s.typ && id != "" {
			return id
		}
	}
	return ""
}

// unique returns an ID that no other resource has.
func (bi *bundleImport) unique(s *step, place int) (id string, nameless bool) {
	if id, ok := idOfURN(s.FullURL); ok {
		return id, false
	}
	return bi.given[place], true
}

// withID sets the ID of a resource and replaces an existing one.
func (bi *bundleImport) withID(resource []byte, was, id string) []byte {
	if was != "" {
		if out, has := renamed(&bi.w.cursor, resource, id); has {
			return out
		}
	}
	open := bytes.IndexByte(resource, '{')
	out := append([]byte{}, resource[:open+1]...)
	out = append(out, `"id":"`+id+`",`...)
	return append(out, resource[open+1:]...)
}

// take does what an entry requests.
func (bi *bundleImport) take(ctx context.Context, s step) error {
	base, _ := bi.server(s.FullURL)
	self := s.typ + "/" + s.id
	switch {
	case s.skip:
		return nil
	case s.why != "":
		return bi.bad(bi.bundle.name, s.line, s.why)
	case s.delete:
		return bi.remove(s)
	case s.typ == "Bundle":
		return bi.nested(ctx, s)
	case bi.mixed[self] != "" && bi.mixed[self] != base:
		return bi.bad(bi.bundle.name, s.line,
			fmt.Sprintf("%s of two servers, %s and %s, in one Bundle", self, bi.mixed[self], base))
	}
	bi.w.scope.base = base
	p := bi.w.prepare(s.Resource)
	p.copied, p.older, p.told = bi.rules.copies || s.create, bi.older(self), s.version()
	if len(bi.patients) == 1 {
		p.hint = bi.patients[0]
	}
	put := bi.w.put
	if _, ok := parseName(s.query); ok {
		put = func(p prepared) error { return bi.w.condition(s.query, s.FullURL, s.create, p) }
	}
	problems := bi.report.Problems
	err := bi.keep(bi.bundle.name, s.line, p, put)
	if err == nil && bi.report.Problems == problems && s.query == "" && s.was != "" &&
		s.was != s.id {
		bi.report.Rename(s.typ, source.Renamed{Count: 1, From: s.was, To: s.id})
	}
	return err
}

// older reports whether a newer version of a resource came before, in a history.
func (bi *bundleImport) older(self string) bool {
	if !bi.rules.history {
		return false
	}
	before := bi.seen[self]
	bi.seen[self] = true
	return before
}

// remove deletes a resource as of the time of its entry.
func (bi *bundleImport) remove(s step) error {
	v := s.version()
	v.untimed = v.updated.IsZero()
	if s.query != "" {
		found, err := bi.w.removeFound(s.typ, s.query)
		if err == nil && found > 1 {
			return bi.bad(bi.bundle.name, s.line,
				fmt.Sprintf("DELETE %s finds %d resources: none is deleted", s.Request.URL, found))
		}
		return err
	}
	return bi.w.remove(s.typ, s.id, v, bi.older(s.typ+"/"+s.id))
}

// version returns what an entry says about the version that it is or created
// (https://hl7.org/fhir/R4/http.html#versioning).
func (s *step) version() version {
	_, id, _ := strings.Cut(s.Response.Location, "/_history/")
	if tag := strings.Trim(strings.TrimPrefix(s.Response.ETag, "W/"), `"`); tag != "" {
		id = tag
	}
	return version{updated: parseUpdated(s.Response.LastModified), id: id}
}

// nested imports a Bundle within an entry, such as the response to a search in a batch.
func (bi *bundleImport) nested(ctx context.Context, s step) error {
	return bi.document(ctx, input{name: bi.bundle.name, line: s.line, text: s.Resource})
}
