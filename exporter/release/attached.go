package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// attachedTo records what refers to each Binary of a record. The invariant: a Binary is the
// content of the documents that refer to it, by an attachment's url or by a Reference. So it is
// released exactly if one of them is released together with that attachment, and every url that
// points to a withheld Binary is masked. A resource that only describes a Binary (a Provenance,
// a List) is not its document: it decides only if nothing else refers to the Binary. A Binary
// without any reference is released if its securityContext points to something released.
//
// A URL of the source's own, or a text, that contains a Binary's id withholds the Binary if its
// resource is withheld, but never releases it, because it may mean something else. If a link of
// a withheld resource points to nothing known, it may point to any Binary: then all Binaries of
// the patient without other references are withheld.
type attachedTo struct {
	holders []holder
	hints   []hint
	secured []secured
	selves  []resource // the Binaries of the record
}

// hint is a text or link that may point to a Binary.
type hint struct {
	lead, self resource
	presented  bool // in its presentedForm, which may be removed
	link       bool // it is a link, not a text
}

// some reports whether there is anything to follow.
func (a *attachedTo) some() bool { return len(a.holders)+len(a.selves) > 0 }

// holder refers to a Binary.
type holder struct {
	binary, self resource
	presented    bool // in its presentedForm, which may be removed
	tells        bool // it only describes the Binary, see uses
}

// deciding returns the holders that decide about Binaries. Holders that only describe a Binary
// are dropped if other holders use it.
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

// attachmentTo returns a possible reference to a Binary that is not by type and id.
func attachmentTo(to target, presented, tells bool) attachment {
	return attachment{to, presented, tells, !to.exactly(), !bytes.HasPrefix(to.id, onlyIdentifier)}
}

// attachmentsTo returns the Binaries that a reference may point to, if it is not by type and id.
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

// attaches are the types that hold documents and are released independently.
var attaches = typeSet("Communication", "Consent", "DiagnosticReport", "DocumentReference", "Media",
	"Patient", "QuestionnaireResponse")

// leads reports whether a field of that name may point to a Binary, as a Reference may.
func leads(key []byte) bool {
	switch string(key) {
	case "url", "valueUrl", "valueUri", "valueCanonical":
		return true
	}
	return false
}

// attach records how a resource relates to Binaries.
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

// holds records that a resource, or an entry, refers to a Binary.
func (o *Observer) holds(self resource, b attachment) {
	a, to := &o.review.attached, o.resource(b.target)
	if to.typ == nameType {
		a.hints = append(a.hints, hint{to, self, b.presented, b.link})
	}
	if !b.hint {
		a.holders = append(a.holders, holder{to, self, b.presented, b.tells})
	}
}

// resolveHolders replaces leads by the Binaries that they point to.
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

// followHints withholds the Binaries that a withheld resource may point to. It reports whether
// any such link points to nothing known.
func (r *Review) followHints() (unread bool) {
	for _, h := range r.attached.hints {
		of := r.standing(h.self)
		if !of.kept() && !(h.presented && !of.withheld() && of.hidesForm(h.self)) {
			continue
		}
		l, read := r.support.leads[h.lead], !h.link
		for _, w := range l.words {
			binary := resource{binaryNumber, w.id}
			v, known := r.index.at(binary)
			if read = read || known; !known || binary == h.self || v&held != 0 && !v.withheld() {
				continue // or a certain reference releases it
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

// followDocuments decides about Binaries by what refers to them. A Binary that itself needs an
// authorization keeps its verdict.
func (r *Review) followDocuments() {
	r.attached.holders = deciding(r.attached.holders)
	for _, h := range r.attached.holders {
		if v, known := r.index.at(h.binary); known && v&sensitive == 0 {
			r.index.set(h.binary, because[unusedName])
			r.index.mark(h.binary, held)
		}
	}
	// released holders come first, so that the result does not depend on the order of the record
	for _, keeps := range []bool{false, true} {
		for again := true; again; { // a Binary may refer to another one
			again = false
			for _, h := range r.attached.holders {
				again = r.follow(h, keeps) || again
			}
		}
	}
	r.followContexts(r.followHints())
}

// followContexts decides about Binaries without holders by their securityContext. If that is the
// Patient, the form line decides, unless a withheld resource has an unresolved link.
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

// secures returns the verdict on the target of a securityContext. It replaces a lead by its
// target.
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

// follow decides about a Binary by one holder. If the holder is released, so is the Binary. If
// the holder is withheld, so is the Binary, unless another holder is released. follow reports
// whether the change affects what depends on the Binary.
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
	case !h.presented || !of.hidesForm(h.self):
		r.index.set(h.binary, 0)
	case v.kept(), !keeps:
		return false
	default:
		r.index.set(h.binary, because[referenceOnlyName])
	}
	return true
}

// binaryNames calls visit with the id of each Binary that a URL names, in any spelling: by type
// and id anywhere in the URL, percent-encoded or not, or by a search. exact is false for an id
// that is only part of the text at that place.
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
		// a file extension may follow the id
		for id, exact := rest[:end], true; len(id) > 0; exact = false {
			visit(id, exact)
			id = id[:max(0, bytes.LastIndexByte(id, '.'))]
		}
	}
}
