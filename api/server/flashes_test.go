package server

import (
	"net/url"
	"reflect"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/api/page"
)

// What forms leave is kept as one flat object, which servers of several versions share.
func TestFlashesAreKeptFlat(t *testing.T) {
	common := page.Flash{
		Path: "/p", Session: "s", Owner: "o", Status: 400, Problem: "no", Message: "m", Title: "t",
		Fields: url.Values{"a": {"b"}},
	}
	const begin = `{"path":"/p","session":"s","owner":"o","status":400,"problem":"no","message":"m",` +
		`"title":"t","fields":{"a":["b"]},`
	for _, c := range []struct {
		note, read any
		want       string
	}{
		{
			&patientFlash{common, true, true, true}, &patientFlash{},
			begin + `"tried":true,"expired":true,"asked":true}`,
		},
		{
			&staffFlash{
				common, &addedClient{"i", "n", "x"}, []string{"c"}, []decided{{"j", "Job", "late"}},
			}, &staffFlash{},
			begin + `"added":{"ID":"i","Name":"n","Secret":"x"},"codes":["c"],` +
				`"decided":[{"ID":"j","Title":"Job","Problem":"late"}]}`,
		},
	} {
		got, err := json.Marshal(c.note)
		if err != nil || string(got) != c.want {
			t.Errorf("%s, not %s: %v", got, c.want, err)
		}
		if err := json.Unmarshal([]byte(c.want), c.read); err != nil || !reflect.DeepEqual(c.read, c.note) {
			t.Errorf("%+v is read as %+v: %v", c.note, c.read, err)
		}
	}
}
