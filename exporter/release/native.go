package release

import (
	"bytes"
	"slices"

	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// Native decides about content that is not FHIR: rows of tables, and documents (EHI-8, EHI-9). Its
// methods return the reason why something is withheld, "" if it may leave. A row or document
// leaves only if every method that applies to it returns "". It is for one goroutine.
type Native struct {
	policy *Policy
	review *reviewed      // nil for a population
	needed authorizations // found by all decisions so far
	// examine is for resources that something describes; created on first use.
	examine *examiner
	// plain and wholes are for Describes; created on first use.
	plain  *reviewed
	wholes map[resource]bool
}

// Native returns the decisions about the native content of a record. It panics before Conclude.
func (r *Review) Native() *Native {
	if !r.concluded {
		panic("release: Native before Conclude")
	}
	ids := r.secrets
	ids.anyCase = true
	return &Native{policy: r.policy, review: &reviewed{Review: r, native: &ids}}
}

// Native returns the decisions about the native content of a population, of which nothing but
// what the application did not ask for is withheld.
func (f *Filter) Native() *Native { return &Native{policy: f.policy} }

// Line decides about something that falls under a line of the form and happened at some time,
// which is nil if it is unknown.
func (n *Native) Line(key ehi.Category, happened *fhir.Span) (reason string) {
	for _, c := range n.policy.narrow {
		l, on := c[key]
		switch {
		case !on:
			return categoryReason + string(key)
		case l.from.IsZero() && l.to.IsZero():
		case happened == nil || !happened.Overlaps(l.from, l.to):
			return categoryReason + string(key)
		}
	}
	return ""
}

// Code decides about something with a code of a system. The spelling of both does not matter.
func (n *Native) Code(system string, code []byte) (reason string) {
	return n.needs(func(add func(category string)) {
		n.policy.sensitive.lookup([]byte(system), code, false, add)
	})
}

// Text decides about something with a text that may show a code, such as "F10.20 - Alcohol
// dependence".
func (n *Native) Text(text []byte) (reason string) {
	return n.needs(func(add func(category string)) {
		n.policy.sensitive.lookupShown(text, add)
	})
}

// Label decides about something with a security label.
func (n *Native) Label(system string, code []byte) (reason string) {
	return n.needs(func(add func(category string)) {
		n.policy.sensitive.lookup([]byte(system), code, true, add)
		n.policy.sensitive.lookupLabel(code, add)
	})
}

// Authorization decides about something that its source marks as needing an authorization.
func (n *Native) Authorization(key ehi.Authorization) (reason string) {
	return n.needs(func(add func(category string)) { add(string(key)) })
}

// needs returns the reason for the authorizations that find adds.
func (n *Native) needs(find func(add func(category string))) (reason string) {
	var needed authorizations
	find(func(category string) { needed |= authorizationBits[category] })
	n.needed |= needed
	if missing := needed &^ n.policy.authorised; missing != 0 {
		return sensitiveReason + string(missing.first())
	}
	return ""
}

// Resource decides about something that belongs to a resource of the record, which a text names by
// its ID, or by whatever holds the ID: a reference, a URL, a list, in any case and disguise. What
// is not in the record is not withheld.
func (n *Native) Resource(typ string, text []byte) (reason string) {
	if n.review == nil {
		return ""
	}
	if reason = n.resource([]byte(typ), text); reason != "" || !isDisguised(text) {
		return reason
	}
	return n.resource([]byte(typ), revealed(text))
}

func (n *Native) resource(typ, text []byte) (reason string) {
	spelled(typ, text, func(of, word []byte) {
		if reason != "" {
			return
		}
		if v, known := n.found(of, word); known && v.withheld() {
			reason = reasons[v.reason()]
		}
	})
	return reason
}

// spelled calls visit with the words of a text that may be IDs, and the types that they may have.
func spelled(typ, text []byte, visit func(of, word []byte)) {
	types := [][]byte{typ}
	for len(text) > 0 {
		end := 0
		for end < len(text) && !outOfID(rune(text[end])) {
			end++
		}
		word := text[:end]
		if named := typeCalled(word); named != nil {
			types = append(types[:1], named)
		}
		for _, of := range types {
			visit(of, word)
		}
		text = text[min(end+1, len(text)):]
	}
}

// found finds a withheld resource by its ID, in any case and with dots or hyphens around it.
func (n *Native) found(typ, id []byte) (v verdict, known bool) {
	if v, known = n.review.index.find(typ, id); known && v.withheld() {
		return v, true
	}
	for _, as := range otherCases(id) {
		if w, is := n.review.index.find(typ, as); is && w.withheld() {
			return w, true
		}
	}
	return v, known
}

// otherCases returns an ID without dots and hyphens around it, in any case, if that is another
// text.
func otherCases(id []byte) (out [][]byte) {
	bare := bytes.Trim(id, ".-")
	for _, as := range [][]byte{bare, bytes.ToLower(bare), bytes.ToUpper(bare)} {
		if !bytes.Equal(as, id) {
			out = append(out, as)
		}
	}
	return out
}

// Named calls visit with each name in a text that names resources of a type: their types and IDs,
// and without a type what is no ID, and so a business identifier at most.
func (n *Native) Named(typ string, text []byte, visit func(typ string, name []byte)) {
	if len(text) == 0 {
		return
	}
	if fhir.ValidID(text) {
		visit(typ, text)
		return
	}
	if isDisguised(text) {
		text = revealed(text)
	}
	visit("", text)
	for _, part := range bytes.FieldsFunc(text, betweenNames) {
		if of, id, ok := follow(part); ok {
			visit(string(of), id)
			continue
		}
		if at := bytes.LastIndexByte(part, '='); at >= 0 {
			part = part[at+1:] // of a search
		}
		for _, urn := range urns {
			if len(part) > len(urn) && bytes.EqualFold(part[:len(urn)], []byte(urn)) {
				part = part[len(urn):]
			}
		}
		if fhir.ValidID(part) {
			visit(typ, part)
		} else {
			visit("", part)
		}
	}
}

// betweenNames reports whether a character separates the resources of a list.
func betweenNames(c rune) bool {
	return c <= ' ' || bytes.ContainsRune([]byte(`;,|~^"'{}[]<>()`), c)
}

// Called decides about something that names a resource by a business identifier, in any system.
func (n *Native) Called(value []byte) (reason string) {
	if n.review == nil {
		return ""
	}
	if withheld, _ := n.review.names(value); withheld {
		return referenceOnlyName
	}
	return ""
}

// Beside decides about something that belongs to a resource of the store that no Review knows,
// which is a line of JSON. It is not in the record, and something stays if that is another
// patient's, or sensitive. Or there is only a Filter, and something stays if the resource does.
func (n *Native) Beside(line []byte) (reason string, err error) {
	f, err := n.examiner().examine(line)
	if err != nil {
		return "", err
	}
	if n.review == nil {
		return n.policy.withhold(f), nil
	}
	anothers := f.number == patientNumber || len(fhir.CompartmentPaths(string(f.typ))) > 0
	if anothers || f.sensitive&^n.policy.authorised != 0 {
		return referenceOnlyName, nil
	}
	return "", nil
}

// examiner returns the examiner of resources.
func (n *Native) examiner() *examiner {
	if n.examine == nil {
		x := n.policy.examiner()
		x.alone = n.review == nil
		n.examine = &x
	}
	return n.examine
}

// Mentions decides about something with a text. It stays if the text holds an ID or another number
// of a withheld resource, a short ID behind its type or as a URN, or the URL of a withheld
// definition, also in disguise. An ID without capitals, or without small letters, may be in any
// case.
func (n *Native) Mentions(text []byte) (reason string) {
	if n.review == nil {
		return ""
	}
	if n.review.betraysIn(text) || n.review.holdsWithheldURN(text) ||
		isDisguised(text) && n.review.holdsWithheldURN(revealed(text)) {
		return referenceOnlyName
	}
	return ""
}

// holdsWithheldURN reports whether a text holds the ID of a withheld resource as a URN.
func (r *reviewed) holdsWithheldURN(text []byte) bool {
	for at := 0; ; {
		n := bytes.IndexByte(text[at:], ':')
		if n < 0 {
			return false
		}
		at += n + 1
		if !endsWithURN(text[:at]) {
			continue
		}
		end := at
		for end < len(text) && !outOfID(rune(text[end])) {
			end++
		}
		id := bytes.TrimRight(text[at:end], ".")
		if r.isOnlyWithheld(id) || r.isOnlyWithheld(bytes.ToLower(id)) {
			return true
		}
	}
}

// endsWithURN reports whether a text ends with the beginning of a URN that an ID follows.
func endsWithURN(text []byte) bool {
	return slices.ContainsFunc(urns, func(urn string) bool {
		from := len(text) - len(urn)
		return from >= 0 && bytes.EqualFold(text[from:], []byte(urn))
	})
}

// isOnlyWithheld reports whether an ID is that of a withheld resource and of no released one.
func (r *reviewed) isOnlyWithheld(id []byte) bool {
	released, withheld := r.index.of(r.index.hash(id))
	return withheld && !released
}

// Group returns the document group that a code stands for; "" if it stands for none.
func (n *Native) Group(code fhir.Coding) (group ehi.Category) {
	n.policy.documents.lookup([]byte(code.System), []byte(code.Code), false,
		func(category string) { group = ehi.Category(category) })
	return group
}
