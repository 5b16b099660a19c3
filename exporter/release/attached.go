package release

import (
	"bytes"
	"slices"
)

// attachedTo knows what refers to each Binary of a record. What must hold: a Binary is the content of the documents that refer to
// it, by an attachment's url or by a Reference, so it is released exactly where one of them is released together with that
// attachment, and every url that leads to a withheld Binary is masked. What only tells of a Binary (a Provenance, a List) is no document
// of it: it decides where nothing else refers to it.
type attachedTo struct {
	holders []holder
	secured []secured
}

// some reports whether there is something to follow.
func (a *attachedTo) some() bool { return len(a.holders)+len(a.secured) > 0 }

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
func (r *Review) attach(self resource, f *facts) {
	for _, b := range f.binaries {
		if string(f.typ) == "Binary" && bytes.Equal(f.id, b.id) {
			continue
		}
		r.attached.holders = append(r.attached.holders, holder{r.index.resource(b.typ, b.id), self, b.presented, b.tells})
	}
	if f.context.typ != nil {
		r.attached.secured = append(r.attached.secured, secured{self, r.index.resource(f.context.typ, f.context.id)})
	}
}

// followDocuments decides about Binaries by what refers to them; a Binary that needs an authorization itself stays as it is.
func (r *Review) followDocuments() {
	r.attached.holders = deciding(r.attached.holders)
	for _, h := range r.attached.holders {
		if v, known := r.index.at(h.binary); known && v&sensitive == 0 {
			r.index.set(h.binary, because[referenceOnlyName])
			r.index.mark(h.binary, held)
		}
	}
	for again := true; again; { // a Binary may hold another one
		again = false
		for _, h := range r.attached.holders {
			again = r.follow(h) || again
		}
	}
	if len(r.attached.secured) > 0 {
		r.followContexts()
	}
}

// followContexts decides about Binaries that nothing holds by their securityContext.
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
	patient := r.index.number([]byte("Patient"))
	for _, s := range r.attached.secured {
		of, known := r.index.at(s.by)
		if v, _ := r.index.at(s.binary); known && s.by.typ != patient && v&(held|sensitive) == 0 {
			r.index.set(s.binary, verdict(of.reason()))
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
	case of.withheld():
		r.index.set(h.binary, verdict(of.reason()))
	case !h.presented || of&stripped == 0:
		r.index.set(h.binary, 0)
		return true
	}
	return false
}
