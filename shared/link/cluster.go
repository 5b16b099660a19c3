package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/segmentio/encoding/json"

	"ehi-server/shared/subject"
)

// clusterReplicas is the default number of replicas in a cluster: any one server may fail.
const clusterReplicas = 3

// leaderWait bounds how long a call waits for the election of a stream's leader. After an
// orderly stop of a server it takes less; after a crash the others take up to nine seconds to
// notice.
const leaderWait = 2 * time.Second

// AwaitLeader retries f while the stream has no leader, which means that the request was not
// executed. It gives up after leaderWait. Each call of f may take askTime.
func (l *Link) AwaitLeader(ctx context.Context, f func(context.Context) error) error {
	for end := time.Now().Add(leaderWait); ; {
		err := once(ctx, f)
		if err == nil || !isLeaderless(err) || !l.Clustered() || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(RetryWait):
		case <-ctx.Done():
			return err
		}
	}
}

// once calls f within askTime.
func once(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return f(ctx)
}

// unavailable is JetStream's error code if the cluster has no JetStream leader.
const unavailable jetstream.ErrorCode = 10008

// isLeaderless reports whether an error means that no leader took the request.
func isLeaderless(err error) bool {
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == unavailable
}

// Clustered reports whether NATS is a cluster. Reads may then be out of date, see Newest.
func (l *Link) Clustered() bool { return l.session().conn.ConnectedClusterName() != "" }

// KeepReplicas is the Config.Replicas that leaves the replicas of streams unchanged.
const KeepReplicas = -1

// wanted returns the number of replicas for a stream that has the given number; 0 means that it
// does not exist yet.
func (l *Link) wanted(have int) int {
	want := 1
	if l.Clustered() {
		want = clusterReplicas
	}
	switch {
	case l.cfg.Replicas > 0:
		return l.cfg.Replicas
	case l.cfg.Replicas == KeepReplicas && have > 0:
		return have
	}
	return max(want, have)
}

// Declare calls declare with the number of replicas for a stream. If the cluster has too few
// servers for the default, it uses the current number instead, and AddReplicas adds replicas later.
func (l *Link) Declare(ctx context.Context, stream string, declare func(replicas int) error) error {
	have := 0
	is, err := l.Streams().Stream(ctx, stream)
	switch {
	case err == nil:
		have = is.CachedInfo().Config.Replicas
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	}
	want := l.wanted(have)
	err = declare(want)
	switch {
	case !isTooFew(err):
		return err
	case l.cfg.Replicas > 0:
		return fmt.Errorf("NATS cannot keep %d copies (--nats-replicas): it takes as many "+
			"servers, all of them there: %w", want, err)
	}
	l.cfg.Log.Warn("NATS cannot keep as many copies as there are to be, for lack of servers",
		"stream", stream, "wanted", want, "has", have, "err", err)
	return declare(max(have, 1))
}

// AddReplicas adds replicas to a stream that has fewer than configured.
func (l *Link) AddReplicas(ctx context.Context, config jetstream.StreamConfig) error {
	if want := l.wanted(config.Replicas); config.Replicas < want {
		config.Replicas = want
		if _, err := l.Streams().UpdateStream(ctx, config); err != nil && !isTooFew(err) {
			return fmt.Errorf("raise the copies of %s: %w", config.Name, err)
		}
	}
	return nil
}

// The JetStream error codes for too few servers.
var tooFew = map[jetstream.ErrorCode]bool{
	10005: true, // no suitable peers for placement
	10023: true, // insufficient resources
	10074: true, // replicas > 1 not supported in non-clustered mode
}

func isTooFew(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && tooFew[api.ErrorCode]
}

// messageOf is the subject for requesting a message from a stream's leader.
var messageOf = subject.KindOf("$JS.API.STREAM.MSG.GET")

// Newest reads the last message of a subject from the stream's leader. Other servers of a
// cluster answer reads too, and may be out of date. Errors: jetstream.ErrMsgNotFound.
func (l *Link) Newest(ctx context.Context, stream string, of subject.Subject) (*Message, error) {
	ask, err := json.Marshal(map[string]string{"last_by_subj": of.String()})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *Message            `json:"message"`
	}
	err = l.AwaitLeader(ctx, func(ctx context.Context) error {
		m, err := l.Ask(ctx, messageOf.Of(stream), ask)
		if err != nil {
			return err
		}
		return json.Unmarshal(m.Data, &answer)
	})
	switch {
	case err != nil:
		return nil, err
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, jetstream.ErrMsgNotFound
	}
	return answer.Message, nil
}

// askTime bounds one request to JetStream.
const askTime = 5 * time.Second

// Message is a message as the leader of a stream returns it.
type Message struct {
	Sequence uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Data     []byte    `json:"data"`
	// Head is the encoded header; empty for a record without a lifetime that was not deleted.
	Head []byte `json:"hdrs"`
}

// Header returns the decoded header.
func (m *Message) Header() (nats.Header, error) {
	if len(m.Head) == 0 {
		return nil, nil
	}
	return nats.DecodeHeadersMsg(m.Head)
}
