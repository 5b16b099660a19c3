// Package settings holds flags and environment variables to what their struct tags declare, so
// that a value that no process could work with is refused before anything is opened, in one
// sentence each, all at once. Beside kong's own tags (enum, existingfile) there are two:
//
//	range:"100ms..10m"   the least and the greatest number or duration; either may be left out
//	form:"origin"        what a text has to be, see Forms; of a list, each of it
//
// A text that has a default must not be empty, unless its form is "text".
//
// It knows no flag by its name. What several flags mean together is for who reads them.
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

// Of lists what is wrong with the values of a configuration, a pointer to a struct with kong's
// tags. It changes nothing. Errors: the tags cannot be read.
func Of(config any, forms ...Forms) ([]string, error) {
	parser, err := kong.New(config)
	if err != nil {
		return nil, err
	}
	return Problems(parser.Model.Flags, forms...), nil
}

// Refuse makes one error of all problems, nil where there is none.
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

// Problems lists what is wrong with the values of flags. Each says which flag it is, what it holds
// unless that is a secret, and what it has to be.
func Problems(flags []*kong.Flag, forms ...Forms) (out []string) {
	for _, f := range flags {
		if wants := wanted(f, forms); wants != "" {
			out = append(out, said(f)+": it must be "+wants)
		}
	}
	return out
}

// Limits is what a flag's range or form says of its values, "" where it has none, or takes any
// text.
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

// said is a flag and its value.
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

// wanted is what a flag has to be, "" where it is that.
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

// outside says between what a number has to lie, "" where it does.
func outside(v reflect.Value, limits string) string {
	least, greatest, _ := strings.Cut(limits, "..")
	switch {
	case least != "" && compare(v, least) < 0, greatest != "" && compare(v, greatest) > 0:
	default:
		return ""
	}
	return between(least, greatest)
}

// between says a range in words.
func between(least, greatest string) string {
	switch {
	case greatest == "":
		return least + " or more"
	case least == "":
		return greatest + " or less"
	}
	return "from " + least + " to " + greatest
}

// compare compares a number with a limit of its tag. A limit that cannot be read is a fault of the
// program, which its tests find: see Untagged.
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

// find is a form by its name.
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

// misshapen says what a text has to be, or each of a list; "" where it is that. An empty text is
// not set.
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

// Untagged lists the flags that take any number or text because no tag says what they may be. A
// test of each command line holds it to be empty.
func Untagged(flags []*kong.Flag) (out []string) {
	for _, f := range flags {
		if needs(f) && f.Tag.Get("range") == "" && f.Tag.Get("form") == "" {
			out = append(out, "--"+f.Name)
		}
	}
	return out
}

// needs reports whether a flag takes more than what its type, or kong, limits.
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
