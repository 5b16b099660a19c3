package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The buckets that a backup keeps. Sessions are not among them (people log in again), nor are the commands: the reconciler publishes them
// anew from the jobs.
const (
	JobRecords  = bucketJobs
	TaskRecords = bucketTasks
	AuthRecords = bucketAuth
	// AuditRecords is the audit trail, which is no bucket: the key of its entries is the end of their subject, and several have the same.
	AuditRecords = auditStream
)

// Entry is one record of a bucket.
type Entry struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Value  []byte `json:"value"`
	// Expires is when it vanishes; zero where it does not.
	Expires time.Time `json:"expires,omitzero"`
}

// Entries calls f with every record of a bucket.
func (b *Bus) Entries(ctx context.Context, bucket string, f func(Entry) error) error {
	kv, err := b.js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", bucket, err)
	}
	names, err := keys(ctx, kv)
	if err != nil {
		return err
	}
	stream, err := b.js.Stream(ctx, "KV_"+bucket)
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
		return f(Entry{Bucket: AuditRecords, Key: strings.TrimPrefix(m.Subject(), auditSubject), Value: m.Data()})
	})
}

func entry(ctx context.Context, stream jetstream.Stream, bucket, key string) (e Entry, err error) {
	m, err := stream.GetLastMsgForSubject(ctx, kvSubject(bucket, key))
	if err != nil {
		return e, err
	}
	if m.Header.Get("KV-Operation") != "" || m.Header.Get(jetstream.MarkerReasonHeader) != "" { // a tombstone
		return e, jetstream.ErrMsgNotFound
	}
	e = Entry{Bucket: bucket, Key: key, Value: m.Data}
	ttl, err := lifetime(m.Header)
	if err == nil && ttl > 0 {
		e.Expires = m.Time.Add(ttl)
	}
	return e, err
}

// lifetime reads the TTL of a message: seconds, or a duration. 0 is none.
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

func kvSubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// Restore stores a record as Entries gave it; one that has expired is passed over.
func (b *Bus) Restore(ctx context.Context, e Entry, now time.Time) error {
	if e.Bucket == AuditRecords {
		_, err := b.js.Publish(ctx, auditSubject+e.Key, e.Value)
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
	_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: kvSubject(e.Bucket, e.Key), Data: e.Value}, opts...)
	if err != nil {
		err = fmt.Errorf("restore %s of bucket %s: %w", e.Key, e.Bucket, err)
	}
	return err
}
