package release

import (
	"bytes"
	"strings"

	"ehi-server/shared/fhir"
)

// attachedTo knows what refers to each Binary of a record. What must hold: a Binary is the content of the documents that refer to
// it, by an attachment's url or by a Reference, so it is released exactly where one of them is released together with that
// attachment, and every url that leads to a withheld Binary is masked. It is for one goroutine.
type attachedTo struct {
	cursor  fhir.Cursor
	holders map[string][]holder // by "Binary/id"
	secured map[string]string   // by "Binary/id": what its securityContext refers to
}

// holder refers to a Binary.
type holder struct {
	self      string // type/id
	presented bool   // in its presentedForm, which may be stripped
}

func newAttachedTo() *attachedTo {
	return &attachedTo{holders: map[string][]holder{}, secured: map[string]string{}}
}

// observe takes one resource in. Few name a Binary, so most are not walked.
func (a *attachedTo) observe(self string, line []byte) {
	if !bytes.Contains(line, []byte("Binary")) {
		return
	}
	c := &a.cursor
	for c.Reset(line); c.Next(); {
		if !c.IsString() || !leads(c.Key()) {
			continue
		}
		typ, id, local := fhir.Local(c.Text())
		if !local {
			continue
		}
		target := string(typ) + "/" + string(id)
		switch {
		case string(typ) == "Binary" && target != self:
			a.holders[target] = append(a.holders[target], holder{self, string(c.KeyAt(1)) == "presentedForm"})
		case string(c.KeyAt(1)) == "securityContext" && strings.HasPrefix(self, "Binary/"):
			a.secured[self] = target
		}
	}
}

// leads reports whether a field of that name may lead to a Binary.
func leads(key []byte) bool {
	switch string(key) {
	case "reference", "url", "valueUrl", "valueUri", "valueCanonical":
		return true
	}
	return false
}

// followDocuments decides about Binaries by what refers to them; a Binary that needs an authorization itself stays as it is.
func (r *Review) followDocuments() {
	for self, holders := range r.attached.holders {
		if d, known := r.decided[self]; known && !d.sensitive() {
			r.decided[self] = decision{r.reasonOf(holders)}
		}
	}
	for self, target := range r.attached.secured {
		d, known := r.decided[target]
		if known && !strings.HasPrefix(target, "Patient/") && len(r.attached.holders[self]) == 0 && !r.decided[self].sensitive() {
			r.decided[self] = d
		}
	}
}

// reasonOf says why what hangs on all these resources stays; "" where one of them lets it go.
func (r *Review) reasonOf(holders []holder) (reason string) {
	for _, h := range holders {
		d, known := r.decided[h.self]
		stripped := h.presented && r.stripped[h.self]
		switch {
		case known && d.reason == "" && !stripped:
			return ""
		case d.reason != "":
			reason = d.reason
		case reason == "":
			reason = referenceOnlyName
		}
	}
	return reason
}
