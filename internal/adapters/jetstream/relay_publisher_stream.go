package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// limits are the limits by which the publisher checks entries.
type limits struct {
	stream   string
	subjects []string
	size     int // the largest size of a message with its headers
}

// Open creates nothing on a server that is too old. After each change it reads the stream's settings again, because a server drops a
// setting that it does not know, and reports no error.
func (p *Publisher) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
	defer done()
	reconnects := p.nc.Stats().Reconnects // read before the first request, so that a reconnect during Open counts as after Open
	info, err := p.info(ctx)
	if errors.Is(err, relay.ErrStreamMissing) && first > 0 {
		info, err = p.create(ctx, first)
	}
	if err == nil && p.unfit(info) == nil {
		info, err = p.update(ctx, info)
	}
	if err != nil {
		return relay.StreamInfo{}, err
	}
	seen, err := p.seen(info, reconnects)
	p.reconnects.Store(&reconnects)
	return seen, err
}

// Look returns ErrStreamUnfit if the stream is unfit. The error names the settings. Nothing is published to such a stream before Open.
func (p *Publisher) Look(ctx context.Context) (relay.StreamInfo, error) {
	ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
	defer done()
	reconnects := p.nc.Stats().Reconnects
	info, err := p.info(ctx)
	if err != nil {
		return relay.StreamInfo{}, err
	}
	return p.seen(info, reconnects)
}

// Raise purges an empty stream up to the sequence before first, so that the next message gets the sequence first. A message that somebody
// else stores at the same moment may be lost.
func (p *Publisher) Raise(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	ctx, done := whileConnected(ctx, p.nc, p.o.Timeout)
	defer done()
	stream, err := p.js.Stream(ctx, p.o.Stream)
	if err != nil {
		return relay.StreamInfo{}, p.streamError(ctx, err)
	}
	switch state := stream.CachedInfo().State; {
	case state.Msgs > 0:
		return relay.StreamInfo{}, relay.ErrTailMoved.With("stream %s holds %d messages", p.o.Stream, state.Msgs)
	case state.LastSeq+1 < first:
		if err := stream.Purge(ctx, jetstream.WithPurgeSequence(first)); err != nil {
			return relay.StreamInfo{}, p.streamError(ctx, fmt.Errorf("raise the sequence of stream %s: %w", p.o.Stream, err))
		}
	}
	return p.Look(ctx)
}

func (p *Publisher) seen(info *jetstream.StreamInfo, reconnects uint64) (relay.StreamInfo, error) {
	p.config.Store(&info.Config)
	p.warn(info.Config)
	return relay.StreamInfo{
		Created:       identity(info.Created),
		FirstSequence: info.State.FirstSeq,
		LastSequence:  info.State.LastSeq,
		Base:          max(info.Config.FirstSeq, 1) - 1,
		Messages:      info.State.Msgs,
		Session:       reconnects,
		Largest:       p.largest(info.Config),
		Unreadable:    !info.Config.AllowDirect,
	}, p.unfit(info)
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
	if err == nil {
		return stream.CachedInfo(), nil
	}
	if err = p.streamError(ctx, err); errors.Is(err, relay.ErrStreamMissing) {
		if old := p.oldServer(); old != nil { // such a server must not create the stream
			return nil, old
		}
	}
	return nil, err
}

// streamError returns ErrStreamMissing only if the broker itself says that the stream does not exist.
func (p *Publisher) streamError(ctx context.Context, err error) error {
	if errorCode(err) == jetstream.JSErrCodeStreamNotFound {
		return relay.ErrStreamMissing.With("stream %s does not exist", p.o.Stream)
	}
	return classify(ctx, err)
}

func (p *Publisher) create(ctx context.Context, first uint64) (*jetstream.StreamInfo, error) {
	_, err := p.js.CreateStream(ctx, wanted(jetstream.StreamConfig{
		Name: p.o.Stream, Description: "Domain events, appended by the outbox relay only",
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Replicas: 1, MaxMsgs: -1, FirstSeq: first,
		MaxBytes: p.o.MaxBytes, MaxMsgSize: p.o.MaxMsgSize, MaxAge: p.o.MaxAge,
	}, p.o))
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another instance was faster, with other limits
		return nil, classify(ctx, err)
	}
	if err == nil {
		p.o.Logger.Info("created the stream", "stream", p.o.Stream)
	}
	return p.info(ctx)
}

// update asks once for the settings that are missing. If the stream still lacks them afterwards, update remembers that, and unfit reports
// it.
func (p *Publisher) update(ctx context.Context, info *jetstream.StreamInfo) (*jetstream.StreamInfo, error) {
	p.notKeptBy.Store(nil)
	if upToDate(info.Config, p.o) {
		return info, nil
	}
	if _, err := p.js.UpdateStream(ctx, wanted(info.Config, p.o)); err != nil {
		return nil, p.streamError(ctx, fmt.Errorf("bring stream %s up to date: %w", p.o.Stream, err))
	}
	info, err := p.info(ctx)
	switch {
	case err != nil:
		return nil, err
	case !upToDate(info.Config, p.o):
		p.notKeptBy.Store(p.view(info))
	default:
		p.o.Logger.Info("brought the stream up to date", "stream", p.o.Stream)
	}
	return info, nil
}

// view identifies the server that answered for the stream, and the session.
type view struct {
	leader  string // the server that leads the stream; empty without a cluster
	session uint64 // the number of reconnects of the connection
}

func (p *Publisher) view(info *jetstream.StreamInfo) *view {
	seen := view{session: p.nc.Stats().Reconnects}
	if info.Cluster != nil {
		seen.leader = info.Cluster.Leader
	}
	return &seen
}

// unfit returns why nothing can be published correctly to the stream in its present state, and what to do about it.
func (p *Publisher) unfit(info *jetstream.StreamInfo) error {
	if err := p.oldServer(); err != nil {
		return err
	}
	seen := p.view(info)
	if version := info.Config.Metadata["_nats.ver"]; tooOld(version) {
		return relay.ErrStreamUnfit.With("the NATS server %s that leads stream %s is version %s, which knows no atomic batches: "+
			"upgrade every server of the cluster to %s or later", seen.leader, p.o.Stream, version, minServer)
	}
	if broken := brokenRules(info.Config, p.o, refused); len(broken) > 0 {
		reasons := make([]string, 0, len(broken))
		for _, rule := range broken {
			reasons = append(reasons, rule.refusal(p.o.Stream))
		}
		return relay.ErrStreamUnfit.With("%s", strings.Join(reasons, "; "))
	}
	if notKept := p.notKeptBy.Load(); notKept != nil && *notKept == *seen && !upToDate(info.Config, p.o) {
		return relay.ErrStreamUnfit.With("stream %s does not keep the settings that it is given (allow_atomic: %t, allow_direct: %t, subjects: %s): "+
			"upgrade every NATS server to %s or later", p.o.Stream, info.Config.AllowAtomicPublish, info.Config.AllowDirect,
			strings.Join(info.Config.Subjects, ", "), minServer)
	}
	return nil
}

func (p *Publisher) oldServer() error {
	if version := p.nc.ConnectedServerVersion(); tooOld(version) {
		return relay.ErrStreamUnfit.With("the NATS server at %s is version %s, which knows no atomic batches: upgrade it to %s or later",
			p.nc.ConnectedUrlRedacted(), version, minServer)
	}
	return nil
}

// warn logs the warnings about the stream's settings. It logs the same warnings only once, although a halted relay looks at the stream
// again and again.
func (p *Publisher) warn(have jetstream.StreamConfig) {
	var findings []string
	for _, rule := range brokenRules(have, p.o, warned) {
		findings = append(findings, rule.finding(have, p.o))
	}
	if logged := p.findings.Swap(&findings); logged != nil && slices.Equal(*logged, findings) {
		return
	}
	for _, finding := range findings {
		p.o.Logger.Warn("the stream is not set up as configured", "stream", p.o.Stream, "finding", finding)
	}
}

// Findings returns the warnings about the stream's settings, as they were read last.
func (p *Publisher) Findings() []string {
	if findings := p.findings.Load(); findings != nil {
		return *findings
	}
	return nil
}

// controlSubject is the subject of control messages. Earlier versions called them notices, and existing streams have this subject.
func controlSubject(stream string) string { return "outboxie." + stream + ".notices" }
func wakeSubject(stream string) string    { return "outboxie." + stream + ".wake" }
func storedSubject(stream string) string  { return "outboxie." + stream + ".stored" }

// identity returns the identity of a stream: its creation time. No other stream ever has it.
func identity(created time.Time) string { return created.UTC().Format(time.RFC3339Nano) }
