package e2e

import (
	"log/slog"
	"strings"
	"testing"

	"ehi-server/api/node"
	"ehi-server/auth"
)

// A server does not start if its --admin-user has the name of an account, or nearly, because
// approvals and the audit trail could not tell them apart.
func TestTheConfigurationsAdministratorIsNobodyElse(t *testing.T) {
	t.Parallel()
	data, cfg := t.TempDir(), productionConfig(t)
	t.Run("before", func(t *testing.T) {
		w := start(t, data, cfg, node.Options{})
		_, err := w.admin.AddAccount(t.Context(), auth.Account{Name: "chief", Role: auth.Viewer},
			staffPassword)
		if err != nil {
			t.Fatal(err)
		}
	})
	for _, name := range []string{"Chief", "other"} { // package auth has more names
		other := cfg
		other.Admin.User = name
		n, err := node.Open(t.Context(), other, data, slog.New(slog.DiscardHandler), node.Options{})
		if n != nil {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		refused := err != nil &&
			strings.Contains(err.Error(),
				"the account chief is called as the administrator of --admin-user")
		if refused != (name != "other") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
