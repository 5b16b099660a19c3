package bus

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/kv"
	"ehi-server/shared/link"
)

// accountLimits maps JetStream errors that a change of the account's limits fixes to the limit
// in question. The comments give the names of the errors in nats-server's server/errors.json.
var accountLimits = map[jetstream.ErrorCode]string{
	// JSAccountResourcesExceededErr
	10002:                                    "max_mem and max_file",
	10023:                                    "max_file",               // JSInsufficientResourcesErr
	jetstream.JSErrCodeMaximumConsumersLimit: "max_consumers",          // JSMaximumConsumersLimitErr
	10027:                                    "max_streams",            // JSMaximumStreamsLimitErr
	10047:                                    "max_file",               // JSStorageResourcesExceededErr
	10120:                                    "the tiers of R1 and R3", // JSNoLimitsErr
	// JSStreamMaxStreamBytesExceeded
	10122: "max_file and max_stream_bytes",
}

// maxBytesRequired is JSStreamMaxBytesRequired in server/errors.json.
const maxBytesRequired jetstream.ErrorCode = 10113

// accountWait is how long a NATS that has just started may report that JetStream is not enabled.
const accountWait = 2 * time.Second

// advise adds advice to an error of an external NATS, if there is any.
func (b *Bus) advise(err error) error {
	if errors.Is(err, nats.ErrNoResponders) && b.cfg.URL != "" && b.link != nil &&
		!b.link.Clustered() {
		return fmt.Errorf("JetStream is off at the NATS of --nats (%s): switch it on there"+
			" (a block jetstream in its configuration, or -js), and start again: %w",
			link.Servers(b.cfg.URL), err)
	}
	return advised(err)
}

// unreached adds the address of NATS to an error of a connection attempt.
func (b *Bus) unreached(err error) error {
	if err == nil || b.cfg.URL == "" {
		return err
	}
	hint := ""
	if link.IsWebSocket(b.cfg.URL) {
		hint = "; a ws or wss address is that of the block websocket in the configuration of NATS"
	}
	return fmt.Errorf("the NATS of --nats (%s): %w%s", link.Servers(b.cfg.URL), err, hint)
}

// advised adds to an error about an account limit which limit to raise.
func advised(err error) error {
	api, is := errors.AsType[*jetstream.APIError](err)
	if !is {
		return err
	}
	if limit, known := accountLimits[api.ErrorCode]; known {
		return fmt.Errorf("the NATS account allows too little (%s): raise its JetStream limit "+
			"%s, or set none, and start again: %w",
			api.Description, limit, err)
	}
	switch api.ErrorCode {
	case maxBytesRequired:
		return fmt.Errorf(
			"the NATS account wants a limit of bytes for each stream: set its max_bytes_required "+
				"to false,"+
				" and start again: %w", err)
	case jetstream.JSErrCodeJetStreamNotEnabled, jetstream.JSErrCodeJetStreamNotEnabledForAccount:
		return fmt.Errorf("the NATS account has no JetStream: enable it, and start again: %w", err)
	}
	return err
}

// IsRefused reports whether NATS rejected a request that it would accept with other settings or
// limits. A missing record or a lost compare-and-set is not a rejection.
func IsRefused(err error) bool {
	api, is := errors.AsType[*jetstream.APIError](err)
	return link.IsDenied(err) || is && !kv.IsConflict(err) && api.Code != http.StatusNotFound
}
