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

// accountLimits are the refusals of JetStream that a change of the account's limits mends, by
// the names that nats-server gives them in server/errors.json, with the limit in question.
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

// accountWait is how long a NATS that has only begun to serve may say that there is no JetStream.
const accountWait = 2 * time.Second

// advise says of an error of an external NATS what to do about it, where something is to be done.
func (b *Bus) advise(err error) error {
	if errors.Is(err, nats.ErrNoResponders) && b.cfg.URL != "" && b.link != nil &&
		!b.link.Clustered() {
		return fmt.Errorf("JetStream is off at the NATS of --nats (%s): switch it on there"+
			" (a block jetstream in its configuration, or -js), and start again: %w",
			link.Servers(b.cfg.URL), err)
	}
	return advised(err)
}

// unreached says of an error that NATS gives to whoever connects which NATS it is.
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

// advised says of a refusal by an account's limits which one to raise.
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

// IsRefused tells an error by which NATS refuses what another time, with other settings or
// limits of its own, it would do. What is not there, and what was changed meanwhile, is no
// refusal.
func IsRefused(err error) bool {
	api, is := errors.AsType[*jetstream.APIError](err)
	return link.IsDenied(err) || is && !kv.IsConflict(err) && api.Code != http.StatusNotFound
}
