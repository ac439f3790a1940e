package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// limits is what the publisher judges entries by.
type limits struct {
	stream   string
	subjects []string
	size     int // of a message with its headers
}

// Open implements the port.
func (p *Publisher) Open(ctx context.Context, first uint64) (ports.StreamInfo, error) {
	ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
	defer done()
	reconnects := p.nc.Stats().Reconnects // before the first request, whose answer comes over this connection or none
	info, err := p.info(ctx)
	if errors.Is(err, ports.ErrStreamMissing) && first > 0 {
		info, err = p.create(ctx, first)
	}
	if err == nil {
		info, err = p.update(ctx, info)
	}
	if err != nil {
		return ports.StreamInfo{}, err
	}
	p.reconnects.Store(&reconnects)
	return p.seen(info, reconnects), nil
}

// Look implements the port.
func (p *Publisher) Look(ctx context.Context) (ports.StreamInfo, error) {
	ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
	defer done()
	reconnects := p.nc.Stats().Reconnects
	info, err := p.info(ctx)
	if err != nil {
		return ports.StreamInfo{}, err
	}
	return p.seen(info, reconnects), nil
}

// Raise purges the stream up to the sequence before first, which moves the end of an empty stream there. A message that
// somebody else stores at the same moment may be lost with it.
func (p *Publisher) Raise(ctx context.Context, first uint64) (ports.StreamInfo, error) {
	ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
	defer done()
	stream, err := p.js.Stream(ctx, p.o.Stream)
	if err != nil {
		return ports.StreamInfo{}, p.streamError(ctx, err)
	}
	switch state := stream.CachedInfo().State; {
	case state.Msgs > 0:
		return ports.StreamInfo{}, ports.ErrTailMoved.With("stream %s holds %d messages", p.o.Stream, state.Msgs)
	case state.LastSeq+1 < first:
		if err := stream.Purge(ctx, jetstream.WithPurgeSequence(first)); err != nil {
			return ports.StreamInfo{}, p.streamError(ctx, fmt.Errorf("raise the sequence of stream %s: %w", p.o.Stream, err))
		}
	}
	return p.Look(ctx)
}

func (p *Publisher) seen(info *jetstream.StreamInfo, reconnects uint64) ports.StreamInfo {
	p.config.Store(&info.Config)
	return ports.StreamInfo{
		Created:       info.Created.UTC().Format(time.RFC3339Nano),
		FirstSequence: info.State.FirstSeq,
		LastSequence:  info.State.LastSeq,
		Base:          max(info.Config.FirstSeq, 1) - 1,
		Messages:      info.State.Msgs,
		Session:       reconnects,
		Largest:       p.largest(info.Config),
	}
}

// largest returns the size of the largest message that the stream takes over this connection.
func (p *Publisher) largest(config jetstream.StreamConfig) int {
	size := int(p.nc.MaxPayload())
	if config.MaxMsgSize > 0 {
		size = min(size, int(config.MaxMsgSize))
	}
	return size
}

func (p *Publisher) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := p.js.Stream(ctx, p.o.Stream)
	if err != nil {
		return nil, p.streamError(ctx, err)
	}
	return stream.CachedInfo(), nil
}

// streamError knows a missing stream only by the broker's own word.
func (p *Publisher) streamError(ctx context.Context, err error) error {
	if errorCode(err) == jetstream.JSErrCodeStreamNotFound {
		return ports.ErrStreamMissing.With("stream %s does not exist", p.o.Stream)
	}
	return classify(ctx, err)
}

func (p *Publisher) create(ctx context.Context, first uint64) (*jetstream.StreamInfo, error) {
	stream, err := p.js.CreateStream(ctx, p.wanted(jetstream.StreamConfig{
		Name: p.o.Stream, Description: "Domain events, appended by the outbox relay only",
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Replicas: 1, MaxMsgs: -1, FirstSeq: first,
		MaxBytes: p.o.MaxBytes, MaxMsgSize: p.o.MaxMsgSize, MaxAge: p.o.MaxAge,
	}))
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another instance was faster, with other limits
		return p.info(ctx)
	}
	if err != nil {
		return nil, classify(ctx, err)
	}
	p.o.Logger.Info("created the stream", "stream", p.o.Stream)
	return stream.CachedInfo(), nil
}

func (p *Publisher) update(ctx context.Context, info *jetstream.StreamInfo) (*jetstream.StreamInfo, error) {
	config := p.wanted(info.Config)
	p.warn(info.Config)
	if sameSettings(config, info.Config) {
		return info, nil
	}
	stream, err := p.js.UpdateStream(ctx, config)
	if err != nil {
		return nil, p.streamError(ctx, fmt.Errorf("bring stream %s up to date: %w", p.o.Stream, err))
	}
	p.o.Logger.Info("brought the stream up to date", "stream", p.o.Stream)
	return stream.CachedInfo(), nil
}

// wanted is have with what the options ask for, as far as that takes nothing away from it.
func (p *Publisher) wanted(have jetstream.StreamConfig) jetstream.StreamConfig {
	have.AllowAtomicPublish = true
	for _, subject := range []string{eventSubjects, noticeSubject(p.o.Stream)} {
		if !coveredByAny(subject, have.Subjects) {
			narrower := func(other string) bool { return covers(subject, other) } // the broker refuses overlaps
			have.Subjects = append(slices.DeleteFunc(slices.Clone(have.Subjects), narrower), subject)
		}
	}
	have.MaxBytes = larger(have.MaxBytes, p.o.MaxBytes, -1)
	have.MaxMsgSize = larger(have.MaxMsgSize, p.o.MaxMsgSize, -1)
	have.MaxAge = larger(have.MaxAge, p.o.MaxAge, 0)
	have.Replicas = max(have.Replicas, p.o.Replicas)
	return have
}

// larger is the more generous of a stream's limit and an option: a negative option means unlimited, 0 is no opinion. The
// broker says unlimited with any value below 1.
func larger[N int32 | int64 | time.Duration](have, asked, unlimited N) N {
	switch {
	case asked == 0:
		return have
	case asked < 0 || have <= 0:
		return unlimited
	}
	return max(have, asked)
}

func sameSettings(a, b jetstream.StreamConfig) bool {
	return a.AllowAtomicPublish == b.AllowAtomicPublish && slices.Equal(a.Subjects, b.Subjects) &&
		a.MaxBytes == b.MaxBytes && a.MaxMsgSize == b.MaxMsgSize && a.MaxAge == b.MaxAge &&
		a.Replicas == b.Replicas
}

// warn names every setting of the stream that the options would shrink, and what makes the stream unfit. Each state is
// told once, although a halted relay opens the stream again and again.
func (p *Publisher) warn(have jetstream.StreamConfig) {
	var findings []string
	differs := func(setting string, smaller bool, has, asked any) {
		if smaller {
			findings = append(findings, fmt.Sprintf("%s: the stream has %v, configured is %v; the stream's is kept", setting, has, asked))
		}
	}
	differs("max_bytes", shrinks(have.MaxBytes, p.o.MaxBytes), have.MaxBytes, p.o.MaxBytes)
	differs("max_msg_size", shrinks(have.MaxMsgSize, p.o.MaxMsgSize), have.MaxMsgSize, p.o.MaxMsgSize)
	differs("max_age", shrinks(have.MaxAge, p.o.MaxAge), have.MaxAge, p.o.MaxAge)
	differs("num_replicas", p.o.Replicas > 0 && p.o.Replicas < have.Replicas, have.Replicas, p.o.Replicas)
	if have.Storage != jetstream.FileStorage {
		findings = append(findings, "storage: the stream is kept in memory, a restart of the broker loses it")
	}
	if have.Retention != jetstream.LimitsPolicy {
		findings = append(findings, "retention: the stream deletes what was consumed, so the relay may not find its tail again")
	}
	if coveredByAny(wakeSubject(p.o.Stream), have.Subjects) {
		findings = append(findings, "subjects: the stream also stores the relay's wake-up calls")
	}
	if coveredByAny(leaderSubject(p.o.Stream, 1), have.Subjects) {
		findings = append(findings, "subjects: the stream also stores the questions for the leader, and answers them: a dead leader is followed late")
	}
	text := strconv.Itoa(len(findings))
	for _, finding := range findings {
		text += "\n" + finding
	}
	if told := p.told.Swap(&text); told != nil && *told == text {
		return
	}
	for _, finding := range findings {
		p.o.Logger.Warn("the stream is not set up as configured", "stream", p.o.Stream, "finding", finding)
	}
}

func shrinks[N int32 | int64 | time.Duration](have, asked N) bool {
	return asked > 0 && (have <= 0 || asked < have)
}

func noticeSubject(stream string) string { return "outboxie." + stream + ".notices" }
func wakeSubject(stream string) string   { return "outboxie." + stream + ".wake" }
