package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// attachedTo knows what refers to each Binary of a record. What must hold: a Binary is the
// content of the documents that refer to it, by an attachment's url or by a Reference, so it is
// released exactly where one of them is released together with that attachment, and every url
// that leads to a withheld Binary is masked. What only tells of a Binary (a Provenance, a List)
// is no document of it: it decides where nothing else refers to it. One to which nothing refers
// goes where its securityContext leads to something that goes.
//
// A URL of the source's own, or a text, that has a Binary's id in it keeps the Binary where its
// resource stays, and takes it along nowhere: it may mean something else. Where a link of what
// stays leads to nothing that is known, it may lead to any Binary: those of the patient to which
// nothing else refers stay.
type attachedTo struct {
	holders []holder
	hints   []hint
	secured []secured
	selves  []resource // the Binaries of the record
}

// hint is what may lead to a Binary.
type hint struct {
	lead, self resource
	presented  bool // in its presentedForm, which may be stripped
	link       bool // it leads somewhere, and is no text
}

// some reports whether there is something to follow.
func (a *attachedTo) some() bool { return len(a.holders)+len(a.selves) > 0 }

// holder refers to a Binary.
type holder struct {
	binary, self resource
	presented    bool // in its presentedForm, which may be stripped
	tells        bool // and says nothing else, see uses
}

// deciding are the holders that decide about Binaries: not those that tell of one that others use.
func deciding(holders []holder) []holder {
	used := map[resource]bool{}
	for _, h := range holders {
		used[h.binary] = used[h.binary] || !h.tells
	}
	return slices.DeleteFunc(holders, func(h holder) bool { return h.tells && used[h.binary] })
}

// secured is a Binary and what its securityContext refers to.
type secured struct{ binary, by resource }

// attachment is a Binary that a resource refers to.
type attachment struct {
	target
	presented, tells bool
	hint, link       bool // see hint
}

// attachmentTo is a Binary to which something may lead that is no type and id.
func attachmentTo(to target, presented, tells bool) attachment {
	return attachment{to, presented, tells, !to.exactly(), !bytes.HasPrefix(to.id, onlyIdentifier)}
}

// attachmentsTo are the Binaries to which a reference may lead that is no type and id.
func attachmentsTo(to target, presented, tells bool) []attachment {
	all := []attachment{attachmentTo(to, presented, tells)}
	ref, _, _ := bytes.Cut(bytes.TrimPrefix(to.id, leadMark), []byte{0})
	binaryNames(ref, func(id []byte, exact bool) {
		all = append(all, attachment{
			target:    target{[]byte(binaryType), id},
			presented: presented,
			tells:     tells || !exact,
		})
	})
	return all
}

// attaches are the types that hold documents, and go for themselves.
var attaches = typeSet("Communication", "Consent", "DiagnosticReport", "DocumentReference", "Media",
	"Patient", "QuestionnaireResponse")

// leads reports whether a field of that name may lead to a Binary, as a Reference may.
func leads(key []byte) bool {
	switch string(key) {
	case "url", "valueUrl", "valueUri", "valueCanonical":
		return true
	}
	return false
}

// attach keeps what a resource has to do with Binaries.
func (o *Observer) attach(self resource, f *facts) {
	r := o.review
	for _, b := range f.binaries {
		if string(f.typ) == "Binary" && bytes.Equal(f.id, b.id) {
			continue
		}
		o.holds(self, b)
	}
	if string(f.typ) == binaryType {
		r.attached.selves = append(r.attached.selves, self)
	}
	if f.context.typ != nil {
		r.attached.secured = append(r.attached.secured, secured{self, o.resource(f.context)})
	}
}

// holds keeps that a resource, or an entry, leads to a Binary.
func (o *Observer) holds(self resource, b attachment) {
	a, to := &o.review.attached, o.resource(b.target)
	if to.typ == nameType {
		a.hints = append(a.hints, hint{to, self, b.presented, b.link})
	}
	if !b.hint {
		a.holders = append(a.holders, holder{to, self, b.presented, b.tells})
	}
}

// resolveHolders lets leads be the Binaries to which they lead.
func (r *Review) resolveHolders() {
	var named []holder
	for _, h := range r.attached.holders {
		if h.binary.typ != nameType {
			named = append(named, h)
			continue
		}
		r.candidates(r.support.leads[h.binary], func(of resource, _ verdict) {
			if h.binary = of; of.typ == binaryNumber && of != h.self {
				named = append(named, h)
			}
		})
	}
	r.attached.holders = named
}

// followHints withholds the Binaries to which something that stays may lead. It reports whether
// some of that leads to nothing that is known.
func (r *Review) followHints() (unread bool) {
	for _, h := range r.attached.hints {
		of := r.standing(h.self)
		if !of.kept() && !(h.presented && of&stripped != 0 && !of.withheld()) {
			continue
		}
		l, read := r.support.leads[h.lead], !h.link
		for _, w := range l.words {
			binary := resource{binaryNumber, w.id}
			v, known := r.index.at(binary)
			if read = read || known; !known || binary == h.self || v&held != 0 && !v.withheld() {
				continue // or it goes with what leads to it for certain
			}
			if !v.kept() {
				r.index.set(binary, because[referenceOnlyName])
			}
			r.index.mark(binary, held)
		}
		r.candidates(l, func(resource, verdict) { read = read || l.exact })
		unread = unread || !read && !l.named
	}
	return unread
}

// followDocuments decides about Binaries by what refers to them; a Binary that needs an
// authorization itself stays as it is.
func (r *Review) followDocuments() {
	r.attached.holders = deciding(r.attached.holders)
	for _, h := range r.attached.holders {
		if v, known := r.index.at(h.binary); known && v&sensitive == 0 {
			r.index.set(h.binary, because[unusedName])
			r.index.mark(h.binary, held)
		}
	}
	// whatever the order of the record, what goes comes first
	for _, keeps := range []bool{false, true} {
		for again := true; again; { // a Binary may hold another one
			again = false
			for _, h := range r.attached.holders {
				again = r.follow(h, keeps) || again
			}
		}
	}
	r.followContexts(r.followHints())
}

// followContexts decides about Binaries that nothing holds by their securityContext: one of the
// Patient leaves it to the line of the form, unless something that stays has a link that is
// unread.
func (r *Review) followContexts(unread bool) {
	wanted := map[resource]bool{}
	for _, s := range r.attached.secured {
		wanted[s.by] = true
	}
	r.eachReleased(func(goes resource) {
		if wanted[goes] {
			r.index.put(goes, 0)
		}
	})
	patient, led := r.index.number([]byte("Patient")), map[resource]bool{}
	for _, s := range r.attached.secured {
		of, known := r.secures(&s.by)
		if v, _ := r.index.at(s.binary); !known || v&(held|sensitive) != 0 {
			continue
		}
		led[s.binary] = true
		switch {
		case s.by.typ != patient:
			r.index.set(s.binary, verdict(of.reason()))
		case unread && !r.isKept(s.binary):
			r.index.set(s.binary, because[referenceOnlyName])
		}
	}
	for _, self := range r.attached.selves {
		if v, _ := r.index.at(self); !led[self] && v&(held|sensitive) == 0 && !v.withheld() {
			r.index.set(self, because[unusedName])
		}
	}
}

// secures tells what was decided about what a securityContext leads to. A lead becomes that.
func (r *Review) secures(by *resource) (v verdict, known bool) {
	if by.typ != nameType {
		return r.index.at(*by)
	}
	r.candidates(r.support.leads[*by], func(of resource, w verdict) {
		if !known || w.kept() {
			*by, v, known = of, w, true
		}
	})
	return v, known
}

func (r *Review) isKept(of resource) bool {
	v, _ := r.index.at(of)
	return v.kept()
}

// follow decides about a Binary by one holder: where that goes, the Binary goes; where it is
// kept, so is the Binary, unless another holder goes. It reports whether that changed what
// depends on the Binary.
func (r *Review) follow(h holder, keeps bool) (changed bool) {
	v, known := r.index.at(h.binary)
	if !known || v&sensitive != 0 || !v.withheld() {
		return false
	}
	of := r.standing(h.self)
	switch {
	case of.unused(), of.kept() && v.kept():
		return false
	case of.kept():
		if !keeps {
			return false
		}
		r.index.set(h.binary, verdict(of.reason()))
	case !h.presented || of&stripped == 0:
		r.index.set(h.binary, 0)
	case v.kept(), !keeps:
		return false
	default:
		r.index.set(h.binary, because[referenceOnlyName])
	}
	return true
}

// binaryNames calls visit with the id of each Binary that a URL names, in whatever spelling: by
// type and id in any place of it, percent-encoded or not, or by a search. exact is false for an
// id that is only part of what stands there.
func binaryNames(url []byte, visit func(id []byte, exact bool)) {
	url = revealed(url)
	for at := 0; ; {
		n := bytes.Index(url[at:], []byte(binaryType))
		if n < 0 {
			return
		}
		begin := at + n
		at = begin + len(binaryType)
		if begin > 0 && alphanumeric(url[begin-1]) {
			continue
		}
		rest := bytes.TrimLeft(url[at:], "/")
		if query, is := bytes.CutPrefix(rest, []byte("?")); is {
			query, _, _ = bytes.Cut(query, []byte("#"))
			for _, parameter := range bytes.Split(query, []byte("&")) {
				name, values, _ := bytes.Cut(parameter, []byte("="))
				if name, _, _ = bytes.Cut(name, []byte(":")); string(name) != "_id" {
					continue
				}
				for _, id := range bytes.Split(values, []byte(",")) {
					visit(id, true)
				}
			}
			continue
		}
		end := 0
		for end < len(rest) && fhir.ValidID(rest[end:end+1]) {
			end++
		}
		if end == 0 || len(rest) == len(url)-at { // no slash between
			continue
		}
		// without the ending of a file
		for id, exact := rest[:end], true; len(id) > 0; exact = false {
			visit(id, exact)
			id = id[:max(0, bytes.LastIndexByte(id, '.'))]
		}
	}
}
