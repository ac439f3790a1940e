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

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	maxBatch      = 1000    // the most messages that the broker takes in one atomic batch
	maxBatchBytes = 8 << 20 // the most bytes that are sent at once without an answer of the broker
	minBatch      = 8       // with fewer messages, an atomic batch (2-3 ms) costs more than single messages

	defaultTimeout = 5 * time.Second // for the broker's answer to a request
)

// PublisherOptions names the stream, and the settings that it should have. For a limit, 0 means no opinion: the stream keeps its own limit,
// or gets the broker's default when it is created. A negative number means unlimited. A stream with a larger limit keeps its limit.
type PublisherOptions struct {
	Stream   string
	Subjects string // the subjects of events, such as vouchers.>: the stream captures them besides its control messages
	Source   string // the CloudEvents source of every event

	MaxBytes   int64
	MaxAge     time.Duration
	MaxMsgSize int32
	Replicas   int

	Timeout time.Duration // for the broker's answer to a request; 5 s by default
	Logger  *slog.Logger
}

// Publisher appends to a stream by compare-and-swap on its last sequence.
//
// If the connection is lost during a call, the call fails, so that the caller looks at the stream again. After a reconnect nothing is sent
// before Open. The reason: a broker may come back with an older copy of the stream. Somebody else's messages may have filled that copy up
// to exactly the sequence that the publisher expects.
type Publisher struct {
	nc          *nats.Conn
	js          jetstream.JetStream
	o           PublisherOptions
	config      atomic.Pointer[jetstream.StreamConfig] // as it was read last
	reconnects  atomic.Pointer[uint64]                 // the count of nc when the stream was opened last; nil: never
	findings    atomic.Pointer[[]string]               // the warnings that were logged last
	notKeptBy   atomic.Pointer[view]                   // the server and session that did not keep the last settings; nil: none
	silentUntil atomic.Int64                           // subscribers get no signal before this time, in Unix nanoseconds
}

var _ relay.StreamRepair = (*Publisher)(nil)

// NewPublisher returns a publisher to the stream that o names. It asks the broker nothing.
func NewPublisher(nc *nats.Conn, o PublisherOptions) (*Publisher, error) {
	if o.Subjects == "" || o.Source == "" {
		return nil, fault.New(fault.Invalid, "invalid_publisher", "the publisher to stream %s needs the subjects and the source of its events", o.Stream)
	}
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
	if err != nil { // the message does not come from the relay
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

// append stores batch in atomic batches of at most maxBatch messages, one after the other. If fewer than minBatch messages are left, append
// sends them as single messages, each after the acknowledgement of the message before.
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
	if config := p.config.Load(); !upToDate(*config, p.o) || len(brokenRules(*config, p.o, refused)) > 0 {
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

// signalSubscribers sends subscribers a message that events were stored. It waits for nothing, and nothing depends on the message. It sends
// none if the stream would store the message. It also sends none for a while after the broker has denied one, because the broker logs each
// denial.
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

// limits returns what the broker takes: the configuration that was read last, and the server's own limit. If no configuration was read yet,
// limits reads it.
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
	counted := size
	if at == nil { // an event that can be published must also fit when it is redriven, with one more header
		counted += progressHeader
	}
	if reason := refusal(entry, counted, limits); reason != "" {
		return nil, 0, &relay.RefusedError{Entry: entry, Reason: reason}
	}
	return encoded, size + len(entry.Payload), nil
}

func (p *Publisher) storeEach(
	ctx context.Context, after uint64, batch []outbox.Entry, at *outbox.Progress, limits limits,
) (uint64, error) {
	h := newHeaders(p.o.Source)
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

// sending returns the context of one append, made by whileConnected, or why nothing may be sent. If the connection is lost later, the
// context ends. So the check of the reconnects holds for the whole append.
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

// storeOne waits for the acknowledgement, so that no other writer's message can come between two of our messages.
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

// storeBatch stores the first entries of batch as one atomic batch, all of them or none. The atomic batch has at most maxBatch entries and
// about maxBatchBytes. It ends before an entry that can never be stored. The first message carries the expected sequence. The broker checks
// this sequence when the last message commits. Before that, storeBatch asks for no acknowledgement: it could not use one, and the wait
// would ignore ctx. storeBatch never continues an atomic batch that failed. The broker drops the messages of that batch, because no later
// message has its id.
//
// storeBatch encodes each message while the broker reads the messages before it. Two headers are used in turn: when AddMsg returns, the
// client has written its message, and the headers can be used again.
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
	buffers := [2]*headers{newHeaders(p.o.Source), newHeaders(p.o.Source)}
	next, bytes, refused := encodeWithin(buffers[0], batch[0], at, limits)
	if refused != nil {
		return after, refused
	}
	next.Header.Set(jetstream.ExpectedStreamHeader, p.o.Stream)
	next.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(after, 10))
	for count := 1; count < min(len(batch), maxBatch) && bytes < maxBatchBytes; count++ {
		following, size, err := encodeWithin(buffers[count%2], batch[count], at, limits)
		if refused = err; refused != nil {
			break
		}
		if err := sender.AddMsg(next); err != nil {
			return after, p.storeError(ctx, after, err)
		}
		if ctx.Err() != nil { // each write has a time limit, but with a slow peer a thousand writes would take too long
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
