// Package settings validates flags and environment variables against their struct tags before
// the program opens anything. It reports all problems at once, each in one sentence. Besides
// kong's own tags (enum, existingfile) there are two:
//
//	range:"100ms..10m"   the smallest and the largest number or duration; either may be omitted
//	form:"origin"        the form of a text, see Forms; for a list, of each element
//
// A text with a default must not be empty, unless its form is "text".
//
// The package knows no flag by name. The readers of the flags check their combinations.
package settings

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Of lists the problems of a configuration, a pointer to a struct with kong's tags. It changes
// nothing. It returns an error if the tags are invalid.
func Of(config any, forms ...Forms) ([]string, error) {
	parser, err := kong.New(config)
	if err != nil {
		return nil, err
	}
	return Problems(parser.Model.Flags, forms...), nil
}

// Refuse returns one error for all problems, or nil if there are none.
func Refuse(problems []string) error {
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return errors.New(problems[0])
	}
	return errors.New("these settings cannot be worked with:\n  - " +
		strings.Join(problems, "\n  - "))
}

// ByMode returns the value of a limit whose default depends on the server's mode: with -1 there is
// no limit (0) in a sandbox, where clients are expected to make mistakes.
func ByMode[T int | int64](set, production T, sandbox bool) T {
	switch {
	case set >= 0:
		return set
	case sandbox:
		return 0
	}
	return production
}

// Problems lists the problems of flag values. Each names the flag, its value unless that is
// secret, and what is required.
func Problems(flags []*kong.Flag, forms ...Forms) (out []string) {
	for _, f := range flags {
		if wants := wanted(f, forms); wants != "" {
			out = append(out, said(f)+": it must be "+wants)
		}
	}
	return out
}

// Limits describes a flag's range or form, or returns "" if it accepts any value.
func Limits(f *kong.Flag, more ...Forms) string {
	least, greatest, ranged := strings.Cut(f.Tag.Get("range"), "..")
	form := f.Tag.Get("form")
	switch {
	case ranged:
		return between(least, greatest)
	case form == "" || form == anyText || form == "name":
		return ""
	}
	return find(form, more).Name
}

// said returns a flag and its value.
func said(f *kong.Flag) string {
	name := "--" + f.Name
	if len(f.Envs) > 0 {
		name += " (" + strings.Join(f.Envs, ", ") + ")"
	}
	if f.Tag.Has("secret") {
		return name + " is wrong"
	}
	value := fmt.Sprint(f.Target.Interface())
	if f.Target.Kind() == reflect.String {
		value = fmt.Sprintf("%.80q", value)
	}
	return name + " is " + value
}

// wanted returns what is required of a flag, or "" if its value is valid.
func wanted(f *kong.Flag, forms []Forms) string {
	if limits := f.Tag.Get("range"); limits != "" {
		return outside(f.Target, limits)
	}
	if form := f.Tag.Get("form"); form != "" {
		if f.HasDefault && form != anyText && f.Target.IsZero() {
			return find(form, forms).Name
		}
		return misshapen(f.Target, find(form, forms))
	}
	return ""
}

// outside returns the range that a number violates, or "".
func outside(v reflect.Value, limits string) string {
	least, greatest, _ := strings.Cut(limits, "..")
	switch {
	case least != "" && compare(v, least) < 0, greatest != "" && compare(v, greatest) > 0:
	default:
		return ""
	}
	return between(least, greatest)
}

// between describes a range in words.
func between(least, greatest string) string {
	switch {
	case greatest == "":
		return least + " or more"
	case least == "":
		return greatest + " or less"
	}
	return "from " + least + " to " + greatest
}

// compare compares a number with a limit of its tag. An invalid limit is a bug, which the tests
// of Untagged find.
func compare(v reflect.Value, limit string) int {
	if d, is := v.Interface().(time.Duration); is {
		return cmp.Compare(d, must(time.ParseDuration(limit)))
	}
	if v.CanInt() {
		return cmp.Compare(v.Int(), must(strconv.ParseInt(limit, 10, 64)))
	}
	return cmp.Compare(v.Float(), must(strconv.ParseFloat(limit, 64)))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("limit in a tag: %v", err))
	}
	return v
}

// find returns a form by name.
func find(name string, more []Forms) Form {
	is := forms[name]
	for _, m := range more {
		if own, found := m[name]; found {
			is = own
		}
	}
	if is.Fits == nil {
		panic("form in a tag: " + name)
	}
	return is
}

// misshapen returns the form that a text, or an element of a list, violates, or "". An empty
// text is not set.
func misshapen(v reflect.Value, is Form) string {
	var texts []string
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			texts = append(texts, v.Index(i).String())
		}
	} else if v.String() != "" {
		texts = append(texts, v.String())
	}
	for _, text := range texts {
		if is.Fits(text) {
			continue
		}
		if is.Why != nil {
			return is.Name + " (" + is.Why(text).Error() + ")"
		}
		return is.Name
	}
	return ""
}

// Untagged lists the flags that accept any number or text because no tag restricts them. A test
// of each command line expects an empty list.
func Untagged(flags []*kong.Flag) (out []string) {
	for _, f := range flags {
		if needs(f) && f.Tag.Get("range") == "" && f.Tag.Get("form") == "" {
			out = append(out, "--"+f.Name)
		}
	}
	return out
}

// needs reports whether a flag needs a tag because neither its type nor kong restricts it.
func needs(f *kong.Flag) bool {
	t := f.Target.Type()
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return f.Enum == "" && f.Tag.Type == ""
	case reflect.Int, reflect.Int64, reflect.Float64:
		_, text := f.Target.Addr().Interface().(interface{ UnmarshalText([]byte) error })
		return !text
	}
	return false
}
