package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/fhir"
)

// attachedTo knows what refers to each Binary of a record. What must hold: a Binary is the content of the documents that refer to
// it, by an attachment's url or by a Reference, so it is released exactly where one of them is released together with that
// attachment, and every url that leads to a withheld Binary is masked. What only tells of a Binary (a Provenance, a List) is no document
// of it: it decides where nothing else refers to it. One to which nothing refers goes where its securityContext leads to something that goes.
type attachedTo struct {
	holders []holder
	secured []secured
	selves  []resource // the Binaries of the record
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
}

// leads reports whether a field of that name, or one that holds a Reference, may hold a Binary.
func leads(key []byte) bool {
	switch string(key) {
	case "reference", "url", "valueUrl", "valueUri", "valueCanonical":
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
		r.attached.holders = append(r.attached.holders, holder{o.resource(b.target), self, b.presented, b.tells})
	}
	if string(f.typ) == binaryType {
		r.attached.selves = append(r.attached.selves, self)
	}
	if f.context.typ != nil {
		r.attached.secured = append(r.attached.secured, secured{self, o.resource(f.context)})
	}
}

// followDocuments decides about Binaries by what refers to them; a Binary that needs an authorization itself stays as it is.
func (r *Review) followDocuments() {
	r.attached.holders = deciding(r.attached.holders)
	for _, h := range r.attached.holders {
		if v, known := r.index.at(h.binary); known && v&sensitive == 0 {
			r.index.set(h.binary, because[unusedName])
			r.index.mark(h.binary, held)
		}
	}
	for again := true; again; { // a Binary may hold another one
		again = false
		for _, h := range r.attached.holders {
			again = r.follow(h) || again
		}
	}
	r.followContexts()
}

// followContexts decides about Binaries that nothing holds by their securityContext: one of the Patient leaves it to the line of the form.
func (r *Review) followContexts() {
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
		of, known := r.index.at(s.by)
		if v, _ := r.index.at(s.binary); !known || v&(held|sensitive) != 0 {
			continue
		}
		led[s.binary] = true
		if s.by.typ != patient {
			r.index.set(s.binary, verdict(of.reason()))
		}
	}
	for _, self := range r.attached.selves {
		if v, _ := r.index.at(self); !led[self] && v&(held|sensitive) == 0 && !v.withheld() {
			r.index.set(self, because[unusedName])
		}
	}
}

// follow decides about a Binary by one holder: where that goes, the Binary goes.
func (r *Review) follow(h holder) (released bool) {
	v, known := r.index.at(h.binary)
	if !known || v&sensitive != 0 || !v.withheld() {
		return false
	}
	of := r.standing(h.self)
	switch {
	case of.kept():
		r.index.set(h.binary, verdict(of.reason()))
	case of.unused():
	case !h.presented || of&stripped == 0:
		r.index.set(h.binary, 0)
		return true
	default:
		r.index.set(h.binary, because[referenceOnlyName])
	}
	return false
}

// binaryNames calls visit with the id of each Binary that a URL names, in whatever spelling: by type and id in any place
// of it, percent-encoded or not, or by a search. exact is false for an id that is only part of what stands there.
func binaryNames(url []byte, visit func(id []byte, exact bool)) {
	url = unescaped(url)
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
		for id, exact := rest[:end], true; len(id) > 0; exact = false { // without the ending of a file
			visit(id, exact)
			id = id[:max(0, bytes.LastIndexByte(id, '.'))]
		}
	}
}
