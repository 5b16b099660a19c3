package fhir

import (
	"cmp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxDisplayName bounds a name that is shown to people, in bytes.
const MaxDisplayName = 512

// DisplayName is what a person, group or organization is called at an instant, "" where the
// resource has no name that could be shown.
//
// Of several HumanNames (https://hl7.org/fhir/R4/datatypes.html#HumanName) one that is in use
// comes before one whose period is over, which comes before one whose period has not begun; then
// official before usual before one without a use before temp, nickname, anonymous, maiden and
// old; then the first. Of that the text, which is made to be shown, or else given names and
// family name. A name that has neither is none.
func DisplayName(resource []byte, at time.Time) string {
	w := nameWalk{at: at}
	for w.c.Reset(resource); w.c.Next(); {
		if string(w.c.KeyAt(1)) == "name" {
			w.take()
		}
	}
	return w.best
}

// nameWalk goes over the names of one resource.
type nameWalk struct {
	c    Cursor
	at   time.Time
	best string
	rank int
	humanName
}

// humanName is the name at hand.
type humanName struct {
	use, text, family string
	given             []string
	start, end        string
}

// take looks at one value below name.
func (w *nameWalk) take() {
	c := &w.c
	switch {
	case c.Depth == 2 && c.Kind == Open:
		w.humanName = humanName{}
	case c.Depth == 2 && c.Kind == Close:
		w.offer(w.shown(), w.humanName.rank(w.at))
	case !c.IsString():
	case c.Depth == 1: // the name of a Group is a string
		w.offer(presentable(string(c.Text())), 0)
	case c.Depth == 3:
		w.field(string(c.Key()), string(c.Text()))
	case c.Depth == 4 && string(c.KeyAt(3)) == "given":
		w.given = append(w.given, string(c.Text()))
	case c.Depth == 4 && string(c.KeyAt(3)) == "period" && string(c.Key()) == "start":
		w.start = string(c.Text())
	case c.Depth == 4 && string(c.KeyAt(3)) == "period" && string(c.Key()) == "end":
		w.end = string(c.Text())
	}
}

func (n *humanName) field(key, text string) {
	switch key {
	case "use":
		n.use = text
	case "text":
		n.text = text
	case "family":
		n.family = text
	}
}

// offer keeps a name that comes before the best so far.
func (w *nameWalk) offer(name string, rank int) {
	if name != "" && (w.best == "" || rank < w.rank) {
		w.best, w.rank = name, rank
	}
}

func (n *humanName) shown() string {
	return cmp.Or(presentable(n.text), presentable(strings.Join(append(n.given, n.family), " ")))
}

// nameUses orders the uses; those of a code that R4 does not have come with the names without a
// use.
var nameUses = map[string]int{
	"official": 0, "usual": 1, "temp": 3, "nickname": 4, "anonymous": 5, "maiden": 6, "old": 7,
}

const (
	noUse = 2
	// over and notYet are added to the rank of a name that is not in use at the time.
	over, notYet = 10, 20
)

// rank orders names: the least comes first.
func (n *humanName) rank(at time.Time) int {
	rank, known := nameUses[n.use]
	if !known {
		rank = noUse
	}
	if end, err := ParseSpan(n.end); err == nil && !end.End.After(at) {
		return rank + over
	}
	if start, err := ParseSpan(n.start); err == nil && start.Start.After(at) {
		return rank + notYet
	}
	return rank
}

// presentable gives text as one line that can be shown anywhere: white space is one space, what
// controls the terminal or the direction of writing is left out, and what is beyond
// MaxDisplayName bytes is cut off.
func presentable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, text)
	return strings.TrimSpace(CutText(strings.Join(strings.Fields(text), " "), MaxDisplayName))
}

// CutText cuts text to at most n bytes, and no character in two.
func CutText(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
