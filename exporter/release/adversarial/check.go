package adversarial

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Markers returns the markers of withheld resources and presentedForms.
func (d *Decision) Markers() (markers []string) {
	for i, m := range d.record.Resources {
		if m.absent {
			continue
		}
		if d.kept(i) {
			markers = append(markers, m.Marker)
			if !strings.Contains(m.ID, m.Marker) && !m.twin {
				markers = append(markers, m.ID)
			}
		}
		if m.signed && (d.kept(i) || d.goes[i] && d.signatureOut(m) == yes) {
			markers = append(markers, m.signature())
		}
		if m.inner != nil && !d.choices.Authorized[m.inner.needs] {
			markers = append(markers, m.inner.marker)
		}
		for _, p := range m.parts {
			if !d.choices.Authorized[p.needs] {
				markers = append(markers, p.marker)
			}
		}
		if m.form != "" && !d.formGoes(i) {
			markers = append(markers, m.form)
		}
	}
	return markers
}

// Released returns the markers of everything that is released.
func (d *Decision) Released() (markers []string) {
	for i, m := range d.record.Resources {
		if d.goes[i] {
			markers = append(markers, m.Marker)
		}
		if m.inner != nil && d.choices.Authorized[m.inner.needs] {
			markers = append(markers, m.inner.marker)
		}
		for _, p := range m.parts {
			if d.choices.Authorized[p.needs] {
				markers = append(markers, p.marker)
			}
		}
		if d.formGoes(i) {
			markers = append(markers, m.form)
		}
	}
	return markers
}

// Leaks returns the markers of withheld data in a text: literally, with JSON or URL escapes, or
// in base64 at any position of a longer text.
func (d *Decision) Leaks(text string) (leaks []string) { return Find(d.Markers(), text) }

// Find returns the markers that occur in a text in any spelling, see Leaks.
func Find(markers []string, text string) (found []string) {
	plain := unescaped(text)
	for _, marker := range markers {
		if strings.Contains(text, marker) || strings.Contains(plain, marker) ||
			holdsBase64(text, marker) || holdsBase64(plain, marker) {
			found = append(found, marker)
		}
	}
	return found
}

// holdsBase64 reports whether a text contains a marker in base64, at any offset.
func holdsBase64(text, marker string) bool {
	for before := range 3 {
		coded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + marker))
		// the characters that depend only on the marker
		from, to := (before*8+5)/6, (before+len(marker))*8/6
		if strings.Contains(text, coded[from:to]) {
			return true
		}
	}
	return false
}

// unescaped decodes \u and % escapes, including nested ones.
func unescaped(text string) string {
	for range 3 {
		if !strings.ContainsAny(text, `\%`) {
			break
		}
		var out strings.Builder
		for i := 0; i < len(text); i++ {
			var c int
			switch {
			case text[i] == '\\' && i+6 <= len(text) && text[i+1] == 'u' &&
				scan(text[i+2:i+6], &c) && c < 0x80:
				i += 5
			case text[i] == '%' && i+3 <= len(text) && scan(text[i+1:i+3], &c) && c < 0x80:
				i += 2
			default:
				c = int(text[i])
			}
			out.WriteByte(byte(c))
		}
		text = out.String()
	}
	return text
}

func scan(hex string, c *int) bool {
	n := 0
	for _, digit := range []byte(strings.ToLower(hex)) {
		at := strings.IndexByte("0123456789abcdef", digit)
		if at < 0 {
			return false
		}
		n = n<<4 | at
	}
	*c = n
	return true
}

// ownPlaces is how often a resource contains its own marker, not counting identifiers.
const ownPlaces = 6

// Check compares the released lines with what may and must be released. lines has one line for
// each resource, "" if it was withheld.
func (d *Decision) Check(lines []string) error {
	text := strings.Join(lines, "\n")
	if leaks := d.Leaks(text); len(leaks) > 0 {
		return fmt.Errorf("leaked: %v", leaks)
	}
	out, err := d.record.apart(lines)
	if err != nil {
		return err
	}
	for i, m := range d.record.Resources {
		want := d.Goes(i)
		if m.within != nil {
			want = d.goes[i] && d.Goes(d.record.place(m.within))
		}
		if out[i] == "" && want && d.record.searchesTwins() {
			return nil // it was about the more secret twin, and was withheld with it
		}
		if (out[i] != "") != want {
			return fmt.Errorf("%s/%s went: %v, want %v", m.Type, m.ID, out[i] != "", want)
		} else if !want {
			continue
		}
		line, err := canonical(out[i])
		if err != nil {
			return fmt.Errorf("%s: %w", out[i], err)
		}
		if err := d.checkOne(i, line); err != nil {
			return fmt.Errorf("%s/%s: %w", m.Type, m.ID, err)
		}
	}
	return nil
}

// place returns the index of a resource in the record.
func (r *Record) place(m *Resource) int { return slices.Index(r.Resources, m) }

// apart returns the released JSON of each resource. It separates inner resources from their
// holders.
func (r *Record) apart(lines []string) (out []string, err error) {
	inner := map[string]string{} // by type and id
	for _, m := range r.Resources {
		if m.within != nil || m.beside {
			out = append(out, "")
			continue
		}
		line := lines[0]
		lines = lines[1:]
		if m.kind.holds != "" && line != "" {
			if line, err = takeInner(line, inner, m); err != nil {
				return nil, err
			}
		}
		out = append(out, line)
	}
	for i, m := range r.Resources {
		if m.within != nil {
			out[i] = inner[m.within.ID+" "+m.Type+"/"+m.ID]
		}
	}
	return out, nil
}

// takeInner removes the inner resources, except copies, from their holder and adds them to inner
// by holder, type and id.
func takeInner(line string, inner map[string]string, holder *Resource) (left string, err error) {
	var resource map[string]any
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.UseNumber()
	if err := decoder.Decode(&resource); err != nil {
		return "", err
	}
	var take func(v any)
	take = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				take(e)
			}
		case map[string]any:
			in, is := v["resource"].(map[string]any)
			text, _ := json.Marshal(in)
			if is && !strings.Contains(string(text), "Copy"+holder.Marker[4:]) {
				inner[fmt.Sprint(holder.ID, " ", in["resourceType"], "/", in["id"])] = string(text)
				delete(v, "resource")
			}
			for _, e := range v {
				take(e)
			}
		}
	}
	take(resource[holder.kind.holds])
	text, err := json.Marshal(resource)
	return string(text), err
}

// checkHeld checks the copies in a released resource, and the texts beside its inner resources.
func (d *Decision) checkHeld(m *Resource, line string) error {
	for _, l := range m.links {
		if l.held && strings.Contains(line, d.record.Resources[l.to].besideHeld()) != d.goes[l.to] {
			return fmt.Errorf("what stands beside %s went, or not", d.record.Resources[l.to].Marker)
		}
	}
	for _, c := range m.copies {
		if strings.Contains(line, m.copy(d.record.Resources[c.of])) != d.goes[c.of] {
			return fmt.Errorf("the copy of %s by its %s went: %v", d.record.Resources[c.of].Marker,
				c.by, !d.goes[c.of])
		}
	}
	return nil
}

// canonical returns a line of JSON without unnecessary escapes.
func canonical(line string) (string, error) {
	var v any
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		return "", err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return out.String(), err
}

// checkOne checks one released resource.
func (d *Decision) checkOne(i int, line string) error {
	m := d.record.Resources[i]
	if err := d.checkHeld(m, line); err != nil {
		return err
	}
	own, left := ownPlaces, strings.Contains(line, "div>"+m.Marker)
	if m.secured > 0 && !d.goes[m.secured] {
		own = ownPlaces - 1 // its text is removed together with its securityContext
	}
	if d.partial(i) {
		if own = ownPlaces - 1; left {
			return fmt.Errorf("its text went, but not all of what it consists of")
		}
	}
	for _, e := range m.entries {
		if out := !strings.Contains(line, e.token); out && left {
			return fmt.Errorf("its text went, but not all of its entries")
		} else if out || m.Type == "Composition" { // its sections may be removed in part
			own = ownPlaces - 1
		}
	}
	for _, l := range m.links {
		if l.held || l.textual() || d.betrays(l) == no {
			continue
		}
		if own = ownPlaces - 1; left && d.betrays(l) == yes {
			return fmt.Errorf("its text went, but not the Reference %s", l.token)
		}
	}
	for _, l := range m.links {
		if own, left = d.besides(i, l, line, own); left {
			return fmt.Errorf("what stands beside %s went, or not", l.token)
		}
	}
	if i == 0 && !d.whole(m) {
		if own = ownPlaces - 1; strings.Contains(line, "div>"+m.Marker) {
			return fmt.Errorf("its text went, but not all of it")
		}
	}
	field, told := wholeFields[m.Type], d.wholeTold(m)
	if field != "" && told != perhaps && strings.Contains(line, m.reason()) != (told == no) {
		return fmt.Errorf("its %s went: %v", field, told != no)
	}
	for _, p := range m.parts {
		if strings.Contains(line, p.marker) != d.choices.Authorized[p.needs] {
			return fmt.Errorf("its element %s went, or not", p.field)
		}
	}
	in := m.inner
	if in != nil && d.choices.Authorized[in.needs] != (strings.Count(line, in.marker) == 2) {
		return fmt.Errorf("what it contains is missing")
	}
	if !strings.Contains(m.ID, m.Marker) { // it is in small letters
		own--
	}
	if strings.Count(line, m.Marker) < own ||
		m.identified && !strings.Contains(line, `"ident-`+m.Marker+`"`) {
		return fmt.Errorf("something of itself is missing")
	}
	if has := strings.Contains(line, m.form); m.form != "" && has != d.formGoes(i) {
		return fmt.Errorf("its presentedForm went: %v", has)
	}
	out := d.signatureOut(m)
	if m.signed && out != perhaps && strings.Contains(line, coded(m.signature())) != (out == no) {
		return fmt.Errorf("its signature went: %v", out != no)
	}
	for _, l := range m.links {
		token, want := l.token, d.expected(i, l)
		if l.shape == "bare" {
			token = `"reference":"` + d.record.Resources[l.to].Type + "/" +
				d.record.Resources[l.to].ID + `"`
			if want == no && d.goes[l.to] {
				continue // another place may name it as well
			}
		}
		if want != perhaps && strings.Contains(line, token) != (want == yes) {
			return fmt.Errorf("%s %s in %s went: %v", l.shape, l.token, l.place.path, want != yes)
		}
	}
	for _, e := range m.entries {
		if out := d.out(e); out != perhaps && strings.Contains(line, e.token) != (out == no) {
			return fmt.Errorf("the entry %s went: %v", e.token, out == yes)
		}
		out := d.outOf(e)
		if e.text != "" && out != perhaps && strings.Contains(line, e.text) != (out == no) {
			return fmt.Errorf("the text %s went: %v", e.text, out == yes)
		}
	}
	return nil
}

// wholeTold reports whether the texts about a whole resource describe something withheld: a
// target of its references, a removed entry, or a part of it.
func (d *Decision) wholeTold(m *Resource) certainty {
	told := no
	if d.partial(d.record.place(m)) {
		told = yes
	}
	for _, l := range m.links {
		if !l.textual() &&
			!slices.Contains([]string{"ClaimResponse", "ExplanationOfBenefit"}, m.Type) &&
			(m.Type != "DiagnosticReport" || slices.Contains(m.kind.members, l.place.path)) {
			told = max(told, d.betrays(l))
		}
	}
	for _, e := range m.entries {
		told = max(told, d.out(e))
	}
	return told
}

// whole reports whether a Patient is released with all its elements.
func (d *Decision) whole(m *Resource) bool {
	for _, p := range m.parts {
		if !d.choices.Authorized[p.needs] {
			return false
		}
	}
	return d.authorized(m) && (m.inner == nil || d.choices.Authorized[m.inner.needs])
}

// besides checks the elements beside a link, which are released together with it. own is how
// often the resource must contain its marker; its text may be removed.
func (d *Decision) besides(i int, l *link, line string, own int) (least int, wrong bool) {
	want := d.expected(i, l)
	if l.place.url && (l.place.presented() || slices.Contains(l.place.outer, "attachment")) {
		title, data :=
			strings.Contains(line, l.beside()), strings.Contains(line, coded("data of "+l.beside()))
		return own, want != perhaps && (title != (want == yes) || data != title)
	}
	if l.place.path == "insurance/coverage" {
		told := d.betrays(l)
		return own, told != perhaps && strings.Contains(line, l.beside()) != (told == no)
	}
	if len(l.place.outer) < 2 || l.place.outer[1] != "entry" ||
		want == yes && l.shape != "display" {
		return own, want == yes && strings.Contains(line, l.token) && len(l.place.outer) > 1 &&
			l.place.outer[1] == "entry" &&
			!strings.Contains(line, l.beside())
	}
	return ownPlaces - 1, want == no && strings.Contains(line, l.beside())
}

// outOf reports whether the text of a section is removed: with any part of the section, and if it
// refers to something of which a part is withheld.
func (d *Decision) outOf(e *entry) certainty {
	out := no
	for _, l := range e.links {
		out = max(out, d.betrays(l))
		if l.shape != "display" && d.partial(l.to) {
			out = yes
		}
	}
	return out
}

// expected reports whether a link is released.
func (d *Decision) expected(i int, l *link) certainty {
	m := d.record.Resources[i]
	switch {
	case l.held, d.record.Resources[l.to].absent: // it has no token, or is unknown
		return perhaps
	case d.record.isOfTwins(l) && d.goes[l.to]:
		return perhaps
	case d.record.Resources[l.to].beside && d.kept(l.to):
		return no
	case l.with != nil && d.isOfAnother(l.with):
		return perhaps
	case l.with != nil && !d.containedGoes(l.with):
		return no
	case l.part != nil && !d.choices.Authorized[l.part.needs]:
		return no
	case l.entry != nil && d.out(l.entry) != no && l.entry.text == "":
		if d.out(l.entry) == yes {
			return no
		}
		return perhaps
	case l.place.presented() && !d.formGoes(i), d.isOfAnother(l):
		return no
	case m.Type == "DiagnosticReport" && l.shape == "display":
		return perhaps
	// or its target is unknown
	case l.shape == "conditional" && d.goes[l.to] && !d.record.follows(l):
	case l.shape == "display", l.shape == "own" && d.unused[l.to]:
	default:
		if d.goes[l.to] ||
			d.unused[l.to] && (l.shape == "identifier" || d.record.Resources[l.to].beside) {
			return yes
		}
		return no
	}
	return perhaps
}
