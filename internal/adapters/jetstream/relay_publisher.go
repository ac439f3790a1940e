package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	maxBatch      = 1000    // messages that the broker takes in one atomic batch
	maxBatchBytes = 8 << 20 // what is sent at once without hearing anything from the broker
	minBatch      = 8       // below, the fixed cost of an atomic batch (2-3 ms) exceeds that of single messages

	eventSubjects = "orders.>" // what the stream captures besides its own notices, and what subscribers get

	defaultTimeout = 5 * time.Second // for the broker's answer to a request
)

// EventSource is the CloudEvents source of every event.
const EventSource = "/outboxie/orders"

// PublisherOptions says what the stream is, and what it should be. For the limits 0 means no opinion (the stream's own, or
// the broker's default when it is created), and a negative number unlimited. A stream that has more keeps it.
type PublisherOptions struct {
	Stream string

	MaxBytes   int64
	MaxAge     time.Duration
	MaxMsgSize int32
	Replicas   int

	Timeout time.Duration // for the broker's answer to a request; 5 s by default
	Logger  *slog.Logger
}

// Publisher appends to a stream by compare-and-swap on its last sequence.
//
// A call that is under way when the connection is lost fails, so that the caller looks at the stream again. After a
// reconnect nothing is sent before Open: a broker that comes back with an older copy of the stream may have filled it up
// again, by another's messages, to just the sequence that is expected here.
type Publisher struct {
	nc          *nats.Conn
	js          jetstream.JetStream
	o           PublisherOptions
	config      atomic.Pointer[jetstream.StreamConfig] // as last seen
	reconnects  atomic.Pointer[uint64]                 // of nc when the stream was last opened; nil: it never was
	findings    atomic.Pointer[[]string]               // the warnings that were logged last
	notKeptBy   atomic.Pointer[view]                   // who did not keep the settings when they were given last; nil: nobody
	silentUntil atomic.Int64                           // until when subscribers are not signaled, in Unix nanoseconds
}

var _ relay.StreamRepair = (*Publisher)(nil)

// NewPublisher returns a publisher to the stream that o names. It asks the broker nothing.
func NewPublisher(nc *nats.Conn, o PublisherOptions) (*Publisher, error) {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.Timeout))
	if err != nil {
		return nil, err
	}
	return &Publisher{nc: nc, js: js, o: o}, nil
}

// At asks the stream's leader. A direct get may be answered by a replica that lags.
func (p *Publisher) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	if sequence == 0 {
		return relay.MessageMeta{}, relay.ErrNoMessage
	}
	ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
	defer done()
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Header []byte `json:"hdrs"`
		} `json:"message"`
	}
	reply, err := p.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+p.o.Stream,
		[]byte(`{"seq":`+strconv.FormatUint(sequence, 10)+`}`))
	if err != nil {
		return relay.MessageMeta{}, classify(ctx, err)
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return relay.MessageMeta{}, fmt.Errorf("read message %d of stream %s: %w", sequence, p.o.Stream, err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return relay.MessageMeta{}, relay.ErrNoMessage.With("stream %s has no message %d", p.o.Stream, sequence)
	case answer.Error != nil:
		return relay.MessageMeta{}, p.streamError(ctx, answer.Error)
	case answer.Message == nil:
		return relay.MessageMeta{}, fmt.Errorf("read message %d of stream %s: empty answer", sequence, p.o.Stream)
	case len(answer.Message.Header) == 0:
		return relay.MessageMeta{}, nil
	}
	header, err := nats.DecodeHeadersMsg(answer.Message.Header)
	if err != nil { // it is not one of ours
		return relay.MessageMeta{}, nil
	}
	return metaOf(header), nil
}

// Publish sends small batches as single messages, and others as atomic batches.
func (p *Publisher) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return p.append(ctx, after, batch, nil)
}

// Redrive sends as Publish does.
func (p *Publisher) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return p.append(ctx, after, batch, &at)
}

// append sends up to maxBatch messages as one atomic batch, a few as single messages, each after the one before it was
// acknowledged, and one such chunk after the other.
func (p *Publisher) append(ctx context.Context, after uint64, batch []outbox.Entry, at *outbox.Progress) (last uint64, err error) {
	defer func(before uint64) {
		if last > before {
			p.signalSubscribers()
		}
	}(after)
	limits, err := p.limits(ctx)
	if err != nil {
		return after, err
	}
	if config := p.config.Load(); !upToDate(*config, p.o) || len(judged(*config, p.o, refused)) > 0 {
		return after, relay.ErrTailMoved.With("the settings of stream %s have to be brought up to date first", p.o.Stream)
	}
	for len(batch) > 0 {
		store := p.storeBatch
		if len(batch) < minBatch {
			store = p.storeEach
		}
		last, err := store(ctx, after, batch, at, limits)
		if err != nil {
			return last, err
		}
		batch, after = batch[last-after:], last
	}
	return after, nil
}

// signalSubscribers sends subscribers a message that events were stored. It waits for nothing, and nothing depends on the message. No
// message is sent if the stream would store it, and for a while after the broker has denied one, because the broker logs each denial.
func (p *Publisher) signalSubscribers() {
	subject := storedSubject(p.o.Stream)
	if time.Now().UnixNano() < p.silentUntil.Load() || coveredByAny(subject, p.config.Load().Subjects) {
		return
	}
	if last := p.nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), subject) {
		p.silentUntil.Store(time.Now().Add(deniedPause).UnixNano())
	}
	if err := p.nc.Publish(subject, nil); err != nil {
		p.o.Logger.Debug("could not signal the subscribers", "error", err)
	}
}

// limits returns what the broker takes, from the configuration that Open read and the server's own limit. It looks the stream up if that
// was never done.
func (p *Publisher) limits(ctx context.Context) (limits, error) {
	config := p.config.Load()
	if config == nil {
		ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
		defer done()
		info, err := p.info(ctx)
		if err != nil {
			return limits{}, err
		}
		config = &info.Config
		p.config.Store(config)
	}
	return limits{stream: p.o.Stream, subjects: config.Subjects, size: p.largest(*config)}, nil
}

// encodeWithin encodes an entry and returns its size, or a RefusedError if the entry can never be stored.
func encodeWithin(h *headers, entry outbox.Entry, at *outbox.Progress, limits limits) (*nats.Msg, int, error) {
	h.clear()
	encoded, size := h.encode(entry, at)
	judged := size
	if at == nil { // what can be published can also be redriven, with one header more
		judged += progressHeader
	}
	if reason := refusal(entry, judged, limits); reason != "" {
		return nil, 0, &relay.RefusedError{Entry: entry, Reason: reason}
	}
	return encoded, size + len(entry.Payload), nil
}

func (p *Publisher) storeEach(
	ctx context.Context, after uint64, batch []outbox.Entry, at *outbox.Progress, limits limits,
) (uint64, error) {
	h := newHeaders()
	for _, entry := range batch {
		encoded, _, err := encodeWithin(h, entry, at, limits)
		if err != nil {
			return after, err
		}
		if err := p.storeOne(ctx, after, encoded); err != nil {
			switch errorCode(err) {
			case jetstream.JSErrCodeStreamMessageExceedsMaximum, codeHeaderTooLarge:
				err = &relay.RefusedError{Entry: entry, Reason: err.Error()}
			}
			return after, err
		}
		after++
	}
	return after, nil
}

// sending returns the context of one append, as whileConnected does, or why nothing may be sent. A connection that is lost
// later ends the context, so that the look at the reconnects holds for as long as the append lasts.
func (p *Publisher) sending(ctx context.Context) (context.Context, func(), error) {
	ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
	var err error
	switch opened := p.reconnects.Load(); {
	case ctx.Err() != nil:
		err = classify(ctx, ctx.Err())
	case opened != nil && *opened != p.nc.Stats().Reconnects:
		err = relay.ErrTailMoved.With("the connection to the broker was lost since stream %s was opened", p.o.Stream)
	default:
		return ctx, done, nil
	}
	done()
	return nil, nil, err
}

// storeOne waits for the acknowledgement, so that nobody else's message can come between two of ours.
func (p *Publisher) storeOne(ctx context.Context, after uint64, message *nats.Msg) error {
	ctx, done, err := p.sending(ctx)
	if err != nil {
		return err
	}
	defer done()
	ack, err := p.js.PublishMsg(ctx, message, jetstream.WithExpectStream(p.o.Stream),
		jetstream.WithExpectLastSequence(after), jetstream.WithRetryAttempts(0))
	if err != nil {
		return p.storeError(ctx, after, err)
	}
	if ack.Sequence != after+1 || ack.Duplicate {
		return relay.ErrTailMoved.With("expected sequence %d, stored at %d (duplicate: %t)", after+1, ack.Sequence, ack.Duplicate)
	}
	return nil
}

// storeBatch stores the head of batch, all of it or nothing: as much as is sent at once, ending before an entry that can
// never be stored. The expectation goes on the first message and is checked when the last one commits. No acknowledgement is
// asked for before that: nothing could be done with it, and the wait would not heed ctx. A batch that fails is never touched
// again; what was sent of it is abandoned by the broker, because no other batch has its id.
//
// Each message is encoded while the broker reads those before it, in the room of the one before the last: the client has
// written that when AddMsg returns.
func (p *Publisher) storeBatch(
	ctx context.Context, after uint64, batch []outbox.Entry, at *outbox.Progress, limits limits,
) (uint64, error) {
	ctx, done, err := p.sending(ctx)
	if err != nil {
		return after, err
	}
	defer done()
	sender, err := jetstreamext.NewBatchPublisher(p.js, jetstreamext.BatchFlowControl{AckFirst: false})
	if err != nil {
		return after, err
	}
	rooms := [2]*headers{newHeaders(), newHeaders()}
	next, bytes, refused := encodeWithin(rooms[0], batch[0], at, limits)
	if refused != nil {
		return after, refused
	}
	next.Header.Set(jetstream.ExpectedStreamHeader, p.o.Stream)
	next.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(after, 10))
	for count := 1; count < min(len(batch), maxBatch) && bytes < maxBatchBytes; count++ {
		following, size, err := encodeWithin(rooms[count%2], batch[count], at, limits)
		if refused = err; refused != nil {
			break
		}
		if err := sender.AddMsg(next); err != nil {
			return after, p.storeError(ctx, after, err)
		}
		if ctx.Err() != nil { // each write ends by itself, but a slow peer could draw out a thousand of them
			return after, classify(ctx, ctx.Err())
		}
		next = following
		bytes += size
	}
	end := after + uint64(sender.Size()) + 1
	ack, err := sender.CommitMsg(ctx, next)
	if err != nil {
		return after, p.storeError(ctx, after, err)
	}
	if ack.Sequence != end {
		return after, relay.ErrTailMoved.With("expected the batch to end at sequence %d, not at %d", end, ack.Sequence)
	}
	return end, refused
}

func (p *Publisher) storeError(ctx context.Context, after uint64, err error) error {
	switch errorCode(err) {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant, codeBatchHasKnownIDs:
		return relay.ErrTailMoved.With("the stream does not end at sequence %d", after).Wrap(err)
	}
	if errors.Is(err, jetstreamext.ErrInvalidBatchAck) {
		return relay.ErrTailMoved.With("the broker acknowledged something else than the batch after sequence %d", after).Wrap(err)
	}
	return p.streamError(ctx, err)
}
