package relaying_test

import (
	"context"
	"sync/atomic"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// unreachableStream is a stream that cannot be reached while down is true.
type unreachableStream struct {
	relay.Publisher
	down *atomic.Bool
}

func (o unreachableStream) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	if o.down.Load() {
		return after, errOutage
	}
	return o.Publisher.Publish(ctx, after, batch)
}

func (o unreachableStream) Look(ctx context.Context) (relay.StreamInfo, error) {
	if o.down.Load() {
		return relay.StreamInfo{}, errOutage
	}
	return o.Publisher.Look(ctx)
}

func (o unreachableStream) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	if o.down.Load() {
		return relay.StreamInfo{}, errOutage
	}
	return o.Publisher.Open(ctx, first)
}

// hangingElector is an elector whose next Renew hangs until its context ends.
type hangingElector struct {
	relay.Elector
	next atomic.Bool
}

func (h *hangingElector) Renew(ctx context.Context, term relay.Term) (relay.Term, error) {
	if h.next.CompareAndSwap(true, false) {
		<-ctx.Done()
		return relay.Term{}, errOutage.Wrap(ctx.Err())
	}
	return h.Elector.Renew(ctx, term)
}
