package fhir

import (
	"slices"
	"strings"
	"time"
)

// Group is the part of a Group resource that defines its members
// (https://hl7.org/fhir/R4/group.html).
type Group struct {
	// Kind is Group.type: person, animal, practitioner, device, medication or substance.
	Kind string
	// Inactive is true if Group.active is false. Such a group is kept for historical purposes
	// and is not available for use.
	Inactive bool
	// Descriptive is true if Group.actual is false. Such a group describes its members and names
	// none.
	Descriptive bool
	// Members are the members at the instant for which the group was read, in the group's order.
	Members []Member
	// Characteristics describe what the members have in common, for people. An excluded one
	// starts with "not".
	Characteristics []string
	// Modifiers are the URLs of modifier extensions of the group and of its members. They may
	// change who is a member.
	Modifiers []string
	names     bool // the group names a member, at any time
}

// Member is a member of a group: a resource of this server by type and ID, or another one by
// Identifier.
type Member struct {
	Type, ID   string
	Identifier Identifier // of a member without a reference
}

// Identifier is a business identifier of a resource
// (https://hl7.org/fhir/R4/datatypes.html#Identifier).
type Identifier struct{ System, Value string }

// ReadGroup parses a Group and selects its members at an instant: those that are not inactive
// and whose period, if any, contains the instant. A period with an invalid date contains no
// instant. Members that are not resources of this server are omitted.
func ReadGroup(group []byte, at time.Time) (Group, error) {
	r := groupReader{at: at}
	c := &r.cursor
	for c.Reset(group); c.Next(); {
		switch string(c.KeyAt(1)) {
		case "type", "active", "actual":
			r.field()
		case "member":
			r.dates.see(c)
			r.member()
		case "characteristic":
			r.characteristic()
		case "modifierExtension":
			r.modifier(3)
		}
	}
	return r.group, c.Err()
}

// groupReader parses a Group.
type groupReader struct {
	cursor Cursor
	at     time.Time
	group  Group

	one                     Member // the current member
	inactive                bool
	dates                   period
	named                   Identifier
	trait, coded, traitText string // the current characteristic
	excluded                bool
}

func (r *groupReader) field() {
	c := &r.cursor
	if c.Depth != 1 || c.Kind != Scalar {
		return
	}
	no := string(c.Raw()) == "false"
	switch string(c.Key()) {
	case "type":
		r.group.Kind = string(c.Text())
	case "active":
		r.group.Inactive = no
	case "actual":
		r.group.Descriptive = no
	}
}

// member processes a token of Group.member.
func (r *groupReader) member() {
	c := &r.cursor
	switch {
	case c.Depth == 2 && c.Kind == Close:
		r.endMember()
	case c.Depth == 3 && c.Kind == Scalar && string(c.Key()) == "inactive":
		r.inactive = string(c.Raw()) == "true"
	case c.Depth == 4 && c.IsString() && string(c.Key()) == "reference" &&
		string(c.KeyAt(3)) == "entity":
		if typ, id, ok := Local(c.Text()); ok {
			r.one.Type, r.one.ID = string(typ), string(id)
		}
	case c.Depth == 5 && c.IsString() && string(c.KeyAt(4)) == "identifier" &&
		string(c.KeyAt(3)) == "entity":
		switch string(c.Key()) {
		case "system":
			r.named.System = string(c.Text())
		case "value":
			r.named.Value = string(c.Text())
		}
	case string(c.KeyAt(3)) == "modifierExtension":
		r.modifier(5)
	}
}

func (r *groupReader) endMember() {
	r.group.names = true
	if r.one.ID == "" && r.named.Value != "" {
		r.one.Identifier = r.named
	}
	if r.one != (Member{}) && !r.inactive && r.dates.holds(r.at) {
		r.group.Members = append(r.group.Members, r.one)
	}
	r.one, r.inactive, r.dates, r.named = Member{}, false, period{}, Identifier{}
}

// characteristic processes a token of Group.characteristic.
func (r *groupReader) characteristic() {
	c := &r.cursor
	switch {
	case c.Depth == 2 && c.Kind == Close:
		r.endCharacteristic()
	case c.Depth == 3 && string(c.Key()) == "exclude":
		r.excluded = string(c.Raw()) == "true"
	case string(c.KeyAt(3)) != "code" || !c.IsString():
	case c.Depth == 4 && string(c.Key()) == "text":
		r.traitText = string(c.Text())
	case string(c.Key()) == "display" && r.trait == "":
		r.trait = string(c.Text())
	case string(c.Key()) == "code" && r.coded == "":
		r.coded = string(c.Text())
	}
}

func (r *groupReader) endCharacteristic() {
	texts := []string{r.traitText, r.trait, r.coded, "a trait without a code"}
	text := texts[slices.IndexFunc(texts, func(s string) bool { return s != "" })]
	if r.excluded {
		text = "not " + text
	}
	r.group.Characteristics = append(r.group.Characteristics, text)
	r.trait, r.coded, r.traitText, r.excluded = "", "", "", false
}

// modifier processes a token of a modifier extension, whose url is at the given depth.
func (r *groupReader) modifier(depth int) {
	c := &r.cursor
	if c.Depth != depth || !c.IsString() || string(c.Key()) != "url" {
		return
	}
	if url := string(c.Text()); !slices.Contains(r.group.Modifiers, url) {
		r.group.Modifiers = append(r.group.Modifiers, url)
	}
}

// period is the period of a member.
type period struct {
	start, end   time.Time
	ended, wrong bool
}

func (p *period) see(c *Cursor) {
	if c.Depth != 4 || !c.IsString() || string(c.KeyAt(3)) != "period" {
		return
	}
	s, err := ParseSpan(string(c.Text()))
	p.wrong = p.wrong || err != nil
	switch string(c.Key()) {
	case "start":
		p.start = s.Start
	case "end":
		p.end, p.ended = s.End, true
	}
}

func (p *period) holds(at time.Time) bool {
	return !p.wrong && !at.Before(p.start) && (!p.ended || at.Before(p.end))
}

// Unusable returns why the members of a group cannot be determined, or "".
func (g Group) Unusable() string {
	switch {
	case len(g.Modifiers) > 0:
		return "it has the modifier extension " + strings.Join(g.Modifiers, ", ") +
			", which is not supported"
	case len(g.Characteristics) > 0 && (g.Descriptive || !g.names):
		return "it is defined by characteristics (" + strings.Join(g.Characteristics, ", ") +
			"), which is not supported: " +
			"only groups that name their members are"
	case g.Descriptive && !g.names:
		return "it is a description (actual is false) that names no members, which is not supported"
	case g.Inactive:
		return "it is not active"
	case !g.OfPatients():
		return "its members are of type " + g.Kind + ", not patients"
	}
	return ""
}

// OfPatients reports whether the members may be patients.
func (g Group) OfPatients() bool { return g.Kind == "" || g.Kind == "person" || g.Kind == "animal" }
