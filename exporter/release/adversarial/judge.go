package adversarial

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Never returns the markers that must not leave in any case, whatever the oracle decides: those
// of resources whose form line is not ticked, or that need a missing authorization, and those of
// things that no released resource can refer to. Never considers each resource by itself, and
// ignores what resources are about.
func (r *Record) Never(c Choices) (never []string) {
	may := r.may(c)
	for i, m := range r.Resources {
		if !may[i] && !m.absent {
			never = append(never, m.Marker, m.signature())
			if !m.twin {
				never = append(never, m.ID)
			}
		}
		if m.inner != nil && !c.Authorized[m.inner.needs] {
			never = append(never, m.inner.marker)
		}
		for _, p := range m.parts {
			if !c.Authorized[p.needs] {
				never = append(never, p.marker)
			}
		}
		if m.form != "" && !(may[i] && c.admit(string(m.group), m.when)) {
			never = append(never, m.form)
		}
	}
	return never
}

// admit reports whether a form line is ticked and its date limits include a date. A resource
// without a line is admitted.
func (c Choices) admit(line, when string) bool {
	for ticked, dated := range c.Ticked {
		if string(ticked) == line {
			return !dated || when == inLimits
		}
	}
	return line == ""
}

// may returns which resources may be released, considering each by itself. The Patient always
// may.
func (r *Record) may(c Choices) []bool {
	may, things := make([]bool, len(r.Resources)), map[int]bool{}
	for i, m := range r.Resources {
		permitted := m.needs == "" || c.Authorized[m.needs]
		switch ticked := m.beside || c.admit(string(m.category), m.when); {
		case m.Type == binary, m.kind.supporting && m.kind.patient == "", m.absent:
			things[i] = permitted
			may[i] = permitted && m.secured >= 0 && m.Type == binary
		default:
			may[i] = i == 0 || permitted && ticked
		}
	}
	for range r.Resources { // no path is longer
		for from, m := range r.Resources {
			for _, l := range m.links {
				may[l.to] = may[l.to] || may[from] && things[l.to]
			}
		}
	}
	return may
}

// Judge compares the released lines with Never. It shares nothing with Check except the record:
// it reads tokens with encoding/json, and decodes each text as a URL and as base64.
func (r *Record) Judge(c Choices, lines []string) error {
	never := r.Never(c)
	for _, line := range slices.DeleteFunc(slices.Clone(lines),
		func(l string) bool { return l == "" }) {
		decoder := json.NewDecoder(strings.NewReader(line))
		for token, err := decoder.Token(); err == nil; token, err = decoder.Token() {
			text, _ := token.(string)
			for range 3 {
				at := slices.IndexFunc(never, func(n string) bool {
					return strings.Contains(text, n)
				})
				if at >= 0 {
					return fmt.Errorf("%s never leaves, and stands in %q of %s", never[at], token,
						line)
				}
				if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
					text = string(decoded)
				} else if decoded, err := url.PathUnescape(text); err == nil {
					text = decoded
				}
			}
		}
	}
	return nil
}
