package datapackage

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// formatsOf lists the formats of each type of Table Schema. nil means any text.
var formatsOf = map[string][]string{
	"string":    {"default", "email", "uri", "binary", "uuid"},
	"number":    {"default"},
	"integer":   {"default"},
	"date":      nil,
	"time":      nil,
	"datetime":  nil,
	"year":      {"default"},
	"yearmonth": {"default"},
	"boolean":   {"default"},
	"object":    {"default"},
	"geopoint":  {"default", "array", "object"},
	"geojson":   {"default", "topojson"},
	"array":     {"default"},
	"duration":  {"default"},
	"any":       nil,
}

// ordered are the types that can have bounds.
var ordered = []string{
	"integer", "number", "date", "time", "datetime", "duration", "year", "yearmonth",
}

// kind returns the type of the field.
func (f *Field) kind() string {
	if f.Type == "" {
		return "string"
	}
	return f.Type
}

// Check reports why a value, without quotes and as UTF-8, is none of the field: by its type,
// its format and its constraints, but for unique. The text of the error follows "the value". It
// does not repeat the value, which belongs to a patient.
//
// Check knows the missing values of the field, not those of its schema. Codec.Check knows both,
// and is quicker for many values.
func (f *Field) Check(value string) error {
	c, err := f.compile((&Schema{}).Missing(f))
	if err != nil {
		return err
	}
	return c.check(value)
}

var (
	errBytes   = errors.New("has bytes that are no characters in the table's encoding")
	errMissing = errors.New("is missing, but required")
)

// cell checks the values of a field.
type cell struct {
	field    *Field
	missing  []string
	required bool
	form     func(string) error // what the type and the format say
	tests    []func(string) error
}

// compile prepares checks. It fails if constraints cannot be applied.
func (f *Field) compile(missing []string) (*cell, error) {
	form, ok := forms[f.kind()]
	if !ok {
		return nil, fmt.Errorf("%q is no type of Table Schema", f.Type)
	}
	c := &cell{field: f, missing: missing, form: form(f)}
	if k := f.Constraints; k != nil {
		c.required = k.Required
		err := errors.Join(c.pattern(k), c.lengths(k), c.enum(k), c.bounds(k))
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// free reports whether every text is a value.
func (c *cell) free() bool {
	kind := c.field.kind()
	return !c.required && len(c.tests) == 0 && (kind == "any" ||
		kind == "string" && (c.field.Format == "" || c.field.Format == "default"))
}

func (c *cell) isMissing(value string) bool { return slices.Contains(c.missing, value) }

func (c *cell) check(value string) error {
	if !utf8.ValidString(value) {
		return errBytes
	}
	if c.isMissing(value) {
		if c.required {
			return errMissing
		}
		return nil
	}
	if err := c.form(value); err != nil {
		return err
	}
	for _, test := range c.tests {
		if err := test(value); err != nil {
			return err
		}
	}
	return nil
}

// pattern is that of XML Schema, which matches whole values.
func (c *cell) pattern(k *Constraints) error {
	if k.Pattern == "" {
		return nil
	}
	r, err := regexp.Compile("^(?:" + k.Pattern + ")$")
	if err != nil {
		return fmt.Errorf("pattern cannot be read as a regular expression: %w", err)
	}
	c.tests = append(c.tests, func(s string) error {
		if !r.MatchString(s) {
			return fmt.Errorf("does not match the pattern %s", k.Pattern)
		}
		return nil
	})
	return nil
}

func (c *cell) lengths(k *Constraints) error {
	if k.MinLength == nil && k.MaxLength == nil {
		return nil
	}
	if k.MinLength != nil && k.MaxLength != nil && *k.MinLength > *k.MaxLength {
		return errors.New("minLength is greater than maxLength")
	}
	c.tests = append(c.tests, func(s string) error {
		n := c.field.length(s)
		if k.MinLength != nil && n < *k.MinLength {
			return fmt.Errorf("is shorter than %d", *k.MinLength)
		}
		if k.MaxLength != nil && n > *k.MaxLength {
			return fmt.Errorf("is longer than %d", *k.MaxLength)
		}
		return nil
	})
	return nil
}

// length returns the number of characters or members of a value that has the form of the type.
func (f *Field) length(s string) int {
	switch f.kind() {
	case "array":
		var list []json.RawMessage
		json.Unmarshal([]byte(s), &list)
		return len(list)
	case "object", "geojson":
		var members map[string]json.RawMessage
		json.Unmarshal([]byte(s), &members)
		return len(members)
	}
	return utf8.RuneCountInString(s)
}

// enum compares values, not texts, where values have an order.
func (c *cell) enum(k *Constraints) error {
	if len(k.Enum) == 0 {
		return nil
	}
	texts := map[string]bool{}
	var values []any
	for _, v := range k.Enum {
		text := plain(v)
		texts[text] = true
		if !slices.Contains(ordered, c.field.kind()) && c.field.kind() != "boolean" {
			continue
		}
		value, err := c.field.value(text)
		if _, isText := v.(string); err != nil && c.field.kind() == "boolean" && !isText {
			value, err = text == "true", nil // JSON's true, whatever trueValues are
		}
		if err != nil {
			return fmt.Errorf("enum lists a value that %w", err)
		}
		values = append(values, value)
	}
	c.tests = append(c.tests, func(s string) error {
		if texts[s] {
			return nil
		}
		value, err := c.field.value(s)
		if err == nil && slices.ContainsFunc(values, func(v any) bool {
			return order(v, value) == 0
		}) {
			return nil
		}
		return errors.New("is none of the values of enum")
	})
	return nil
}

// bound is one of the limits of a value.
type bound struct {
	name  string
	value any
	fits  func(order int) bool // of the value to the bound
}

func (k *Constraints) bounds() []bound {
	return []bound{
		{"minimum", k.Minimum, func(o int) bool { return o >= 0 }},
		{"maximum", k.Maximum, func(o int) bool { return o <= 0 }},
		{"exclusiveMinimum", k.ExclusiveMinimum, func(o int) bool { return o > 0 }},
		{"exclusiveMaximum", k.ExclusiveMaximum, func(o int) bool { return o < 0 }},
	}
}

func (c *cell) bounds(k *Constraints) error {
	for _, b := range k.bounds() {
		if b.value == nil {
			continue
		}
		limit, err := c.field.value(plain(b.value))
		if err != nil {
			return fmt.Errorf("%s %w", b.name, err)
		}
		c.tests = append(c.tests, func(s string) error {
			v, err := c.field.value(s)
			if err != nil {
				return err
			}
			if !b.fits(order(v, limit)) {
				return fmt.Errorf("is outside of %s %v", b.name, b.value)
			}
			return nil
		})
	}
	return nil
}

// plain returns a value of JSON as the text of a column.
func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// forms returns for each type what checks the form of values. XML Schema, to which the standard
// refers, has years of more digits and before Christ too; but other programs read none of these.
var forms = map[string]func(*Field) func(string) error{
	"any":       func(*Field) func(string) error { return func(string) error { return nil } },
	"string":    stringForm,
	"integer":   func(f *Field) func(string) error { return f.checkInteger },
	"number":    func(f *Field) func(string) error { return f.checkNumber },
	"boolean":   func(f *Field) func(string) error { return f.checkBoolean },
	"date":      timeForm,
	"time":      timeForm,
	"datetime":  timeForm,
	"year":      match(`^[0-9]{4}$`, "is no year of four digits"),
	"yearmonth": match(`^[0-9]{4}-(0[1-9]|1[0-2])$`, "is no year and month such as 2026-01"),
	"duration":  durationForm,
	"object":    jsonForm('{', "is no JSON object"),
	"geojson":   geojsonForm,
	"array":     jsonForm('[', "is no JSON array"),
	"geopoint":  geopointForm,
}

func match(pattern, why string) func(*Field) func(string) error {
	r := regexp.MustCompile(pattern)
	return func(*Field) func(string) error {
		return func(s string) error {
			if !r.MatchString(s) {
				return errors.New(why)
			}
			return nil
		}
	}
}

var uuidForm = match(
	`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`,
	"is no UUID",
)

// isEmail reports whether a text is an address of RFC 5322 without a name, a comment or quotes.
func isEmail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Name == "" && a.Address == s && !strings.ContainsAny(s, " \t\"")
}

func stringForm(f *Field) func(string) error {
	switch f.Format {
	case "email":
		return func(s string) error {
			if !isEmail(s) {
				return errors.New("is no e-mail address")
			}
			return nil
		}
	case "uuid":
		return uuidForm(f)
	case "uri":
		return func(s string) error {
			if u, err := url.Parse(s); err != nil || u.Scheme == "" {
				return errors.New("is no URI")
			}
			return nil
		}
	case "binary":
		return func(s string) error {
			if _, err := base64.StdEncoding.DecodeString(s); err != nil {
				return errors.New("is no Base64")
			}
			return nil
		}
	}
	return func(string) error { return nil }
}

// bare returns the digits of a number without what groupChar and bareNumber allow.
func (f *Field) bare(s string) string {
	if f.BareNumber != nil && !*f.BareNumber {
		digit := func(r rune) bool { return r >= '0' && r <= '9' }
		from, to := strings.IndexFunc(s, digit), strings.LastIndexFunc(s, digit)
		if from < 0 {
			return s
		}
		if from > 0 && (s[from-1] == '-' || s[from-1] == '+') {
			from--
		}
		s = s[from : to+1]
	}
	if f.GroupChar != "" {
		s = strings.ReplaceAll(s, f.GroupChar, "")
	}
	return s
}

var errInteger = errors.New("is no integer")

func (f *Field) checkInteger(s string) error {
	s = unsigned(f.bare(s))
	if s == "" || digits(s) < len(s) {
		return errInteger
	}
	return nil
}

var errNumber = errors.New("is no number")

// checkNumber takes decimals of XML Schema with an exponent, NaN and INF.
func (f *Field) checkNumber(s string) error {
	_, ok := f.number(s)
	if !ok {
		return errNumber
	}
	return nil
}

// number returns a number with a period as its decimal point.
func (f *Field) number(s string) (string, bool) {
	if special(s) {
		return s, true
	}
	s = f.bare(s)
	if f.DecimalChar != "" && f.DecimalChar != "." {
		if strings.Contains(s, ".") {
			return "", false
		}
		s = strings.Replace(s, f.DecimalChar, ".", 1)
	}
	rest := unsigned(s)
	whole := digits(rest)
	rest = rest[whole:]
	fraction := 0
	if strings.HasPrefix(rest, ".") {
		fraction = digits(rest[1:])
		rest = rest[1+fraction:]
	}
	if whole+fraction == 0 {
		return "", false
	}
	if rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		rest = unsigned(rest[1:])
		if n := digits(rest); n == 0 || n > mostExponent {
			return "", false
		}
		rest = rest[digits(rest):]
	}
	return s, rest == ""
}

// mostExponent is how many digits the exponent of a decimal has at most in other programs.
const mostExponent = 18

// special reports whether a number is NaN, INF or -INF. Their case does not matter.
func special(s string) bool {
	return strings.EqualFold(s, "NaN") || strings.EqualFold(s, "INF") ||
		strings.EqualFold(s, "-INF")
}

// unsigned returns s without its sign.
func unsigned(s string) string {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		return s[1:]
	}
	return s
}

// digits returns how many digits s begins with.
func digits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}

var (
	defaultTrue  = []string{"true", "True", "TRUE", "1"}
	defaultFalse = []string{"false", "False", "FALSE", "0"}
)

func (f *Field) checkBoolean(s string) error {
	_, err := f.boolean(s)
	return err
}

func (f *Field) boolean(s string) (bool, error) {
	yes, no := f.TrueValues, f.FalseValues
	if yes == nil {
		yes = defaultTrue
	}
	if no == nil {
		no = defaultFalse
	}
	switch {
	case slices.Contains(yes, s):
		return true, nil
	case slices.Contains(no, s):
		return false, nil
	}
	return false, errors.New("is no boolean")
}

// timeForm checks dates, times and both.
func timeForm(f *Field) func(string) error {
	return func(s string) error {
		if f.Format == "any" {
			return nil
		}
		_, err := f.moment(s)
		return err
	}
}

// Span returns from when to when a value of a field with a format lasts: the day of a date, the
// second of a time with seconds. Those without a zone are in UTC. Errors: the value does not have
// the format, the format has no year, or the value names a zone that is not known.
func (f *Field) Span(value string) (start, end time.Time, err error) {
	m, err := readMoment(strings.TrimPrefix(f.Format, "fmt:"), value)
	if err != nil {
		return start, end, err
	}
	return m.span()
}

// moment returns a date, a time, or both. Those without a zone are in UTC.
func (f *Field) moment(s string) (time.Time, error) {
	if f.Format != "" && f.Format != "default" {
		return strptime(strings.TrimPrefix(f.Format, "fmt:"), s)
	}
	why, layouts := "", []string(nil)
	switch f.kind() {
	case "date":
		why, layouts = "is no date such as 2026-01-31", []string{time.DateOnly}
	case "time":
		why, layouts = "is no time such as 23:59:59", []string{time.TimeOnly}
	default:
		why = "is no date with a time such as 2026-01-31T23:59:59Z"
		layouts = []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05"}
	}
	for _, layout := range layouts {
		t, err := time.Parse(layout, s)
		if err == nil && !strings.Contains(s, ",") && len(s) >= len(layouts[len(layouts)-1]) &&
			(t.Year() > 0 || f.kind() == "time") && zoneHours(t) < 24 {
			return t, nil // time.Parse takes more: a comma, hours of one digit, and the year 0
		}
	}
	return time.Time{}, errors.New(why)
}

// zoneHours returns by how many hours a zone is before or behind UTC.
func zoneHours(t time.Time) int {
	_, offset := t.Zone()
	return max(offset, -offset) / (60 * 60)
}

var duration = regexp.MustCompile(
	`^(-?)P(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(?:\.\d+)?S)?)?$`)

func durationForm(*Field) func(string) error {
	return func(s string) error {
		_, err := seconds(s)
		return err
	}
}

// seconds returns about how long a duration is. Months and years have their mean length.
func seconds(s string) (float64, error) {
	m := duration.FindStringSubmatch(s)
	if m == nil || strings.HasSuffix(s, "P") || strings.HasSuffix(s, "T") {
		return 0, errors.New("is no duration such as P1Y2M3DT4H5M6S")
	}
	const day = 24 * 60 * 60
	units := []float64{2: 365.2425 * day, 3: 365.2425 / 12 * day, 4: day, 6: 3600, 7: 60, 8: 1}
	sum := 0.0
	for i, unit := range units {
		if unit != 0 && m[i] != "" {
			n, _ := strconv.ParseFloat(m[i][:len(m[i])-1], 64)
			sum += n * unit
		}
	}
	if m[1] != "" {
		sum = -sum
	}
	return sum, nil
}

func jsonForm(open byte, why string) func(*Field) func(string) error {
	return func(*Field) func(string) error {
		return func(s string) error {
			trimmed := strings.TrimLeft(s, " \t\r\n")
			if trimmed == "" || trimmed[0] != open || !json.Valid([]byte(s)) {
				return errors.New(why)
			}
			return nil
		}
	}
}

func geopointForm(f *Field) func(string) error {
	return func(s string) error {
		var at struct{ Lon, Lat *float64 }
		switch f.Format {
		case "object":
			var members map[string]*float64 // names of members have no other case
			if json.Unmarshal([]byte(s), &members) == nil && len(members) == 2 {
				at.Lon, at.Lat = members["lon"], members["lat"]
			}
		case "array":
			var list []*float64
			if json.Unmarshal([]byte(s), &list) == nil && len(list) == 2 {
				at.Lon, at.Lat = list[0], list[1]
			}
		default:
			lon, lat, _ := strings.Cut(s, ",")
			x, ok1 := decimal(strings.TrimSpace(lon))
			y, ok2 := decimal(strings.TrimSpace(lat))
			if ok1 && ok2 {
				at.Lon, at.Lat = &x, &y
			}
		}
		if at.Lon == nil || at.Lat == nil ||
			!(math.Abs(*at.Lon) <= 180 && math.Abs(*at.Lat) <= 90) {
			return errors.New("is no longitude and latitude")
		}
		return nil
	}
}

// decimal returns a number, which is not in the hexadecimal form that strconv knows.
func decimal(s string) (float64, bool) {
	if _, ok := (&Field{}).number(s); !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

// value returns what a text means in the field: a *big.Float, float64 (seconds), time.Time,
// bool or string. Those of one field can be ordered.
func (f *Field) value(s string) (any, error) {
	switch f.kind() {
	case "integer", "year":
		return f.float(s, forms[f.kind()](f)(s))
	case "number":
		return f.float(s, f.checkNumber(s))
	case "boolean":
		return f.boolean(s)
	case "date", "time", "datetime":
		if f.Format == "any" {
			return s, nil
		}
		return f.moment(s)
	case "yearmonth":
		i := strings.LastIndexByte(s, '-')
		if err := forms["yearmonth"](f)(s); err != nil {
			return nil, err
		}
		year, _ := strconv.Atoi(s[:i])
		month, _ := strconv.Atoi(s[i+1:])
		return float64(year*12 + month), nil
	case "duration":
		return seconds(s)
	}
	return s, nil
}

// float returns a number that was checked.
func (f *Field) float(s string, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	if special(s) {
		return strconv.ParseFloat(s, 64)
	}
	if f.kind() == "number" {
		s, _ = f.number(s)
	} else {
		s = f.bare(s)
	}
	v, _, err := big.ParseFloat(s, 10, 256, big.ToNearestEven)
	if err != nil {
		return nil, errNumber
	}
	return v, nil
}

// incomparable is the order of values that have none, such as NaN.
const incomparable = 2

// order compares values of one field.
func order(a, b any) int {
	if x, ok := a.(*big.Float); ok {
		if y, ok := b.(*big.Float); ok {
			return x.Cmp(y)
		}
	}
	switch x := a.(type) {
	case time.Time:
		if y, ok := b.(time.Time); ok {
			return x.Compare(y)
		}
	case bool:
		if y, ok := b.(bool); ok && x == y {
			return 0
		}
		return incomparable
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y)
		}
	}
	x, y := toFloat(a), toFloat(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	case x == y:
		return 0
	}
	return incomparable
}

func toFloat(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case *big.Float:
		f, _ := v.Float64()
		return f
	}
	return math.NaN()
}
