package subscribing_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// freezer is the database of a copy whose process can be frozen. While the process is frozen, calls wait.
type freezer struct {
	*memory.Inbox
	frozen atomic.Pointer[chan struct{}] // closed when the process thaws; nil: it is not frozen
}

func (f *freezer) freeze() (thaw func()) {
	frozen := make(chan struct{})
	f.frozen.Store(&frozen)
	return func() {
		f.frozen.Store(nil)
		close(frozen)
	}
}

func (f *freezer) wait() {
	if frozen := f.frozen.Load(); frozen != nil {
		<-*frozen
	}
}

func (f *freezer) Heartbeat(ctx context.Context, subscriber, instance string) (inbox.View, error) {
	f.wait()
	return f.Inbox.Heartbeat(ctx, subscriber, instance)
}

func (f *freezer) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	f.wait()
	return f.Inbox.Apply(ctx, subscriber, batch, handler, judge)
}

func (f *freezer) Redeliver(
	ctx context.Context, subscriber string, r inbox.Redelivery, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Redelivered, bool, error) {
	f.wait()
	return f.Inbox.Redeliver(ctx, subscriber, r, handler, judge)
}

// TestFrozenCopyOfAForgottenSubscriberEnds checks a copy that is frozen while its subscriber is forgotten. Meanwhile the subscriber has
// begun again under the same name with another handler, and has reached the same position. When the copy thaws, it ends, and applies
// neither an event nor a letter.
func TestFrozenCopyOfAForgottenSubscriberEnds(t *testing.T) {
	for name, failure := range map[string]error{"in front of an event": errLine, "in front of a letter": errPoison} {
		t.Run(name, func(t *testing.T) {
			options := subscribing.Options{MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond, MaxAttempts: 1_000_000}
			inFakeTime(t, options, func(t *testing.T, s *service) {
				frozen := &freezer{Inbox: s.inbox}
				copied := subscribing.New(subscriber, "frozen", subscribing.Ports{
					Stream: memory.NewReader(s.stream, subscriber), Checkpoints: killable{frozen}, Work: frozen, Letters: frozen, Sweeper: frozen,
					Log: frozen, Handlers: onlyHandler(s.handling("frozen", relaytest.EventType)),
				}, s.opts, s.logger)
				s.running.Go(func() { s.ended <- copied.Run(t.Context()) })
				s.publish(1)
				pass(time.Second)
				require.Equal(t, 1, s.count())
				thaw := frozen.freeze()
				late := s.publish(1)[0]
				pass(2 * time.Second)

				operator := memory.NewOperator(s.inbox)
				require.NoError(t, operator.Forget(t.Context(), subscriber))
				for erased := 1; erased > 0; {
					var err error
					erased, err = operator.Erase(t.Context(), subscriber, 10)
					require.NoError(t, err)
				}
				require.NoError(t, operator.RemoveTombstone(t.Context(), subscriber))
				another := subscribing.NewHandler("another", map[string]inbox.HandlerFunc{
					relaytest.EventType: func(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
						if entry.ID == late.ID {
							return failure
						}
						return nil
					},
				}, nil)
				_, stop := s.run("new", another, s.inbox)
				pass(2 * time.Second)
				thaw()
				pass(2 * time.Second)
				require.Equal(t, 1, s.count(), "the former handler did nothing more")
				require.Len(t, s.ended, 1)
				require.ErrorIs(t, <-s.ended, inbox.ErrOtherHandler)
				stop()
				s.running.Wait()
			})
		})
	}
}
