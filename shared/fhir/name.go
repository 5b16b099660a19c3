package fhir

import (
	"cmp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxDisplayName is the longest name that is shown to people, in bytes.
const MaxDisplayName = 512

// DisplayName returns the name of a person, group or organization at an instant, or "" if the
// resource has no name to show.
//
// Among several HumanNames (https://hl7.org/fhir/R4/datatypes.html#HumanName) a current one
// precedes an expired one, which precedes a future one. Then official precedes usual, no use,
// temp, nickname, anonymous, maiden and old; then the first one counts. The result is the name's
// text, which is intended for display, or else its given and family names. A name with neither
// is ignored.
func DisplayName(resource []byte, at time.Time) string {
	w := nameWalk{at: at}
	for w.c.Reset(resource); w.c.Next(); {
		if string(w.c.KeyAt(1)) == "name" {
			w.take()
		}
	}
	return w.best
}

// nameWalk walks the names of one resource.
type nameWalk struct {
	c    Cursor
	at   time.Time
	best string
	rank int
	humanName
}

// humanName is the current name.
type humanName struct {
	use, text, family string
	given             []string
	start, end        string
}

// take processes one value below name.
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

// offer keeps a name that precedes the best one so far.
func (w *nameWalk) offer(name string, rank int) {
	if name != "" && (w.best == "" || rank < w.rank) {
		w.best, w.rank = name, rank
	}
}

func (n *humanName) shown() string {
	return cmp.Or(presentable(n.text), presentable(strings.Join(append(n.given, n.family), " ")))
}

// nameUses ranks the uses. An unknown code ranks like a missing use.
var nameUses = map[string]int{
	"official": 0, "usual": 1, "temp": 3, "nickname": 4, "anonymous": 5, "maiden": 6, "old": 7,
}

const (
	noUse = 2
	// over and notYet are added to the rank of an expired or future name.
	over, notYet = 10, 20
)

// rank returns the rank of a name. The lowest comes first.
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

// presentable returns text as one line that is safe to show: white space becomes one space,
// control characters and bidirectional controls are removed, and the text is cut to
// MaxDisplayName bytes.
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

// CutText cuts text to at most n bytes without splitting a character.
func CutText(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
