package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ehi-server/shared/ehi"
	"ehi-server/shared/kv"
	"ehi-server/shared/subject"
)

// The buckets of a backup. It omits sessions, because people can log in again, and commands,
// because the reconciler publishes them again.
const (
	JobRecords  = bucketJobs
	TaskRecords = bucketTasks
	AuthRecords = bucketAuth
	// AuditRecords is the audit trail. It is a stream and not a bucket: the key of an entry is
	// the end of its subject, and keys are not unique.
	AuditRecords = auditStream
)

// Unused returns ErrInUse if a process uses the folder of an embedded NATS.
func Unused(storeDir string) error {
	held, err := lock(storeDir)
	if err != nil {
		return err
	}
	return held.Close()
}

// Entry is one record of a bucket.
type Entry struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Value  []byte `json:"value"`
	// Expires is when the record expires; zero means never.
	Expires time.Time `json:"expires,omitzero"`
}

// Entries calls f with every record of a bucket.
func (b *Bus) Entries(ctx context.Context, bucket string, f func(Entry) error) error {
	names, err := kv.Open(b.link, bucket).Keys(ctx)
	if err != nil {
		return err
	}
	stream, err := b.link.Streams().Stream(ctx, "KV_"+bucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", bucket, err)
	}
	for _, key := range names {
		e, err := entry(ctx, stream, bucket, key)
		if errors.Is(err, jetstream.ErrMsgNotFound) { // deleted or expired meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s of bucket %s: %w", key, bucket, err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// AuditEntries calls f with every event of the audit trail, oldest first.
func (b *Bus) AuditEntries(ctx context.Context, f func(Entry) error) error {
	return b.Audit.each(ctx, AuditFilter{}, func(m jetstream.Msg) error {
		return f(Entry{
			Bucket: AuditRecords,
			Key:    strings.TrimPrefix(m.Subject(), auditSubjects.String()),
			Value:  m.Data(),
		})
	})
}

func entry(
	ctx context.Context, stream jetstream.Stream, bucket string, key subject.Subject,
) (e Entry, err error) {
	m, err := stream.GetLastMsgForSubject(ctx, key.InBucket(bucket).String())
	if err != nil {
		return e, err
	}
	if isTombstone(m.Header) {
		return e, jetstream.ErrMsgNotFound
	}
	e = Entry{Bucket: bucket, Key: key.String(), Value: m.Data}
	ttl, err := lifetime(m.Header)
	if err == nil && ttl > 0 {
		e.Expires = m.Time.Add(ttl)
	}
	return e, err
}

// lifetime parses the TTL of a message: seconds or a duration. 0 means none.
func lifetime(h nats.Header) (time.Duration, error) {
	text := h.Get(jetstream.MsgTTLHeader)
	if text == "" || text == "never" {
		return 0, nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(seconds) * time.Second, nil
	}
	return time.ParseDuration(text)
}

// Check returns an error if this build cannot read a record of a job or a task or an audit
// event. It accepts all other records.
func (e Entry) Check() (err error) {
	switch e.Bucket {
	case JobRecords:
		_, err = decodeJob(e.Value)
	case TaskRecords:
		_, err = decodeTask(e.Value)
	case AuditRecords:
		err = json.Unmarshal(e.Value, &ehi.Event{})
	}
	if err != nil {
		err = fmt.Errorf("%.100s: %w", e.Key, err)
	}
	return err
}

// Restore stores a record of Entries. It skips expired records.
func (b *Bus) Restore(ctx context.Context, e Entry, now time.Time) error {
	to, err := e.subject()
	if err != nil {
		return err
	}
	var opts []jetstream.PublishOpt
	if !e.Expires.IsZero() {
		left := e.Expires.Sub(now).Round(time.Second)
		if left <= 0 {
			return nil
		}
		opts = append(opts, jetstream.WithMsgTTL(left))
	}
	if _, err = b.link.Store(ctx, to, nil, e.Value, opts...); err != nil {
		err = fmt.Errorf("restore %s of bucket %s: %w", e.Key, e.Bucket, err)
	}
	return err
}

// subject returns the subject of a record. It validates the names, because a backup is untrusted
// input.
func (e Entry) subject() (to subject.Subject, err error) {
	key, ok := subject.Read(e.Key)
	switch {
	case !ok:
		return to, fmt.Errorf("the backup names a record %.100q, which no record is called", e.Key)
	case e.Bucket == AuditRecords:
		return auditSubjects.Join(key), nil
	case e.Bucket == JobRecords, e.Bucket == TaskRecords, e.Bucket == AuthRecords:
		return key.InBucket(e.Bucket), nil
	}
	return to,
		fmt.Errorf("the backup has a record of %.100q, of which this server keeps none", e.Bucket)
}
