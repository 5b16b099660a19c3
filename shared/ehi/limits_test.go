package ehi

import (
	"reflect"
	"strconv"
	"testing"
	"time"
)

// The defaults of the flags and those of OrDefaults are the same.
func TestLimitsHaveOneDefault(t *testing.T) {
	limits, compared := reflect.ValueOf(Limits{}.OrDefaults()), 0
	for i := range limits.NumField() {
		if limits.Field(i).IsZero() { // 0 is a setting of its own
			continue
		}
		field := limits.Type().Field(i)
		var want int64
		var err error
		if field.Type == reflect.TypeFor[time.Duration]() {
			var d time.Duration
			d, err = time.ParseDuration(field.Tag.Get("default"))
			want = int64(d)
		} else {
			want, err = strconv.ParseInt(field.Tag.Get("default"), 10, 64)
		}
		if got := limits.Field(i).Int(); err != nil || got != want {
			t.Errorf("%s is %d, and its flag %d (%v)", field.Name, got, want, err)
		}
		compared++
	}
	if compared < 6 {
		t.Errorf("only %d limits have a default", compared)
	}
}
