package standalone

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"ehi-server/shared/settings"
)

// No flag of an exporter accepts arbitrary values. Unusable values are refused immediately.
func TestEachFlagSaysWhatItTakes(t *testing.T) {
	var c Command
	k, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if untagged := settings.Untagged(k.Model.Flags); len(untagged) > 0 {
		t.Errorf("these say nothing of what they take: %v", untagged)
	}
	if _, err := k.Parse([]string{
		"--nats=http://x", "--drain=-1s", "--workers=-1", "--source=rubbish", "--metrics-addr=x",
	}); err != nil {
		t.Fatal(err)
	}
	err = c.Run(t.Context())
	for _, flag := range []string{
		"--nats (", "--drain (", "--workers (", "--source (", "--metrics-addr (",
	} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not refused: %v", flag, err)
		}
	}
}
