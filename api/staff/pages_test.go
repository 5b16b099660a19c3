package staff

import (
	"net/url"
	"reflect"
	"testing"

	"github.com/segmentio/encoding/json"

	"ehi-server/api/page"
)

// What forms of administrators leave is kept as one flat object, which servers of several versions
// share.
func TestFlashesAreStoredAsOneFlatObject(t *testing.T) {
	note := flash{
		page.Flash{
			Path: "/p", Session: "s", Owner: "o", Status: 400,
			Problem: "no", Message: "m", Title: "t",
			Fields: url.Values{"a": {"b"}},
		}, &addedClient{"i", "n", "x"}, []string{"c"}, []decided{{"j", "Job", "late"}},
	}
	const want = `{"path":"/p","session":"s","owner":"o","status":400,"problem":"no",` +
		`"message":"m","title":"t","fields":{"a":["b"]},` +
		`"added":{"ID":"i","Name":"n","Secret":"x"},"codes":["c"],` +
		`"decided":[{"ID":"j","Title":"Job","Problem":"late"}]}`
	got, err := json.Marshal(&note)
	if err != nil || string(got) != want {
		t.Errorf("%s, not %s: %v", got, want, err)
	}
	var read flash
	if err := json.Unmarshal([]byte(want), &read); err != nil || !reflect.DeepEqual(read, note) {
		t.Errorf("%+v is read as %+v: %v", note, read, err)
	}
}
