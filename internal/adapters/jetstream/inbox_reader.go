package jetstream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// legacyBusyFor is for the durable consumer that an earlier version of the program kept. For this time after the consumer has delivered an
// event, a copy counts as working on the event. Later no copy does: a copy that was stopped under load leaves events without an
// acknowledgement, although nobody handles them.
const legacyBusyFor = 5 * time.Second

var validSubscriber = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ReaderOptions names the stream and the subscriber.
type ReaderOptions struct {
	Stream     string
	Subjects   string // the subjects of events
	Subscriber string // letters, digits, - and _; also the name of the durable consumer that earlier versions kept
	Logger     *slog.Logger
}

// Reader reads the stream for one copy of a subscriber, by direct gets. It leaves nothing behind at the broker. Any server with a replica
// of the stream may answer Read. The stream's leader answers State.
type Reader struct {
	directReader
	o              ReaderOptions
	subscription   *nats.Subscription
	stored         chan struct{}
	warnedNoDirect sync.Once // so that one warning says that direct gets are not allowed
	warnedNoFormer sync.Once // so that one warning says that the former consumer may not be read
}

var _ inbox.Stream = (*Reader)(nil)

// NewReader returns a reader, and does not wait for the broker. The caller closes the reader.
func NewReader(nc *nats.Conn, o ReaderOptions) (*Reader, error) {
	if !validSubscriber.MatchString(o.Subscriber) {
		return nil, fault.New(fault.Invalid, "invalid_subscriber", "the subscriber id %q is not valid: use 1 to 64 letters, digits, - and _",
			o.Subscriber)
	}
	r := &Reader{directReader: newDirectReader(nc, o.Stream), o: o, stored: make(chan struct{}, 1)}
	subscription, err := nc.Subscribe(storedSubject(o.Stream), func(*nats.Msg) { signal(r.stored) })
	if err != nil {
		return nil, ErrUnavailable.With("cannot listen for signals of stream %s", o.Stream).Wrap(err)
	}
	r.subscription = subscription
	return r, nil
}

// NewStateReader returns a reader for people who look at a stream. It belongs to no subscriber, Stored never gets a signal, and it needs no
// Close.
func NewStateReader(nc *nats.Conn, o ReaderOptions) *Reader {
	return &Reader{directReader: newDirectReader(nc, o.Stream), o: o, stored: make(chan struct{})}
}

// Close ends the signals of Stored.
func (r *Reader) Close() { _ = r.subscription.Unsubscribe() } // fails only if the connection was closed

// Stored returns a channel that gets a signal when the relay has stored events. The signals continue after a reconnect.
func (r *Reader) Stored() <-chan struct{} { return r.stored }

// Read makes one request. If the stream holds headers that look like a server's, it makes a few more to the stream's leader. If a message
// was lost on the way, Read fails with a fault.Unavailable and does not leave the message out.
func (r *Reader) Read(ctx context.Context, from uint64, limit inbox.ReadLimit) ([]inbox.Message, error) {
	ctx, done := whileConnected(ctx, r.nc, defaultTimeout)
	defer done()
	read, _, err := r.read(ctx, getRequest{Sequence: max(from, 1), Count: max(limit.Count, 1), Bytes: max(limit.Bytes, 1)})
	if errors.Is(err, errNoDirect) {
		return nil, r.unanswered(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	messages := make([]inbox.Message, 0, len(read))
	for _, message := range read {
		meta := metaOf(message.header)
		message.Progress = meta.Progress.Position
		messages = append(messages, inbox.Message{StreamPosition: message.StreamPosition, Event: r.event(message), Parks: meta.Parked != ""})
	}
	return messages, nil
}

// unanswered returns why no server answers direct gets.
func (r *Reader) unanswered(ctx context.Context, err error) error {
	info, failed := r.info(ctx)
	if failed != nil {
		return failed
	}
	if info.Config.AllowDirect {
		return err // the stream's servers are not ready yet
	}
	r.warnedNoDirect.Do(func() {
		r.o.Logger.Warn("the stream cannot be read yet: it does not allow direct gets. A relay of this version allows them when it leads",
			"stream", r.o.Stream, "subscriber", r.o.Subscriber)
	})
	return ErrUnavailable.With("stream %s does not allow direct gets yet (allow_direct): a relay of this version allows them when it leads",
		r.o.Stream)
}

// event returns the event that a message holds, or nil if the message is for no subscriber. An event of the relay counts whatever its subject is.
// So no event is lost if a relay and a subscriber are set to different subjects.
func (r *Reader) event(message stored) *inbox.Event {
	if message.subject == controlSubject(r.o.Stream) {
		return nil
	}
	entry, err := decode(message.subject, message.header, message.data)
	if err != nil && !covers(r.o.Subjects, message.subject) {
		return nil // somebody else's
	}
	if err != nil {
		entry = outbox.Entry{Message: unreadable(message)}
	}
	return &inbox.Event{Entry: entry, Sequence: message.Sequence, Unreadable: err}
}

// unreadable returns a message as it was stored. Its ID is made from its sequence and its content, because a stream that lost its end uses
// sequences again.
func unreadable(message stored) outbox.Message {
	raw := outbox.Message{Subject: message.subject, Payload: message.data}
	for name, values := range message.original() {
		if raw.Headers == nil {
			raw.Headers = make(map[string]string)
		}
		raw.Headers[name] = strings.Join(values, "\n")
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", raw.Subject, raw.Headers, raw.Payload))
	raw.ID = fmt.Sprintf("unreadable-%d-%x", message.Sequence, digest[:6])
	return raw
}

// State asks the stream's leader.
func (r *Reader) State(ctx context.Context) (inbox.StreamState, error) {
	ctx, done := whileConnected(ctx, r.nc, defaultTimeout)
	defer done()
	info, err := r.info(ctx)
	if err != nil {
		return inbox.StreamState{}, err
	}
	state := inbox.StreamState{Created: identity(info.Created), First: info.State.FirstSeq, Last: info.State.LastSeq}
	if info.State.Msgs == 0 {
		state.First = state.Last + 1
	}
	return state, nil
}

func (r *Reader) info(ctx context.Context) (info jetstream.StreamInfo, err error) {
	err = r.call(ctx, "STREAM.INFO."+r.o.Stream, nil, &info)
	if errorCode(err) == jetstream.JSErrCodeStreamNotFound {
		return info, inbox.ErrNoStream.With("stream %s does not exist yet", r.o.Stream)
	}
	return info, err
}

// LegacyConsumer looks at the durable consumer with the subscriber's name. If a copy dies, its event stays without an acknowledgement for
// ever. So an event that was delivered long ago counts as not being worked on. If a copy does work on it, the inbox lets only one copy
// apply the event.
func (r *Reader) LegacyConsumer(ctx context.Context) (former inbox.LegacyConsumer, found bool, err error) {
	ctx, done := whileConnected(ctx, r.nc, defaultTimeout)
	defer done()
	var info jetstream.ConsumerInfo
	err = r.call(ctx, "CONSUMER.INFO."+r.o.Stream+"."+r.o.Subscriber, nil, &info)
	switch {
	case errorCode(err) == jetstream.JSErrCodeConsumerNotFound:
		return inbox.LegacyConsumer{}, false, nil
	case errorCode(err) == jetstream.JSErrCodeStreamNotFound:
		return inbox.LegacyConsumer{}, false, inbox.ErrNoStream.With("stream %s does not exist yet", r.o.Stream)
	case errors.Is(err, nats.ErrPermissionViolation):
		r.warnedNoFormer.Do(func() {
			r.o.Logger.Warn("the NATS user may not read the consumer of an earlier version of this subscriber, which starts as if there were no such "+
				"consumer: allow the request to the user, if there may be one", "subscriber", r.o.Subscriber, "error", err)
		})
		return inbox.LegacyConsumer{}, false, nil
	case err != nil:
		return inbox.LegacyConsumer{}, false, err
	}
	delivered := info.Delivered.Last
	working := info.NumAckPending > 0 && delivered != nil && info.TimeStamp.Sub(*delivered) < legacyBusyFor
	return inbox.LegacyConsumer{Sequence: info.AckFloor.Stream, Busy: info.NumWaiting > 0 || working}, true, nil
}
