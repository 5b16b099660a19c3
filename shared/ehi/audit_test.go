package ehi

import (
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
)

// Trails on disk have the fields of an event in one flat object.
func TestAnEventIsOneFlatObject(t *testing.T) {
	e := Event{
		At: time.Unix(0, 0).UTC(), Action: ActionRead, Outcome: Succeeded, Agent: "client c",
		Client: "c", Patient: "p", Job: "j",
		Sender: Sender{Address: "192.0.2.1", Request: "r"}, Detail: "d",
	}
	const want = `{"at":"1970-01-01T00:00:00Z","action":"read","outcome":"ok","agent":"client c",` +
		`"client":"c","patient":"p","job":"j","address":"192.0.2.1","request":"r","detail":"d"}`
	if got, err := json.Marshal(e); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	var read Event
	if err := json.Unmarshal([]byte(want), &read); err != nil || read != e {
		t.Errorf("%+v, %v", read, err)
	}
}
